import { readdirSync, readFileSync } from 'node:fs'
import { BootError } from '../boot-error.ts'
import { type Database, sqlState } from './database.ts'

/**
 * Brings the schema up to date from the plain SQL files beside this one. Safe when several processes start at once: one of them
 * holds the lock and works, the others find nothing left to do. A schema newer than this program is refused.
 */
export async function migrate(db: Database, progress: (line: string) => void): Promise<void> {
  const files = migrations()
  const client = await db.connect()
  client.on('error', () => undefined) // the statement under way fails with it
  try {
    await client.query('begin')
    // A transaction lock, so that a killed process leaves none behind. lock_timeout is for requests, not for a long migration.
    await client.query(
      slow(
        "set local lock_timeout = 0; set local statement_timeout = 0; select pg_advisory_xact_lock(hashtext('1ctl.migrate'))",
      ),
    )
    await client.query(
      'create table if not exists migrations (name text primary key, at timestamptz not null default now())',
    )
    const applied = new Set(
      (await client.query<{ name: string }>('select name from migrations')).rows.map((row) => row.name),
    )
    const unknown = [...applied].filter((name) => !files.some((file) => file.name === name))
    if (unknown.length > 0)
      throw new BootError(
        `The database was used by a newer 1ctl (it knows ${unknown.join(', ')}). Start that version, or restore a backup made before it.`,
      )
    for (const { name, sql } of files) {
      if (applied.has(name)) continue
      progress(`updating the database: ${name}`)
      await client.query(slow(sql()))
      await client.query('insert into migrations (name) values ($1)', [name])
    }
    await client.query('commit')
  } catch (error) {
    await client.query('rollback').catch(() => undefined)
    if (!sqlState(error)) throw error
    const mayNot = sqlState(error) === insufficientPrivilege
    const next = mayNot
      ? 'The database user must own its database or be allowed to create in it.'
      : 'Nothing was changed.'
    throw new BootError(`The database cannot be updated: ${error instanceof Error ? error.message : ''}. ${next}`)
  } finally {
    client.release()
  }
}

const slow = (text: string) => ({ text, query_timeout: 24 * 3_600_000 })
const insufficientPrivilege = '42501'

function migrations() {
  const folder = new URL('./migrations/', import.meta.url)
  return readdirSync(folder)
    .filter((file) => file.endsWith('.sql'))
    .sort()
    .map((file) => ({ name: file.slice(0, -'.sql'.length), sql: () => readFileSync(new URL(file, folder), 'utf8') }))
}

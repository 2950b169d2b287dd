import { randomBytes } from 'node:crypto'
import { afterEach, expect, inject, test } from 'vitest'
import { BootError } from '../boot-error.ts'
import { type Database, openDatabase } from './database.ts'
import { migrate } from './migrate.ts'

const opened: Database[] = []
afterEach(async () => {
  for (const db of opened.splice(0)) await db.end()
})

function open(database: string): Database {
  const db = openDatabase({ ...inject('postgres'), database }, () => undefined)
  opened.push(db)
  return db
}

async function emptyDatabase(): Promise<string> {
  const database = `test_${randomBytes(8).toString('hex')}`
  await open('postgres').query(`create database ${database}`)
  return database
}

const tables = async (db: Database) =>
  (await db.query<{ name: string }>("select relname as name from pg_class where relnamespace = 'public'::regnamespace"))
    .rows

test('five processes bring one empty database up to date at once; the next finds nothing to do', async () => {
  const database = await emptyDatabase()
  const steps: string[] = []
  await Promise.all(Array.from({ length: 5 }, () => migrate(open(database), (line) => void steps.push(line))))
  expect(steps).toEqual([...new Set(steps)])
  expect(steps.length).toBeGreaterThanOrEqual(2)
  const db = open(database)
  const { rows } = await db.query('select name from migrations order by name')
  expect(rows).toHaveLength(steps.length)
  await migrate(db, (line) => void steps.push(line))
  expect(steps).toHaveLength(rows.length)
})

test('a database of a newer version is refused by name and left as it is', async () => {
  const db = open(await emptyDatabase())
  await migrate(db, () => undefined)
  await db.query("insert into migrations (name) values ('999-tomorrow')")
  const before = await tables(db)
  const refused = migrate(db, () => undefined)
  await expect(refused).rejects.toThrow(
    'The database was used by a newer 1ctl (it knows 999-tomorrow). Start that version, or restore a backup made before it.',
  )
  await expect(refused).rejects.toBeInstanceOf(BootError)
  expect(await tables(db)).toEqual(before)
})

test('a migration that fails leaves nothing behind, says why, and can be tried again', async () => {
  const db = open(await emptyDatabase())
  // In the way of the second file, so that the first one has run.
  await db.query('create table audit_heads ()')
  const failed = migrate(db, () => undefined)
  await expect(failed).rejects.toThrow('The database cannot be updated: relation "audit_heads" already exists')
  await expect(failed).rejects.toBeInstanceOf(BootError)
  expect(await tables(db)).toEqual([{ name: 'audit_heads' }])
  await db.query('drop table audit_heads')
  await migrate(db, () => undefined)
  expect((await tables(db)).length).toBeGreaterThan(5)
})

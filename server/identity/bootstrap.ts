import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { apiBase } from '@1ctl/contract'
import { formatToken } from '@1ctl/contract/token-format'
import { appendEvents, system } from '../audit/append.ts'
import { writePrivate } from '../private-file.ts'
import { type Database, execute, statement, transaction } from '../store/database.ts'
import { uuidv7 } from '../store/uuid.ts'
import { found } from './organizations.ts'
import { hashPassword } from './passwords.ts'

/** What a script needs to begin; nobody else may read the file. */
export type Bootstrap = { url: string; apiUrl: string; email: string; password: string; token: string }

const lock = statement('bootstrap.lock', "select pg_advisory_xact_lock(hashtext('1ctl.bootstrap'))")
const anyone = statement('bootstrap.anyone', 'select from users limit 1')
const insertUser = statement(
  'bootstrap.user',
  'insert into users (id, email, password_hash, operator) values ($1, $2, $3, true)',
)

/**
 * The first organization, its owner (who also runs the installation) and an admin token, once per database. They are written to
 * `bootstrap.json` before they are committed: a process killed in between starts over, and no password is ever lost.
 */
export async function bootstrap(
  db: Database,
  dataDir: string,
  url: string,
): Promise<{ file: string; email: string | undefined }> {
  const file = join(dataDir, 'bootstrap.json')
  const email = 'owner@example.test'
  await transaction(db, async (tx) => {
    await execute(tx, lock)
    if ((await execute(tx, anyone)) > 0) return
    const password = randomBytes(18).toString('base64url')
    const token = formatToken(randomBytes(64))
    const owner = { id: uuidv7(), email }
    await execute(tx, insertUser, [owner.id, email, await hashPassword(password)])
    const organization = await found(tx, {
      name: 'main',
      owner,
      token: { value: token, scopes: ['admin', 'operator'] },
    })
    await appendEvents(tx, { caller: null, request: null }, [
      {
        action: 'organization.create',
        actor: system,
        chain: organization.id,
        object: { type: 'organization', ...organization },
      },
      { action: 'installation.create', actor: system, object: { type: 'user', id: owner.id, name: email } },
    ])
    keepAside(file)
    write(file, { url, apiUrl: url + apiBase, email, password, token })
  })
  return { file, email: readBootstrap(file)?.email }
}

/** A later start may listen elsewhere; the file says where. */
export function followAddress(file: string, url: string): void {
  const known = readBootstrap(file)
  if (known && known.url !== url) write(file, { ...known, url, apiUrl: url + apiBase })
}

function readBootstrap(file: string): Bootstrap | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Bootstrap
  } catch {
    return undefined
  }
}

/** One that is there already may be the only key to another database that this folder was used with. */
function keepAside(file: string): void {
  if (existsSync(file)) renameSync(file, file.replace(/\.json$/, `-before-${Date.now()}.json`))
}

const write = (file: string, content: Bootstrap) => writePrivate(file, `${JSON.stringify(content, null, 2)}\n`)

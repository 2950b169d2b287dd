import type { Seal } from '../config.ts'
import { Refusal } from '../refusal.ts'
import { type Database, execute, rows, statement, type Tx, transaction } from '../store/database.ts'
import { uuidv7 } from '../store/uuid.ts'
import { fingerprintOfKey } from './envelope.ts'
import { keysInFiles, settleFiles } from './key-file.ts'
import { type StoredKey, unwrapKey, wrapKey } from './organization-keys.ts'

/** The master key as a process has it. */
export type Master = { id: string; fingerprint: string; source: Seal['source']; key: Buffer }

/** What the database knows of it: never the key. `next` is one that must be proven before it becomes `active`. */
export type MasterRow = {
  id: string
  fingerprint: string
  state: 'active' | 'next' | 'retired'
  source: Seal['source']
  shares: number | null
  threshold: number | null
  seals: number
}

const inUse = statement<MasterRow>(
  'master.inUse',
  `select id, fingerprint, state, source, shares, threshold, seals from master_keys where state <> 'retired'`,
)
export async function masterKeys(db: Database | Tx): Promise<{ active?: MasterRow; next?: MasterRow }> {
  return Object.fromEntries((await rows(db, inUse)).map((row) => [row.state, row]))
}

/** The key of this fingerprint, where a file or the environment has it. */
export function keyAtHand(seal: Seal, fingerprint: string): Buffer | undefined {
  const keys = seal.source === 'file' ? keysInFiles(seal.path) : seal.source === 'env' ? [seal.key, seal.previous] : []
  const key = keys.find((key) => key && fingerprintOfKey(key) === fingerprint)
  // A copy, because a key that is replaced is wiped.
  return key && Buffer.from(key)
}

const lock = statement('master.lock', "select pg_advisory_xact_lock(hashtext('1ctl.master'))")
/** Held by everything that adds or changes a master key, files included. */
export const lockMasterKeys = (tx: Tx) => execute(tx, lock)

/** What a rotation leaves when it is over, or was killed. */
export const settle = (db: Database, path: string) =>
  transaction(db, async (tx) => {
    await lockMasterKeys(tx)
    const { active } = await masterKeys(tx)
    if (active) settleFiles(path, active.fingerprint)
  })

export const masterOf = (source: Seal['source'], key: Buffer): Master => ({
  id: uuidv7(),
  fingerprint: fingerprintOfKey(key),
  source,
  key,
})

const forgetNext = statement('master.forgetNext', "delete from master_keys where state = 'next'")
// A key that was retired may come back (env); nothing refers to its row.
const insert = statement(
  'master.insert',
  `insert into master_keys (id, fingerprint, state, source, shares, threshold) values ($1, $2, $3, $4, $5, $6)
   on conflict (fingerprint) do update set id = excluded.id, state = excluded.state, source = excluded.source, created_at = now()
     where master_keys.state = 'retired'`,
)
/** A row for this key; as `next` in place of any other that waits to be proven. */
export async function insertMaster(
  tx: Tx,
  state: 'active' | 'next',
  { id, fingerprint, source }: Master,
  { shares, threshold }: { shares?: number; threshold?: number } = {},
): Promise<void> {
  if (state === 'next') await execute(tx, forgetNext)
  await execute(tx, insert, [id, fingerprint, state, source, shares ?? null, threshold ?? null])
}

const follow = statement('master.source', "update master_keys set source = $1 where state = 'active' and source <> $1")
/** The same key may move between a file and the environment. */
export const setSource = (tx: Tx, source: Seal['source']) => execute(tx, follow, [source])

const retire = statement('master.retire', "update master_keys set state = 'retired' where id = $1 and state = 'active'")
const activate = statement(
  'master.activate',
  "update master_keys set state = 'active' where id = $1 and state = 'next'",
)
const wrapped = statement<StoredKey>(
  'master.wrapped',
  'select id, organization_id, purpose, wrapped from organization_keys where master_key_id = $1',
)
const rewrap = statement(
  'master.rewrap',
  `update organization_keys k set wrapped = fresh.wrapped, master_key_id = $1
   from unnest($2::uuid[], $3::bytea[]) as fresh (id, wrapped) where k.id = fresh.id`,
)
/**
 * Puts `to` in place of `from`, and wraps every organization's keys anew: all or nothing. Retiring comes first, because it waits for
 * whoever makes keys with `from` at this moment (organization-keys.ts) and keeps others from beginning to.
 */
export async function promote(tx: Tx, from: Master, to: Master): Promise<number> {
  if ((await execute(tx, retire, [from.id])) === 0 || (await execute(tx, activate, [to.id])) === 0) throw notInUse()
  const stored = await rows(tx, wrapped, [from.id])
  const fresh = stored.map((row) => {
    const key = unwrapKey(from, row)
    const wrapped = wrapKey(to, row, key)
    key.fill(0)
    return wrapped
  })
  return execute(tx, rewrap, [to.id, stored.map(({ id }) => id), fresh])
}

export const notInUse = () =>
  new Refusal('rotation_running', 'Someone else changed the master key at the same time. Look, and try again.', {
    hint: 'See it with: 1ctl admin status',
  })

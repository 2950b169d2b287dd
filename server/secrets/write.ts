import { limits } from '@1ctl/contract/limits'
import { actorOf } from '../audit/append.ts'
import type { Ctx, Granted } from '../context.ts'
import { fingerprint, same, seal, sealedOverhead } from '../keys/envelope.ts'
import type { OrganizationKeys } from '../keys/keyring.ts'
import { Refusal } from '../refusal.ts'
import { execute, row, rows, statement, type Tx } from '../store/database.ts'
import { type Bag, bagColumns, bagTables } from './bags.ts'
import { learn } from './learn.ts'

/** What to do to a bag. `unset: 'others'` keeps only what is set. */
export type Edit = { set: Map<string, Buffer>; unset: string[] | 'others'; note: string | undefined }

export type Changes = { added: string[]; changed: string[]; removed: string[]; kept: string[] }

export type Edited = { bag: Bag; changes: Changes; isChanged: boolean }

/**
 * The one way in which a bag changes: lock it, compare with what it has, and write the difference as one new version, in two round trips
 * however many keys there are. Values that are the same make no version. The write travels with the commit (`last`); if it removes
 * a linked key, PostgreSQL refuses it there.
 */
export async function editBag(
  ctx: Ctx<'secrets:write'>,
  tx: Tx,
  last: (statement: Promise<unknown>) => void,
  target: Granted<{ id: string }, 'secrets:write'>,
  keys: OrganizationKeys,
  edit: Edit,
): Promise<Edited> {
  const [bag, stored] = await Promise.all([row(tx, lock, [target.id]), rows(tx, current, [target.id])])
  if (!bag) throw new Refusal('secret_not_found', 'The secret was deleted meanwhile.')
  refuseConflict(ctx, bag)
  const { set, unset, note } = edit
  const before = new Map(stored.map((value) => [value.key, value]))
  const fresh = [...set].map(([key, value]) => ({ key, value, fingerprint: fingerprint(keys.fingerprintKey, value) }))
  const changing = fresh.filter(({ key, fingerprint }) => !same(before.get(key)?.fingerprint ?? empty, fingerprint))
  const removed =
    unset === 'others' ? [...before.keys()].filter((key) => !set.has(key)) : unset.filter((key) => !set.has(key))
  refuseMissing(
    bag,
    removed.filter((key) => !before.has(key)),
  )
  const written = new Set(changing.map(({ key }) => key))
  const changes: Changes = {
    added: [...written].filter((key) => !before.has(key)).sort(),
    changed: [...written].filter((key) => before.has(key)).sort(),
    removed: removed.sort(),
    kept: [...before.keys()].filter((key) => !written.has(key) && !removed.includes(key)).sort(),
  }
  // A bag that was just made is at version 0, and an empty one is a change too.
  const isChanged = bag.version === 0 || written.size > 0 || removed.length > 0
  if (!isChanged) return { bag: { ...bag, keys: changes.kept }, changes, isChanged }
  const size = changing.reduce((sum, { key, value }) => sum + key.length + value.length, 0)
  const keptSize = stored
    .filter(({ key }) => changes.kept.includes(key))
    .reduce((sum, { key, size }) => sum + key.length + size, 0)
  refuseTooLarge(bag, changes.kept.length + written.size, size + keptSize)

  const version = bag.version + 1
  const by = actorOf(ctx.caller).name
  const { organization } = ctx.caller
  const rowsToWrite = changing.map(({ key, value, fingerprint }) => {
    const address = { organization: organization.id, bag: bag.id, key, version }
    return { key, fingerprint, sealed: seal(keys.current.key, address, value), ...learn(value) }
  })
  last(
    execute(tx, write, [
      bag.id,
      version,
      by,
      note ?? null,
      changes.added,
      changes.changed,
      changes.removed,
      keys.current.id,
      rowsToWrite.map(({ key }) => key),
      rowsToWrite.map(({ sealed }) => sealed),
      rowsToWrite.map(({ fingerprint }) => fingerprint),
      rowsToWrite.map(({ length }) => length),
      rowsToWrite.map(({ hints }) => hints.join('\n')),
      rowsToWrite.map(({ expiresAt }) => expiresAt?.toISOString() ?? null),
    ]),
  )
  const now = new Date().toISOString()
  const names = [...changes.kept, ...written].sort()
  return {
    bag: { ...bag, version, keys: names, updated_at: now.replace('Z', '+00'), updated_by: by },
    changes,
    isChanged,
  }
}

const empty = Buffer.alloc(0)

const lock = statement<Bag>('write.lock', `select ${bagColumns} from ${bagTables} where s.id = $1 for update of s`)
const current = statement<{ key: string; fingerprint: Buffer; size: number }>(
  'write.current',
  `select k.key, v.fingerprint, octet_length(v.sealed) - ${sealedOverhead} as size
   from secret_keys k join secret_values v using (secret_id, key, version) where k.secret_id = $1`,
)

// Values end and begin in one statement; versions beyond those kept go with it. Foreign keys are checked when it is over.
const write = statement(
  'write.version',
  `with bag as (update secrets set version = $2, updated_at = now(), updated_by = $3 where id = $1),
     ended as (update secret_values set until = $2 where secret_id = $1 and until is null and key = any($6::text[] || $7::text[])),
     gone as (delete from secret_keys where secret_id = $1 and key = any($7)),
     forgotten as (delete from secret_values where secret_id = $1 and until <= $2 - ${limits.versionsKept}),
     unlisted as (delete from secret_versions where secret_id = $1 and version <= $2 - ${limits.versionsKept}),
     history as (
       insert into secret_versions (secret_id, version, created_by, note, added, changed, removed)
       values ($1, $2, $3, $4, $5, $6, $7)),
     fresh as (
       insert into secret_values (secret_id, key, version, key_id, sealed, fingerprint, length, hints, expires_at, created_by)
       select $1, key, $2, $8, sealed, fingerprint, length, coalesce(string_to_array(nullif(hints, ''), E'\\n'), '{}'), expires_at, $3
       from unnest($9::text[], $10::bytea[], $11::bytea[], $12::text[], $13::text[], $14::timestamptz[])
         as value (key, sealed, fingerprint, length, hints, expires_at)
       returning key)
   insert into secret_keys (secret_id, key, version) select $1, key, $2 from unnest($9::text[]) as value (key)
   on conflict (secret_id, key) do update set version = excluded.version`,
)

/** `If-Match` names versions; none of them is the one of now. */
export function refuseConflict({ request }: Ctx, bag: Pick<Bag, 'name' | 'version' | 'updated_by'>): void {
  // Weak tags count, too: a proxy that compresses makes them of ours.
  const wanted = request.ifMatch?.split(',').map((tag) => tag.trim().replace(/^W\//, ''))
  if (!wanted || wanted.some((tag) => ['*', `${bag.version}`, `"${bag.version}"`].includes(tag))) return
  throw new Refusal(
    'version_conflict',
    `"${bag.name}" is at version ${bag.version} by now: ${bag.updated_by} changed it.`,
    {
      hint: 'Look at what changed and try again.',
      details: { version: bag.version, updatedBy: bag.updated_by },
    },
  )
}

function refuseMissing(bag: Bag, missing: string[]): void {
  if (missing.length > 0)
    throw new Refusal('key_not_found', `"${bag.name}" has no key ${missing.map((key) => `"${key}"`).join(', ')}.`, {
      details: { missing },
    })
}

function refuseTooLarge(bag: Bag, keyCount: number, bytes: number): void {
  if (keyCount > limits.bagKeysMax)
    throw new Refusal(
      'bag_too_large',
      `"${bag.name}" would have ${keyCount} keys; a secret holds ${limits.bagKeysMax}.`,
    )
  if (bytes > limits.bagBytesMax)
    throw new Refusal(
      'bag_too_large',
      `"${bag.name}" would be larger than ${limits.bagBytesMax} bytes, and Kubernetes takes no more.`,
    )
}

import { limits } from '@1ctl/contract/limits'
import { actorOf } from '../audit/append.ts'
import { single } from '../change.ts'
import type { Ctx } from '../context.ts'
import { fingerprint, same, seal, versionProof } from '../keys/envelope.ts'
import type { OrganizationKeys } from '../keys/keyring.ts'
import { Refusal } from '../refusal.ts'
import { statement } from '../store/database.ts'
import type { Bag, WholeBag } from './bags.ts'
import { learn } from './learn.ts'

/** What to do to a bag. `unset: 'others'` keeps only what is set. */
export type Edit = { set: Map<string, Buffer>; unset: string[] | 'others'; note: string | undefined }

export type Changes = { added: string[]; changed: string[]; removed: string[]; kept: string[] }

/** The bag as it will be, and what `writeVersion` takes, unless all values are the same. */
export type Edited = { bag: Bag; changes: Changes; write: { extent: Extent; values: unknown[] } | undefined }

/** What an edit means for a bag as it is now: compared with what it has, the difference is one new version. Nothing is written yet. */
export function editBag(ctx: Ctx<'secrets:write'>, bag: WholeBag, keys: OrganizationKeys, edit: Edit): Edited {
  refuseConflict(ctx, bag)
  const { set, unset, note } = edit
  const before = new Map(bag.values.map((value) => [value.key, value]))
  const fresh = [...set].map(([key, value]) => ({
    key,
    value,
    fingerprint: fingerprint(keys.fingerprintKey, bag.id, key, value),
  }))
  const changing = fresh.filter(({ key, fingerprint }) => !same(before.get(key)?.fingerprint ?? empty, fingerprint))
  const removed =
    unset === 'others' ? [...before.keys()].filter((key) => !set.has(key)) : unset.filter((key) => !set.has(key))
  refuseMissing(
    bag,
    removed.filter((key) => !before.has(key)),
  )
  const written = new Set(changing.map(({ key }) => key))
  const leaving = new Set(removed)
  const kept = bag.values.filter(({ key }) => !written.has(key) && !leaving.has(key))
  const changes: Changes = {
    added: [...written].filter((key) => !before.has(key)).sort(),
    changed: [...written].filter((key) => before.has(key)).sort(),
    removed: removed.sort(),
    kept: kept.map(({ key }) => key).sort(),
  }
  // A bag that was just made is at version 0, and an empty one is a change too.
  if (bag.version > 0 && written.size === 0 && removed.length === 0) return { bag, changes, write: undefined }
  const size = changing.reduce((sum, { key, value }) => sum + key.length + value.length, 0)
  const keptSize = kept.reduce((sum, { key, size }) => sum + key.length + size, 0)
  refuseTooLarge(bag, kept.length + written.size, size + keptSize)

  const version = bag.version + 1
  const by = actorOf(ctx.caller).name
  const { organization } = ctx.caller
  const names = [...changes.kept, ...written].sort()
  const setIn = new Map(kept.map(({ key, version }) => [key, version]))
  for (const key of written) setIn.set(key, version)
  const rowsToWrite = changing.map(({ key, value, fingerprint }) => {
    const address = { organization: organization.id, bag: bag.id, key, version }
    return { key, fingerprint, sealed: seal(keys.current.key, address, value), ...learn(value) }
  })
  const values = [
    bag.id,
    version,
    by,
    note ?? null,
    names,
    changes.added,
    changes.changed,
    changes.removed,
    versionProof(keys.fingerprintKey, bag.id, version, setIn),
    keys.current.id,
    rowsToWrite.map(({ key }) => key),
    rowsToWrite.map(({ sealed }) => sealed),
    rowsToWrite.map(({ fingerprint }) => fingerprint),
    rowsToWrite.map(({ length }) => length),
    rowsToWrite.map(({ hints }) => hints.join('\n')),
    rowsToWrite.map(({ expiresAt }) => expiresAt?.toISOString() ?? null),
  ]
  const extent = { removes: removed.length > 0, forgets: version > limits.versionsKept }
  const now = new Date().toISOString().replace('Z', '+00')
  return { bag: { ...bag, version, keys: names, updated_at: now, updated_by: by }, changes, write: { extent, values } }
}

const empty = Buffer.alloc(0)

/** What a change has to do besides; each part that is left out is time saved under the locks. */
export type Extent = { removes: boolean; forgets: boolean }

// Only if nobody was quicker: the row of the bag is updated, and so locked, where it still is at the version before, and everything else
// follows from that. Values end and begin in one statement; versions beyond those kept go with it, but none that a release is
// pinned to. Foreign keys are checked when it is over. `done` asks for the rest, so that it is done before the end of the audit chain is
// locked, for which all of an organization wait.
function partsOf({ removes, forgets }: Extent, condition = '') {
  const gone = `
  gone as (delete from secret_keys where secret_id = (select id from bag) and key = any($8) returning 1),`
  const forgotten = `
  forgotten as (
    delete from secret_values v where secret_id = (select id from bag) and until <= $2 - ${limits.versionsKept}
      and not exists (select from release_bags p where p.secret_id = $1 and p.version >= v.version and p.version < v.until) returning 1),
  unlisted as (
    delete from secret_versions v where secret_id = (select id from bag) and version <= $2 - ${limits.versionsKept}
      and not exists (select from release_bags p where p.secret_id = $1 and p.version = v.version) returning 1),`
  return `
  bag as (
    update secrets set version = $2, keys = $5, updated_at = now(), updated_by = $3
    where id = $1 and version = $2 - 1${condition} returning id),
  ended as (
    update secret_values set until = $2
    where secret_id = (select id from bag) and until is null and key = any($7::text[] || $8::text[]) returning 1),${removes ? gone : ''}${forgets ? forgotten : ''}
  history as (
    insert into secret_versions (secret_id, version, created_by, note, added, changed, removed, proof)
    select id, $2, $3, $4, $6, $7, $8, $9 from bag returning 1),
  fresh as (
    insert into secret_values (secret_id, key, version, key_id, sealed, fingerprint, length, hints, expires_at, created_by)
    select id, key, $2, $10, sealed, fingerprint, length, coalesce(string_to_array(nullif(hints, ''), E'\\n'), '{}'), expires_at, $3
    from bag, unnest($11::text[], $12::bytea[], $13::bytea[], $14::text[], $15::text[], $16::timestamptz[])
      as value (key, sealed, fingerprint, length, hints, expires_at) returning 1),
  pointers as (
    insert into secret_keys (secret_id, key, version) select id, key, $2 from bag, unnest($11::text[]) as value (key)
    on conflict (secret_id, key) do update set version = excluded.version returning 1),
  done as (
    select id from bag where (select count(*) from (
      table ended union all table history union all table fresh union all table pointers${removes ? ' union all table gone' : ''}${
        forgets ? ' union all table forgotten union all table unlisted' : ''
      }) rest) > 0)`
}

/** One of each for the four extents: prepared once, and no part asks for itself whether it has anything to do. */
const variants = <Made>(make: (extent: Extent, name: string) => Made) => {
  const made = [false, true].map((removes) =>
    [false, true].map((forgets) =>
      make({ removes, forgets }, `${removes ? '.removes' : ''}${forgets ? '.forgets' : ''}`),
    ),
  )
  return ({ removes, forgets }: Extent) => made[Number(removes)]?.[Number(forgets)] as Made
}

/** Inside a transaction that has locked the bag. */
export const writeVersion = variants((extent, name) =>
  statement(`write.version${name}`, `with ${partsOf(extent)} select id from done`),
)
/** By itself, with its audit, where no app has to follow; nothing happens if somebody was quicker, or an app has begun to use it. */
export const writeVersionAtOnce = variants((extent, name) =>
  single(`write.atOnce${name}`, partsOf(extent, ' and used_by = 0'), 16),
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

import { appendEvents, system } from '../audit/append.ts'
import { change } from '../change.ts'
import type { Api, Platform } from '../context.ts'
import { view } from '../http/view.ts'
import { Refusal } from '../refusal.ts'
import {
  type Database,
  execute,
  foreignKeyViolation,
  rfc3339,
  rows,
  sqlState,
  statement,
  transaction,
} from '../store/database.ts'
import { Damaged, open, seal } from './envelope.ts'
import { holdMaster, insertKeys } from './organization-keys.ts'

/**
 * A new data key for an organization. New values are sealed with it at once; older ones are sealed anew batch by batch, by whichever
 * server comes to it, and the old key goes with the last of them. A server that has not heard of it goes on writing with the old key until
 * then; after that PostgreSQL refuses its row, and it looks again (`forget`).
 */
type DataKey = { active: boolean; created_at: string; values: number }
const dataKeys = (organization: string) =>
  `select k.active, k.created_at, (select count(*)::int from secret_values v where v.key_id = k.id) as values
   from organization_keys k where k.organization_id = ${organization} and k.purpose = 'data'`

function present(keys: DataKey[]) {
  const current = keys.find(({ active }) => active)
  return {
    running: keys.length > 1,
    total: keys.reduce((sum, { values }) => sum + values, 0),
    done: current?.values ?? 0,
    since: current ? rfc3339(current.created_at) : null,
  }
}

export const keysView = view('keysView', {
  sql: dataKeys('caller.organization_id'),
  values: () => [],
  present,
})

const lock = statement('rotation.lock', 'select from organizations where id = $1 for no key update')
const state = statement<DataKey>('rotation.state', dataKeys('$1'))
const passOn = statement(
  'rotation.passOn',
  "update organization_keys set active = false where organization_id = $1 and purpose = 'data' and active",
)
export const keysRotate: Api['keysRotate'] = async (ctx) => {
  const { organization } = ctx.caller
  // Made now, if nothing was sealed before.
  await ctx.keys.organization(organization.id)
  const result = await change(ctx, async (tx) => {
    await execute(tx, lock, [organization.id])
    const before = present(await rows(tx, state, [organization.id]))
    if (before.running)
      throw new Refusal(
        'rotation_running',
        `A rotation is running: ${before.done} of ${before.total} values are done.`,
        {
          hint: 'See how far it is: GET /keys',
        },
      )
    // Before the rows that a rotation of the master key goes through: the other way around, both would wait.
    const master = ctx.keys.master()
    if (!(await holdMaster(tx, master)))
      throw new Refusal('unavailable', 'The master key is being changed; nothing was changed here. Try again.')
    await execute(tx, passOn, [organization.id])
    await insertKeys(tx, master, organization.id, ['data'])
    const result = present(await rows(tx, state, [organization.id]))
    return { result, audit: { object: { type: 'organization', ...organization }, detail: { values: result.total } } }
  })
  ctx.keys.forget(organization.id)
  ctx.keys.work()
  return result
}

type OldKey = { id: string; organization_id: string }
const oldKeys = statement<OldKey>(
  'rotation.oldKeys',
  "select id, organization_id from organization_keys where not active and purpose = 'data'",
)
/** Brings every rotation forward as far as it goes now. Several servers may do so at once. */
export async function continueRotations(platform: Platform, isStopped: () => boolean): Promise<void> {
  for (const old of await rows(platform.db, oldKeys)) {
    let done = { sealed: 1, damaged: 0 }
    // What was locked, or came with the old key while a pass was on, comes with the next one.
    while (done.sealed > 0 && !isStopped() && !(await removeKey(platform, old)))
      done = await sealAnew(platform, old, isStopped)
    if (done.damaged > 0)
      platform.log.warn(
        { ...old, values: done.damaged },
        'a rotation cannot end: values do not open, they were changed',
      )
  }
}

const remove = statement(
  'rotation.remove',
  'delete from organization_keys where id = $1 and not exists (select from secret_values where key_id = $1)',
)
// Before the key, in the order of the others, or both would wait: deleting an organization has its row before its keys go, and a write has
// the end of the chain before its commit looks at the key.
const lockOrganization = statement('rotation.lockOrganization', 'select from organizations where id = $1 for key share')
const lockChain = statement('rotation.lockChain', 'select from audit_heads where chain = $1 for no key update')
/** Whether nothing needed it any more. A value that comes with it at this moment makes PostgreSQL refuse. */
async function removeKey({ db, keys }: Platform, { id, organization_id }: OldKey): Promise<boolean> {
  try {
    const isGone = await transaction(db, async (tx) => {
      await execute(tx, lockOrganization, [organization_id])
      await execute(tx, lockChain, [organization_id])
      if ((await execute(tx, remove, [id])) === 0) return false
      const entry = { action: 'keys.rotated', actor: system, chain: organization_id }
      await appendEvents(tx, { caller: null, request: null }, entry)
      return true
    })
    if (isGone) keys.forget(organization_id)
    return isGone
  } catch (error) {
    if (sqlState(error) === foreignKeyViolation) return false
    throw error
  }
}

type Place = { secret_id: string; key: string; version: number }
type Value = Place & { sealed: Buffer }
const batchSize = 100
// What a request writes to, or another server seals anew at this moment, is locked and left out.
const batch = statement<Value>(
  'rotation.batch',
  `select secret_id, key, version, sealed from secret_values
   where key_id = $1 and (secret_id, key, version) > ($2::uuid, $3, $4)
   order by secret_id, key, version limit ${batchSize} for update skip locked`,
)
const replace = statement(
  'rotation.replace',
  `update secret_values v set key_id = $1, sealed = fresh.sealed
   from unnest($2::uuid[], $3::text[], $4::int[], $5::bytea[]) as fresh (secret_id, key, version, sealed)
   where v.secret_id = fresh.secret_id and v.key = fresh.key and v.version = fresh.version`,
)
/** One pass over what the old key protects, a transaction per batch: killed anywhere, the rest is there for the next pass. */
async function sealAnew(platform: Platform, old: OldKey, isStopped: () => boolean) {
  const { keys, db } = platform
  keys.forget(old.organization_id)
  const { current, byId } = await keys.organization(old.organization_id)
  const oldKey = byId(old.id)
  const done = { sealed: 0, damaged: 0 }
  if (!oldKey) return done
  let after: Place | undefined = { secret_id: '00000000-0000-0000-0000-000000000000', key: '', version: 0 }
  while (after && !isStopped()) {
    const { values, fresh } = await sealBatch(db, old, after, oldKey, current)
    done.sealed += fresh.length
    done.damaged += values.length - fresh.length
    after = values.at(-1)
  }
  return done
}

function sealBatch(db: Database, old: OldKey, after: Place, oldKey: Buffer, current: { id: string; key: Buffer }) {
  return transaction(db, async (tx) => {
    const values = await rows(tx, batch, [old.id, after.secret_id, after.key, after.version])
    const fresh = values.flatMap((value) => sealedAnew(old.organization_id, value, oldKey, current.key) ?? [])
    if (fresh.length > 0)
      await execute(tx, replace, [
        current.id,
        fresh.map(({ secret_id }) => secret_id),
        fresh.map(({ key }) => key),
        fresh.map(({ version }) => version),
        fresh.map(({ sealed }) => sealed),
      ])
    return { values, fresh }
  })
}

/** Undefined for a value that was damaged: it stays as it is, and so does the old key. */
function sealedAnew(organization: string, value: Value, from: Buffer, to: Buffer): Value | undefined {
  const address = { organization, bag: value.secret_id, key: value.key, version: value.version }
  try {
    const bytes = open(from, address, value.sealed)
    const sealed = seal(to, address, bytes)
    bytes.fill(0)
    return { ...value, sealed }
  } catch (error) {
    if (error instanceof Damaged) return undefined
    throw error
  }
}

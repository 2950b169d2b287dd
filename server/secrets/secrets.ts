import { decodeId, encodeId } from '@1ctl/contract/ids'
import { labelOfApp } from '@1ctl/contract/names'
import type { RolloutChoice } from '@1ctl/contract/rollouts'
import { type App, appFor } from '../apps/apps.ts'
import { type Followed, followBag, nothingFollows } from '../apps/follow.ts'
import { actorOf } from '../audit/append.ts'
import { change, changeAtOnce } from '../change.ts'
import type { Api, Ctx, Granted } from '../context.ts'
import { pageValues, toPage, view } from '../http/view.ts'
import { lockOrganization } from '../identity/organizations.ts'
import { invalid, Refusal } from '../refusal.ts'
import { constraintOf, execute, rfc3339, row, rows, statement, type Tx } from '../store/database.ts'
import { uuidv7 } from '../store/uuid.ts'
import {
  type Bag,
  bagColumns,
  bagFor,
  bagJoins,
  inUse,
  lockBag,
  presentBag,
  refuseManaged,
  refuseProtected,
  type Scope,
  scopeFor,
  scopeOf,
  usesOf,
  type WholeBag,
  wholeBagFor,
} from './bags.ts'
import { isGuessable } from './learn.ts'
import { openVersion } from './versions.ts'
import { type Edit, type Edited, editBag, refuseConflict, writeVersion, writeVersionAtOnce } from './write.ts'

export const secretList = view('secretList', {
  sql: listSql(),
  values: (input) => pageValues('secret', input),
  filtered: {
    when: ({ scope, app, vpc, type, q }) => [scope, app, vpc, type, q].some((given) => given !== undefined),
    sql: listSql(`
            and ($4::text is null or $4 = case when s.app is not null then 'app' when s.vpc_id is not null then 'vpc' else 'org' end)
            and ($5::text is null or s.app = $5
              or exists (select from apps a where a.id = $6::uuid and a.vpc_id = s.vpc_id and a.name = s.app))
            and ($7::text is null or exists (select from vpcs v where v.id = s.vpc_id and (v.name = $7 or v.id = $8::uuid)))
            and ($9::text is null or s.type = $9)
            and ($10::text is null or strpos(s.name, lower($10)) > 0
              or exists (select from unnest(s.keys) key where strpos(lower(key), lower($10)) > 0))`),
    values: (input) => {
      const { scope, app, vpc, type, q } = input
      return [
        ...pageValues('secret', input),
        scope ?? null,
        app ?? null,
        app === undefined ? null : (decodeId('app', app) ?? null),
        vpc ?? null,
        vpc === undefined ? null : (decodeId('vpc', vpc) ?? null),
        type ?? null,
        q ?? null,
      ]
    },
  },
  present: (rows: Bag[], input) => toPage('secret', rows, input, presentBag),
})

// The conditions are one `case`, of which PostgreSQL guesses that half of the rows pass it: so it reads from the newest on until the page is
// full. Of as many separate ones it would guess that hardly a row passes, and read and sort all of them.
function listSql(conditions = ''): string {
  return `select ${bagColumns} from (
            select * from secrets s
            where s.organization_id = caller.organization_id and s.id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff') and case when
              (caller.vpcs is null or s.vpc_id = any(caller.vpcs)) and (caller.apps is null or s.app = any(caller.apps))${conditions}
              then true else false end
            order by s.id desc limit $3) s ${bagJoins}
          order by s.id desc`
}

type KeyRow = {
  key: string
  version: number
  fingerprint: Buffer
  length: Length
  hints: string[]
  expires_at: string | null
  created_at: string
  created_by: string
}
type Length = '0' | '1-7' | '8-15' | '16-31' | '32-63' | '64+'
const keysOf = statement<KeyRow>(
  'secrets.keys',
  `select v.key, v.version, v.fingerprint, v.length, v.hints, v.expires_at, v.created_at, v.created_by
   from secret_keys k join secret_values v using (secret_id, key, version) where k.secret_id = $1 order by v.key`,
)
export const secretView: Api['secretView'] = async (ctx, { ref, ...where }) => {
  const bag = await bagFor(ctx, ref, where)
  const keys = await rows(ctx.db, keysOf, [bag.id])
  ctx.answer.etag = `"${bag.version}"`
  return { ...presentBag(bag), keyDetails: keys.map(presentKey) }
}

const presentKey = (row: KeyRow) => ({
  name: row.key,
  version: row.version,
  digest: isGuessable(row.length) ? null : row.fingerprint.toString('hex', 0, 4),
  length: row.length,
  updatedAt: rfc3339(row.created_at),
  updatedBy: row.created_by,
  hints: row.hints,
  expiresAt: row.expires_at && rfc3339(row.expires_at),
})

export const secretPut: Api['secretPut'] = async (ctx, input) => {
  const { name, data, deploymentId, keyValues, note } = input
  if (deploymentId !== undefined && keyValues) {
    const app = await appIfThere(ctx, deploymentId, input.vpc)
    const set = new Map(keyValues.map(({ key, value }) => [key, Buffer.from(value)]))
    if (set.size < keyValues.length)
      throw invalid('invalid_body', [{ path: 'keyValues', message: 'names a key twice' }])
    const scope = await scopeFor(ctx, { appId: app ? encodeId('app', app.id) : deploymentId, vpc: input.vpc })
    return putBag(
      ctx,
      name ?? labelOfApp(scope.app ?? deploymentId),
      scope,
      { set, unset: [], note },
      input.rollout,
      app,
    )
  }
  const scope = await scopeFor(ctx, input)
  const set = new Map([...(data ?? [])].map(([key, text]) => [key, Buffer.from(text)]))
  return putBag(ctx, name ?? '', scope, { set, unset: 'others', note }, input.rollout)
}

/** An app that is only named may come later. */
async function appIfThere(ctx: Ctx<'secrets:write'>, ref: string, vpc: string | undefined) {
  try {
    return await appFor(ctx, ref, { vpc })
  } catch (error) {
    const isId = ref.startsWith('dep_') || decodeId('app', ref) !== undefined
    if (isId || !(error instanceof Refusal) || error.code !== 'app_not_found') throw error
    return undefined
  }
}

/** Creates the bag if need be, edits it, and attaches it to the app it was made for. */
function putBag(
  ctx: Ctx<'secrets:write'>,
  name: string,
  scope: Granted<Scope, 'secrets:write'>,
  edit: Edit,
  choice: RolloutChoice | undefined,
  attachTo?: Granted<App, 'secrets:write'>,
) {
  refuseProtected(ctx, scope)
  return editing(ctx, edit, (plan) =>
    changeBag(ctx, plan, {}, choice, async (tx) => {
      const { isNew, ...target } = await ensureBag(tx, ctx, name, scope)
      refuseManaged(target)
      if (attachTo) await execute(tx, attach, [attachTo.id, target.id])
      ctx.answer.status = isNew ? 201 : 200
      return lockBag(tx, target)
    }),
  )
}

const ensure = statement(
  'secrets.ensure',
  `insert into secrets (organization_id, vpc_id, app, name, id, version, created_by, updated_by)
   values ($1, $2, $3, $4, $5, 0, $6, $6) on conflict do nothing`,
)
const byScope = statement<Pick<Bag, 'id' | 'name' | 'type'>>(
  'secrets.byScope',
  `select id, name, type from secrets
   where organization_id = $1 and vpc_id is not distinct from $2 and app is not distinct from $3 and name = $4`,
)
async function ensureBag(
  tx: Tx,
  ctx: Ctx<'secrets:write'>,
  name: string,
  { vpcId, app }: Granted<Scope, 'secrets:write'>,
) {
  const place = [ctx.caller.organization.id, vpcId, app, name]
  const [made, found] = await Promise.all([
    execute(tx, ensure, [...place, uuidv7(), actorOf(ctx.caller).name]),
    row(tx, byScope, place),
  ])
  if (!found) throw new Refusal('secret_not_found', `"${name}" was deleted meanwhile.`)
  return { ...found, isNew: made === 1 } as Granted<typeof found & { isNew: boolean }, 'secrets:write'>
}

// Where the app uses the bag already, as files or by a link, that is how it uses it.
const attach = statement(
  'secrets.attach',
  `insert into secret_uses (app_id, secret_id, mode, position)
   select $1, $2, 'envFrom', greatest(coalesce(max(position) + 1, 0), 1000) from secret_uses where app_id = $1 and service = '' and mode = 'envFrom'
   having not exists (select from secret_uses where app_id = $1 and secret_id = $2)
     and not exists (select from secret_links where app_id = $1 and secret_id = $2)`,
)

export const secretPatch: Api['secretPatch'] = async (ctx, { ref, appId, vpc, set, unset, note, rollout }) => {
  const bag = await wholeBagFor(ctx, ref, { appId, vpc })
  const both = (unset ?? []).filter((key) => set?.has(key))
  if (both.length > 0) throw invalid('invalid_body', [{ path: 'unset', message: `sets and unsets ${both.join(', ')}` }])
  const values = new Map([...(set ?? [])].map(([key, text]) => [key, Buffer.from(text)]))
  return editExisting(ctx, bag, { set: values, unset: [...new Set(unset)], note }, rollout)
}

export const secretRestore: Api['secretRestore'] = async (
  ctx,
  { ref, appId, vpc, version, keys: names, note, rollout },
) => {
  const bag = await wholeBagFor(ctx, ref, { appId, vpc })
  const set = await openVersion(ctx, bag, version, names)
  return editExisting(
    ctx,
    bag,
    { set, unset: names ? [] : 'others', note: note ?? `restored from v${version}` },
    rollout,
    { restored: version, keys: names ?? null },
  )
}

function editExisting(
  ctx: Ctx<'secrets:write'>,
  bag: Granted<WholeBag, 'secrets:write'>,
  edit: Edit,
  choice: RolloutChoice | undefined,
  detail: Record<string, unknown> = {},
) {
  refuseProtected(ctx, bag)
  refuseManaged(bag)
  return editing(ctx, edit, async (plan) => {
    const edited = plan(bag)
    // Mostly nobody is quicker. Apps that use it, and a repeated POST, are settled in a transaction.
    if (
      edited.write &&
      bag.used_by === 0 &&
      !ctx.request.idempotency &&
      (await changeAtOnce(ctx, writeVersionAtOnce(edited.write.extent), edited.write.values, auditOf(edited, detail)))
    )
      return answerOf(edited, nothingFollows)
    return changeBag(ctx, plan, detail, choice, (tx) => lockBag(tx, bag))
  })
}

type Plan = (bag: WholeBag) => Edited

/** Runs `work` with what the edit means for a bag, and says what it means when PostgreSQL refuses a row of it. */
async function editing<Result>(ctx: Ctx<'secrets:write'>, edit: Edit, work: (plan: Plan) => Promise<Result>) {
  const organizationId = ctx.caller.organization.id
  let edited: Edited | undefined
  const attempt = async () => {
    const keys = await ctx.keys.organization(organizationId)
    return work((bag) => (edited = editBag(ctx, bag, keys, edit)))
  }
  // A rotation has retired the data key at hand; the next try has the new one, unless one more has ended meanwhile.
  const again = (error: unknown) => {
    if (constraintOf(error) !== 'secret_values_key_id_fkey') throw error
    ctx.keys.forget(organizationId)
    return attempt()
  }
  try {
    return await attempt().catch(again).catch(again)
  } catch (error) {
    if (edited && constraintOf(error)?.startsWith('secret_links_'))
      throw await inUse(ctx, edited.bag, edited.changes.removed)
    if (constraintOf(error) === 'secrets_vpc_id_fkey')
      throw new Refusal('vpc_not_found', 'The VPC was deleted meanwhile; nothing was stored.')
    if (constraintOf(error) === 'secret_uses_app_id_fkey')
      throw new Refusal('app_not_found', 'The app was deleted meanwhile; nothing was stored.')
    throw error
  }
}

/** One transaction: `find` finds and locks the bag, the edit is written if it changes something, apps follow, and it is audited. */
const changeBag = (
  ctx: Ctx<'secrets:write'>,
  plan: Plan,
  detail: Record<string, unknown>,
  choice: RolloutChoice | undefined,
  find: (tx: Tx) => Promise<Granted<WholeBag, 'secrets:write'>>,
) =>
  change(ctx, async (tx) => {
    // What decides which versions pods run is decided in turn; the bag's own row is locked after that.
    await lockOrganization(tx, ctx.caller.organization.id)
    const found = await find(tx)
    const edited = plan(found)
    if (!edited.write) return { result: answerOf(edited, nothingFollows), audit: auditOf(edited, detail) }
    await execute(tx, writeVersion(edited.write.extent), edited.write.values)
    if (edited.changes.removed.length > 0) await execute(tx, checkLinks)
    const followed = await followBag(tx, ctx.caller, { ...edited.bag, scope: scopeOf(edited.bag) }, choice)
    const { used_by, status } = await lockBag(tx, found)
    return {
      result: answerOf({ ...edited, bag: { ...edited.bag, used_by, status } }, followed),
      audit: auditOf(edited, detail),
    }
  })

// A key that is linked is refused as such, before apps are asked what they make of it.
const checkLinks = statement('secrets.checkLinks', 'set constraints secret_links_secret_id_key_fkey immediate')

const answerOf = ({ bag, changes, write }: Edited, followed: Followed) => ({
  ...presentBag(bag),
  changes,
  unchanged: write === undefined,
  ...followed,
})

function auditOf({ bag, changes }: Edited, detail: Record<string, unknown>) {
  const { kept: _, ...names } = changes
  return {
    object: { type: 'secret' as const, id: bag.id, name: bag.name },
    detail: { ...detail, version: bag.version, ...names },
  }
}

// What pods still run is in use, too, though nothing declares it any more.
const runningIn = statement<{ app: string }>(
  'secrets.runningIn',
  `select a.name as app from release_bags b join apps a on a.id = b.app_id and b.release in (a.release, a.live_release)
   where b.secret_id = $1 limit 1`,
)
const remove = statement<Pick<Bag, 'name' | 'version' | 'updated_by'>>(
  'secrets.delete',
  'delete from secrets where id = $1 returning name, version, updated_by',
)
export const secretDelete: Api['secretDelete'] = async (ctx, { ref, ...where }) => {
  const bag = await bagFor(ctx, ref, where)
  refuseProtected(ctx, bag)
  refuseManaged(bag)
  await change(ctx, async (tx) => {
    await lockOrganization(tx, ctx.caller.organization.id)
    const { used_by } = await lockBag(tx, bag)
    const running = await row(tx, runningIn, [bag.id])
    if (running && used_by === 0)
      throw new Refusal('secret_in_use', `Pods of "${running.app}" still run with "${bag.name}".`, {
        hint: `Roll out what is staged first: 1ctl deploy redeploy ${running.app}`,
        details: { usedBy: [{ app: running.app }] },
      })
    const removed = await row(tx, remove, [bag.id])
    if (!removed) throw new Refusal('secret_not_found', `"${bag.name}" was deleted meanwhile.`)
    refuseConflict(ctx, removed)
    return { result: undefined, audit: { object: { type: 'secret', id: bag.id, name: bag.name } } }
  }).catch(async (error: unknown) => {
    throw constraintOf(error) ? await inUse(ctx, bag, 'all') : error
  })
  return {}
}

export const secretUsage: Api['secretUsage'] = async (ctx, { ref, ...where }) => {
  const bag = await bagFor(ctx, ref, where)
  return { items: await usesOf(ctx.db, bag) }
}

export const secretDeploy: Api['secretDeploy'] = async (ctx, { ref, appId, vpc, rollout = 'now' }) => {
  const bag = await bagFor(ctx, ref, { appId, vpc })
  refuseProtected(ctx, bag)
  return change(ctx, async (tx) => {
    await lockOrganization(tx, ctx.caller.organization.id)
    const { version } = await lockBag(tx, bag)
    const followed = await followBag(tx, ctx.caller, { ...bag, version, scope: scopeOf(bag) }, rollout)
    const audit = { object: { type: 'secret' as const, id: bag.id, name: bag.name }, detail: { version } }
    return { result: { ...presentBag({ ...bag, version }), ...followed }, audit }
  })
}

import { decodeId, encodeId } from '@1ctl/contract/ids'
import type { Permission } from '@1ctl/contract/permissions'
import { demand, memberOf, vpcFor } from '../access.ts'
import { appFor } from '../apps/apps.ts'
import type { Ctx, Granted } from '../context.ts'
import { sealedOverhead } from '../keys/envelope.ts'
import { Refusal } from '../refusal.ts'
import { execute, rfc3339, row, rows, type Statement, statement, type Tx } from '../store/database.ts'

/** Which bag is meant, and who uses it. */
export type Bag = {
  id: string
  name: string
  type: 'custom' | 'database' | 'registry'
  vpc_id: string | null
  vpc: string | null
  protected: boolean | null
  app: string | null
  app_id: string | null
  version: number
  keys: string[]
  used_by: number
  status: 'live' | 'rolling_out' | 'redeploy_needed' | 'pending' | 'rejected' | 'shadowed' | 'unused'
  created_at: string
  created_by: string
  updated_at: string
  updated_by: string
}

/** With what it takes to change it: of each key's value all but the value. */
export type WholeBag = Bag & { values: { key: string; version: number; fingerprint: Buffer; size: number }[] }

export const bagColumns = `
  s.id, s.name, s.type, s.vpc_id, v.name as vpc, v.protected, s.app, a.id as app_id, s.version, s.keys, s.created_at, s.created_by, s.updated_at,
  s.updated_by, s.used_by,
  case when s.used_by > 0 then status_of_used(s.id, s.version)
    when s.app is null and exists (
      select from secrets n where n.organization_id = s.organization_id and n.name = s.name and (s.vpc_id is null or n.vpc_id = s.vpc_id)
        and ((s.vpc_id is null and n.vpc_id is not null) or (s.app is null and n.app is not null))) then 'shadowed'
    else 'unused' end as status`
const wholeColumns = `${bagColumns},
  (select coalesce(json_agg(json_build_array(k.key, k.version, encode(x.fingerprint, 'base64'), octet_length(x.sealed) - ${sealedOverhead})), '[]')
   from secret_keys k join secret_values x using (secret_id, key, version) where k.secret_id = s.id) as value_list`
type WholeRow = Bag & { value_list: [key: string, version: number, fingerprint: string, size: number][] }

const toWhole = ({ value_list, ...bag }: WholeRow): WholeBag => ({
  ...bag,
  values: value_list.map(([key, version, fingerprint, size]) => ({
    key,
    version,
    fingerprint: Buffer.from(fingerprint, 'base64'),
    size,
  })),
})

export const bagJoins = `
  left join vpcs v on v.id = s.vpc_id
  left join apps a on a.vpc_id = s.vpc_id and a.name = s.app`
export const bagTables = `secrets s ${bagJoins}`

export const presentBag = (bag: Bag) => ({
  id: encodeId('secret', bag.id),
  name: bag.name,
  type: bag.type,
  scope: scopeOf(bag),
  app: bag.app,
  appId: bag.app_id && encodeId('app', bag.app_id),
  vpc: bag.vpc,
  version: bag.version,
  keys: bag.keys,
  usedBy: bag.used_by,
  status: bag.status,
  createdAt: rfc3339(bag.created_at),
  createdBy: bag.created_by,
  updatedAt: rfc3339(bag.updated_at),
  updatedBy: bag.updated_by,
})

export const scopeOf = ({ vpc_id, app }: Pick<Bag, 'vpc_id' | 'app'>): 'app' | 'vpc' | 'org' =>
  app !== null ? 'app' : vpc_id !== null ? 'vpc' : 'org'

export type Where = { appId?: string | undefined; vpc?: string | undefined }

// By id, or by name within the scope that `where` names: an app (by id, or by name in a VPC), a VPC, or the organization.
const byRef = (columns: string) =>
  `select ${columns} from ${bagTables}
   where s.organization_id = $1
     and (s.id = $2::uuid or (s.name = $3 and case
       when $4::uuid is not null then a.id = $4
       when $5::text is not null then s.app = $5 and (v.name = $6 or v.id = $7::uuid)
       when $6::text is not null then s.app is null and (v.name = $6 or v.id = $7::uuid)
       else s.vpc_id is null end))
     and ($8::uuid[] is null or s.vpc_id = any($8)) and ($9::text[] is null or s.app = any($9))`

const bagByRef = statement<Bag>('bags.byRef', byRef(bagColumns))
export const bagFor = <P extends Permission>(ctx: Ctx<P>, ref: string, where: Where): Promise<Granted<Bag, P>> =>
  find(ctx, bagByRef, ref, where)

const wholeByRef = statement<WholeRow>('bags.wholeByRef', byRef(wholeColumns))
export const wholeBagFor = async <P extends Permission>(ctx: Ctx<P>, ref: string, where: Where) =>
  toWhole(await find(ctx, wholeByRef, ref, where)) as Granted<WholeBag, P>

async function find<Row, P extends Permission>(ctx: Ctx<P>, what: Statement<Row>, ref: string, where: Where) {
  const { organization, token } = memberOf(ctx)
  const { appId, app, vpc } = parseWhere(where)
  const found = await row(ctx.db, what, [
    organization.id,
    decodeId('secret', ref) ?? null,
    ref,
    appId,
    app,
    vpc,
    vpc === null ? null : (decodeId('vpc', vpc) ?? null),
    token?.vpcs ?? null,
    token?.apps ?? null,
  ])
  if (!found)
    throw new Refusal('secret_not_found', `No secret "${ref}" ${inWords(where)}.`, {
      hint: 'See them with: 1ctl secret list',
    })
  return found as Granted<Row, P>
}

const lock = statement('bags.lock', 'select from secrets where id = $1 for no key update')
const wholeById = statement<WholeRow>('bags.wholeById', `select ${wholeColumns} from ${bagTables} where s.id = $1`)
/** The bag as it stays until the end of the transaction. Two statements, because the second must see what the lock had to wait for. */
export async function lockBag<P extends Permission>(tx: Tx, bag: Granted<Pick<Bag, 'id' | 'name'>, P>) {
  const [, found] = await Promise.all([execute(tx, lock, [bag.id]), row(tx, wholeById, [bag.id])])
  if (!found) throw new Refusal('secret_not_found', `"${bag.name}" was deleted meanwhile.`)
  return toWhole(found) as Granted<WholeBag, P>
}

function parseWhere({ appId, vpc }: Where) {
  const id = appId === undefined ? undefined : decodeId('app', appId)
  const app = id === undefined ? (appId ?? null) : null
  return { appId: id ?? null, app, vpc: vpc ?? (app === null ? null : 'default') }
}

const inWords = ({ appId, vpc }: Where) =>
  appId !== undefined
    ? `of app "${appId}"${vpc === undefined ? '' : ` in VPC "${vpc}"`}`
    : vpc !== undefined
      ? `of VPC "${vpc}"`
      : 'shared in this organization'

/** Where a new bag will be. */
export type Scope = { organizationId: string; vpcId: string | null; app: string | null; protected: boolean }

export async function scopeFor<P extends Permission>(ctx: Ctx<P>, where: Where): Promise<Granted<Scope, P>> {
  const { organization, token } = memberOf(ctx)
  const { appId, app: appName, vpc: vpcRef } = parseWhere(where)
  const known = appId === null ? undefined : await appFor(ctx, where.appId ?? '', {})
  const vpc = known
    ? { id: known.vpc_id, protected: known.protected }
    : vpcRef === null
      ? null
      : await vpcFor(ctx, vpcRef)
  const app = known?.name ?? appName
  // Shared bags reach beyond what a limited token may touch.
  if ((token?.vpcs && vpc === null) || (token?.apps && (app === null || !token.apps.includes(app))))
    throw new Refusal(
      'insufficient_scope',
      `Token "${token.name}" is limited to some VPCs or apps, and this is beyond them.`,
    )
  const scope: Scope = {
    organizationId: organization.id,
    vpcId: vpc?.id ?? null,
    app,
    protected: vpc?.protected ?? false,
  }
  return scope as Granted<Scope, P>
}

/** Only admins change what is in a protected VPC; a bag of a database or a registry is changed by rotating it. */
export function refuseProtected(ctx: Ctx<'secrets:write'>, place: { protected: boolean | null }): void {
  if (place.protected) demand(ctx, 'admin')
}
export function refuseManaged(bag: Pick<Bag, 'type' | 'name'>): void {
  if (bag.type !== 'custom')
    throw new Refusal('secret_managed', `"${bag.name}" belongs to a ${bag.type}; its keys are rotated, not edited.`)
}

type Use = {
  app: string
  app_id: string
  vpc: string
  service: string
  mode: 'envFrom' | 'secretFiles' | 'link'
  key: string | null
  variable: string | null
  running: number | null
  current: number
}
const users = statement<Use>(
  'bags.users',
  `select a.name as app, a.id as app_id, v.name as vpc, u.service, u.mode, u.key, u.variable,
     (select b.version from release_bags b where b.app_id = a.id and b.release = a.live_release and b.secret_id = $1) as running,
     (select version from secrets where id = $1) as current
   from (select app_id, service, mode, null as key, null as variable from secret_uses where secret_id = $1
         union all select app_id, service, 'link', key, variable from secret_links where secret_id = $1) u
   join apps a on a.id = u.app_id join vpcs v on v.id = a.vpc_id
   order by v.name, a.name, u.service, u.mode, u.variable`,
)
export async function usesOf(db: Ctx['db'] | Tx, bag: Pick<Bag, 'id'>) {
  return (await rows(db, users, [bag.id])).map((use) => ({
    app: use.app,
    appId: encodeId('app', use.app_id),
    vpc: use.vpc,
    service: use.service || null,
    mode: use.mode,
    key: use.key,
    variable: use.variable,
    runningVersion: use.running,
    currentVersion: use.current,
  }))
}

/** The database refused to remove what is used; this says by whom. `keys`: those that would have gone, or the whole bag. */
export async function inUse(
  ctx: Pick<Ctx, 'db'>,
  bag: Pick<Bag, 'id' | 'name'>,
  keys: string[] | 'all',
): Promise<Refusal> {
  const usedBy = (await usesOf(ctx.db, bag)).filter(({ key }) => keys === 'all' || (key !== null && keys.includes(key)))
  const what = keys === 'all' ? `Secret "${bag.name}"` : `A key of "${bag.name}"`
  const by = usedBy.map(({ app, variable }) => (variable ? `${app} (${variable})` : app)).join(', ')
  return new Refusal('secret_in_use', `${what} is in use by ${by || 'an app'}.`, {
    hint: hintOf(bag, usedBy[0]),
    details: { usedBy },
  })
}

function hintOf({ name }: Pick<Bag, 'name'>, use: Awaited<ReturnType<typeof usesOf>>[0] | undefined): string {
  if (!use) return 'Remove the references first.'
  const what = use.variable ? `env unset ${use.variable}` : `env detach ${name}`
  return `Remove the references first: 1ctl ${what} --app ${use.app}`
}

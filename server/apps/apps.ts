import { decodeId, encodeId } from '@1ctl/contract/ids'
import type { Permission } from '@1ctl/contract/permissions'
import type { RolloutState } from '@1ctl/contract/rollouts'
import { demand, memberOf } from '../access.ts'
import { change } from '../change.ts'
import type { Api, Ctx, Granted } from '../context.ts'
import { pageValues, toPage, view } from '../http/view.ts'
import { lockOrganization } from '../identity/organizations.ts'
import { Refusal } from '../refusal.ts'
import { execute, rfc3339, row, rows, statement, type Tx } from '../store/database.ts'
import type { AppRow, FrozenService, Rollout } from './releases.ts'
import { presentRollout } from './releases.ts'

/** Apps: looking them up, showing them, deleting them. */

export type App = AppRow & {
  namespace: string
  protected: boolean
  rejected_release: number | null
  created_at: string
  updated_at: string
  updated_by: string
  services: FrozenService[] | null
  serving: Record<string, number>
  last: (Omit<Rollout, 'app_id' | 'app' | 'vpc'> & { services: ServiceReceipt[] }) | null
  rejection: string | null
}
export type ServiceReceipt = {
  name: string
  state: RolloutState
  ready: number
  wanted: number
  reason: string | null
  message: string | null
  logs: string[]
}

const appColumns = `
  a.id, a.organization_id, a.vpc_id, v.name as vpc, v.namespace, v.protected, a.name, a.spec, a.release, a.live_release, a.rejected_release,
  a.staged, a.serving, a.on_failure, a.created_at, a.updated_at, a.updated_by,
  (select r.services from releases r where r.app_id = a.id and r.number = a.release) as services,
  (select row_to_json(newest) from (
     select id, release, state, cause, created_at, created_by, finished_at, services
     from rollouts where app_id = a.id order by id desc limit 1) newest) as last,
  (select coalesce(o.message, 'failed') from rollouts o where o.app_id = a.id and o.release = a.rejected_release order by o.id desc limit 1)
    as rejection`

export const presentApp = (app: App) => ({
  id: encodeId('app', app.id),
  name: app.name,
  vpc: app.vpc,
  namespace: app.namespace,
  release: app.release,
  liveRelease: app.live_release,
  staged: app.staged,
  rejected: app.rejection,
  services: (app.services ?? []).map((service) => {
    const seen = app.last?.services.find(({ name }) => name === service.name)
    return {
      name: service.name,
      image: service.image,
      port: service.port ?? null,
      replicas: service.replicas,
      ready: app.serving[service.name] ?? 0,
      state: seen?.state ?? null,
    }
  }),
  rollout: app.last && presentRollout({ ...app.last, app_id: app.id, app: app.name, vpc: app.vpc }),
  createdAt: rfc3339(app.created_at),
  updatedAt: rfc3339(app.updated_at),
  updatedBy: app.updated_by,
})

export const appList = view('appList', {
  sql: `select ${appColumns} from apps a join vpcs v on v.id = a.vpc_id
        where a.organization_id = caller.organization_id
          and (caller.vpcs is null or a.vpc_id = any(caller.vpcs)) and (caller.apps is null or a.name = any(caller.apps))
          and ($2::uuid is null or a.id < $2)
          and ($4::text is null or v.name = $4 or v.id = $5::uuid)
          and ($6::text is null or strpos(a.name, lower($6)) > 0)
        order by a.id desc limit $3`,
  values: (input) => [
    ...pageValues('app', input),
    input.vpc ?? null,
    input.vpc === undefined ? null : (decodeId('vpc', input.vpc) ?? null),
    input.q ?? null,
  ],
  present: (rows: App[], input) => toPage('app', rows, input, presentApp),
})

export type Where = { vpc?: string | undefined }

const byRef = statement<App>(
  'apps.byRef',
  `select ${appColumns} from apps a join vpcs v on v.id = a.vpc_id
   where a.organization_id = $1 and (a.id = $2 or (a.name = $3 and (v.name = $4 or v.id = $5)))
     and ($6::uuid[] is null or a.vpc_id = any($6)) and ($7::text[] is null or a.name = any($7))`,
)
/** An app by id, or by name in a VPC. */
export async function appFor<P extends Permission>(ctx: Ctx<P>, ref: string, where: Where): Promise<Granted<App, P>> {
  const { organization, token } = memberOf(ctx)
  const vpc = where.vpc ?? 'default'
  const found = await row(ctx.db, byRef, [
    organization.id,
    decodeId('app', ref) ?? null,
    ref,
    vpc,
    decodeId('vpc', vpc) ?? null,
    token?.vpcs ?? null,
    token?.apps ?? null,
  ])
  if (!found)
    throw new Refusal('app_not_found', `No app "${ref}" in VPC "${vpc}".`, { hint: 'See them with: 1ctl deploy list' })
  return found as Granted<App, P>
}

const byId = statement<App>(
  'apps.byId',
  `select ${appColumns} from apps a join vpcs v on v.id = a.vpc_id where a.id = $1`,
)
/** As it is now, while the organization's lock is held. */
export async function appNow(tx: Tx, { id, name }: Pick<App, 'id' | 'name'>): Promise<App> {
  const found = await row(tx, byId, [id])
  if (!found) throw new Refusal('app_not_found', `App "${name}" was deleted meanwhile.`)
  return found
}

export const appsNow = statement<App>(
  'apps.byIds',
  `select ${appColumns} from apps a join vpcs v on v.id = a.vpc_id where a.id = any($1) order by a.id`,
)
export const appsById = (tx: Tx, ids: string[]) => rows(tx, appsNow, [ids])

/** Only admins change what is in a protected VPC. */
export function refuseProtected(ctx: Ctx<'deploy'>, place: { protected: boolean }): void {
  if (place.protected) demand(ctx, 'admin')
}

export const appView: Api['appView'] = async (ctx, { ref, ...where }) => presentApp(await appFor(ctx, ref, where))

const remove = statement('apps.delete', 'delete from apps where id = $1')
export const appDelete: Api['appDelete'] = async (ctx, { ref, confirm, ...where }) => {
  const app = await appFor(ctx, ref, where)
  refuseProtected(ctx, app)
  if (confirm !== app.name)
    throw new Refusal('confirmation_needed', `Deleting "${app.name}" stops all its pods.`, {
      hint: `Confirm with its name: ?confirm=${app.name}`,
    })
  await change(ctx, async (tx) => {
    await lockOrganization(tx, ctx.caller.organization.id)
    if ((await execute(tx, remove, [app.id])) === 0)
      throw new Refusal('app_not_found', `App "${app.name}" was deleted meanwhile.`)
    return {
      result: undefined,
      audit: { object: { type: 'app', id: app.id, name: app.name }, detail: { vpc: app.vpc } },
    }
  })
  return {}
}

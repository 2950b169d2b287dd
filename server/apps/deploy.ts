import { memberOf, vpcFor } from '../access.ts'
import { actorOf } from '../audit/append.ts'
import { change } from '../change.ts'
import type { Api, Ctx, Granted } from '../context.ts'
import { invalidCursor } from '../http/view.ts'
import { lockOrganization } from '../identity/organizations.ts'
import { Refusal } from '../refusal.ts'
import { execute, rfc3339, row, rows, statement, type Tx } from '../store/database.ts'
import { uuidv7 } from '../store/uuid.ts'
import { type App, appFor, appNow, presentApp, refuseProtected } from './apps.ts'
import { declareApp } from './declare.ts'
import type { EffectiveService, Spec, Workload } from './effective.ts'
import { presentEffective } from './env.ts'
import {
  type FrozenService,
  inputsOf,
  type Making,
  makeRelease,
  noteStaged,
  presentRollout,
  releaseOf,
  repointBags,
} from './releases.ts'

type Input = Parameters<Api['deploy']>[1]

export const deploy: Api['deploy'] = async (ctx, input) => {
  const vpc = await vpcFor(ctx, input.vpc ?? 'default')
  refuseBeyond(ctx, input.name)
  refuseProtected(ctx, vpc)
  return dryRunOf(input.dryRun, (rehearse) =>
    change(ctx, async (tx) => {
      await lockOrganization(tx, ctx.caller.organization.id)
      const app = await ensureApp(tx, ctx, vpc, input)
      await declareApp(tx, app, input)
      const result = await release(tx, ctx, app, {
        cause: 'deploy',
        note: input.note,
        pins: 'current',
        onFailure: input.onFailure,
        isStaged: input.rollout === 'stage',
      })
      rehearse(result)
      return { result, audit: audited(app, { release: result.release, image: input.image, staged: result.app.staged }) }
    }),
  )
}

/** Does everything and takes it back: what is answered is what would be. */
async function dryRunOf<Result>(
  isDry: boolean | undefined,
  work: (rehearse: (result: Result) => void) => Promise<Result>,
): Promise<Result> {
  try {
    return await work((result) => {
      if (isDry) throw new Rehearsed(result)
    })
  } catch (error) {
    if (error instanceof Rehearsed) return error.result as Result
    throw error
  }
}

class Rehearsed extends Error {
  readonly result: unknown
  constructor(result: unknown) {
    super('nothing was changed')
    this.result = result
  }
}

/** A token that is limited to apps deploys only those. */
function refuseBeyond(ctx: Ctx<'deploy'>, name: string): void {
  const { token } = memberOf(ctx)
  if (token?.apps && !token.apps.includes(name))
    throw new Refusal('insufficient_scope', `Token "${token.name}" is limited to other apps.`)
}

const insert = statement(
  'deploy.insert',
  `insert into apps (id, organization_id, vpc_id, name, updated_by) values ($1, $2, $3, $4, $5) on conflict (vpc_id, name) do nothing`,
)
const find = statement<{ id: string }>('deploy.find', 'select id from apps where vpc_id = $1 and name = $2')
const keepSpec = statement(
  'deploy.spec',
  'update apps set spec = $2, updated_at = now(), updated_by = $3, on_failure = coalesce($4, on_failure) where id = $1',
)
async function ensureApp(tx: Tx, ctx: Ctx<'deploy'>, vpc: { id: string }, input: Input): Promise<App> {
  const by = actorOf(ctx.caller).name
  const [, found] = await Promise.all([
    execute(tx, insert, [uuidv7(), ctx.caller.organization.id, vpc.id, input.name, by]),
    row(tx, find, [vpc.id, input.name]),
  ])
  const app = await appNow(tx, { id: found?.id ?? '', name: input.name })
  const spec = mergeSpec(app.spec, input)
  await execute(tx, keepSpec, [app.id, JSON.stringify(spec), by, input.onFailure ?? null])
  return { ...app, spec, on_failure: input.onFailure ?? app.on_failure }
}

/** What is given counts, null takes away, the rest stays; the list of services is whole by itself. */
function mergeSpec(before: Spec, input: Input): Spec {
  const { services, security } = input
  const merged = {
    ...before,
    ...given(input),
    ...(security ? { security } : {}),
    ...(services ? { services: services.map((service) => ({ name: service.name, ...given(service) })) } : {}),
  }
  const taken = [...fields.filter((field) => input[field] === null), ...(services === null ? ['services'] : [])]
  return Object.fromEntries(Object.entries(merged).filter(([field]) => !taken.includes(field)))
}

const fields = ['image', 'port', 'replicas', 'command', 'args', 'healthPath', 'resources'] as const
const given = (input: Pick<Input, (typeof fields)[number]>): Workload =>
  Object.fromEntries(
    fields.flatMap((field) => (input[field] === undefined || input[field] === null ? [] : [[field, input[field]]])),
  )

type Releasing = Omit<Making, 'inputs'> & { isStaged?: boolean }

/** From what is declared now to a release, or to a note that something is staged. */
export async function release(tx: Tx, ctx: Ctx<'deploy'>, app: App, { isStaged = false, ...making }: Releasing) {
  await repointBags(tx, app)
  const inputs = await inputsOf(tx, app)
  const made = await makeRelease(tx, ctx.caller, app, { ...making, inputs, isDry: isStaged })
  await noteStaged(tx, app, made.number)
  return answer(tx, app, made)
}

export async function answer(
  tx: Tx,
  app: App,
  { number, rollout, effective }: Awaited<ReturnType<typeof makeRelease>>,
) {
  return {
    app: presentApp(await appNow(tx, app)),
    release: number ?? 0,
    rollout: rollout && presentRollout(rollout),
    unchanged: rollout === null,
    effectiveEnv: effective.map((service: EffectiveService) => presentEffective(service)),
  }
}

export const audited = (app: App, detail: Record<string, unknown>) => ({
  object: { type: 'app' as const, id: app.id, name: app.name },
  detail: { vpc: app.vpc, ...detail },
})

/** Every change of an app that was there before: alone in its organization, with the app as it is then. */
export const changeApp = (
  ctx: Ctx<'deploy'>,
  found: Granted<App, 'deploy'>,
  { dryRun, ...detail }: Record<string, unknown> & { dryRun: boolean | undefined },
  work: (tx: Tx, app: App) => ReturnType<typeof answer>,
) => {
  refuseProtected(ctx, found)
  return dryRunOf<Awaited<ReturnType<typeof answer>>>(dryRun, (rehearse) =>
    change(ctx, async (tx) => {
      await lockOrganization(tx, ctx.caller.organization.id)
      const app = await appNow(tx, found)
      const result = await work(tx, app)
      rehearse(result)
      return { result, audit: audited(app, { ...detail, release: result.release }) }
    }),
  )
}

export const appRollback: Api['appRollback'] = async (ctx, input) => {
  const { release: number, secrets = 'current', dryRun } = input
  const found = await appFor(ctx, input.ref, input)
  return changeApp(ctx, found, { dryRun, to: number, secrets }, async (tx, app) => {
    const earlier = await releaseOf(tx, app, number)
    if (!earlier)
      throw new Refusal('release_not_found', `"${app.name}" has no release ${number} any more.`, {
        hint: `See them with: 1ctl deploy releases ${app.name}`,
      })
    const made = await makeRelease(tx, ctx.caller, app, {
      cause: `rollback to ${number}`,
      note: input.note,
      // Those that run, not what is staged or was rejected: this is the way out.
      pins: secrets === 'release' ? { release: number } : { current: [] },
      inputs: earlier.inputs,
    })
    await noteStaged(tx, app, made.number)
    return answer(tx, app, made)
  })
}

export const appRedeploy: Api['appRedeploy'] = async (ctx, { ref, vpc, restart = true, dryRun }) => {
  const found = await appFor(ctx, ref, { vpc })
  return changeApp(ctx, found, { dryRun }, async (tx, app) => {
    if (app.release === null && Object.keys(app.spec).length === 0)
      throw new Refusal('nothing_staged', `"${app.name}" was never deployed.`, { hint: 'Deploy it: 1ctl deploy' })
    const result = await release(tx, ctx, app, { cause: 'redeploy', pins: 'current' })
    if (!result.unchanged) return result
    if (!restart)
      throw new Refusal('nothing_staged', `Nothing is staged for "${app.name}": its pods run what was saved.`)
    return release(tx, ctx, app, { cause: 'restart', pins: 'current', restart: true })
  })
}

type ReleaseRow = {
  number: number
  current: boolean
  live: boolean
  created_at: string
  created_by: string
  cause: string
  note: string | null
  services: FrozenService[]
  secrets: { name: string; scope: 'org' | 'vpc' | 'app'; version: number }[]
}
const releases = statement<ReleaseRow>(
  'deploy.releases',
  `select r.number, r.number is not distinct from a.release as current, r.number is not distinct from a.live_release as live,
     r.created_at, r.created_by, r.cause, r.note, r.services,
     (select coalesce(json_agg(json_build_object('name', s.name, 'version', b.version,
        'scope', case when s.app is not null then 'app' when s.vpc_id is not null then 'vpc' else 'org' end) order by s.name), '[]')
      from release_bags b join secrets s on s.id = b.secret_id where b.app_id = r.app_id and b.release = r.number) as secrets
   from releases r join apps a on a.id = r.app_id
   where r.app_id = $1 and ($2::int is null or r.number < $2) order by r.number desc limit $3`,
)
export const releaseList: Api['releaseList'] = async (ctx, { ref, vpc, cursor, limit }) => {
  if (cursor !== undefined && !/^\d{1,9}$/.test(cursor)) throw invalidCursor()
  const app = await appFor(ctx, ref, { vpc })
  const found = await rows(ctx.db, releases, [app.id, cursor ?? null, limit + 1])
  const shown = found.slice(0, limit)
  return {
    items: shown.map(({ created_at, created_by, services, ...release }) => ({
      ...release,
      createdAt: rfc3339(created_at),
      createdBy: created_by,
      services: services.map(({ name, image, replicas, env }) => ({
        name,
        image,
        replicas,
        variables: env.map(({ name }) => name),
      })),
    })),
    nextCursor: found.length > limit ? String(shown.at(-1)?.number) : null,
  }
}

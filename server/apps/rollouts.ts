import { decodeId, encodeId } from '@1ctl/contract/ids'
import { demand, isLimited, memberOf } from '../access.ts'
import { change } from '../change.ts'
import type { Api, Ctx, MemberCaller } from '../context.ts'
import { pageValues, toPage, view } from '../http/view.ts'
import { lockOrganization } from '../identity/organizations.ts'
import { Refusal } from '../refusal.ts'
import { type Database, execute, rfc3339, row, rows, statement, type Tx } from '../store/database.ts'
import type { ServiceReceipt } from './apps.ts'
import { presentRollout, type Rollout } from './releases.ts'

/** Receipts: what became of each attempt to make pods run a release. The delivery loop writes them. */

type Receipt = Rollout & {
  organization_id: string
  previous_release: number | null
  steps: { state: Rollout['state']; at: string }[]
  services: ServiceReceipt[]
  message: string | null
  superseded_by: string | null
  wave_id: string | null
  revision: number
}

const summary =
  'o.id, o.app_id, a.name as app, v.name as vpc, o.release, o.state, o.cause, o.created_at, o.created_by, o.finished_at'

export const rolloutList = view('rolloutList', {
  sql: `select ${summary} from rollouts o join apps a on a.id = o.app_id join vpcs v on v.id = a.vpc_id
        where o.organization_id = caller.organization_id
          and (caller.vpcs is null or a.vpc_id = any(caller.vpcs)) and (caller.apps is null or a.name = any(caller.apps))
          and ($2::uuid is null or o.id < $2)
          and ($4::text is null or a.id = $5::uuid or a.name = $4)
          and ($6::text is null or v.name = $6 or v.id = $7::uuid)
        order by o.id desc limit $3`,
  values: (input) => [
    ...pageValues('rollout', input),
    input.app ?? null,
    input.app === undefined ? null : (decodeId('app', input.app) ?? null),
    input.vpc ?? null,
    input.vpc === undefined ? null : (decodeId('vpc', input.vpc) ?? null),
  ],
  present: (rows: Rollout[], input) => toPage('rollout', rows, input, presentRollout),
})

const byId = statement<Receipt>(
  'rollouts.byId',
  `select ${summary}, o.organization_id, o.previous_release, o.steps, o.services, o.message, o.superseded_by, o.wave_id, o.revision
   from rollouts o join apps a on a.id = o.app_id join vpcs v on v.id = a.vpc_id
   where o.organization_id = $1 and o.id = $2
     and ($3::uuid[] is null or a.vpc_id = any($3)) and ($4::text[] is null or a.name = any($4))`,
)
async function rolloutFor(ctx: Ctx<'read'>, ref: string): Promise<Receipt> {
  const { organization, token } = memberOf(ctx)
  const id = decodeId('rollout', ref)
  const found = id && (await row(ctx.db, byId, [organization.id, id, token?.vpcs ?? null, token?.apps ?? null]))
  if (!found)
    throw new Refusal('rollout_not_found', `No rollout "${ref}" in this organization.`, {
      hint: 'See those of an app with: 1ctl deploy status',
    })
  return found
}

export const rolloutView: Api['rolloutView'] = async (ctx, { id, wait = 0, since }) => {
  const first = await rolloutFor(ctx, id)
  // What changed between two questions of a client is news to it.
  const isNews = since !== undefined && since !== first.revision
  return presentReceipt(
    isNews || wait === 0 || first.finished_at !== null ? first : await nextOf(ctx, first, wait * 1000),
  )
}

/** The receipt at its next change, or as it is when the time is over. */
async function nextOf(ctx: Ctx<'read'>, first: Receipt, ms: number): Promise<Receipt> {
  const until = Date.now() + ms
  for (;;) {
    // Listens before it looks: what changes in between is heard.
    const stop = new AbortController()
    const announced = untilAnnounced(ctx, first.organization_id, until - Date.now(), stop.signal)
    const latest = await rolloutFor(ctx, first.id)
    if (latest.revision !== first.revision || Date.now() >= until) {
      stop.abort()
      return latest
    }
    await announced
  }
}

// Also looks by the clock: an announcement of another server may get lost.
const lookMs = 5_000
const untilAnnounced = ({ announcer }: Ctx, organization: string, ms: number, signal: AbortSignal) =>
  new Promise<void>((resolve) => {
    const timer = setTimeout(end, Math.min(Math.max(ms, 0), lookMs))
    const stop = announcer.listen((one) => {
      if (!one || (one.organization === organization && one.noun === 'rollout')) end()
    })
    signal.addEventListener('abort', end, { once: true })
    function end() {
      clearTimeout(timer)
      stop()
      resolve()
    }
  })

function presentReceipt(receipt: Receipt) {
  const stored = Date.parse(rfc3339(receipt.created_at))
  return {
    ...presentRollout(receipt),
    previousRelease: receipt.previous_release,
    steps: receipt.steps.map(({ state, at }) => ({
      state,
      at: rfc3339(at),
      ms: Math.max(0, Math.round(Date.parse(at) - stored)),
    })),
    services: receipt.services,
    revision: receipt.revision,
    message: receipt.message,
    supersededBy: receipt.superseded_by && encodeId('rollout', receipt.superseded_by),
    wave: receipt.wave_id && encodeId('wave', receipt.wave_id),
  }
}

type Wave = {
  id: string
  secret: string
  version: number
  state: 'running' | 'stopped' | 'done' | 'aborted'
  size: number
  message: string | null
  created_at: string
  created_by: string
}
const waveColumns = 'id, secret, version, state, size, message, created_at, created_by'
const waveById = statement<Wave>(
  'waves.byId',
  `select ${waveColumns} from waves where organization_id = $1 and id = $2`,
)
async function waveFor(ctx: Ctx<'read' | 'deploy'>, ref: string): Promise<Wave> {
  const id = decodeId('wave', ref)
  const found = id && (await row(ctx.db, waveById, [memberOf(ctx).organization.id, id]))
  if (!found) throw new Refusal('wave_not_found', `No wave "${ref}" in this organization.`)
  return found
}

type WaveApp = { app: string; app_id: string; vpc: string; rollout: string | null; state: Rollout['state'] | null }
const waveApps = statement<WaveApp>(
  'waves.apps',
  `select a.name as app, a.id as app_id, v.name as vpc, w.rollout_id as rollout, o.state
   from wave_apps w join apps a on a.id = w.app_id join vpcs v on v.id = a.vpc_id left join rollouts o on o.id = w.rollout_id
   where w.wave_id = $1 and ($2::uuid[] is null or a.vpc_id = any($2)) and ($3::text[] is null or a.name = any($3))
   order by w.position`,
)
async function presentWave(db: Database | Tx, { token }: MemberCaller, wave: Wave) {
  const apps = await rows(db, waveApps, [wave.id, token?.vpcs ?? null, token?.apps ?? null])
  return {
    id: encodeId('wave', wave.id),
    secret: wave.secret,
    version: wave.version,
    state: wave.state,
    size: wave.size,
    apps: apps.map((one) => ({
      app: one.app,
      appId: encodeId('app', one.app_id),
      vpc: one.vpc,
      rollout: one.rollout && encodeId('rollout', one.rollout),
      state: one.state,
    })),
    // It may speak of apps beyond a token's limits.
    message: token && isLimited(token) ? null : wave.message,
    createdAt: rfc3339(wave.created_at),
    createdBy: wave.created_by,
  }
}

export const waveView: Api['waveView'] = async (ctx, { id }) => presentWave(ctx.db, ctx.caller, await waveFor(ctx, id))

const moveOn = statement<Wave>(
  'waves.move',
  `update waves set state = $2, message = $3 where id = $1 and state = any($4) returning ${waveColumns}`,
)
// The app that failed is tried again with the others.
const retry = statement(
  'waves.retry',
  `update wave_apps w set rollout_id = null from rollouts o
   where w.wave_id = $1 and o.id = w.rollout_id and o.state in ('failed', 'rolled_back')`,
)
const guarded = statement(
  'waves.guarded',
  `select from wave_apps w join apps a on a.id = w.app_id join vpcs v on v.id = a.vpc_id
   where w.wave_id = $1 and w.rollout_id is null and v.protected`,
)
async function moveWave(
  ctx: Ctx<'deploy'>,
  ref: string,
  to: 'running' | 'aborted',
  from: Wave['state'][],
  message: string,
) {
  const wave = await waveFor(ctx, ref)
  return change(ctx, async (tx) => {
    await lockOrganization(tx, ctx.caller.organization.id)
    const moved = await row(tx, moveOn, [wave.id, to, message, from])
    const verb = to === 'running' ? 'resume' : 'abort'
    if (!moved)
      throw new Refusal('wave_over', `This wave is ${wave.state}; there is nothing to ${verb}.`, {
        hint: `To begin anew: 1ctl secret deploy ${wave.secret} --shared`,
      })
    if (to === 'running') {
      if ((await execute(tx, guarded, [wave.id])) > 0) demand(ctx, 'admin')
      await execute(tx, retry, [wave.id])
    }
    const result = await presentWave(tx, ctx.caller, moved)
    const object = { type: 'wave' as const, id: wave.id, name: wave.secret }
    return { result, audit: { object, detail: { version: wave.version } } }
  })
}
export const waveResume: Api['waveResume'] = (ctx, { id }) => moveWave(ctx, id, 'running', ['stopped'], 'resumed')
export const waveAbort: Api['waveAbort'] = (ctx, { id }) =>
  moveWave(ctx, id, 'aborted', ['running', 'stopped'], 'aborted: the remaining apps stay as they are')

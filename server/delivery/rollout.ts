import { isFinal, type RolloutState } from '@1ctl/contract/rollouts'
import type { ServiceReceipt } from '../apps/apps.ts'
import { appendEvents, system } from '../audit/append.ts'
import type { Platform } from '../context.ts'
import { lockOrganization } from '../identity/organizations.ts'
import type { DeliveryMetrics } from '../observe/metrics.ts'
import { execute, row, statement, transaction } from '../store/database.ts'
import type { ServiceState } from './observe.ts'
import type { DueApp, OpenRollout } from './queue.ts'

/** The receipt: what became of a rollout, decided from what was seen, and written down. */

/** What a look has found: each service as it is, or why nothing could be done. */
export type Look =
  | { services: (ServiceState & { logs?: string[] })[] }
  | { obstacle: 'pending' | 'failed'; reason: string; message: string }

export type Decision = {
  /** states it has come to since, in their order */
  steps: RolloutState[]
  services: ServiceReceipt[]
  message: string | null
  isFinished: boolean
  /** of the app */
  live?: number
  rejected?: number | null
  /** what should run from now on: the release of before */
  release?: number
}

/** What the receipt says next: pure. Undefined if that is what it says already. */
export function decide(app: DueApp, look: Look): Decision | undefined {
  const { rollout } = app
  if (!rollout) return undefined
  const decision = isGoingBack(app, rollout) ? decideBack(app, rollout, look) : decideOn(app, rollout, look)
  const isNews =
    decision.steps.length > 0 ||
    decision.message !== rollout.message ||
    JSON.stringify(decision.services) !== JSON.stringify(rollout.services.map(ordered))
  return isNews ? decision : undefined
}

/** It has failed, and the release of before is what should run. */
export const isGoingBack = (app: DueApp, rollout: OpenRollout) =>
  rollout.state === 'failed' && rollout.previous !== null && app.release === rollout.previous

const ordered = ({ name, state, ready, wanted, reason, message, logs }: ServiceReceipt): ServiceReceipt => ({
  name,
  state,
  ready,
  wanted,
  reason,
  message,
  logs,
})

function decideOn(app: DueApp, rollout: OpenRollout, look: Look): Decision {
  const before = rollout.services.map(ordered)
  if ('obstacle' in look && look.obstacle === 'pending')
    return { steps: to(rollout, 'pending'), services: before, message: look.message, isFinished: false }
  if ('obstacle' in look) {
    const { reason, message } = look
    const services = app.services.map(({ name, replicas: wanted }) =>
      ordered({ name, state: 'failed', ready: 0, wanted, reason, message, logs: [] }),
    )
    return failed(rollout, [], services)
  }
  const services = look.services.map((service) => ordered({ ...service, logs: service.logs ?? [] }))
  const applied: RolloutState[] = ['stored', 'pending'].includes(rollout.state) ? ['applied'] : []
  const states = services.map(({ state }) => state)
  if (states.includes('failed')) return failed(rollout, applied, services)
  const open = { services, message: null, isFinished: false }
  if (states.includes('applied')) return { ...open, steps: applied }
  if (states.includes('rolling')) return { ...open, steps: [...applied, ...to(rollout, 'rolling')] }
  return { ...open, steps: [...applied, 'live'], isFinished: true, live: rollout.release, rejected: null }
}

const to = ({ state }: OpenRollout, next: RolloutState): RolloutState[] => (state === next ? [] : [next])

function failed(rollout: OpenRollout, applied: RolloutState[], services: ServiceReceipt[]): Decision {
  const { previous, release, onFailure } = rollout
  const what = failureIn(release, services)
  const decision = { steps: [...applied, 'failed' as const], services, rejected: release }
  if (previous === null || previous === release)
    return { ...decision, message: `${what}. There is no earlier release to go back to.`, isFinished: true }
  if (onFailure === 'keep')
    return { ...decision, message: `${what}. Its pods are left as they are, as was asked for.`, isFinished: true }
  return { ...decision, message: `${what}. Going back to release ${previous}.`, isFinished: false, release: previous }
}

function decideBack(app: DueApp, rollout: OpenRollout, look: Look): Decision {
  const services = rollout.services.map(ordered)
  const what = failureIn(rollout.release, services)
  const stays = { steps: [], services, isFinished: false }
  if ('obstacle' in look && look.obstacle === 'pending')
    return { ...stays, message: `${what}. Going back to release ${app.release} waits: ${look.message}` }
  const troubled = 'obstacle' in look ? look : look.services.find(({ state }) => state === 'failed')
  if (troubled)
    return {
      ...stays,
      message: `${what}. Release ${app.release} did not start again either: ${troubled.reason ?? 'its pods do not get ready'}.`,
      isFinished: true,
    }
  if ('services' in look && look.services.every(({ state }) => state === 'live'))
    return {
      steps: ['rolled_back'],
      services: services.map((service) => ({ ...service, state: 'rolled_back' as const })),
      message: `${what}. Release ${app.release} runs again.`,
      isFinished: true,
      live: app.release,
    }
  return { ...stays, message: rollout.message }
}

function failureIn(release: number, services: ServiceReceipt[]): string {
  const { name, reason, message } = services.find(({ state }) => state !== 'live' && state !== 'rolling') ?? {}
  const why = [reason, message].filter(Boolean).join(', ').replace(/\.$/, '')
  return `Release ${release} failed: ${name ? `${name}: ` : ''}${why || 'its pods did not get ready in time'}`
}

type Recorded = { saved_ms: number }
// A writer may have put another release in its place meanwhile; then this receipt is over already, and stays as it is.
const write = statement<Recorded>(
  'delivery.record',
  `update rollouts o set state = coalesce($4, o.state), services = $5, message = $6, revision = revision + 1,
     steps = steps || coalesce((select jsonb_agg(jsonb_build_object('state', step, 'at', now())) from unnest($7::text[]) step), '[]'),
     finished_at = case when $8 then now() end
   where o.id = $1 and o.finished_at is null and exists (select from apps a where a.id = $2 and a.id = o.app_id and a.release = $3)
   returning (extract(epoch from (now() - o.created_at)) * 1000)::float8 as saved_ms`,
)
// What was rejected is still what was saved: staged.
const settle = statement(
  'delivery.settle',
  `update apps set release = coalesce($2, release), live_release = coalesce($3, live_release), staged = staged or $2::int is not null,
     rejected_release = case when $5 then $4 else rejected_release end
   where id = $1`,
)

/** Whether it was written down; the change is announced. What decides what pods run is decided under the organization's lock. */
export async function record(
  platform: Platform,
  metrics: DeliveryMetrics,
  app: DueApp,
  { steps, services, message, isFinished, ...decision }: Decision,
): Promise<boolean> {
  const { rollout } = app
  if (!rollout) return false
  const recorded = await transaction(platform.db, async (tx) => {
    const [, recorded] = await Promise.all([
      lockOrganization(tx, app.organizationId),
      row(tx, write, [
        rollout.id,
        app.id,
        app.release,
        steps.at(-1) ?? null,
        JSON.stringify(services),
        message,
        steps,
        isFinished,
      ]),
    ])
    if (!recorded) return undefined
    const { live, rejected, release } = decision
    if (live !== undefined || rejected !== undefined || release !== undefined)
      await execute(tx, settle, [app.id, release ?? null, live ?? null, rejected ?? null, rejected !== undefined])
    if (release !== undefined)
      await appendEvents(
        tx,
        { caller: null, request: null },
        {
          action: 'rollout.rollback',
          actor: system,
          chain: app.organizationId,
          object: { type: 'app', id: app.id, name: app.name },
          detail: { release: rollout.release, to: release },
        },
      )
    return recorded
  })
  if (!recorded) return false
  const seconds = recorded.saved_ms / 1000
  if (steps.includes('applied')) metrics.savedToApplied.observe(seconds)
  const last = steps.at(-1) ?? rollout.state
  if (last === 'live') metrics.savedToLive.observe(seconds)
  if (isFinished) metrics.rollouts.inc({ state: isFinal(last) ? last : 'failed' })
  platform.announcer.announce(app.organizationId, 'rollout')
  if (isFinished || decision.release !== undefined) platform.announcer.announce(app.organizationId, 'app')
  return true
}

const noteLive = statement(
  'delivery.noteLive',
  `update apps set live_release = release, rejected_release = null
   where id = $1 and release = $2 and not exists (select from rollouts o where o.app_id = $1 and o.finished_at is null)`,
)
/** A release whose rollout had failed, and that was left as it was, runs after all. */
export async function recordRecovery({ db, announcer }: Platform, app: DueApp): Promise<void> {
  if ((await execute(db, noteLive, [app.id, app.release])) > 0) announcer.announce(app.organizationId, 'app')
}

import type { Platform } from '../context.ts'
import { Wiped } from '../keys/envelope.ts'
import { ClusterAway, KubernetesError } from '../kubernetes/errors.ts'
import type { DeliveryMetrics } from '../observe/metrics.ts'
import { Refusal } from '../refusal.ts'
import { execute, statement } from '../store/database.ts'
import type { Cause, Cluster } from './cluster.ts'
import { IncompleteRelease, labels, type Timing, type Workload } from './desired.ts'
import { explain } from './explain.ts'
import { type Patience, type ServiceState, serviceState } from './observe.ts'
import type { DueApp } from './queue.ts'
import { bringAbout, Foreign, NotYet, sweep } from './reconcile.ts'
import { decide, isGoingBack, type Look, record, recordRecovery } from './rollout.ts'
import { ValueDamaged } from './values.ts'

export type Tending = {
  platform: Platform
  metrics: DeliveryMetrics
  cluster: Cluster
  times: Timing
  patience: Patience
  /** when objects of an app were put back lately */
  repairs: Map<string, number[]>
}

/** When to look at an app again if nothing happens: after so long, at once, after a while that grows with each failure, or not. */
export type Next = { afterMs: number } | 'again' | 'backOff' | 'never'

/** Looks after one app: makes the cluster what it should be, writes down what came of it, and tidies up when all is well. */
export async function tend(tending: Tending, app: DueApp, cause: Cause | undefined): Promise<Next> {
  const { platform, metrics } = tending
  const { look, workloads } = await lookAt(tending, app, cause)
  if ('services' in look) await noteServing(platform, app, look.services)
  const decision = decide(app, look)
  const isRecorded = decision !== undefined && (await record(platform, metrics, app, decision))
  // Another release has taken its place, or is to.
  if (decision && (!isRecorded || decision.release !== undefined)) return 'again'
  if ('obstacle' in look) {
    if (!app.rollout && app.tries === 0)
      platform.log.warn({ app: app.id, reason: look.reason }, `an app cannot be looked after: ${look.message}`)
    // One request got no answer, and no watch has noticed, so none will tell when it is over.
    if (look.reason === 'ClusterAway' && tending.cluster.away === undefined) return { afterMs: 1_000 }
    // The same again would fail again; the next change is another.
    return look.obstacle === 'failed' ? 'never' : 'backOff'
  }
  if (app.rollout && !decision?.isFinished) return { afterMs: openLookMs }
  const isLive = look.services.every(({ state }) => state === 'live')
  if (!app.rollout && isLive && app.liveRelease !== app.release) await recordRecovery(platform, app)
  if (isLive) await sweep(platform.db, tending.cluster, app, workloads)
  return 'never'
}

const serving = statement('delivery.serving', 'update apps set serving = $2 where id = $1')
/** What people look for first: how many pods answer now. */
async function noteServing({ db, announcer }: Platform, app: DueApp, services: ServiceState[]): Promise<void> {
  const seen = services.map(({ name, serving }): [string, number] => [name, serving])
  if (seen.every(([name, count]) => app.serving[name] === count)) return
  await execute(db, serving, [app.id, JSON.stringify(Object.fromEntries(seen))])
  announcer.announce(app.organizationId, 'app')
}

/** While a rollout is on its way: what matters is told by events, this is for what is judged by time. */
const openLookMs = 2_000

async function lookAt(
  tending: Tending,
  app: DueApp,
  cause: Cause | undefined,
): Promise<{ look: Look; workloads: Workload[] }> {
  const { platform, cluster, times, patience } = tending
  if (cluster.away !== undefined) return { look: pending('ClusterAway', cluster.away), workloads: [] }
  try {
    if (!app.rollout) refuseQuarrel(tending, app)
    const { workloads, writes } = await bringAbout(platform, cluster, app, times)
    if (writes > 0 && !app.rollout) noteRepair(tending, app, writes, cause ?? 'timer')
    const services = app.services.map((service) =>
      serviceState(cluster.picture, deploymentOf(workloads, service.name), service, patience),
    )
    const isFailing = services.some(({ state }) => state === 'failed')
    const isNews = app.rollout && !isGoingBack(app, app.rollout)
    return {
      look: { services: isFailing && isNews ? await explain(platform, cluster, app, services) : services },
      workloads,
    }
  } catch (error) {
    return { look: obstacleOf(error), workloads: [] }
  }
}

function deploymentOf(workloads: Workload[], service: string): Workload {
  const found = workloads.find(
    ({ kind, metadata }) => kind === 'Deployment' && metadata.labels?.[labels.service] === service,
  )
  if (!found) throw new Error('a service without a deployment')
  return found
}

const repairsMax = 10
const quarrelMs = 60_000

/** Somebody or something undoes what we do, again and again: then we take our time. */
function refuseQuarrel({ repairs }: Tending, app: DueApp): void {
  const recent = (repairs.get(app.id) ?? []).filter((at) => at > Date.now() - quarrelMs)
  if (recent.length === 0) repairs.delete(app.id)
  else repairs.set(app.id, recent)
  if (recent.length >= repairsMax)
    throw new NotYet(`Its objects were put back ${recent.length} times within a minute: someone else changes them.`)
}

function noteRepair({ platform, metrics, repairs }: Tending, app: DueApp, writes: number, found: Cause): void {
  repairs.set(app.id, [...(repairs.get(app.id) ?? []), Date.now()])
  metrics.repairs.inc({ found }, writes)
  platform.log.info({ app: app.id, writes, found }, 'objects of an app were put back')
}

const pending = (reason: string, message: string): Look => ({ obstacle: 'pending', reason, message })
const failed = (reason: string, message: string): Look => ({ obstacle: 'failed', reason, message })

/** What kept us from it, for the receipt; anything unforeseen is thrown on. */
function obstacleOf(error: unknown): Look {
  if (error instanceof ClusterAway) return pending('ClusterAway', error.message)
  if (error instanceof Refusal && error.code === 'sealed') return pending('Sealed', error.message)
  if (error instanceof Wiped) return pending('Sealed', 'The server is being sealed.')
  if (error instanceof Foreign) return pending('NotOurs', error.message)
  if (error instanceof NotYet) return pending('NotYet', error.message)
  if (error instanceof ValueDamaged) return failed('ValueDamaged', error.message)
  if (error instanceof IncompleteRelease)
    return failed('IncompleteRelease', 'a secret of this release was deleted since it was made')
  if (!(error instanceof KubernetesError)) throw error
  // The same again would be refused again; what else is refused (a quota, missing rights) may be allowed later.
  const isFinal = error.status === 400 || error.status === 422
  return (isFinal ? failed : pending)(error.reason, error.message)
}

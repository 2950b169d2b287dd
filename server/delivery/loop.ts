import { randomUUID } from 'node:crypto'
import type { ServiceReceipt } from '../apps/apps.ts'
import type { Platform } from '../context.ts'
import { Wiped } from '../keys/envelope.ts'
import type { Kubernetes } from '../kubernetes/client.ts'
import { ClusterAway, KubernetesError } from '../kubernetes/errors.ts'
import type { DeliveryMetrics } from '../observe/metrics.ts'
import { Refusal } from '../refusal.ts'
import { rows, sqlState, statement } from '../store/database.ts'
import { type Cause, openCluster, wordsOf } from './cluster.ts'
import { carryOutDepartures, findOrphans } from './departures.ts'
import { IncompleteRelease, type Timing, timing, type Workload } from './desired.ts'
import { explain } from './explain.ts'
import { type Patience, patience, type ServiceState, serviceState } from './observe.ts'
import {
  claimDue,
  countDue,
  type DueApp,
  leaseSeconds,
  loadClaimed,
  markAllDue,
  markDue,
  markWaitingDue,
  releaseClaim,
  renewClaims,
} from './queue.ts'
import { bringAbout, Foreign, NotYet, secretCandidates, sweepApp, sweepSecrets } from './reconcile.ts'
import { decide, isGoingBack, type Look, record, recordRecovery } from './rollout.ts'
import { ValueDamaged } from './values.ts'

/**
 * The delivery loop: from rows to pods. Apps become due by a change, by something that happens in the cluster, or by time; whichever server
 * claims one looks, compares and acts. Several at once: an app that fails or hangs holds up no other.
 */

export type DeliveryOptions = {
  times?: Timing
  patience?: Patience
  /** how often to look for apps that are due without anyone having said so */
  tickMs?: number
  resyncMs?: number
}

export type Delivery = {
  /** ends what it is about to do, and gives its claims back */
  close(): Promise<void>
  /** as a process that is killed: stops without a word */
  abandon(): void
}

const atOnce = 8
/** Claimed ahead of their turn, so that a claim is not one statement each. */
const claimedAhead = 16

export function startDelivery(
  platform: Platform,
  metrics: DeliveryMetrics,
  kubernetes: Kubernetes,
  { times = timing, patience: limits = patience, tickMs = 1_000, resyncMs }: DeliveryOptions = {},
): Delivery {
  const { db, log, announcer } = platform
  const me = randomUUID()
  const waiting: DueApp[] = []
  const working = new Map<string, Promise<void>>()
  const news = new Map<string, { namespace: string; app: string }>()
  /** of apps: by what their next look was called for, if not by a change */
  const causes = new Map<string, Cause>()
  const repairs = new Map<string, number[]>()
  let isAllDue = true
  let areWaitingDue = false
  let isStopped = false
  let pumping: Promise<void> | undefined
  let departing: Promise<unknown> | undefined
  let isAskedAgain = false

  const cluster = openCluster(
    kubernetes,
    metrics,
    log,
    {
      changed(cause, namespace, app = '') {
        if (namespace !== undefined) {
          news.set(`${namespace} ${app}`, { namespace, app })
          causes.set(`${namespace} ${app}`, cause)
        } else if (cause === 'back') isAllDue = true
        else areWaitingDue = true
        wake()
      },
    },
    resyncMs,
  )

  function wake() {
    if (isStopped || !cluster.isKnown) return
    if (pumping) {
      isAskedAgain = true
      return
    }
    pumping = pump()
      .catch((error: unknown) =>
        log.warn({ code: sqlState(error), err: nameOf(error) }, 'delivery could not look for work'),
      )
      .finally(() => {
        pumping = undefined
        if (isAskedAgain) {
          isAskedAgain = false
          wake()
        }
      })
  }

  async function pump() {
    await tellNews()
    while (!isStopped && waiting.length < claimedAhead) {
      const claims = await claimDue(db, me, atOnce + claimedAhead - waiting.length - working.size)
      if (claims.length === 0) break
      waiting.push(...(await loadClaimed(db, me, claims)))
      begin()
      if (waiting.length + working.size >= atOnce + claimedAhead) break
    }
  }

  async function tellNews() {
    if (areWaitingDue) {
      areWaitingDue = false
      await markWaitingDue(db).catch(rethrowAfter(() => (areWaitingDue = true)))
    }
    if (isAllDue && cluster.away === undefined) {
      isAllDue = false
      news.clear()
      const all = await markAllDue(db).catch(rethrowAfter(() => (isAllDue = true)))
      await findOrphans(db, cluster, new Set(all.map(({ id }) => id)), undefined)
    }
    if (news.size === 0) return
    const places = [...news.values()]
    news.clear()
    const marked = await markDue(db, places).catch(rethrowAfter(() => (isAllDue = true)))
    const namespaces = new Set(places.map(({ namespace }) => namespace))
    if (marked.length < places.length) await findOrphans(db, cluster, await knownApps(), namespaces)
  }

  const knownApps = async () => new Set((await rows(db, allApps)).map(({ id }) => id))

  /** Beside the apps: what was deleted. */
  function depart() {
    if (departing || isStopped) return
    departing = carryOutDepartures(db, cluster, log)
      .catch(
        (error: unknown) => void log.warn({ code: sqlState(error), err: nameOf(error) }, 'departures not looked at'),
      )
      .finally(() => (departing = undefined))
      .then((isMore) => {
        if (isMore && !isStopped) setTimeout(depart, 260).unref()
      })
  }

  function begin() {
    while (working.size < atOnce && waiting.length > 0 && !isStopped) {
      const app = waiting.shift()!
      const done = work(app).finally(() => {
        working.delete(app.id)
        begin()
        if (waiting.length < atOnce) wake()
      })
      working.set(app.id, done)
    }
  }

  async function work(app: DueApp) {
    let nextMs: number | null
    let tries = 0
    try {
      nextMs = await lookAt(app)
    } catch (error) {
      tries = app.tries + 1
      nextMs = backOffMs(tries)
      log.error(
        { app: app.id, err: nameOf(error), code: sqlState(error), stack: framesOf(error) },
        'delivery of an app failed',
      )
    }
    if (nextMs !== null && nextMs < 0) {
      tries = app.tries + 1
      nextMs = backOffMs(tries)
    }
    if (isAbandoned) return
    await releaseClaim(db, me, app, nextMs, tries).catch((error: unknown) =>
      // Its lease runs out.
      log.warn({ app: app.id, code: sqlState(error) }, 'a claim could not be given back'),
    )
  }

  /** When to look again; -1: after a while that grows. */
  async function lookAt(app: DueApp): Promise<number | null> {
    const cause = causeOf(app)
    const found = await look(app, cause)
    const decision = decide(app, found.look)
    const isRecorded = decision && (await record(platform, metrics, app, decision))
    if (decision && (!isRecorded || decision.release !== undefined)) return 0
    if ('obstacle' in found.look) {
      if (!app.rollout && app.tries === 0)
        log.warn({ app: app.id, reason: found.look.reason }, `an app cannot be looked after: ${found.look.message}`)
      return -1
    }
    const isOver = !app.rollout || decision?.isFinished
    if (!isOver) return openLookMs
    const isLive = found.look.services.every(({ state }) => state === 'live')
    if (!app.rollout && isLive && app.liveRelease !== app.release) await recordRecovery(platform, app)
    const runs = decision?.live ?? (isLive ? app.release : app.liveRelease)
    if (runs === app.release) await sweep(app, found.workloads)
    return null
  }

  function causeOf(app: DueApp): Cause | undefined {
    const keys = [`${app.namespace} ${app.name}`, `${app.namespace} `]
    const found = keys.map((key) => causes.get(key)).find(Boolean)
    causes.delete(keys[0]!)
    return found
  }

  async function look(app: DueApp, cause: Cause | undefined): Promise<{ look: Look; workloads: Workload[] }> {
    if (cluster.away !== undefined) return { look: pending('ClusterAway', cluster.away), workloads: [] }
    try {
      if (!app.rollout) refuseQuarrel(app)
      const { workloads, writes } = await bringAbout(platform, cluster, app, times)
      if (writes > 0 && !app.rollout) noteRepair(app, writes, cause)
      const services: (ServiceState & { logs?: string[] })[] = app.services.map((service) =>
        serviceState(cluster.picture, deploymentOf(workloads, service.name), service, limits),
      )
      if (app.rollout && !isGoingBack(app, app.rollout) && services.some(({ state }) => state === 'failed'))
        return { look: { services: await explain(platform, cluster, app, services) }, workloads }
      return { look: { services }, workloads }
    } catch (error) {
      return { look: obstacleOf(error), workloads: [] }
    }
  }

  /** Somebody or something undoes what we do, again and again: then we take our time. */
  function refuseQuarrel(app: DueApp) {
    const recent = (repairs.get(app.id) ?? []).filter((at) => at > Date.now() - quarrelMs)
    if (recent.length === 0) repairs.delete(app.id)
    else repairs.set(app.id, recent)
    if (recent.length >= repairsMax)
      throw new NotYet(`Its objects were put back ${recent.length} times within a minute: someone else changes them.`)
  }
  function noteRepair(app: DueApp, writes: number, cause: Cause | undefined) {
    repairs.set(app.id, [...(repairs.get(app.id) ?? []), Date.now()])
    metrics.repairs.inc({ found: cause ?? 'timer' }, writes)
    log.info({ app: app.id, writes, found: cause ?? 'timer' }, 'objects of an app were put back')
  }

  async function sweep(app: DueApp, workloads: Workload[]) {
    await sweepApp(cluster, app, workloads)
    const candidates = secretCandidates(cluster, app.namespace, workloads)
    if (candidates.length === 0) return
    const pins = await rows(db, pinned, [app.namespace])
    await sweepSecrets(cluster, app.namespace, candidates, new Set(pins.map(({ pin }) => pin)))
  }

  const stopListening = announcer.listen((announcement) => {
    // Whatever was missed: an unseal, say, for which rollouts wait.
    if (announcement === null) areWaitingDue = true
    if (announcement === null || ['app', 'rollout', 'secret', 'wave'].includes(announcement.noun)) wake()
    if (announcement === null || ['app', 'vpc', 'organization'].includes(announcement.noun)) depart()
  })
  const tick = setInterval(() => {
    wake()
    depart()
  }, tickMs).unref()
  const renewing = setInterval(
    () => {
      const ids = [...working.keys(), ...waiting.map(({ id }) => id)]
      if (ids.length > 0)
        renewClaims(db, me, ids).catch((error: unknown) => log.warn({ code: sqlState(error) }, 'claims not renewed'))
      countDue(db).then(
        (count) => metrics.queue.set(count),
        () => undefined,
      )
    },
    (leaseSeconds * 1000) / 3,
  ).unref()

  let isAbandoned = false
  const stop = () => {
    isStopped = true
    stopListening()
    clearInterval(tick)
    clearInterval(renewing)
    cluster.close()
  }
  wake()
  return {
    async close() {
      stop()
      await pumping
      await departing
      await Promise.all(working.values())
      await Promise.all(waiting.splice(0).map((app) => releaseClaim(db, me, app, 0, app.tries).catch(() => undefined)))
      kubernetes.close()
    },
    abandon() {
      isAbandoned = true
      stop()
      kubernetes.close()
    },
  }
}

/** While a rollout is on its way: what matters happens by events, this is for what is judged by time. */
const openLookMs = 2_000
const repairsMax = 10
const quarrelMs = 60_000

/** Half of it by chance, so that many that failed together do not come back together. */
const backOffMs = (tries: number) =>
  Math.round(Math.min(60_000, 500 * 2 ** Math.min(tries, 10)) * (0.5 + Math.random() / 2))

const rethrowAfter = (undo: () => void) => (error: unknown) => {
  undo()
  throw error
}

const deploymentOf = (workloads: Workload[], service: string): Workload => {
  const found = workloads.find(
    ({ kind, metadata }) => kind === 'Deployment' && metadata.labels?.['1ctl.dev/service'] === service,
  )
  if (!found) throw new Error('a service without a deployment')
  return found
}

const allApps = statement<{ id: string }>('delivery.apps', 'select id from apps')
const pinned = statement<{ pin: string }>(
  'delivery.pinned',
  `select distinct b.secret_id || ' ' || b.version as pin
   from vpcs v join apps a on a.vpc_id = v.id join release_bags b on b.app_id = a.id and b.release in (a.release, a.live_release)
   where v.namespace = $1`,
)

const pending = (reason: string, message: string): Look => ({ obstacle: 'pending', reason, message })
const failed = (reason: string, message: string): Look => ({ obstacle: 'failed', reason, message })

/** What kept us from it, for the receipt; anything unforeseen is thrown on. */
function obstacleOf(error: unknown): Look {
  if (error instanceof ClusterAway) return pending('ClusterAway', error.message)
  if (error instanceof Refusal && error.code === 'sealed')
    return pending('Sealed', 'The server is sealed: 1ctl admin unseal')
  if (error instanceof Wiped) return pending('Sealed', 'The server is being sealed.')
  if (error instanceof Foreign) return pending('NotOurs', error.message)
  if (error instanceof NotYet) return pending('NotYet', error.message)
  if (error instanceof ValueDamaged) return failed('ValueDamaged', error.message)
  if (error instanceof IncompleteRelease)
    return failed('IncompleteRelease', 'a secret of this release was deleted since it was made')
  if (error instanceof KubernetesError)
    // The same again would be refused again; what else is refused (a quota, missing rights) may be allowed later.
    return error.status === 400 || error.status === 422
      ? failed(error.reason, error.message)
      : pending(error.reason, wordsOf(error))
  throw error
}

const nameOf = (error: unknown) => (error instanceof Error ? error.name : typeof error)
/** Without the message, which may quote data. */
const framesOf = (error: unknown) =>
  error instanceof Error
    ? error.stack
        ?.split('\n')
        .filter((line) => /^\s+at /.test(line))
        .join('\n')
    : undefined

export type { ServiceReceipt }

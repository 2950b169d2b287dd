import { randomUUID } from 'node:crypto'
import type { Platform } from '../context.ts'
import type { Kubernetes } from '../kubernetes/client.ts'
import type { DeliveryMetrics } from '../observe/metrics.ts'
import { sqlState } from '../store/database.ts'
import { type Cause, openCluster } from './cluster.ts'
import { carryOutDepartures, findOrphans } from './departures.ts'
import { type Timing, timing } from './desired.ts'
import { type Patience, patience } from './observe.ts'
import {
  claimDue,
  countDue,
  type DueApp,
  idsOfApps,
  leaseSeconds,
  loadClaimed,
  markAllDue,
  markDue,
  markWaitingDue,
  releaseClaim,
  renewClaims,
} from './queue.ts'
import { type Next, type Tending, tend } from './tend.ts'
import { moveWaves } from './waves.ts'

/**
 * The delivery loop: from rows to pods. Apps become due by a change, by something that happens in the cluster, or by time; whichever server
 * claims one looks, compares and acts. Several at once: an app that fails or hangs holds up no other.
 */

export type DeliveryOptions = {
  times?: Timing
  patience?: Patience
  /** how often to look for what is due without anyone having said so */
  tickMs?: number
  resyncMs?: number
}

export type Delivery = {
  /** as whom it claims apps */
  id: string
  /** ends what it is about to do, and gives its claims back */
  close(): Promise<void>
  /** as a process that is killed: stops without a word */
  abandon(): void
}

const atOnce = 8
/** Claimed ahead of their turn, so that a claim is not one statement each. */
const claimedMax = 24

export function startDelivery(
  platform: Platform,
  metrics: DeliveryMetrics,
  kubernetes: Kubernetes,
  options: DeliveryOptions = {},
): Delivery {
  const { db, log, announcer } = platform
  const me = randomUUID()
  const waiting: DueApp[] = []
  const working = new Map<DueApp, Promise<void>>()
  /** what happened in the cluster and is not in the database yet: places, and by what it was found */
  const news = new Map<string, { namespace: string; app: string }>()
  const causes = new Map<string, { cause: Cause; at: number }>()
  let isAllDue = true
  let areWaitingDue = false
  const stopping = new AbortController()
  let isAbandoned = false

  const changed = (cause: Cause, namespace?: string, app = '') => {
    if (namespace === undefined && cause === 'back') isAllDue = true
    else if (namespace === undefined) areWaitingDue = true
    else {
      news.set(`${namespace} ${app}`, { namespace, app })
      causes.set(`${namespace} ${app}`, { cause, at: Date.now() })
    }
    apps.ask()
  }
  const cluster = openCluster(kubernetes, metrics, log, { changed }, options.resyncMs)
  const tending: Tending = {
    platform,
    metrics,
    cluster,
    times: options.times ?? timing,
    patience: options.patience ?? patience,
    repairs: new Map(),
  }

  const failed = (what: string) => (error: unknown) =>
    log.warn({ ...factsOf(error) }, `${what} failed; tried again soon`)
  const apps = oneAtATime(stopping.signal, failed('looking for work'), async () => {
    if (!cluster.isKnown) return
    await tellNews()
    while (!stopping.signal.aborted && waiting.length < atOnce) {
      const claims = await claimDue(db, me, claimedMax - waiting.length - working.size)
      if (claims.length === 0) return
      waiting.push(...(await loadClaimed(db, me, claims)))
      begin()
    }
  })
  const waves = oneAtATime(stopping.signal, failed('moving waves on'), () => moveWaves(platform))
  const departures = oneAtATime(stopping.signal, failed('removing what was deleted'), async () => {
    if (await carryOutDepartures(db, cluster, log)) setTimeout(departures.ask, 260).unref()
  })

  /** What happened in the cluster makes apps due, whoever then looks at them. */
  async function tellNews() {
    if (areWaitingDue) {
      areWaitingDue = false
      await markWaitingDue(db).catch(again(() => (areWaitingDue = true)))
    }
    if (isAllDue && cluster.away === undefined) {
      isAllDue = false
      const all = await markAllDue(db).catch(again(() => (isAllDue = true)))
      await findOrphans(db, cluster, all, undefined)
    }
    if (news.size === 0) return
    const places = [...news.values()]
    news.clear()
    const marked = await markDue(db, places).catch(again(() => (isAllDue = true)))
    if (marked < places.length)
      await findOrphans(db, cluster, await idsOfApps(db), new Set(places.map(({ namespace }) => namespace)))
  }

  function begin() {
    while (working.size < atOnce && !stopping.signal.aborted) {
      const app = waiting.shift()
      if (!app) return
      const done = work(app).finally(() => {
        working.delete(app)
        begin()
        if (waiting.length < atOnce) apps.ask()
      })
      working.set(app, done)
    }
  }

  async function work(app: DueApp) {
    const next = await tend(tending, app, causeOf(app)).catch((error: unknown): Next => {
      log.error({ app: app.id, ...factsOf(error) }, 'delivery of an app failed')
      return 'backOff'
    })
    if (isAbandoned) return
    const tries = next === 'backOff' ? app.tries + 1 : 0
    const nextMs = next === 'never' ? null : next === 'again' ? 0 : next === 'backOff' ? backOffMs(tries) : next.afterMs
    // If that fails, its lease runs out.
    await releaseClaim(db, me, app, nextMs, tries).catch(failed('giving a claim back'))
  }

  function causeOf({ namespace, name }: DueApp): Cause | undefined {
    const known = causes.get(`${namespace} ${name}`) ?? causes.get(`${namespace} `)
    causes.delete(`${namespace} ${name}`)
    return known && known.at > Date.now() - leaseSeconds * 1000 ? known.cause : undefined
  }

  const stopListening = announcer.listen((announcement) => {
    // Something was missed, or came that everything may have waited for, such as an unseal.
    if (announcement === null) areWaitingDue = true
    const isOf = (...nouns: string[]) => announcement === null || nouns.includes(announcement.noun)
    if (isOf('app', 'rollout', 'secret', 'wave')) apps.ask()
    if (isOf('wave', 'rollout')) waves.ask()
    if (isOf('app', 'vpc', 'organization')) departures.ask()
  })
  const tick = setInterval(() => {
    apps.ask()
    waves.ask()
    departures.ask()
  }, options.tickMs ?? 1_000)
  const beat = setInterval(
    () => {
      const held = [...working.keys(), ...waiting].map(({ claim }) => claim)
      if (held.length > 0) renewClaims(db, me, held).catch(failed('renewing claims'))
      countDue(db).then((count) => metrics.queue.set(count), failed('counting what is due'))
    },
    (leaseSeconds * 1000) / 3,
  )
  tick.unref()
  beat.unref()
  const stop = () => {
    stopping.abort()
    stopListening()
    clearInterval(tick)
    clearInterval(beat)
    cluster.close()
  }
  return {
    id: me,
    async close() {
      stop()
      await Promise.all([apps.idle(), waves.idle(), departures.idle()])
      await Promise.all(working.values())
      const givenBack = waiting.splice(0).map((app) => releaseClaim(db, me, app, 0, app.tries))
      await Promise.all(givenBack).catch(failed('giving claims back'))
      kubernetes.close()
    },
    abandon() {
      isAbandoned = true
      stop()
      kubernetes.close()
    },
  }
}

/** Runs when asked; asked again meanwhile, once more afterwards. */
function oneAtATime(signal: AbortSignal, failed: (error: unknown) => void, work: () => Promise<void>) {
  let running: Promise<void> | undefined
  let isAskedAgain = false
  const ask = () => {
    if (signal.aborted) return
    isAskedAgain = running !== undefined
    running ??= work()
      .catch(failed)
      .finally(() => {
        running = undefined
        if (isAskedAgain) ask()
      })
  }
  return { ask, idle: async () => running }
}

/** Half of it by chance, so that many that failed together do not come back together. */
const backOffMs = (tries: number) =>
  Math.round(Math.min(30_000, 500 * 2 ** Math.min(tries, 10)) * (0.5 + Math.random() / 2))

const again = (undo: () => void) => (error: unknown) => {
  undo()
  throw error
}

/** Of an error all but its message, which may quote data. */
const factsOf = (error: unknown) => ({
  err: error instanceof Error ? error.name : typeof error,
  code: sqlState(error),
  stack:
    error instanceof Error
      ? error.stack
          ?.split('\n')
          .filter((line) => /^\s+at /.test(line))
          .join('\n')
      : undefined,
})

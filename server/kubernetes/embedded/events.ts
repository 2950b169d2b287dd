import { type Kind, kindOf } from './kinds.ts'
import { type Obj, timestamp } from './objects.ts'
import type { Store } from './store.ts'
import { addOwn } from './write.ts'

/** Events are kept for an hour, as in a real cluster, and not many more than this. */
const keptMs = 3_600_000
const eventsMax = 2_000

const events: Kind = kindOf('Event')

type Event = Obj & {
  involvedObject: { uid: string }
  reason: string
  message: string
  count: number
  lastTimestamp: string
}

export type Events = {
  record: (about: Obj, type: 'Normal' | 'Warning', reason: string, message: string, component: string) => void
  /** Without a timer: called when somebody lists them, and now and then by `record`. */
  expire: () => void
}

/** Events as the real controllers write them: one that repeats counts up. Never with a value in its message. */
export function createEvents(store: Store): Events {
  let added = 0
  const expire = () => {
    added = 0
    const oldest = timestamp(Date.now() - keptMs)
    const all = store.trees<Event>(events, '').sort((a, b) => (lastOf(a) < lastOf(b) ? -1 : 1))
    for (const [at, event] of all.entries())
      if (at < all.length - eventsMax || lastOf(event) < oldest) store.remove(events, event)
  }
  return {
    expire,
    record(about, type, reason, message, component) {
      const { namespace = 'default', name, uid, resourceVersion } = about.metadata
      const now = timestamp()
      const eventName = `${name}.${hashOf(uid + reason + message)}`
      const known = store.get<Event>(events, namespace, eventName)
      if (known) {
        store.put(events, { ...known, count: known.count + 1, lastTimestamp: now })
        return
      }
      // A namespace that is going takes no more.
      if (store.get(kindOf('Namespace'), '', namespace)?.metadata.deletionTimestamp) return
      const { apiVersion, kind } = about
      addOwn(store, events, {
        metadata: { name: eventName, namespace },
        involvedObject: { apiVersion, kind, name, namespace, uid, resourceVersion },
        type,
        reason,
        message,
        count: 1,
        firstTimestamp: now,
        lastTimestamp: now,
        eventTime: null,
        source: { component, host: 'simulated' },
        reportingComponent: component,
        reportingInstance: 'simulated',
      })
      if (++added >= sweepEvery) expire()
    },
  }
}

/** Looking through all of them for each new one would cost more than writing it. */
const sweepEvery = 200

const lastOf = ({ lastTimestamp, metadata }: Event) => lastTimestamp ?? metadata.creationTimestamp

/** FNV-1a: short, and the same for the same event. */
export function hashOf(text: string): string {
  let hash = 0xcbf29ce484222325n
  for (const byte of Buffer.from(text)) hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & 0xffffffffffffffffn
  return hash.toString(16).padStart(16, '0')
}

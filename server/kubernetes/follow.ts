import { setTimeout as sleep } from 'node:timers/promises'
import type { Kubernetes, View, Where } from './client.ts'
import { ClusterAway, KubernetesError } from './errors.ts'
import type { Kind, Metadata } from './kinds.ts'

export type Follower<Object> = {
  /** new, changed, or seen for the first time */
  changed(object: Object): void
  /** gone, or no longer among what is followed */
  deleted(object: { metadata: Pick<Metadata, 'namespace' | 'name' | 'uid'> }): void
  /** All that is there has been told; again after each time that the whole list had to be read. */
  synced?(): void
  /** The cluster cannot be reached, or does not let us look. Told once, until `back`. */
  away?(error: ClusterAway | KubernetesError): void
  back?(): void
}

/**
 * Tells what is there and then what changes, until aborted. It outlives everything that a cluster does to its clients: watches that end,
 * connections that die silently, a server that is away, a history that is lost. It remembers which objects there are, never their content.
 */
export async function follow<K extends Kind, Only extends boolean = false>(
  kubernetes: Kubernetes,
  kind: K,
  where: Where<Only>,
  follower: Follower<View<K, Only>>,
  signal: AbortSignal,
  { idleMs }: { idleMs?: number } = {},
): Promise<void> {
  const known: Known = new Map()
  let version: string | undefined
  let isAway = false
  const tell = (object: View<K, Only>) => {
    const { metadata } = object
    const before = known.get(keyOf(metadata))
    if (before?.resourceVersion === metadata.resourceVersion) return
    // Made anew under the same name, while we did not look.
    if (before && before.uid !== metadata.uid) follower.deleted({ metadata: before })
    remember(known, metadata)
    follower.changed(object)
  }
  const reached = () => {
    if (isAway) follower.back?.()
    isAway = false
  }

  const readAll = async () => {
    const found = new Set<string>()
    let next: string | undefined
    let read: string
    do {
      const page = await kubernetes.list(kind, { ...where, limit: 500, continue: next }, { signal })
      reached()
      for (const object of page.items) {
        found.add(keyOf(object.metadata))
        tell(object)
      }
      next = page.continue
      read = page.resourceVersion
    } while (next)
    for (const [key, metadata] of known) {
      if (found.has(key)) continue
      known.delete(key)
      follower.deleted({ metadata })
    }
    follower.synced?.()
    return read
  }

  for (let failures = 0; !signal.aborted; ) {
    const began = Date.now()
    let isWatching = false
    try {
      version ??= await readAll()
      const events = await kubernetes.watch(kind, { ...where, resourceVersion: version, idleMs }, { signal })
      isWatching = true
      reached()
      for await (const { type, object } of events) {
        if (type === 'DELETED') {
          known.delete(keyOf(object.metadata))
          follower.deleted(object)
        } else if (type !== 'BOOKMARK') tell(object)
        version = object.metadata.resourceVersion
      }
    } catch (error) {
      if (signal.aborted) return
      if (!(error instanceof ClusterAway || error instanceof KubernetesError)) throw error
      const isExpired = error instanceof KubernetesError && error.status === 410
      if (isExpired) version = undefined
      // A watch that ends is no news: that the next one cannot begin is.
      else if (!isWatching && !isAway) {
        isAway = true
        follower.away?.(error)
      }
    }
    failures = isWatching && Date.now() - began > 5_000 ? 0 : failures + 1
    // Not all at once, so that a server that comes back is not met by everyone in the same moment.
    const pauseMs = failures === 0 ? 0 : Math.min(30_000, 100 * 2 ** failures) * (0.5 + Math.random() / 2)
    await sleep(pauseMs, undefined, { signal }).catch(() => undefined)
  }
}

type Known = Map<string, Pick<Metadata, 'namespace' | 'name' | 'uid' | 'resourceVersion'>>

const keyOf = ({ namespace = '', name }: Pick<Metadata, 'namespace' | 'name'>) => `${namespace}/${name}`

/** Only these fields, or the map would hold all of the object. */
function remember(known: Known, { namespace, name, uid, resourceVersion }: Metadata): void {
  known.set(keyOf({ namespace, name }), { namespace, name, uid, resourceVersion })
}

import type { Logger } from 'pino'
import type { Kubernetes } from '../kubernetes/client.ts'
import { ClusterAway, KubernetesError } from '../kubernetes/errors.ts'
import { follow } from '../kubernetes/follow.ts'
import type { Bare, Condition, ContainerStatus, Found, Kind, Manifest, Metadata, PodSpec } from '../kubernetes/kinds.ts'
import type { DeliveryMetrics } from '../observe/metrics.ts'
import { ensureAccess } from './access.ts'
import { labels, ours, oursSelector } from './desired.ts'
import { othersFields } from './drift.ts'

/**
 * A small picture of what is ours in the cluster, kept by watches, and the writes, which change the picture with the cluster: so looking
 * costs no request, and a write of our own is no news. Of Secrets only the metadata is ever read, and only in namespaces that are ours.
 */
export type Cluster = {
  readonly kubernetes: Kubernetes
  readonly picture: Picture
  /** why nothing can be done now; undefined while it can */
  readonly away: string | undefined
  /** false until it has answered, or failed to, for the first time */
  readonly isKnown: boolean
  /** resolves when the Secrets of a namespace are in the picture; throws what keeps us from reading them */
  secretsKnown(namespace: string): Promise<void>
  /** Two apps that need the same object at the same time make it once. */
  once(what: string, work: () => Promise<void>): Promise<void>
  create<K extends Watched>(manifest: Manifest<K>): Promise<void>
  /** `force`: an object that is ours becomes as we want it. Otherwise one that another made meanwhile is a Conflict. */
  apply<K extends Watched>(manifest: Manifest<K>, force: boolean): Promise<void>
  patch(seen: Seen, change: object): Promise<void>
  remove(seen: Seen): Promise<void>
  /** the object itself, asked for, for the case that it is there and not ours */
  ask(kind: Watched, ref: { namespace?: string; name: string }): Promise<Seen | undefined>
  close(): void
}

export type Watched = 'Namespace' | 'Secret' | 'Service' | 'Deployment' | 'Pod'

/** What is kept of an object. */
export type Seen = {
  kind: Watched
  metadata: Pick<Metadata, 'name' | 'namespace' | 'uid' | 'resourceVersion' | 'generation' | 'deletionTimestamp'> & {
    labels: Record<string, string>
    annotations: Record<string, string>
  }
  /** fields of its content that someone else has set, by managedFields */
  others: Record<string, unknown>[]
  spec?: unknown
  status?: DeploymentStatus
  /** The time of the Deployment's progress when we last changed it: until that moves on, it tells of the template of before. */
  before?: string | undefined
  pod?: SeenPod
}
export type DeploymentStatus = NonNullable<Found<'Deployment'>['status']>
export type SeenPod = {
  /** names of the Secrets it takes */
  secrets: string[]
  isReady: boolean
  conditions: Condition[]
  containers: ContainerStatus[]
  /** since when the container has waited for the reason it has now, by our clock */
  since: number
}

/** Why something was found: by the first look, by a watch, by going through everything, or because the cluster is back. */
export type Cause = 'start' | 'watch' | 'timer' | 'back'

export type ClusterListener = {
  /** Something of an app is not as it was; without an app, of all in the namespace; without a namespace, of all. */
  changed: (cause: Cause, namespace?: string, app?: string) => void
}

/** Whatever a watch should have missed is found this often. */
const resyncMsDefault = 10 * 60_000

export function openCluster(
  kubernetes: Kubernetes,
  metrics: DeliveryMetrics,
  log: Logger,
  { changed }: ClusterListener,
  resyncMs = resyncMsDefault,
): Cluster {
  const picture = createPicture()
  let isClosed = false
  /** namespaces in which we may work, as far as we know */
  const access = new Map<string, Promise<void>>()
  const secretsOf = new Map<string, { known: Promise<void>; stop: () => void; again: () => void }>()
  let away: string | undefined = 'The cluster was not reached yet.'
  let isKnown = false

  const tell = (cause: Cause, { kind, metadata }: Pick<Seen, 'kind' | 'metadata'>) => {
    const { namespace, name } = metadata
    if (kind === 'Namespace') return changed(cause, name)
    const app = metadata.labels[labels.app]
    // A shared one was deleted, say: who needs it should not wait for all others to be looked at. Of many at once, all are.
    const users =
      kind === 'Secret' && app === undefined && cause === 'watch'
        ? picture.all('Deployment', namespace).filter((seen) => secretsTakenBy(seen).includes(name))
        : []
    for (const seen of users) changed(cause, namespace, seen.metadata.labels[labels.app])
    if (users.length === 0) changed(cause, namespace, app)
  }
  /** What we are creating, and what a watch told of it before we had the answer: our own write, mostly, and that is no news. */
  const creating = new Map<string, Seen | undefined>()
  const put = (cause: Cause, object: Seen) => {
    if (!picture.put(object)) return
    const key = `${object.kind} ${keyOf(object.metadata)}`
    if (creating.has(key)) creating.set(key, object)
    else tell(cause, object)
  }
  const drop = (cause: Cause, kind: Watched, ref: { namespace?: string; name: string; uid?: string }) => {
    const before = picture.drop(kind, ref)
    if (before) tell(cause, before)
    if (before?.kind === 'Namespace') {
      secretsOf.get(ref.name)?.stop()
      secretsOf.delete(ref.name)
      access.delete(ref.name)
    }
  }

  /** Follows objects of one kind, and begins anew by and by, as if nothing were known. */
  function track(kind: Watched, namespace: string | undefined, failed: (error: unknown) => void, reached: () => void) {
    let current = new AbortController()
    const where = { labels: oursSelector, ...(namespace ? { namespace } : {}) }
    const begin = (first: Cause) => {
      const { signal } = (current = new AbortController())
      const found = new Set<string>()
      let cause: Cause = first
      const follower = {
        changed(object: Found<Watched> | Bare) {
          const seen = seenOf(kind, object)
          if (cause !== 'watch') found.add(keyOf(seen.metadata))
          put(cause, seen)
        },
        deleted: ({ metadata }: { metadata: Pick<Metadata, 'namespace' | 'name' | 'uid'> }) =>
          drop(cause, kind, metadata),
        synced() {
          if (cause !== 'watch')
            for (const { metadata } of picture.all(kind, namespace))
              if (!found.has(keyOf(metadata))) drop(cause, kind, metadata)
          found.clear()
          cause = 'watch'
          reached()
        },
        away: failed,
        back: reached,
      }
      const metadataOnly = kind === 'Secret' || kind === 'Namespace'
      follow(kubernetes, kind, { ...where, metadataOnly }, follower, signal).catch((error: unknown) => {
        log.error({ kind, err: error instanceof Error ? error.name : typeof error }, 'following the cluster failed')
        setTimeout(() => signal.aborted || begin('timer'), 5_000).unref()
      })
    }
    begin('start')
    return {
      stop: () => current.abort(),
      again: () => {
        current.abort()
        begin('timer')
      },
    }
  }

  const waiting = new Set<string>()
  const kindsEverywhere = ['Namespace', 'Deployment', 'Service', 'Pod'] as const
  const trackers = kindsEverywhere.map((kind) => {
    waiting.add(kind)
    return track(
      kind,
      undefined,
      (error) => {
        waiting.add(kind)
        away = wordsOf(error)
        isKnown = true
        log.warn({ kind }, 'the cluster is away')
        changed('watch')
      },
      () => {
        waiting.delete(kind)
        if (waiting.size > 0 || away === undefined) return
        away = undefined
        isKnown = true
        changed('back')
      },
    )
  })

  function followSecrets(namespace: string) {
    if (secretsOf.has(namespace) || isClosed) return
    let settle: { resolve: () => void; reject: (error: unknown) => void }
    const renew = () => {
      const known = new Promise<void>((resolve, reject) => (settle = { resolve, reject }))
      known.catch(() => undefined)
      return known
    }
    const entry = { known: renew(), stop: () => undefined as void, again: () => undefined as void }
    secretsOf.set(namespace, entry)
    const tracker = track(
      'Secret',
      namespace,
      (error) => {
        settle.reject(error)
        entry.known = renew()
      },
      () => {
        settle.resolve()
        changed('watch', namespace)
      },
    )
    entry.stop = () => {
      tracker.stop()
      // Nobody waits for them any more.
      settle.reject(new ClusterAway('The Secrets are not followed any more.'))
    }
    entry.again = tracker.again
  }

  const resync = setInterval(() => {
    for (const tracker of [...trackers, ...secretsOf.values()]) tracker.again()
  }, resyncMs).unref()

  const underWay = new Map<string, Promise<void>>()
  const writing = async <Result>(verb: string, kind: Kind, namespace: string | undefined, request: Promise<Result>) => {
    metrics.kubernetesWrites.inc({ verb, kind })
    return request.catch((error: unknown) => {
      // Our rights there may have been taken away: found out at the next look.
      if (error instanceof KubernetesError && error.status === 403 && namespace) access.delete(namespace)
      throw error
    })
  }
  const wrote = (manifest: Manifest<Watched>, metadata: Metadata) => {
    const { kind } = manifest
    const before = picture.get(kind, manifest.metadata)
    const known = before?.metadata.uid === metadata.uid ? before : undefined
    picture.put({
      ...seenOf(kind, { metadata }),
      ...('spec' in manifest ? { spec: manifest['spec'] } : {}),
      ...(known?.status ? { status: known.status } : {}),
      before: known?.metadata.generation === metadata.generation ? known?.before : progressAt(known?.status),
    })
  }

  return {
    kubernetes,
    picture,
    get away() {
      return away
    },
    get isKnown() {
      return isKnown
    },
    async secretsKnown(namespace) {
      if (!access.has(namespace)) access.set(namespace, ensureAccess(kubernetes, namespace))
      await access.get(namespace)?.catch((error: unknown) => {
        access.delete(namespace)
        throw error
      })
      followSecrets(namespace)
      await secretsOf.get(namespace)?.known
    },
    once(what, work) {
      const running = underWay.get(what)
      if (running) return running
      const begun = work().finally(() => underWay.delete(what))
      underWay.set(what, begun)
      return begun
    },
    async create(manifest) {
      const { kind, metadata } = manifest
      const key = `${kind} ${keyOf(metadata)}`
      creating.set(key, undefined)
      let version: string | undefined
      try {
        const after = await writing('create', kind, metadata.namespace, kubernetes.create(manifest))
        version = after.resourceVersion
        wrote(manifest, after)
      } finally {
        const told = creating.get(key)
        creating.delete(key)
        if (told && told.metadata.resourceVersion !== version) tell('watch', told)
      }
    },
    async apply(manifest, force) {
      const { kind, metadata } = manifest
      wrote(manifest, await writing('apply', kind, metadata.namespace, kubernetes.apply(manifest, { force })))
    },
    async patch({ kind, metadata, ...seen }, change) {
      const after = await writing('patch', kind, metadata.namespace, kubernetes.patch(kind, metadata, change))
      picture.put({ ...seen, ...seenOf(kind, { metadata: after }), ...('spec' in seen ? { spec: seen.spec } : {}) })
    },
    async remove({ kind, metadata }) {
      const { uid, namespace } = metadata
      try {
        await writing('delete', kind, namespace, kubernetes.delete(kind, metadata, { uid }))
      } catch (error) {
        if (!(error instanceof KubernetesError && error.status === 404)) throw error
      }
      // A namespace takes its time to go; the watch tells when.
      if (kind !== 'Namespace') picture.drop(kind, metadata)
    },
    async ask(kind, ref) {
      try {
        return seenOf(kind, await kubernetes.get(kind, ref, { metadataOnly: true }))
      } catch (error) {
        if (error instanceof KubernetesError && error.status === 404) return undefined
        throw error
      }
    },
    close() {
      isClosed = true
      clearInterval(resync)
      for (const tracker of [...trackers, ...secretsOf.values()]) tracker.stop()
    },
  }
}

export const wordsOf = (error: unknown) =>
  error instanceof ClusterAway || error instanceof KubernetesError ? error.message : 'The cluster could not be reached.'

export const isOurs = ({ metadata }: Seen) => metadata.labels[labels.managedBy] === ours[labels.managedBy]

export type Picture = ReturnType<typeof createPicture>

export function createPicture() {
  const kinds = new Map<Watched, Map<string, Map<string, Seen>>>()
  const placeOf = (kind: Watched, namespace = '') => {
    let places = kinds.get(kind)
    if (!places) kinds.set(kind, (places = new Map()))
    let place = places.get(namespace)
    if (!place) places.set(namespace, (place = new Map()))
    return place
  }
  return {
    get: (kind: Watched, { namespace, name }: { namespace?: string; name: string }) =>
      placeOf(kind, namespace).get(name),
    /** of one namespace, or of all */
    all(kind: Watched, namespace?: string): Seen[] {
      if (namespace !== undefined) return [...placeOf(kind, namespace).values()]
      return [...(kinds.get(kind)?.values() ?? [])].flatMap((place) => [...place.values()])
    },
    ofApp: (kind: Watched, namespace: string, app: string) =>
      [...placeOf(kind, namespace).values()].filter(({ metadata }) => metadata.labels[labels.app] === app),
    /** whether it is news */
    put(object: Seen): boolean {
      const place = placeOf(object.kind, object.metadata.namespace)
      const before = place.get(object.metadata.name)
      if (before?.metadata.uid === object.metadata.uid) {
        // Versions only grow; what comes late is older than what we know.
        if (Number(object.metadata.resourceVersion) <= Number(before.metadata.resourceVersion)) return false
        if (object.pod && before.pod && waitingFor(object.pod) === waitingFor(before.pod))
          object.pod.since = before.pod.since
        if (!('before' in object)) object.before = before.before
      }
      place.set(object.metadata.name, object)
      return true
    },
    /** what was there, unless another has taken its place */
    drop(kind: Watched, { namespace, name, uid }: { namespace?: string; name: string; uid?: string }) {
      const place = placeOf(kind, namespace)
      const before = place.get(name)
      if (!before || (uid && before.metadata.uid !== uid)) return undefined
      place.delete(name)
      if (place.size === 0) kinds.get(kind)?.delete(namespace ?? '')
      return before
    },
  }
}

/** When the Deployment last made progress, or last gave it up. */
export function progressAt(status: DeploymentStatus | undefined): string | undefined {
  const condition = status?.conditions?.find(({ type }) => type === 'Progressing')
  return condition && 'lastUpdateTime' in condition ? String(condition.lastUpdateTime) : condition?.lastTransitionTime
}

// The two reasons of an image that does not come take turns.
const waitingFor = ({ containers }: SeenPod) =>
  containers.map(({ state }) => state?.waiting?.reason?.replace('ErrImagePull', 'ImagePullBackOff') ?? '').join()

const keyOf = ({ namespace = '', name }: Pick<Metadata, 'namespace' | 'name'>) => `${namespace}/${name}`

function seenOf(kind: Watched, object: Found<Watched> | Bare): Seen {
  const { name, namespace, uid, resourceVersion, generation, deletionTimestamp, annotations = {} } = object.metadata
  const metadata = {
    name,
    uid,
    resourceVersion,
    labels: object.metadata.labels ?? {},
    annotations: Object.fromEntries(Object.entries(annotations).filter(([key]) => key.startsWith('1ctl.dev/'))),
    ...(namespace === undefined ? {} : { namespace }),
    ...(generation === undefined ? {} : { generation }),
    ...(deletionTimestamp === undefined ? {} : { deletionTimestamp }),
  }
  if (kind === 'Pod') return { kind, metadata, others: [], pod: podOf(object as Found<'Pod'>) }
  const others = othersFields(object.metadata, kind === 'Secret' ? 'data' : 'spec')
  if (kind === 'Deployment') {
    const { spec, status } = object as Partial<Found<'Deployment'>>
    return { kind, metadata, others, spec, ...(status ? { status } : {}) }
  }
  return kind === 'Service'
    ? { kind, metadata, others, spec: (object as Found<'Service'>)['spec'] }
    : { kind, metadata, others }
}

function podOf({ spec, status }: Found<'Pod'>): SeenPod {
  return {
    secrets: secretsIn(spec),
    isReady: status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false,
    conditions: (status?.conditions ?? []).filter(({ status }) => status !== 'True'),
    containers: [...(status?.initContainerStatuses ?? []), ...(status?.containerStatuses ?? [])],
    since: Date.now(),
  }
}

const secretsTaken = new WeakMap<Seen, string[]>()

/** The names of the Secrets that a Deployment or a pod takes. Found once: after each rollout, all of a namespace are asked. */
export function secretsTakenBy(seen: Seen): string[] {
  const known = seen.pod?.secrets ?? secretsTaken.get(seen)
  if (known) return known
  const found = seen.spec ? secretsIn((seen.spec as { template: { spec: PodSpec } }).template.spec) : []
  secretsTaken.set(seen, found)
  return found
}

/** The names of the Secrets that pods of this template take. */
export function secretsIn({ containers, volumes = [] }: PodSpec): string[] {
  const variables = containers.flatMap(({ env = [] }) =>
    env.flatMap(({ valueFrom }) => valueFrom?.secretKeyRef?.name ?? []),
  )
  const files = volumes.flatMap(({ secret, projected }) => [
    ...(secret ? [secret.secretName] : []),
    ...((projected?.sources ?? []) as { secret?: { name: string } }[]).flatMap(({ secret }) => secret?.name ?? []),
  ])
  return [...new Set([...variables, ...files])]
}

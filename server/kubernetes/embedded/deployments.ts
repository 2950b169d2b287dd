import { isDeepStrictEqual } from 'node:util'
import { type Control, referenceTo } from './controllers.ts'
import { hashOf } from './events.ts'
import { kindOf } from './kinds.ts'
import { type Condition, type Deployment, type Obj, type Pod, type ReplicaSet, timestamp } from './objects.ts'
import { remove } from './remove.ts'
import { selects } from './selectors.ts'
import { treeOf } from './store.ts'
import { addOwn } from './write.ts'

const deployments = kindOf('Deployment')
const sets = kindOf('ReplicaSet')
const component = 'deployment-controller'
const revisionKey = 'deployment.kubernetes.io/revision'
const hashLabel = 'pod-template-hash'

/** One step towards all pods running the template of now, within what may be missing and what may be too many; see `kubectl rollout`. */
export function reconcileDeployment(control: Control, found: Deployment): void {
  if (found.metadata.deletionTimestamp) return
  const isWanted = (set: ReplicaSet) => hasTemplate(set, found)
  let owned = control.controlledBy<ReplicaSet>(sets, found).sort(byAge)
  if (!owned.some(isWanted)) {
    adopt(control, found)
    owned = control.controlledBy<ReplicaSet>(sets, found).sort(byAge)
  }
  const known = owned.find(isWanted)
  const old = owned.filter((set) => set !== known)
  if (found.spec.paused) {
    if (known) scale(control, found, known, found.spec.replicas)
    return writeStatus(control, found, known, old, false)
  }
  const revision = String(Math.max(0, ...old.map(revisionOf)) + 1)
  const current = known ?? addSet(control, found, revision)
  const deployment = withRevision(control, found, current, revision)

  if (deployment.spec.strategy.type === 'Recreate') recreate(control, deployment, current, old)
  else rollOn(control, deployment, current, old)
  writeStatus(control, deployment, current, old, !known)
}

const byAge = (a: Obj, b: Obj) =>
  revisionOf(a) - revisionOf(b) || (a.metadata.creationTimestamp < b.metadata.creationTimestamp ? -1 : 1)
const revisionOf = ({ metadata }: Obj) => Number(metadata.annotations?.[revisionKey] ?? 0)
const sum = (list: ReplicaSet[], count: (set: ReplicaSet) => number) =>
  list.reduce((total, set) => total + count(set), 0)
const wantedOf = ({ spec }: ReplicaSet) => spec.replicas
const availableOf = ({ status }: ReplicaSet) => status.availableReplicas ?? 0

/** Replica sets that a deleted deployment left behind (`--cascade=orphan`) are this one's, if it selects them. */
function adopt({ store }: Control, deployment: Deployment): void {
  for (const stored of store.list(sets, deployment.metadata.namespace ?? '')) {
    if (stored.body.includes('"ownerReferences":[{')) continue
    const set = treeOf<ReplicaSet>(stored)
    if (set.metadata.deletionTimestamp || !selects(deployment.spec.selector, set.metadata.labels)) continue
    set.metadata.ownerReferences = [referenceTo(deployment)]
    store.put(sets, set)
  }
}

function hasTemplate(set: ReplicaSet, { spec }: Deployment): boolean {
  const { [hashLabel]: _, ...labels } = set.spec.template.metadata?.labels ?? {}
  const template = { ...set.spec.template, metadata: { ...set.spec.template.metadata, labels } }
  return isDeepStrictEqual(template, spec.template)
}

function addSet(control: Control, deployment: Deployment, revision: string): ReplicaSet {
  const { name, namespace } = deployment.metadata
  const { template, selector, minReadySeconds } = deployment.spec
  const hash = hashOf(JSON.stringify(template)).slice(0, 10)
  const labels = { ...template.metadata?.labels, [hashLabel]: hash }
  return addOwn(control.store, sets, {
    metadata: {
      name: `${name}-${hash}`,
      namespace,
      labels,
      ownerReferences: [referenceTo(deployment)],
      annotations: {
        ...annotationsOf(deployment),
        [revisionKey]: revision,
      },
    },
    spec: {
      replicas: 0,
      ...(minReadySeconds && { minReadySeconds }),
      selector: {
        ...selector,
        matchLabels: {
          ...selector.matchLabels,
          [hashLabel]: hash,
        },
      },
      template: {
        ...template,
        metadata: {
          ...template.metadata,
          labels,
        },
      },
    },
  }) as ReplicaSet
}

/** What `rollout history` shows, such as the cause of a change, stands on the replica set. */
const annotationsOf = ({ metadata, spec }: Deployment): Record<string, string> => ({
  ...Object.fromEntries(
    Object.entries(metadata.annotations ?? {}).filter(
      ([key]) => !/^(deployment\.kubernetes\.io\/|kubectl\.kubernetes\.io\/last-applied)/.test(key),
    ),
  ),
  'deployment.kubernetes.io/desired-replicas': String(spec.replicas),
})

/** The template of now is the newest revision, also if it was one before. */
function withRevision({ store }: Control, deployment: Deployment, current: ReplicaSet, revision: string): Deployment {
  const annotations = { ...current.metadata.annotations, ...annotationsOf(deployment) }
  if (revisionOf(current) < Number(revision)) annotations[revisionKey] = revision
  if (!isDeepStrictEqual(annotations, current.metadata.annotations)) {
    current.metadata.annotations = annotations
    store.put(sets, current)
  }
  const now = annotations[revisionKey]!
  if (deployment.metadata.annotations?.[revisionKey] === now) return deployment
  const metadata = { ...deployment.metadata, annotations: { ...deployment.metadata.annotations, [revisionKey]: now } }
  return store.put(deployments, { ...deployment, metadata })
}

function rollOn(control: Control, deployment: Deployment, current: ReplicaSet, old: ReplicaSet[]): void {
  const { replicas } = deployment.spec
  const { surge, unavailable } = limitsOf(deployment)
  const all = [...old, current]
  const total = sum(all, wantedOf)
  if (current.spec.replicas !== replicas) {
    const room = Math.max(0, replicas + surge - total)
    const next = Math.min(replicas, current.spec.replicas + room)
    if (next !== current.spec.replicas) return scale(control, deployment, current, next)
  }
  const enough = replicas - unavailable
  const notYet = current.spec.replicas - availableOf(current)
  let mayGo = total - enough - notYet
  // Pods that serve nobody go first, then as many of the others as there are more than needed.
  for (const set of old) {
    const gone = Math.min(mayGo, wantedOf(set) - availableOf(set))
    if (gone <= 0) continue
    scale(control, deployment, set, wantedOf(set) - gone)
    mayGo -= gone
  }
  let surplus = Math.min(mayGo, sum(all, availableOf) - enough)
  for (const set of old) {
    const gone = Math.min(surplus, wantedOf(set))
    if (gone <= 0) continue
    scale(control, deployment, set, wantedOf(set) - gone)
    surplus -= gone
  }
}

/** Percentages: of more pods rounded up, of fewer rounded down. */
function limitsOf({ spec: { replicas, strategy } }: Deployment) {
  const amount = (value: number | string = 0, round: (n: number) => number) =>
    typeof value === 'number' ? value : round((Number.parseInt(value, 10) * replicas) / 100)
  const surge = amount(strategy.rollingUpdate?.maxSurge, Math.ceil)
  const unavailable = Math.min(replicas, amount(strategy.rollingUpdate?.maxUnavailable, Math.floor))
  return { surge, unavailable: surge === 0 && unavailable === 0 ? 1 : unavailable }
}

function recreate(control: Control, deployment: Deployment, current: ReplicaSet, old: ReplicaSet[]): void {
  for (const set of old) scale(control, deployment, set, 0)
  const isLeft = old.some((set) => control.controlledBy<Pod>(kindOf('Pod'), set).length > 0)
  if (isLeft) control.later(deployment, 100)
  else scale(control, deployment, current, deployment.spec.replicas)
}

function scale({ store, event }: Control, deployment: Deployment, set: ReplicaSet, replicas: number): void {
  const before = set.spec.replicas
  if (before === replicas) return
  set.spec.replicas = replicas
  set.metadata.generation = (set.metadata.generation ?? 0) + 1
  store.put(sets, set)
  const direction = before < replicas ? 'up' : 'down'
  const message = `Scaled ${direction} replica set ${set.metadata.name} from ${before} to ${replicas}`
  event(deployment, 'Normal', 'ScalingReplicaSet', message, component)
}

type Status = Deployment['status']

function writeStatus(
  control: Control,
  deployment: Deployment,
  current: ReplicaSet | undefined,
  old: ReplicaSet[],
  isNew: boolean,
): void {
  const all = current ? [...old, current] : old
  const available = sum(all, availableOf)
  const unavailable = Math.max(0, sum(all, wantedOf) - available)
  const counts = {
    replicas: sum(all, ({ status }) => status.replicas ?? 0),
    updatedReplicas: current?.status.replicas ?? 0,
    readyReplicas: sum(all, ({ status }) => status.readyReplicas ?? 0),
    availableReplicas: available,
    unavailableReplicas: unavailable,
  }
  // Go leaves out what is zero.
  const present = Object.fromEntries(Object.entries(counts).filter(([, count]) => count !== 0))
  const status: Status = { observedGeneration: deployment.metadata.generation, ...present }
  const before = deployment.status.conditions ?? []
  const progressing = progressOf(control, deployment, status, current, isNew)
  status.conditions = [availabilityOf(deployment, available), ...(progressing ? [progressing] : [])].map((condition) =>
    withTimes(condition, before),
  )
  if (progressing?.reason === 'NewReplicaSetAvailable') {
    control.settled(deployment)
    forgetOldest(control, deployment, old)
  }
  if (!isDeepStrictEqual(status, deployment.status)) control.store.put(deployments, { ...deployment, status })
}

function availabilityOf(deployment: Deployment, available: number): Condition {
  const isEnough = available >= deployment.spec.replicas - limitsOf(deployment).unavailable
  return isEnough
    ? {
        type: 'Available',
        status: 'True',
        reason: 'MinimumReplicasAvailable',
        message: 'Deployment has minimum availability.',
      }
    : {
        type: 'Available',
        status: 'False',
        reason: 'MinimumReplicasUnavailable',
        message: 'Deployment does not have minimum availability.',
      }
}

const says = (status: string, reason: string, message: string): Condition => ({
  type: 'Progressing',
  status,
  reason,
  message,
  ...(status === 'True' && { lastUpdateTime: timestamp() }),
})

/** Whether the rollout is done, goes on, or has stood still for longer than it may. `lastUpdateTime` is when it last moved. */
function progressOf(
  control: Control,
  deployment: Deployment,
  now: Status,
  current: ReplicaSet | undefined,
  isNew: boolean,
): Condition | undefined {
  const { spec, status: before } = deployment
  const known = before.conditions?.find(({ type }) => type === 'Progressing')
  if (spec.paused)
    return { type: 'Progressing', status: 'Unknown', reason: 'DeploymentPaused', message: 'Deployment is paused' }
  if (!current) return known
  const set = `ReplicaSet "${current.metadata.name}"`
  const { replicas = 0, updatedReplicas = 0, readyReplicas = 0, availableReplicas = 0 } = now
  if (known?.reason === 'NewReplicaSetAvailable' && replicas === updatedReplicas && !isNew) return known
  if (updatedReplicas === spec.replicas && replicas === spec.replicas && availableReplicas === spec.replicas)
    return says('True', 'NewReplicaSetAvailable', `${set} has successfully progressed.`)
  if (isNew) {
    watchDeadline(control, deployment, Date.now())
    return says('True', 'NewReplicaSetCreated', `Created new replica set "${current.metadata.name}"`)
  }
  const moved =
    updatedReplicas > (before.updatedReplicas ?? 0) ||
    replicas - updatedReplicas < (before.replicas ?? 0) - (before.updatedReplicas ?? 0) ||
    readyReplicas > (before.readyReplicas ?? 0) ||
    availableReplicas > (before.availableReplicas ?? 0)
  if (moved || !known || known.reason === 'DeploymentPaused') {
    watchDeadline(control, deployment, Date.now())
    return says('True', 'ReplicaSetUpdated', `${set} is progressing.`)
  }
  if (known.reason === 'ProgressDeadlineExceeded' || known.reason === 'NewReplicaSetAvailable') return known
  const since = Date.parse(known.lastUpdateTime!)
  if (Date.now() < since + spec.progressDeadlineSeconds * 1000) {
    watchDeadline(control, deployment, since)
    return known
  }
  return says('False', 'ProgressDeadlineExceeded', `${set} has timed out progressing.`)
}

function watchDeadline(control: Control, deployment: Deployment, sinceMs: number): void {
  const { progressDeadlineSeconds } = deployment.spec
  // The largest number there is means: no deadline.
  if (progressDeadlineSeconds === 2 ** 31 - 1) return
  control.later(deployment, sinceMs + progressDeadlineSeconds * 1000 - Date.now() + 1)
}

function withTimes(condition: Condition, before: Condition[]): Condition {
  const known = before.find(({ type }) => type === condition.type)
  const lastTransitionTime = known?.status === condition.status ? known.lastTransitionTime : timestamp()
  const isSame = known?.reason === condition.reason && known?.status === condition.status
  const lastUpdateTime = condition.lastUpdateTime ?? (isSame ? known?.lastUpdateTime : timestamp())
  return { ...condition, lastUpdateTime, lastTransitionTime }
}

function forgetOldest({ store }: Control, { spec, metadata }: Deployment, old: ReplicaSet[]): void {
  const empty = old.filter((set) => set.spec.replicas === 0 && !set.status.replicas)
  for (const set of empty.slice(0, Math.max(0, empty.length - (spec.revisionHistoryLimit ?? 10))))
    remove(store, sets, metadata.namespace ?? '', set.metadata.name)
}

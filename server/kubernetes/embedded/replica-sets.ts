import { isDeepStrictEqual } from 'node:util'
import { type Control, referenceTo } from './controllers.ts'
import { kindOf } from './kinds.ts'
import type { Obj, Pod, PodTemplate, ReplicaSet } from './objects.ts'
import { remove } from './remove.ts'
import { addOwn, randomName } from './write.ts'

const pods = kindOf('Pod')
const sets = kindOf('ReplicaSet')
const component = 'replicaset-controller'

/** As many pods as it says. */
export function reconcileReplicaSet(control: Control, set: ReplicaSet): void {
  const { store, event } = control
  if (set.metadata.deletionTimestamp) return
  let active = control.controlledBy<Pod>(pods, set).filter(isActive)
  const missing = set.spec.replicas - active.length
  for (let n = 0; n < missing; n++) {
    const pod = addPod(control, set, set.metadata.name + '-' + randomName(), set.spec.template)
    active.push(pod)
    event(set, 'Normal', 'SuccessfulCreate', `Created pod: ${pod.metadata.name}`, component)
  }
  if (missing < 0) {
    const surplus = active.sort(lessUseful).slice(0, -missing)
    for (const { metadata } of surplus) {
      remove(store, pods, metadata.namespace ?? '', metadata.name)
      event(set, 'Normal', 'SuccessfulDelete', `Deleted pod: ${metadata.name}`, component)
    }
    active = active.slice(-missing)
  }
  const status = { ...countsOf(control, set, active), observedGeneration: set.metadata.generation }
  if (!isDeepStrictEqual(status, set.status)) store.put(sets, { ...set, status })
}

export const isActive = ({ metadata, status }: Pod) =>
  !metadata.deletionTimestamp && status.phase !== 'Failed' && status.phase !== 'Succeeded'

/** A pod as the template says; its owner is its controller. */
export function addPod({ store }: Control, owner: Obj, name: string, template: PodTemplate) {
  const { labels, annotations } = template.metadata ?? {}
  return addOwn(store, pods, {
    metadata: {
      name,
      generateName: `${owner.metadata.name}-`,
      namespace: owner.metadata.namespace,
      ...(labels && { labels }),
      ...(annotations && { annotations }),
      ownerReferences: [referenceTo(owner)],
    },
    spec: structuredClone(template.spec),
  }) as Pod
}

const rank = (pod: Pod) => [pod.spec.nodeName ? 1 : 0, pod.status.phase === 'Running' ? 1 : 0, readySince(pod) ? 1 : 0]

/** The first to go when there are too many: without a node, not running, not ready, younger. */
function lessUseful(a: Pod, b: Pod): number {
  const [of, other] = [rank(a), rank(b)]
  const at = of.findIndex((value, index) => value !== other[index])
  if (at >= 0) return of[at]! - other[at]!
  return a.metadata.creationTimestamp < b.metadata.creationTimestamp ? 1 : -1
}

export function readySince({ status }: Pod): number | undefined {
  const ready = status.conditions?.find(({ type }) => type === 'Ready')
  return ready?.status === 'True' ? Date.parse(ready.lastTransitionTime!) : undefined
}

/** How many there are, are ready, and have been so long enough. Looks again when the next one will be. */
export function countsOf(control: Control, set: ReplicaSet, active: Pod[]) {
  const waitMs = (set.spec.minReadySeconds ?? 0) * 1000
  let ready = 0
  let available = 0
  for (const pod of active) {
    const since = readySince(pod)
    if (since === undefined) continue
    ready++
    const leftMs = waitMs && since + waitMs - Date.now()
    if (leftMs <= 0) available++
    else control.later(set, leftMs)
  }
  const replicas = active.length
  return {
    replicas,
    ...(replicas && { fullyLabeledReplicas: replicas }),
    ...(ready && { readyReplicas: ready }),
    ...(available && { availableReplicas: available }),
  }
}

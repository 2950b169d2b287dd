import { isDeepStrictEqual } from 'node:util'
import type { Control } from './controllers.ts'
import { hashOf } from './events.ts'
import { kindOf } from './kinds.ts'
import type { Pod, PodTemplate, StatefulSet } from './objects.ts'
import { remove } from './remove.ts'
import { addPod, countsOf, readySince } from './replica-sets.ts'
import { addOwn } from './write.ts'

const sets = kindOf('StatefulSet')
const pods = kindOf('Pod')
const claims = kindOf('PersistentVolumeClaim')
const component = 'statefulset-controller'
const revisionLabel = 'controller-revision-hash'

/** Pods with a number and a name that lasts: made from the first to the last, replaced from the last to the first, one at a time. */
export function reconcileStatefulSet(control: Control, set: StatefulSet): void {
  const { store, event } = control
  if (set.metadata.deletionTimestamp) return
  const { name, namespace = '' } = set.metadata
  const { replicas, template, podManagementPolicy, updateStrategy } = set.spec
  const revision = `${name}-${hashOf(JSON.stringify(template)).slice(0, 10)}`
  const numberOf = (pod: Pod) => Number(pod.metadata.name.slice(name.length + 1))
  const there = control.controlledBy<Pod>(pods, set).sort((a, b) => numberOf(a) - numberOf(b))
  const isOneByOne = podManagementPolicy !== 'Parallel'
  const drop = (pod: Pod) => {
    remove(store, pods, namespace, pod.metadata.name)
    event(
      set,
      'Normal',
      'SuccessfulDelete',
      `delete Pod ${pod.metadata.name} in StatefulSet ${name} successful`,
      component,
    )
  }

  for (let number = 0; number < replicas; number++) {
    const pod = there.find((candidate) => numberOf(candidate) === number)
    if (!pod) {
      addClaims(control, set, number)
      there.push(addPod(control, set, `${name}-${number}`, numbered(template, name, number, revision)))
      event(
        set,
        'Normal',
        'SuccessfulCreate',
        `create Pod ${name}-${number} in StatefulSet ${name} successful`,
        component,
      )
    } else if (pod.status.phase === 'Failed' && !pod.metadata.deletionTimestamp) drop(pod)
    if (isOneByOne && (!pod || pod.metadata.deletionTimestamp || readySince(pod) === undefined)) break
  }

  const isSettled = there.every((pod) => !pod.metadata.deletionTimestamp)
  const surplus = there.findLast((pod) => numberOf(pod) >= replicas && !pod.metadata.deletionTimestamp)
  if (surplus && (isSettled || !isOneByOne)) drop(surplus)
  else if (updateStrategy?.type !== 'OnDelete' && isSettled) {
    const stale = there.findLast(
      (pod) =>
        pod.metadata.labels?.[revisionLabel] !== revision &&
        numberOf(pod) >= (updateStrategy?.rollingUpdate?.partition ?? 0),
    )
    // A newer one that is not ready holds the rest up; one of the old state that is not ready is replaced all the same.
    const blocks = there.some((pod) => stale && numberOf(pod) > numberOf(stale) && readySince(pod) === undefined)
    if (stale && !blocks) drop(stale)
  }

  const alive = control.controlledBy<Pod>(pods, set).filter(({ metadata }) => !metadata.deletionTimestamp)
  const updated = alive.filter(({ metadata }) => metadata.labels?.[revisionLabel] === revision).length
  const { fullyLabeledReplicas: _, ...counts } = countsOf(control, set, alive)
  const isDone = updated === replicas && alive.length === replicas && counts.readyReplicas === (replicas || undefined)
  const currentRevision = isDone ? revision : (set.status.currentRevision ?? revision)
  const current = currentRevision === revision ? updated : alive.length - updated
  const status: StatefulSet['status'] = {
    observedGeneration: set.metadata.generation,
    availableReplicas: 0,
    ...counts,
    ...(current && { currentReplicas: current }),
    ...(updated && { updatedReplicas: updated }),
    currentRevision,
    updateRevision: revision,
  }
  if (!isDeepStrictEqual(status, set.status)) store.put(sets, { ...set, status })
}

function numbered(template: PodTemplate, name: string, number: number, revision: string): PodTemplate {
  const labels = {
    ...template.metadata?.labels,
    [revisionLabel]: revision,
    'statefulset.kubernetes.io/pod-name': `${name}-${number}`,
    'apps.kubernetes.io/pod-index': String(number),
  }
  return { ...template, metadata: { ...template.metadata, labels } }
}

/** Kept when the pod or the set goes, as in a real cluster. Nothing is stored in them. */
function addClaims({ store }: Control, { metadata, spec }: StatefulSet, number: number): void {
  for (const claim of spec.volumeClaimTemplates ?? []) {
    const name = `${claim.metadata.name}-${metadata.name}-${number}`
    if (!store.get(claims, metadata.namespace ?? '', name))
      addOwn(store, claims, {
        metadata: { name, namespace: metadata.namespace, labels: spec.selector.matchLabels },
        spec: structuredClone(claim.spec),
      })
  }
}

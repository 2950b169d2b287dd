import type { Logger } from 'pino'
import { reconcileDeployment } from './deployments.ts'
import type { Events } from './events.ts'
import { type Kind, kindAt, kindOf, kinds } from './kinds.ts'
import { controllerOf, type Obj } from './objects.ts'
import { createPods } from './pods.ts'
import { dependentsOf, remove } from './remove.ts'
import { reconcileReplicaSet } from './replica-sets.ts'
import { reconcileStatefulSet } from './stateful-sets.ts'
import { type Change, type Store, type Stored, treeOf } from './store.ts'
import { addOwn } from './write.ts'

/** What a controller works with. */
export type Control = {
  store: Store
  /** look at this object again after a while */
  later: (object: Obj, ms: number) => void
  /** the objects that this one controls */
  controlledBy: <T extends Obj>(kind: Kind, owner: Obj) => T[]
  /** nothing to wait for any more */
  settled: (object: Obj) => void
  event: Events['record']
}

/**
 * The controllers of the cluster: each looks at one object, compares, and takes the next step. They are woken by changes and by timers
 * that are set only while something is in transition, so a cluster at rest costs nothing.
 */
export function startControllers(store: Store, events: Events, log: Logger): { stop(): void } {
  const due = new Set<string>()
  const timers = new Map<string, { timer: NodeJS.Timeout; at: number }>()
  let scheduled: NodeJS.Immediate | undefined
  let stopped = false

  const owners = new Set<string>()
  // By the id of a controller. Looking for its id in all objects of the namespace took half of the time of many rollouts.
  const controlled = new Map<string, Set<string>>()

  const control: Control = {
    store,
    controlledBy: <T extends Obj>(kind: Kind, { metadata: { uid, namespace = '' } }: Obj) =>
      [...(controlled.get(uid) ?? [])]
        .filter((key) => key.startsWith(keyOf(kind, namespace, '')))
        .flatMap((key) => store.get<T>(kind, namespace, key.split(' ')[3]!) ?? [])
        .filter((object) => controllerOf(object)?.uid === uid),
    settled: (object) => clearTimer(keyOfObject(object)),
    later(object, ms) {
      const key = keyOfObject(object)
      const at = Date.now() + ms
      const planned = timers.get(key)
      if (planned && planned.at <= at) return
      clearTimeout(planned?.timer)
      const wakeAgain = () => {
        timers.delete(key)
        wakeKey(key)
      }
      // A longer time than a timer can wait: it is looked at once more on the way.
      timers.set(key, { timer: setTimeout(wakeAgain, Math.min(ms, 2 ** 31 - 1)), at })
    },
    event: events.record,
  }

  function clearTimer(key: string) {
    clearTimeout(timers.get(key)?.timer)
    timers.delete(key)
  }

  const pods = createPods(control)
  const reconcilers: Record<string, (object: never) => void> = {
    Namespace: (space) => reconcileNamespace(store, space),
    Deployment: (deployment) => reconcileDeployment(control, deployment),
    ReplicaSet: (set) => reconcileReplicaSet(control, set),
    StatefulSet: (set) => reconcileStatefulSet(control, set),
    Pod: (pod) => pods.reconcile(pod),
  }

  function wakeKey(key: string) {
    if (stopped) return
    due.add(key)
    scheduled ??= setImmediate(run)
  }
  const wake = (kind: Kind, namespace: string, name: string) => {
    if (reconcilers[kind.kind]) wakeKey(keyOf(kind, namespace, name))
  }

  function run() {
    scheduled = undefined
    const keys = [...due]
    due.clear()
    for (const key of keys) {
      const [group = '', plural = '', namespace = '', name = ''] = key.split(' ')
      const kind = kindAt(group, plural)!
      const object = store.get(kind, namespace, name)
      try {
        if (!object) clearTimer(key)
        else reconcilers[kind.kind]!(object as never)
      } catch (error) {
        // Not its message, which may quote the object. The next change of it is another try.
        log.error(
          { kind: kind.kind, namespace, name, stack: framesOf(error) },
          'a controller of the embedded cluster failed',
        )
      }
    }
  }

  function follow({ kind, before, after, removed }: Change) {
    const stored = after ?? removed!
    wake(kind, stored.namespace, stored.name)
    noteOwners(kind, after)
    for (const owned of kind.kind === 'Pod' || kind.kind === 'ReplicaSet' ? [before, after] : []) wakeController(owned)
    if (kind.kind === 'Secret' || kind.kind === 'ConfigMap') pods.wakeWaiting(stored.namespace)
    if (!removed) return
    if (kind.kind === 'Pod') pods.forget(treeOf(removed).metadata.uid)
    if (stored.namespace) wake(kindOf('Namespace'), '', stored.namespace)
    if (owners.size) collect(kind, treeOf(removed))
  }

  function noteOwners(kind: Kind, stored: Stored | undefined) {
    if (!stored?.body.includes('"ownerReferences"')) return
    const object = treeOf(stored)
    for (const { uid } of object.metadata.ownerReferences ?? []) owners.add(uid)
    const controller = controllerOf(object)?.uid
    if (controller === undefined) return
    const keys = controlled.get(controller) ?? new Set()
    controlled.set(controller, keys.add(keyOf(kind, stored.namespace, stored.name)))
  }

  function wakeController(stored: Stored | undefined) {
    const controller = stored && controllerOf(treeOf(stored))
    const kind = controller && kinds.find((kind) => kind.kind === controller.kind)
    if (kind) wake(kind, stored.namespace, controller.name)
  }

  /** What only the removed object owned goes with it. */
  function collect(kind: Kind, removed: Obj) {
    const { uid, namespace = '', name } = removed.metadata
    controlled.get(controllerOf(removed)?.uid ?? '')?.delete(keyOf(kind, namespace, name))
    controlled.delete(uid)
    if (!owners.delete(uid)) return
    for (const { kind, object } of dependentsOf(store, uid, namespace)) {
      const { metadata } = object
      metadata.ownerReferences = metadata.ownerReferences!.filter((reference) => reference.uid !== uid)
      if (metadata.ownerReferences.length) store.put(kind, object)
      else if (store.get(kind, metadata.namespace ?? '', metadata.name))
        remove(store, kind, metadata.namespace ?? '', metadata.name)
    }
  }

  const unfollow = store.follow(follow)
  for (const kind of kinds)
    for (const stored of store.list(kind, '')) {
      noteOwners(kind, stored)
      wake(kind, stored.namespace, stored.name)
    }

  return {
    stop() {
      stopped = true
      unfollow()
      clearImmediate(scheduled)
      for (const { timer } of timers.values()) clearTimeout(timer)
      timers.clear()
    },
  }
}

const keyOf = (kind: Kind, namespace: string, name: string) => `${kind.group} ${kind.plural} ${namespace} ${name}`

const keyOfObject = ({ kind, metadata: { namespace = '', name } }: Obj) => keyOf(kindOf(kind), namespace, name)

const framesOf = (error: unknown) =>
  error instanceof Error ? (error.stack ?? '').split('\n').filter((line) => /^\s+at /.test(line)) : []

/** A namespace has its service account, and goes when all that was in it is gone. */
function reconcileNamespace(store: Store, space: Obj): void {
  const { name, deletionTimestamp } = space.metadata
  if (!deletionTimestamp) {
    const account = kindOf('ServiceAccount')
    if (!store.get(account, name, 'default')) addOwn(store, account, { metadata: { name: 'default', namespace: name } })
    return
  }
  let left = 0
  for (const kind of kinds.filter((kind) => kind.namespaced))
    for (const stored of store.list(kind, name)) if (!remove(store, kind, name, stored.name).gone) left++
  if (!left && !space.metadata.finalizers?.length) store.remove(kindOf('Namespace'), space)
}

/** The reference that makes `owner` the controller of another object. */
export const referenceTo = ({ apiVersion, kind, metadata: { name, uid } }: Obj) => ({
  apiVersion,
  kind,
  name,
  uid,
  controller: true,
  blockOwnerDeletion: true,
})

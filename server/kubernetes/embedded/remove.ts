import { type Kind, kindOf, kinds } from './kinds.ts'
import { type Obj, timestamp } from './objects.ts'
import { ApiError, forbidden, notFound } from './status.ts'
import { type Store, type Stored, treeOf } from './store.ts'

/** What a client may say with a deletion. */
export type DeleteOptions = {
  gracePeriodSeconds?: number
  propagationPolicy?: string
  orphanDependents?: boolean
  preconditions?: { uid?: string; resourceVersion?: string }
}

/** Deletes, or marks for deletion what ends later: pods, namespaces, and what has finalizers. Tells which of the two. */
export function remove(
  store: Store,
  kind: Kind,
  namespace: string,
  name: string,
  options: DeleteOptions = {},
  dryRun = false,
): { object: Obj; gone: boolean } {
  const object = store.get(kind, namespace, name)
  if (!object) throw notFound(kind, name)
  checkPreconditions(kind, object, options)
  if (kind.kind === 'Namespace' && immortal.has(name)) throw forbidden(kind, name, 'this namespace may not be deleted')
  const graceSeconds = graceOf(kind, object, options)
  const endsNow = !object.metadata.finalizers?.length && graceSeconds === 0
  if (dryRun) return { object, gone: endsNow }
  if (options.propagationPolicy === 'Orphan' || options.orphanDependents) orphan(store, object)
  if (endsNow) return { object: store.remove(kind, object), gone: true }

  const { deletionTimestamp, deletionGracePeriodSeconds = 0 } = object.metadata
  if (deletionTimestamp && deletionGracePeriodSeconds <= graceSeconds) return { object, gone: false }
  object.metadata.deletionTimestamp = timestamp(Date.now() + graceSeconds * 1000)
  object.metadata.deletionGracePeriodSeconds = graceSeconds
  if (kind.kind === 'Namespace') object.status = { ...object.status, phase: 'Terminating' }
  return { object: store.put(kind, object), gone: false }
}

const immortal = new Set(['default', 'kube-public', 'kube-system'])

function checkPreconditions(kind: Kind, { metadata }: Obj, { preconditions = {} }: DeleteOptions): void {
  const { uid, resourceVersion } = preconditions
  const refuse = (what: string, wanted: string, found: string) =>
    new ApiError(
      409,
      'Conflict',
      `Operation cannot be fulfilled on ${kind.kind} "${metadata.name}": the ${what} in the precondition (${wanted}) does not match ` +
        `the ${what} in record (${found}). The object might have been ${what === 'UID' ? 'deleted and then recreated' : 'modified'}`,
      { name: metadata.name, ...(kind.group && { group: kind.group }), kind: kind.kind },
    )
  if (uid !== undefined && uid !== metadata.uid) throw refuse('UID', uid, metadata.uid)
  if (resourceVersion !== undefined && resourceVersion !== metadata.resourceVersion)
    throw refuse('ResourceVersion', resourceVersion, metadata.resourceVersion)
}

/** A namespace waits for what is in it, a pod that has a node for its containers. */
function graceOf(kind: Kind, { spec }: Obj, { gracePeriodSeconds }: DeleteOptions): number {
  if (kind.kind === 'Namespace') return 1
  if (kind.kind !== 'Pod' || !spec?.nodeName) return 0
  return gracePeriodSeconds ?? Number(spec.terminationGracePeriodSeconds ?? 30)
}

function orphan(store: Store, owner: Obj): void {
  for (const { kind, object } of dependentsOf(store, owner.metadata.uid, owner.metadata.namespace ?? '')) {
    object.metadata.ownerReferences = object.metadata.ownerReferences!.filter(({ uid }) => uid !== owner.metadata.uid)
    store.put(kind, object)
  }
}

/** The objects that name this one as an owner. Looks for the id in their bytes first, and reads only those that hold it. */
export function dependentsOf(store: Store, uid: string, namespace: string): { kind: Kind; object: Obj }[] {
  const found: { kind: Kind; object: Obj }[] = []
  for (const kind of kinds) {
    if (kind === kindOf('Event')) continue
    for (const stored of store.list(kind, kind.namespaced ? namespace : '')) {
      const object = ownedBy(stored, uid)
      if (object) found.push({ kind, object })
    }
  }
  return found
}

function ownedBy(stored: Stored, uid: string): Obj | undefined {
  if (!stored.body.includes(uid)) return undefined
  const object = treeOf(stored)
  return object.metadata.ownerReferences?.some((reference) => reference.uid === uid) ? object : undefined
}

import { randomBytes, randomUUID } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { setDefaults } from './defaults.ts'
import { apiVersionOf, type Kind, kindOf } from './kinds.ts'
import { apply, type Manager, recordUpdate } from './managed.ts'
import { isTree, type Obj, type Tree, timestamp } from './objects.ts'
import { jsonPatch, mergePatch, strategicMerge } from './patch.ts'
import { fit, shapeOf } from './schema.ts'
import { ApiError, alreadyExists, badRequest, conflict, forbidden, invalid, notFound } from './status.ts'
import type { Store } from './store.ts'
import { validate } from './validate.ts'

/** How clients create and change objects. All of it is synchronous, so that nothing can come between a look and a write. */
export type Writing = Manager & {
  dryRun: boolean
  /** what to do about fields that the kind does not have: Strict, Warn or Ignore */
  fieldValidation: string
  warn: (text: string) => void
}

export type Written = { object: Obj; created: boolean }

export function create(store: Store, kind: Kind, namespace: string, body: unknown, how: Writing): Obj {
  const object = read(kind, namespace, body, how)
  const { metadata } = object
  if (metadata.generateName && !metadata.name) metadata.name = metadata.generateName + randomName()
  if (!metadata.name)
    throw invalid(kind, '', [
      {
        reason: 'FieldValueRequired',
        field: 'metadata.name',
        message: 'Required value: name or generateName is required',
      },
    ])
  if (metadata.resourceVersion) throw badRequest('resourceVersion should not be set on objects to be created')
  return add(store, kind, object, how, (complete) => recordUpdate(kind, undefined, complete, how))
}

export function replace(store: Store, kind: Kind, namespace: string, name: string, body: unknown, how: Writing): Obj {
  const wanted = read(kind, namespace, body, how)
  checkName(wanted, name)
  const live = store.get(kind, namespace, name)
  if (!live) throw notFound(kind, name)
  return update(store, kind, live, wanted, how)
}

/** What a patch is, by its media type. */
export const patchTypes = {
  'application/merge-patch+json': (live, patch) => mergePatch(live, patch),
  'application/strategic-merge-patch+json': (live, patch, kind) =>
    isTree(patch) ? strategicMerge(live, patch, shapeOf(kind.kind)) : patch,
  'application/json-patch+json': (live, patch) => jsonPatch(live, patch as never),
} satisfies Record<string, (live: Obj, patch: unknown, kind: Kind) => unknown>

export type PatchType = keyof typeof patchTypes

export function patch(
  store: Store,
  kind: Kind,
  namespace: string,
  name: string,
  type: PatchType,
  body: unknown,
  how: Writing,
): Obj {
  const live = store.get(kind, namespace, name)
  if (!live) throw notFound(kind, name)
  const wanted = read(kind, namespace, patchTypes[type](live, body, kind), how)
  checkName(wanted, name)
  return update(store, kind, live, wanted, how)
}

export function applyPatch(
  store: Store,
  kind: Kind,
  namespace: string,
  name: string,
  body: unknown,
  force: boolean,
  how: Writing,
): Written {
  const applied = read(kind, namespace, body, { ...how, fieldValidation: 'Strict' })
  applied.metadata.name ||= name
  checkName(applied, name)
  if (applied.metadata.managedFields) throw badRequest('metadata.managedFields must be nil')
  if (kind.kind === 'Secret') applied.data = withStringData(applied)
  const live = store.get(kind, namespace, name)
  if (live) {
    checkVersion(kind, live, applied)
    const object = change(store, kind, live, apply(kind, live, applied, how, force), how, true)
    return { object, created: false }
  }
  if (applied.metadata.resourceVersion || applied.metadata.uid)
    throw conflict(
      kind,
      name,
      `the object does not exist, and the request names its ${applied.metadata.uid ? 'uid' : 'version'}`,
    )
  const blank = { apiVersion: applied.apiVersion, kind: kind.kind, metadata: { name } } as Obj
  const shares = apply(kind, blank, applied, how, force).metadata.managedFields
  const object = add(store, kind, applied, how, (complete) => {
    complete.metadata.managedFields = shares
    return complete
  })
  return { object, created: true }
}

/** Plain text becomes data before owners are counted, so that a key left out later is taken away. */
function withStringData(secret: Obj): unknown {
  const { stringData, data } = secret
  if (!isTree(stringData)) return data
  delete secret.stringData
  const encoded = Object.entries(stringData).map(([key, text]) => [key, Buffer.from(String(text)).toString('base64')])
  return { ...(data as Tree), ...Object.fromEntries(encoded) }
}

/** A client's object, of this kind, in this namespace, with the fields such an object has. */
function read(kind: Kind, namespace: string, body: unknown, { fieldValidation, warn }: Writing): Obj {
  if (!isTree(body)) throw badRequest("Object 'Kind' is missing")
  if (!body.kind) throw badRequest("Object 'Kind' is missing in the request")
  if (body.kind !== kind.kind || body.apiVersion !== apiVersionOf(kind))
    throw badRequest(
      `the API version in the data (${JSON.stringify(body.apiVersion)}, ${JSON.stringify(body.kind)}) does not match the expected API version ` +
        `(${apiVersionOf(kind)}, ${kind.kind})`,
    )
  const unknown: string[] = []
  const prefix = `${kind.kind} in version "${kind.version}" cannot be handled as a ${kind.kind}`
  let object: Obj
  try {
    object = fit(body, shapeOf(kind.kind), '', unknown) as Obj
  } catch (error) {
    if (error instanceof ApiError) error.message = error.message.replace(/^cannot be handled/, prefix)
    throw error
  }
  const words = unknown.map((path) => `unknown field "${path}"`)
  if (words.length && fieldValidation === 'Strict')
    throw badRequest(`${prefix}: strict decoding error: ${words.join(', ')}`)
  if (fieldValidation === 'Warn') words.forEach(warn)

  object.metadata ??= { name: '' } as Obj['metadata']
  const { metadata } = object
  if (metadata.namespace && metadata.namespace !== namespace)
    throw badRequest(
      kind.namespaced
        ? 'the namespace of the provided object does not match the namespace sent on the request'
        : 'namespace may not be set on an object of the whole cluster',
    )
  if (namespace) metadata.namespace = namespace
  return object
}

function checkName({ metadata }: Obj, name: string): void {
  if (metadata.name !== name)
    throw badRequest(`the name of the object (${metadata.name}) does not match the name on the URL (${name})`)
}

function add(store: Store, kind: Kind, object: Obj, how: Writing, withShares: (complete: Obj) => Obj): Obj {
  const { name, namespace = '' } = object.metadata
  if (namespace) checkNamespace(store, kind, namespace, name)
  if (store.get(kind, namespace, name)) throw alreadyExists(kind, name)
  const { deletionTimestamp: _d, deletionGracePeriodSeconds: _g, ...metadata } = object.metadata
  object.metadata = { ...metadata, uid: randomUUID(), creationTimestamp: timestamp() }
  if (hasGeneration.has(kind.kind)) object.metadata.generation = 1
  delete object.status
  setDefaults(object, store)
  validate(kind, object)
  const complete = withShares(object)
  if (firstStatus[kind.kind]) complete.status = structuredClone(firstStatus[kind.kind])
  return how.dryRun ? complete : store.put(kind, complete)
}

/** A new object of this cluster itself, as its controllers make them. */
export function addOwn(store: Store, kind: Kind, object: Tree & { metadata: Partial<Obj['metadata']> }): Obj {
  const metadata = { ...object.metadata, uid: randomUUID(), creationTimestamp: timestamp() } as Obj['metadata']
  if (hasGeneration.has(kind.kind)) metadata.generation = 1
  const complete: Obj = { apiVersion: apiVersionOf(kind), kind: kind.kind, ...object, metadata }
  setDefaults(complete, store)
  if (firstStatus[kind.kind]) complete.status ??= structuredClone(firstStatus[kind.kind])
  return store.put(kind, complete)
}

/** Kinds that count the changes of what is wanted. */
const hasGeneration = new Set(['Deployment', 'ReplicaSet', 'StatefulSet', 'NetworkPolicy', 'Pod'])

const firstStatus: Record<string, Tree> = {
  Namespace: { phase: 'Active' },
  Pod: { phase: 'Pending', qosClass: 'BestEffort' },
  Deployment: {},
  ReplicaSet: { replicas: 0 },
  StatefulSet: { replicas: 0, availableReplicas: 0 },
  Service: { loadBalancer: {} },
  // No volume is made either.
  PersistentVolumeClaim: { phase: 'Bound' },
}

function checkNamespace(store: Store, kind: Kind, namespace: string, name: string): void {
  const space = store.get(kindOf('Namespace'), '', namespace)
  if (!space) throw notFound(kindOf('Namespace'), namespace)
  if (!space.metadata.deletionTimestamp) return
  const error = forbidden(
    kind,
    name,
    `unable to create new content in namespace ${namespace} because it is being terminated`,
  )
  error.details!.causes = [
    {
      reason: 'NamespaceTerminating',
      message: `namespace ${namespace} is being terminated`,
      field: 'metadata.namespace',
    },
  ]
  throw error
}

function update(store: Store, kind: Kind, live: Obj, wanted: Obj, how: Writing): Obj {
  checkVersion(kind, live, wanted)
  return change(store, kind, live, wanted, how)
}

function checkVersion(kind: Kind, live: Obj, { metadata }: Obj): void {
  const { name, uid, resourceVersion } = live.metadata
  if (metadata.uid && metadata.uid !== uid)
    throw conflict(kind, name, `Precondition failed: UID in precondition: ${metadata.uid}, UID in object meta: ${uid}`)
  if (metadata.resourceVersion && metadata.resourceVersion !== resourceVersion)
    throw conflict(
      kind,
      name,
      'the object has been modified; please apply your changes to the latest version and try again',
    )
}

/** From what is there to what is wanted: what belongs to the server stays, and if nothing else differs nothing is written. */
function change(store: Store, kind: Kind, live: Obj, wanted: Obj, how: Writing, isApplied = false): Obj {
  const { uid, creationTimestamp, resourceVersion, generation, deletionTimestamp, deletionGracePeriodSeconds } =
    live.metadata
  const metadata = {
    ...wanted.metadata,
    uid,
    creationTimestamp,
    resourceVersion,
    ...(generation && { generation }),
    ...(deletionTimestamp && {
      deletionTimestamp,
      deletionGracePeriodSeconds,
    }),
  }
  let next: Obj
  if (how.subresource === 'status') {
    next = { ...live, status: wanted.status, metadata: { ...live.metadata, managedFields: metadata.managedFields } }
  } else {
    const { status: _, ...rest } = wanted
    next = { ...rest, ...(live.status && { status: live.status }), metadata }
    if (kind.kind === 'Service') keepAddress(live, next)
    setDefaults(next, store)
    validate(kind, next, live)
    if (generation && !isDeepStrictEqual(next.spec, live.spec)) next.metadata.generation = generation + 1
  }
  if (!isApplied) next = recordUpdate(kind, live, next, how)
  if (isDeepStrictEqual(next, live)) return live
  if (how.dryRun) return next
  // The last finalizer gone, what was to be deleted is.
  if (deletionTimestamp && !next.metadata.finalizers?.length && live.metadata.finalizers?.length && kind.kind !== 'Pod')
    return store.remove(kind, next)
  return store.put(kind, next)
}

function keepAddress(live: Obj, next: Obj): void {
  if (!next.spec || next.spec.type === 'ExternalName') return
  for (const field of ['clusterIP', 'clusterIPs', 'ipFamilies', 'ipFamilyPolicy'])
    if (live.spec?.[field] !== undefined) next.spec[field] ??= live.spec[field]
}

/** As Kubernetes makes names: no vowels, so no words, and nothing that looks like something else. */
export function randomName(length = 5): string {
  const letters = 'bcdfghjklmnpqrstvwxz2456789'
  return Array.from(randomBytes(length), (byte) => letters[byte % letters.length]).join('')
}

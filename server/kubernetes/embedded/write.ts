import { randomBytes, randomUUID } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { complete, encodeStringData, setDefaults } from './defaults.ts'
import { repeated } from './fields.ts'
import { apiVersionOf, type Kind, kindOf } from './kinds.ts'
import { apply, firstShare, type Manager, recordUpdate } from './managed.ts'
import { isTree, type Obj, type Tree, timestamp } from './objects.ts'
import { jsonPatch, mergePatch, strategicMerge } from './patch.ts'
import { dropEmpty, fit, Misfit, shapeOf } from './schema.ts'
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
  return add(store, kind, object, how, (object) => recordUpdate(kind, undefined, object, how))
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
  const applied = readApplied(kind, namespace, body)
  applied.metadata.name ||= name
  checkName(applied, name)
  const live = store.get(kind, namespace, name)
  if (live) {
    checkVersion(kind, live, applied)
    const object = change(store, kind, live, apply(kind, live, applied, how, force), how, true)
    return { object, created: false }
  }
  const { uid, resourceVersion: _, ...rest } = applied.metadata
  const metadata = rest as Obj['metadata']
  if (uid)
    throw conflict(
      kind,
      name,
      `uid mismatch: the provided object specified uid ${uid}, and no existing object was found`,
    )
  const shares = [firstShare(kind, applied, how)]
  const object = add(store, kind, { ...applied, metadata }, how, (object) => {
    object.metadata.managedFields = shares
    return object
  })
  return { object, created: true }
}

/** A client's object, of this kind, in this namespace, with the fields such an object has. */
function read(kind: Kind, namespace: string, body: unknown, { fieldValidation, warn }: Writing): Obj {
  const prefix = `${kind.kind} in version "${kind.version}" cannot be handled as a ${kind.kind}: `
  const { object, unknown } = decode(kind, body, (misfit) => badRequest(prefix + wordsFor(misfit)))
  const words = unknown.map((path) => `unknown field "${path}"`)
  if (words.length && fieldValidation === 'Strict')
    throw badRequest(`${prefix}strict decoding error: ${words.join(', ')}`)
  if (fieldValidation === 'Warn') words.forEach(warn)
  return placed(kind, namespace, object)
}

function wordsFor({ path, wanted, got }: Misfit): string {
  if (wanted === 'base64') return `${path}: illegal base64 data`
  if (wanted === 'quantity')
    return "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
  return `json: cannot unmarshal ${got} into field ${path} of type ${wanted}`
}

/** The same for server-side apply, which is stricter, has other words, and reads plain text before it counts owners. */
function readApplied(kind: Kind, namespace: string, body: unknown): Obj {
  const refuse = (why: string) => {
    const { name = '', namespace = '' } = ((body as Tree).metadata ?? {}) as { name?: string; namespace?: string }
    const what = `${namespace}/${name}; ${kind.group}/${kind.version}, Kind=${kind.kind}`
    return new ApiError(500, '', `failed to create typed patch object (${what}): ${why}`)
  }
  const { object, unknown } = decode(kind, body, ({ path, wanted, got }) =>
    refuse(`.${path}: expected ${wanted}, got ${got}`),
  )
  if (unknown.length) throw refuse(`.${unknown[0]}: field not declared in schema`)
  const twice = repeated(object, shapeOf(kind.kind))
  if (twice) throw refuse(`${twice.path}: duplicate entries for key ${twice.key}`)
  if (object.metadata?.managedFields) throw badRequest('metadata.managedFields must be nil')
  if (kind.kind === 'Secret') encodeStringData(object)
  return placed(kind, namespace, object)
}

function decode(kind: Kind, body: unknown, refuse: (misfit: Misfit) => ApiError): { object: Obj; unknown: string[] } {
  if (!isTree(body) || !body.kind) throw badRequest("Object 'Kind' is missing in the request")
  if (body.kind !== kind.kind || body.apiVersion !== apiVersionOf(kind))
    throw badRequest(
      `the API version in the data (${JSON.stringify(body.apiVersion)}, ${JSON.stringify(body.kind)}) does not match the ` +
        `expected API version (${apiVersionOf(kind)}, ${kind.kind})`,
    )
  const unknown: string[] = []
  try {
    return { object: fit(body, shapeOf(kind.kind), '', unknown) as Obj, unknown }
  } catch (error) {
    throw error instanceof Misfit ? refuse(error) : error
  }
}

function placed(kind: Kind, namespace: string, object: Obj): Obj {
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

function add(store: Store, kind: Kind, object: Obj, how: Writing, withShares: (object: Obj) => Obj): Obj {
  const { name, namespace = '' } = object.metadata
  if (namespace) checkNamespace(store, kind, namespace, name)
  const { deletionTimestamp: _d, deletionGracePeriodSeconds: _g, ...metadata } = object.metadata
  object.metadata = { ...metadata, uid: randomUUID(), creationTimestamp: timestamp() }
  if (hasGeneration.has(kind.kind)) object.metadata.generation = 1
  delete object.status
  dropEmpty(object, shapeOf(kind.kind))
  setDefaults(object)
  validate(kind, object)
  if (store.get(kind, namespace, name)) throw alreadyExists(kind, name)
  const whole = complete(withShares(object), store)
  return how.dryRun ? whole : store.put(kind, whole)
}

/** A new object of this cluster itself, as its controllers make them. */
export function addOwn(store: Store, kind: Kind, object: Tree & { metadata: Partial<Obj['metadata']> }): Obj {
  const metadata = { ...object.metadata, uid: randomUUID(), creationTimestamp: timestamp() } as Obj['metadata']
  if (hasGeneration.has(kind.kind)) metadata.generation = 1
  const whole: Obj = { apiVersion: apiVersionOf(kind), kind: kind.kind, ...object, metadata }
  setDefaults(whole)
  return store.put(kind, complete(whole, store))
}

/** Kinds that count the changes of what is wanted. */
const hasGeneration = new Set(['Deployment', 'ReplicaSet', 'StatefulSet', 'NetworkPolicy', 'Pod'])

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
    dropEmpty(next, shapeOf(kind.kind))
    setDefaults(next)
    validate(kind, next, live)
    if (generation && !isDeepStrictEqual(next.spec, live.spec)) next.metadata.generation = generation + 1
  }
  if (!isApplied) next = recordUpdate(kind, live, next, how)
  complete(next, store)
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

import { isDeepStrictEqual } from 'node:util'
import { compare, fieldsOf, intersect, merge, pathsOf, prune, subtract, union } from './fields.ts'
import { apiVersionOf, type Kind } from './kinds.ts'
import { type Fields, type Managed, type Obj, timestamp } from './objects.ts'
import { shapeOf } from './schema.ts'
import { ApiError, type Cause } from './status.ts'

/** Who writes: the field manager and, below the object, the part it writes. */
export type Manager = { manager: string; subresource?: string }

/**
 * Server-side apply: `applied` over `live`, the fields this manager applied before and now leaves out going where nobody else owns them.
 * The result carries the new shares of all managers. A field that another one owns with a different value is a conflict, or taken by force.
 */
export function apply(kind: Kind, live: Obj, applied: Obj, by: Manager, force: boolean): Obj {
  const shape = shapeOf(kind.kind)
  const others = sharesOf(kind, live)
  const mine = take(others, by, 'Apply')
  const before = tracked(live, by)
  const wanted = fieldsOf(tracked(applied, by), shape)

  const merged = merge(before, tracked(applied, by), shape)
  const { changed } = compare(before, merged, shape)
  const handedOver = by.manager === 'kubectl' ? lastApplied(kind, live) : {}
  const conflicts = others
    .map((share) => ({ share, fields: subtract(intersect(share.fieldsV1, changed), handedOver) }))
    .filter(({ fields }) => Object.keys(fields).length > 0)
  if (conflicts.length && !force) throw conflictOf(conflicts)

  let left = others.map((share) => ({ ...share, fieldsV1: subtract(share.fieldsV1, changed) }))
  const kept = left.reduce((all, { fieldsV1 }) => union(all, fieldsV1), wanted)
  const result = mine ? prune(merged, shape, subtract(mine.fieldsV1, wanted), kept) : merged
  const { removed } = compare(merged, result, shape)
  left = left.map((share) => ({ ...share, fieldsV1: subtract(share.fieldsV1, removed) }))
  return withShares(live, result as Obj, by, [...left, share(kind, by, 'Apply', wanted, mine)])
}

/** Of a new object all that is applied is the one manager's. */
export const firstShare = (kind: Kind, applied: Obj, by: Manager): Managed =>
  share(kind, by, 'Apply', fieldsOf(tracked(applied, by), shapeOf(kind.kind)))

/** What kubectl applied before it did so on the server's side, by its own note: these fields it may go on to change. */
function lastApplied(kind: Kind, live: Obj): Fields {
  const note = live.metadata.annotations?.['kubectl.kubernetes.io/last-applied-configuration']
  if (!note) return {}
  try {
    return fieldsOf(JSON.parse(note), shapeOf(kind.kind))
  } catch {
    return {}
  }
}

/** Any other write: what it changed becomes the writer's. `given` is what the client says the shares are, where it says so. */
export function recordUpdate(kind: Kind, live: Obj | undefined, written: Obj, by: Manager): Obj {
  const shape = shapeOf(kind.kind)
  const before = live ? tracked(live, by) : {}
  const { changed, removed } = compare(before, tracked(written, by), shape)
  const basis = written.metadata.managedFields
  const isReset = basis?.length === 1 && !basis[0]!.manager
  const others = isReset ? [] : structuredClone(basis ?? live?.metadata.managedFields ?? [])
  const mine = take(others, by, 'Update')
  const left = others.map((share) => ({ ...share, fieldsV1: subtract(subtract(share.fieldsV1, changed), removed) }))
  const own = union(subtract(mine?.fieldsV1 ?? {}, removed), changed)
  return withShares(live, written, by, [...left, share(kind, by, 'Update', own, mine)])
}

/** Where nobody is known to have written what is there, it belongs to someone who is not the one who applies. */
function sharesOf(kind: Kind, live: Obj): Managed[] {
  const shares = live.metadata.managedFields ?? []
  if (shares.length || !live.metadata.uid) return [...shares]
  const fields = fieldsOf(tracked(live, { manager: '' }), shapeOf(kind.kind))
  return [share(kind, { manager: 'before-first-apply' }, 'Update', fields)]
}

function take(shares: Managed[], { manager, subresource }: Manager, operation: string): Managed | undefined {
  const at = shares.findIndex(
    (share) => share.manager === manager && share.operation === operation && share.subresource === subresource,
  )
  return at < 0 ? undefined : shares.splice(at, 1)[0]
}

function share(kind: Kind, by: Manager, operation: Managed['operation'], fieldsV1: Fields, before?: Managed): Managed {
  const { manager, subresource } = by
  const time = before && isDeepStrictEqual(before.fieldsV1, fieldsV1) ? before.time : timestamp()
  const apiVersion = apiVersionOf(kind)
  return { manager, operation, apiVersion, time, fieldsType: 'FieldsV1', fieldsV1, ...(subresource && { subresource }) }
}

function withShares(live: Obj | undefined, written: Obj, by: Manager, shares: Managed[]): Obj {
  const owning = shares.filter(({ fieldsV1 }) => Object.keys(fieldsV1).length > 0)
  // One who applied nothing but a name is remembered if there is nobody else: all would be a stranger's otherwise.
  const managedFields = (owning.length ? owning : shares).sort(
    (a, b) => (a.time ?? '').localeCompare(b.time ?? '') || a.manager.localeCompare(b.manager),
  )
  const whole = untracked(live, written, by)
  whole.metadata = { ...whole.metadata, managedFields }
  return whole
}

/** Belong to the server, or say which object it is. */
const serverMeta = new Set([
  'name',
  'namespace',
  'generateName',
  'uid',
  'resourceVersion',
  'generation',
  'creationTimestamp',
  'deletionTimestamp',
  'deletionGracePeriodSeconds',
  'managedFields',
  'selfLink',
])

/** The part of an object that can have owners: of the object itself all but the status, else the status alone. */
function tracked({ apiVersion: _a, kind: _k, status, ...object }: Obj, { subresource }: Manager): object {
  if (subresource === 'status') return status ? { status } : {}
  const { metadata, ...rest } = object
  const owned = Object.entries(metadata).filter(([key]) => !serverMeta.has(key))
  return owned.length ? { ...rest, metadata: Object.fromEntries(owned) } : rest
}

/** Puts back what `tracked` left out. */
function untracked(live: Obj | undefined, part: Partial<Obj>, { subresource }: Manager): Obj {
  if (!live || (part.apiVersion && part.kind)) return part as Obj
  if (subresource === 'status') return { ...live, status: part.status }
  const { apiVersion, kind, status } = live
  const kept = Object.entries(live.metadata).filter(([key]) => serverMeta.has(key))
  const metadata = { ...Object.fromEntries(kept), ...part.metadata } as Obj['metadata']
  return { apiVersion, kind, ...part, metadata, ...(status && { status }) }
}

function conflictOf(conflicts: { share: Managed; fields: Fields }[]): ApiError {
  const causes: Cause[] = conflicts.flatMap(({ share, fields }) =>
    pathsOf(fields).map((field) => ({
      reason: 'FieldManagerConflict',
      message: `conflict with ${printManager(share)}`,
      field,
    })),
  )
  causes.sort((a, b) => (a.field! < b.field! ? -1 : 1))
  const first = causes[0]!
  const lines = conflicts.map(
    ({ share, fields }) =>
      `conflicts with ${printManager(share)}:\n${pathsOf(fields)
        .map((path) => `- ${path}`)
        .join('\n')}`,
  )
  const text = causes.length === 1 ? `${first.message}: ${first.field}` : lines.join('\n')
  const count = `${causes.length} conflict${causes.length === 1 ? '' : 's'}`
  return new ApiError(409, 'Conflict', `Apply failed with ${count}: ${text}`, { causes })
}

const printManager = ({ manager, subresource, operation, apiVersion }: Managed) =>
  JSON.stringify(manager) +
  (subresource ? ` with subresource "${subresource}"` : '') +
  (operation === 'Update' ? ` using ${apiVersion}` : '')

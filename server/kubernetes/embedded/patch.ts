import { isDeepStrictEqual } from 'node:util'
import { isTree, type Tree } from './objects.ts'
import { below, type Shape } from './schema.ts'
import { ApiError, badRequest } from './status.ts'

/** RFC 7396. */
export function mergePatch(live: unknown, patch: unknown): unknown {
  if (!isTree(patch)) return patch
  const merged: Tree = isTree(live) ? { ...live } : {}
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete merged[key]
    else merged[key] = mergePatch(merged[key], value)
  }
  return merged
}

/** Kubernetes' own: lists with a merge key are merged item by item, and `$…` entries tell what to delete, replace, retain or order. */
export function strategicMerge(live: unknown, patch: Tree, shape: Shape): Tree | undefined {
  const { $patch, $retainKeys, ...rest } = patch
  if ($patch === 'delete') return undefined
  if ($patch === 'replace') return rest
  let merged: Tree = isTree(live) ? { ...live } : {}
  if (Array.isArray($retainKeys))
    merged = Object.fromEntries(Object.entries(merged).filter(([key]) => $retainKeys.includes(key)))
  for (const [key, value] of Object.entries(rest)) {
    const [, directive, field = ''] = /^\$(setElementOrder|deleteFromPrimitiveList)\/(.*)$/.exec(key) ?? []
    if (directive === 'setElementOrder' && !(field in rest))
      merged[field] = mergeValue(merged[field], [], below(shape, field), value as unknown[])
    else if (directive === 'deleteFromPrimitiveList') merged[field] = without(merged[field], value as unknown[])
    else if (!directive && value === null) delete merged[key]
    else if (!directive) {
      const order = rest[`$setElementOrder/${key}`] as unknown[] | undefined
      merged[key] = mergeValue(merged[key], value, below(shape, key), order)
    }
    if (merged[key] === undefined) delete merged[key]
  }
  return merged
}

const without = (list: unknown, values: unknown[]) =>
  Array.isArray(list) ? list.filter((item) => !values.includes(item)) : list

function mergeValue(live: unknown, value: unknown, shape: Shape, order?: unknown[]): unknown {
  if (isTree(value)) return strategicMerge(live, value, shape)
  if (Array.isArray(value) && shape.is === 'list' && shape.mergeKey) return mergeItems(live, value, shape, order)
  return value
}

function mergeItems(live: unknown, patch: unknown[], shape: Shape & { is: 'list' }, order = patch): unknown[] {
  const before: unknown[] = Array.isArray(live) ? live : []
  const keyOf = (item: unknown) => (isTree(item) ? item[shape.mergeKey!] : item)
  if (patch.some((item) => isTree(item) && item.$patch === 'replace'))
    return patch.filter((item) => !(isTree(item) && item.$patch === 'replace'))
  const items = new Map(before.map((item) => [keyOf(item), item]))
  for (const item of patch) {
    const key = keyOf(item)
    if (key === undefined) throw badRequest(`map does not contain declared merge key: ${shape.mergeKey}`)
    const merged = isTree(item) ? strategicMerge(items.get(key), item, shape.of) : item
    if (merged === undefined) items.delete(key)
    else items.set(key, merged)
  }
  return ordered(items, order.map(keyOf), before.map(keyOf))
}

/** In the order of the patch. What it does not name comes before the first of these items that it preceded, else last. */
function ordered(items: Map<unknown, unknown>, patchOrder: unknown[], liveOrder: unknown[]): unknown[] {
  const keys = [...new Set(patchOrder)].filter((key) => items.has(key))
  let from = 0
  for (const key of items.keys()) {
    if (patchOrder.includes(key)) continue
    const place = liveOrder.indexOf(key)
    const next = keys.findIndex((other, at) => at >= from && place >= 0 && liveOrder.indexOf(other) > place)
    const at = next < 0 ? keys.length : next
    keys.splice(at, 0, key)
    from = at + 1
  }
  return keys.map((key) => items.get(key))
}

type Step = { op: string; path: string; from?: string; value?: unknown }

/** RFC 6902. */
export function jsonPatch(live: unknown, steps: Step[]): unknown {
  if (!Array.isArray(steps)) throw badRequest('a JSON patch is a list of operations')
  const root = { '': structuredClone(live) }
  for (const step of steps) {
    const { op, path, from = '' } = step
    if (op === 'test') {
      if (!isDeepStrictEqual(at(root, path).get(), step.value)) throw cannot(`testing value ${path} failed`)
    } else if (op === 'remove') at(root, path).remove()
    else if (op === 'replace') at(root, path).replace(step.value)
    else if (op === 'add') at(root, path).add(step.value)
    else if (op === 'copy') at(root, path).add(structuredClone(at(root, from).get()))
    else if (op === 'move') {
      const moved = at(root, from).get()
      at(root, from).remove()
      at(root, path).add(moved)
    } else throw badRequest(`Unexpected kind: ${op}`)
  }
  return root['']
}

const cannot = (why: string) =>
  new ApiError(422, 'Invalid', `the server rejected our request due to an error in our request: ${why}`)

function at(root: Tree, pointer: string) {
  if (typeof pointer !== 'string') throw badRequest('an operation of a JSON patch has a path')
  const steps = ['', ...pointer.split('/').slice(1)].map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'))
  const last = steps.pop()!
  let parent: unknown = root
  for (const step of steps) parent = child(parent, step)
  const missing = () => cannot(`missing path: ${pointer}`)
  if (typeof parent !== 'object' || parent === null) throw missing()
  const holder = parent as Tree & unknown[]
  const isList = Array.isArray(parent)
  const index = last === '-' ? (isList ? holder.length : 0) : Number(last)
  const isThere = isList ? index < holder.length : Object.hasOwn(holder, last)
  if (isList && !(Number.isInteger(index) && index >= 0 && index <= holder.length)) throw missing()
  return {
    get: () => child(holder, last),
    add(value: unknown) {
      if (isList) holder.splice(index, 0, value)
      else holder[last] = value
    },
    replace(value: unknown) {
      if (!isThere) throw missing()
      if (isList) holder[index] = value
      else holder[last] = value
    },
    remove() {
      if (!isThere) throw missing()
      if (isList) holder.splice(index, 1)
      else Reflect.deleteProperty(holder, last)
    },
  }
}

const child = (parent: unknown, step: string): unknown =>
  typeof parent === 'object' && parent !== null && Object.hasOwn(parent, step) ? (parent as Tree)[step] : undefined

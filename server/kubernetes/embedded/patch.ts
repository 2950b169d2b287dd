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
  const orders: [key: string, order: unknown[]][] = []
  for (const [key, value] of Object.entries(rest)) {
    const [, directive, field = ''] = /^\$(setElementOrder|deleteFromPrimitiveList)\/(.*)$/.exec(key) ?? []
    if (directive === 'setElementOrder') orders.push([field, value as unknown[]])
    else if (directive) merged[field] = without(merged[field], value as unknown[])
    else if (value === null) delete merged[key]
    else merged[key] = mergeValue(merged[key], value, below(shape, key))
    if (merged[key] === undefined) delete merged[key]
  }
  for (const [key, order] of orders) {
    const fieldShape = below(shape, key)
    if (fieldShape.is === 'list' && Array.isArray(merged[key]))
      merged[key] = inOrder(merged[key], order, fieldShape.mergeKey)
  }
  return merged
}

const without = (list: unknown, values: unknown[]) =>
  Array.isArray(list) ? list.filter((item) => !values.includes(item)) : list

function mergeValue(live: unknown, value: unknown, shape: Shape): unknown {
  if (isTree(value)) return strategicMerge(live, value, shape)
  if (Array.isArray(value) && shape.is === 'list' && shape.mergeKey) return mergeItems(live, value, shape)
  return value
}

function mergeItems(live: unknown, patch: unknown[], shape: Shape & { is: 'list' }): unknown[] {
  const items: unknown[] = Array.isArray(live) ? [...live] : []
  const key = shape.mergeKey!
  if (patch.some((item) => isTree(item) && item.$patch === 'replace'))
    return patch.filter((item) => !(isTree(item) && item.$patch === 'replace'))
  for (const item of patch) {
    if (!isTree(item)) {
      if (!items.includes(item)) items.push(item)
      continue
    }
    if (item[key] === undefined) throw badRequest(`map: ${shape.of.is} does not contain declared merge key: ${key}`)
    const at = items.findIndex((other) => isTree(other) && other[key] === item[key])
    const merged = strategicMerge(items[at], item, shape.of)
    if (at < 0) items.push(...(merged ? [merged] : []))
    else items.splice(at, 1, ...(merged ? [merged] : []))
  }
  return items
}

/** Items the order does not name stay where they are, behind the one before them. */
function inOrder(items: unknown[], order: unknown[], mergeKey = ''): unknown[] {
  const keyOf = (item: unknown) => (isTree(item) ? item[mergeKey] : item)
  const rank = new Map(order.map((item, at) => [keyOf(item), at]))
  let last = -1
  const ranked = items.map((item) => ({ item, rank: (last = rank.get(keyOf(item)) ?? last) }))
  return ranked.sort((a, b) => a.rank - b.rank).map(({ item }) => item)
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

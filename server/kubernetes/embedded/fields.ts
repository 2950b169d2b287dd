import { isDeepStrictEqual } from 'node:util'
import { type Fields, isTree, type Tree } from './objects.ts'
import { below, type Shape } from './schema.ts'

/**
 * Sets of fields in the notation of `metadata.managedFields`, and what can be done with them: the arithmetic under server-side apply.
 * A step is `f:name` for a field, `k:{"name":"web"}` for an item by its keys, `v:"x"` for a value of a set.
 */
const self = '.'

/** The thing itself, not only something below it. */
const isOwned = (fields: Fields) => self in fields || isEmpty(fields)
const isEmpty = (fields: object) => {
  for (const _ in fields) return false
  return true
}
const withSelf = (fields: Fields): Fields => (isOwned(fields) ? fields : { [self]: {}, ...fields })

/** What a value consists of, one entry a leaf. Entries of maps and lists count themselves, too; with `inner` also what holds them. */
export function fieldsOf(value: unknown, shape: Shape, inner = false): Fields {
  const fields: Fields = {}
  for (const { step, item, shape: itemShape } of children(value, shape)) {
    const child = fieldsOf(item, itemShape, inner)
    fields[step] = shape.is !== 'struct' || (inner && itemShape.is !== 'struct') ? withSelf(child) : child
  }
  return fields
}

type Child = { step: string; key: string; item: unknown; shape: Shape }

/** None where the value is owned as a whole. */
function children(value: unknown, shape: Shape): Child[] {
  if (shape.is === 'list') {
    if (shape.atomic || !Array.isArray(value)) return []
    return value.map((item: unknown) => ({ step: stepOf(item, shape), key: '', item, shape: shape.of }))
  }
  if (shape.atomic || !isTree(value)) return []
  return Object.entries(value).map(([key, item]) => ({ step: `f:${key}`, key, item, shape: below(shape, key) }))
}

export function stepOf(item: unknown, { keys, set }: Shape & { is: 'list' }): string {
  if (set) return `v:${JSON.stringify(item)}`
  const named: Tree = {}
  for (const key of keys) named[key] = (isTree(item) ? item[key] : undefined) ?? keyDefaults[key]
  return `k:${JSON.stringify(named)}`
}

/** A port without a protocol is the same port as one with TCP. */
const keyDefaults: Record<string, unknown> = { protocol: 'TCP' }

export function union(a: Fields, b: Fields): Fields {
  const both: Fields = { ...a }
  for (const [step, fields] of Object.entries(b)) {
    const mine = both[step]
    if (!mine) both[step] = fields
    else both[step] = isOwned(mine) || isOwned(fields) ? withSelf(union(mine, fields)) : union(mine, fields)
  }
  return both
}

export function subtract(a: Fields, b: Fields): Fields {
  const rest: Fields = {}
  for (const [step, fields] of Object.entries(a)) {
    const taken = b[step]
    if (!taken || step === self) {
      rest[step] = fields
      continue
    }
    const { [self]: _, ...left } = subtract(fields, taken)
    const stillOwned = isOwned(fields) && !isOwned(taken)
    if (stillOwned) rest[step] = isEmpty(left) ? {} : { [self]: {}, ...left }
    else if (!isEmpty(left)) rest[step] = left
  }
  return rest
}

export function intersect(a: Fields, b: Fields): Fields {
  const common: Fields = {}
  for (const [step, fields] of Object.entries(a)) {
    const other = b[step]
    if (!other || step === self) continue
    const inner = intersect(fields, other)
    if (isOwned(fields) && isOwned(other)) common[step] = withSelf(inner)
    else if (!isEmpty(inner)) common[step] = inner
  }
  return common
}

/** `.spec.template.spec.containers[name="web"].image` */
export function pathsOf(fields: Fields, prefix = ''): string[] {
  const paths = Object.entries(fields).flatMap(([step, inner]) => {
    if (step === self) return []
    const path = prefix + printStep(step)
    return [...(isOwned(inner) ? [path] : []), ...pathsOf(inner, path)]
  })
  return paths.sort((a, b) => (a < b ? -1 : 1))
}

function printStep(step: string): string {
  const rest = step.slice(2)
  if (step.startsWith('f:')) return `.${rest}`
  if (step.startsWith('v:')) return `[=${rest}]`
  const keys = Object.entries(JSON.parse(rest) as Tree)
  return `[${keys.map(([key, value]) => `${key}=${JSON.stringify(value)}`).join(',')}]`
}

/** The first list that names an item twice. */
export function repeated(value: unknown, shape: Shape, path = ''): { path: string; key: string } | undefined {
  const seen = new Set<string>()
  for (const { step, item, shape: itemShape } of children(value, shape)) {
    if (seen.has(step)) return { path, key: printStep(step) }
    seen.add(step)
    const inner = repeated(item, itemShape, path + printStep(step))
    if (inner) return inner
  }
  return undefined
}

/** Where two values differ: what is new or different in the second, and what the first alone has. */
export function compare(before: unknown, after: unknown, shape: Shape): { changed: Fields; removed: Fields } {
  const old = new Map(children(before, shape).map((child) => [child.step, child]))
  const now = children(after, shape)
  const changed: Fields = {}
  const removed: Fields = {}
  for (const { step, item, shape: itemShape } of now) {
    const was = old.get(step)
    old.delete(step)
    if (!was) {
      const all = fieldsOf(item, itemShape, true)
      changed[step] = itemShape.is === 'struct' && shape.is === 'struct' ? all : withSelf(all)
    } else if (isWhole(was.item, itemShape) || isWhole(item, itemShape)) {
      if (!isDeepStrictEqual(was.item, item)) changed[step] = {}
    } else {
      const inner = compare(was.item, item, itemShape)
      if (!isEmpty(inner.changed)) changed[step] = inner.changed
      if (!isEmpty(inner.removed)) removed[step] = inner.removed
    }
  }
  for (const [step, { item, shape: itemShape }] of old) removed[step] = withSelf(fieldsOf(item, itemShape, true))
  return { changed, removed }
}

const isWhole = (value: unknown, shape: Shape) => shape.atomic || typeof value !== 'object' || value === null

/** What is applied goes over what is there; items of lists are matched by their keys. */
export function merge(live: unknown, applied: unknown, shape: Shape): unknown {
  if (isWhole(applied, shape) || isWhole(live, shape)) return applied
  if (shape.is === 'list') return mergeLists(live as unknown[], applied as unknown[], shape)
  const merged: Tree = { ...(live as Tree) }
  for (const [key, value] of Object.entries(applied as Tree)) {
    merged[key] = key in merged ? merge(merged[key], value, below(shape, key)) : value
  }
  return merged
}

function mergeLists(live: unknown[], applied: unknown[], shape: Shape & { is: 'list' }): unknown[] {
  const there = new Map(live.map((item) => [stepOf(item, shape), item]))
  const wanted = new Map(applied.map((item) => [stepOf(item, shape), item]))
  return inAppliedOrder([...there.keys()], [...wanted.keys()]).map((step) => {
    if (!wanted.has(step)) return there.get(step)
    return there.has(step) ? merge(there.get(step), wanted.get(step), shape.of) : wanted.get(step)
  })
}

/** What is applied keeps its order; what others have put there stays beside what it stood beside. As structured-merge-diff does it. */
function inAppliedOrder(there: string[], wanted: string[]): string[] {
  const shared = wanted.filter((step) => there.includes(step))
  const order: string[] = []
  let at = 0
  for (const step of wanted) {
    for (; at < there.length && there[at] !== step; at++) {
      const other = there[at]!
      if (!wanted.includes(other)) order.push(other)
      // One that has a place in both waits until its turn comes.
      else if (other === shared[0]) break
    }
    if (there[at] === step) at++
    if (shared[0] === step) shared.shift()
    order.push(step)
  }
  return [...order, ...there.slice(at).filter((step) => !wanted.includes(step))]
}

/** Without what is in `gone` and nobody keeps. */
export function prune(value: unknown, shape: Shape, gone: Fields, kept: Fields = {}): unknown {
  const left = children(value, shape).flatMap((child) => {
    const fields = gone[child.step]
    if (!fields) return [child]
    const keep = kept[child.step]
    if (!keep && isOwned(fields)) return []
    const item = prune(child.item, child.shape, fields, keep)
    const emptied = !keep && typeof item === 'object' && item !== null && isEmpty(item)
    return emptied ? [] : [{ ...child, item }]
  })
  if (isWhole(value, shape)) return value
  return shape.is === 'list'
    ? left.map(({ item }) => item)
    : Object.fromEntries(left.map(({ key, item }) => [key, item]))
}

import { isTree } from './objects.ts'
import types from './schema.json' with { type: 'json' }

/**
 * The shapes of all objects: which fields there are, how lists are merged, what is owned whole. One source for type checks, unknown
 * fields, strategic merge and server-side apply. schema.json is made from Kubernetes' own description; a field is one word:
 *
 *   string integer number boolean bytes quantity   scalar: a number or a text   any: not looked into
 *   PodSpec         another type of the file          {}word   a map          []word   a list that is replaced whole
 *   [set]word       a list whose values are unique    [a,b]word   a list whose items are told apart by the fields a and b
 *   […|name]word    in a strategic merge, its items are matched by `name` (`value`: they are plain values)
 *   @word   owned and replaced whole      ~word   a strategic merge may say which fields to retain      word!   required
 */
export type Shape =
  | { is: 'string' | 'integer' | 'number' | 'boolean' | 'bytes' | 'quantity' | 'scalar' | 'any'; atomic: true }
  | { is: 'struct'; name: string; fields: Map<string, Shape>; required: string[]; atomic: boolean }
  | { is: 'map'; of: Shape; atomic: boolean }
  | { is: 'list'; of: Shape; keys: string[]; set: boolean; mergeKey?: string; atomic: boolean }

const shapes = new Map<string, Shape>()

export const shapeOf = (word: string): Shape => shapes.get(word) ?? read(word)

function read(word: string): Shape {
  const list = /^\[(.*?)(?:\|(.*?)~?)?\](.*)$/.exec(word)
  if (list) {
    const [, how = '', mergeKey, of = ''] = list
    const set = how === 'set'
    const keys = how && !set ? how.split(',') : []
    return keep(word, { is: 'list', of: shapeOf(of), keys, set, mergeKey, atomic: !how })
  }
  const [, mark, rest = ''] = /^([@~]?)(.*)$/.exec(word)!
  const atomic = mark === '@'
  if (rest.startsWith('{}')) return keep(word, { is: 'map', of: shapeOf(rest.slice(2)), atomic })
  const fields = (types as Record<string, Record<string, string>>)[rest]
  if (!fields) return keep(word, { is: rest as 'any', atomic: true })
  const shape = {
    is: 'struct' as const,
    name: rest,
    fields: new Map<string, Shape>(),
    required: [] as string[],
    atomic,
  }
  // Before its fields are read: a type may hold itself.
  keep(word, shape)
  for (const [name, field] of Object.entries(fields)) {
    if (field.endsWith('!')) shape.required.push(name)
    shape.fields.set(name, shapeOf(field.replace(/!$/, '')))
  }
  return shape
}

function keep(word: string, shape: Shape): Shape {
  shapes.set(word, shape)
  return shape
}

/** The shape of what is below: a field, a key of a map, an item. */
export function below(shape: Shape, key: string): Shape {
  if (shape.is === 'struct') return shape.fields.get(key) ?? anything
  return shape.is === 'map' || shape.is === 'list' ? shape.of : anything
}

const anything: Shape = { is: 'any', atomic: true }

/** Drops empty maps and lists, in place: Go does not write them. */
export function dropEmpty(value: unknown, shape: Shape): void {
  if (shape.is === 'list' && Array.isArray(value)) for (const item of value) dropEmpty(item, shape.of)
  if (shape.is !== 'struct' || !isTree(value)) return
  for (const [key, item] of Object.entries(value)) {
    const inner = below(shape, key)
    if (inner.is !== 'map' && inner.is !== 'list' && inner.is !== 'struct') continue
    dropEmpty(item, inner)
    if (inner.is !== 'struct' && Object.keys(item as object).length === 0) delete value[key]
  }
}

/** A value that its field cannot hold. It says what it is, never the value. */
export class Misfit extends Error {
  path: string
  wanted: string
  got: string

  constructor(path: string, wanted: string, value: unknown) {
    super(`misfit at ${path}`)
    this.path = path
    this.wanted = wanted
    this.got = Array.isArray(value) ? 'list' : isTree(value) ? 'map' : typeof value
  }
}

/** The value without `null`s and without fields that the shape does not know, which are noted. A wrong type is a `Misfit`. */
export function fit(value: unknown, shape: Shape, path: string, unknown: string[]): unknown {
  switch (shape.is) {
    case 'any':
      return value
    case 'struct': {
      if (!isTree(value)) throw new Misfit(path, 'map', value)
      const kept: Record<string, unknown> = {}
      for (const [key, field] of Object.entries(value)) {
        const fieldShape = shape.fields.get(key)
        const at = path ? `${path}.${key}` : key
        if (!fieldShape) unknown.push(at)
        else if (field !== null) kept[key] = fit(field, fieldShape, at, unknown)
      }
      return kept
    }
    case 'map': {
      if (!isTree(value)) throw new Misfit(path, 'map', value)
      const kept: Record<string, unknown> = {}
      for (const [key, item] of Object.entries(value)) {
        // Go reads `null` as the empty text, and as no value where there is more to it.
        if (item !== null) kept[key] = fit(item, shape.of, `${path}.${key}`, unknown)
        else if (shape.of.is === 'string' || shape.of.is === 'bytes') kept[key] = ''
      }
      return kept
    }
    case 'list':
      if (!Array.isArray(value)) throw new Misfit(path, 'list', value)
      return value.map((item, at) => fit(item, shape.of, `${path}[${at}]`, unknown))
    case 'integer':
      if (!Number.isInteger(value)) throw new Misfit(path, 'numeric (int or float)', value)
      return value
    case 'quantity':
      if (typeof value !== 'number' && !(typeof value === 'string' && quantity.test(value)))
        throw new Misfit(path, 'quantity', value)
      return value
    case 'scalar':
      if (typeof value !== 'string' && typeof value !== 'number') throw new Misfit(path, 'scalar', value)
      return value
    case 'bytes':
      if (typeof value !== 'string') throw new Misfit(path, 'string', value)
      if (!isBase64(value)) throw new Misfit(path, 'base64', value)
      return value
    case 'string':
    case 'number':
    case 'boolean':
      // oxlint-disable-next-line valid-typeof -- the words are those of `typeof`
      if (typeof value !== shape.is) throw new Misfit(path, shape.is, value)
      return value
  }
}

const quantity = /^[+-]?(\d+\.?\d*|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?$/

/** As Go decodes it: with padding, line breaks ignored. */
const isBase64 = (text: string) =>
  /^[A-Za-z0-9+/\r\n]*={0,2}[\r\n]*$/.test(text) && text.replace(/[\r\n]/g, '').length % 4 === 0

import { isTree } from './objects.ts'
import types from './schema.json' with { type: 'json' }
import { badRequest } from './status.ts'

/**
 * The shapes of all objects: which fields there are, how lists are merged, what is owned whole. One source for type checks, unknown
 * fields, strategic merge and server-side apply. schema.json is made from Kubernetes' own description; a field is one word:
 *
 *   string integer number boolean bytes   scalar: a number or a text (quantities, int-or-string)   any: not looked into
 *   PodSpec         another type of the file          {}word   a map          []word   a list that is replaced whole
 *   [set]word       a list whose values are unique    [a,b]word   a list whose items are told apart by the fields a and b
 *   […|name]word    in a strategic merge, its items are matched by `name` (`value`: they are plain values)
 *   @word   owned and replaced whole      ~word   a strategic merge may say which fields to retain      word!   required
 */
export type Shape =
  | { is: 'string' | 'integer' | 'number' | 'boolean' | 'bytes' | 'scalar' | 'any'; atomic: true }
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

/** Fields that a client named and no such kind has, by path. */
export type Unknown = string[]

/** The value without `null`s and without fields that the shape does not know, which are noted. A value of a wrong type is refused. */
export function fit(value: unknown, shape: Shape, path: string, unknown: Unknown): unknown {
  switch (shape.is) {
    case 'any':
      return value
    case 'struct': {
      if (!isTree(value)) throw wrongType(value, shape.name, path)
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
      if (!isTree(value)) throw wrongType(value, 'map', path)
      const kept: Record<string, unknown> = {}
      for (const [key, item] of Object.entries(value)) {
        // Go reads `null` as the empty text, and as no value where there is more to it.
        if (item !== null) kept[key] = fit(item, shape.of, `${path}.${key}`, unknown)
        else if (shape.of.is === 'string' || shape.of.is === 'bytes') kept[key] = ''
      }
      return kept
    }
    case 'list':
      if (!Array.isArray(value)) throw wrongType(value, 'list', path)
      return value.map((item, at) => fit(item, shape.of, `${path}[${at}]`, unknown))
    case 'integer':
      if (!Number.isInteger(value)) throw wrongType(value, 'integer', path)
      return value
    case 'scalar':
      if (typeof value !== 'string' && typeof value !== 'number') throw wrongType(value, 'number or string', path)
      return value
    case 'bytes':
      if (typeof value !== 'string') throw wrongType(value, 'base64 text', path)
      if (!isBase64(value)) throw badRequest(`cannot be handled: ${path}: illegal base64 data`)
      return value
    case 'string':
    case 'number':
    case 'boolean':
      // oxlint-disable-next-line valid-typeof -- the words are those of `typeof`
      if (typeof value !== shape.is) throw wrongType(value, shape.is, path)
      return value
  }
}

/** As Go decodes it: with padding, line breaks ignored. */
const isBase64 = (text: string) =>
  /^[A-Za-z0-9+/\r\n]*={0,2}[\r\n]*$/.test(text) && text.replace(/[\r\n]/g, '').length % 4 === 0

const wrongType = (value: unknown, wanted: string, path: string) =>
  badRequest(
    `cannot be handled: json: cannot unmarshal ${Array.isArray(value) ? 'array' : typeof value} into field ${path} of type ${wanted}`,
  )

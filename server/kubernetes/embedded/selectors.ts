import type { Kind } from './kinds.ts'
import { isTree, type Obj, type Selector } from './objects.ts'
import { badRequest } from './status.ts'

export type Matches = (object: Obj) => boolean

/** `app=web,tier in (a, b),!old` */
export function labelMatcher(text: string): Matches | undefined {
  if (!text.trim()) return undefined
  const tests = splitOutside(text).map(labelTest)
  return ({ metadata }) => tests.every((test) => test(metadata.labels ?? {}))
}

/** Commas between requirements, not those in a list of values. */
const splitOutside = (text: string) => text.split(/,(?![^(]*\))/)

function labelTest(requirement: string): (labels: Record<string, string>) => boolean {
  const key = '([\\w./-]+)'
  const set = new RegExp(`^\\s*${key}\\s+(in|notin)\\s*\\(([^)]*)\\)\\s*$`).exec(requirement)
  if (set) {
    const values = set[3]!.split(',').map((value) => value.trim())
    return (labels) => values.includes(labels[set[1]!] ?? absent) === (set[2] === 'in')
  }
  const equal = new RegExp(`^\\s*${key}\\s*(==?|!=)\\s*([\\w.-]*)\\s*$`).exec(requirement)
  if (equal) return (labels) => (labels[equal[1]!] === equal[3]) === (equal[2] !== '!=')
  const exists = new RegExp(`^\\s*(!?)\\s*${key}\\s*$`).exec(requirement)
  if (exists) return (labels) => Object.hasOwn(labels, exists[2]!) === (exists[1] === '')
  throw badRequest(`unable to parse requirement: ${requirement.trim()}`)
}

/** No label can have this value. */
const absent = '\0'

/** A selector inside an object. An empty one matches everything. */
export function selects({ matchLabels = {}, matchExpressions = [] }: Selector, labels: Record<string, string> = {}) {
  return (
    Object.entries(matchLabels).every(([key, value]) => labels[key] === value) &&
    matchExpressions.every(({ key, operator, values = [] }) => {
      if (operator === 'Exists') return Object.hasOwn(labels, key)
      if (operator === 'DoesNotExist') return !Object.hasOwn(labels, key)
      return values.includes(labels[key] ?? absent) === (operator === 'In')
    })
  )
}

/** Beside the name and the namespace, which every kind has. */
const selectable: Record<string, RegExp> = {
  Pod: /^(spec\.(nodeName|restartPolicy|schedulerName|serviceAccountName)|status\.(phase|podIP))$/,
  Event: /^(involvedObject\.\w+|reason|type|source|reportingComponent)$/,
  Namespace: /^status\.phase$/,
  Secret: /^type$/,
  ReplicaSet: /^status\.replicas$/,
}

/** `metadata.name=web,status.phase!=Running` */
export function fieldMatcher(kind: Kind, text: string): Matches | undefined {
  if (!text.trim()) return undefined
  const tests = text.split(',').map((requirement) => {
    const [, path, operator, value] = /^\s*([\w.]+)\s*(==?|!=)\s*(.*?)\s*$/.exec(requirement) ?? []
    if (path === undefined) throw badRequest(`invalid field selector: ${requirement}`)
    if (!/^metadata\.name(space)?$/.test(path) && !selectable[kind.kind]?.test(path))
      throw badRequest(`field label not supported: ${path}`)
    const steps = path === 'source' ? ['source', 'component'] : path.split('.')
    return (object: Obj) => (textAt(object, steps) === value) === (operator !== '!=')
  })
  return (object) => tests.every((test) => test(object))
}

function textAt(object: Obj, steps: string[]): string {
  let at: unknown = object
  for (const step of steps) at = isTree(at) ? at[step] : undefined
  return typeof at === 'string' || typeof at === 'number' ? String(at) : ''
}

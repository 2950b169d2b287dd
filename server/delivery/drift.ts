import type { Metadata } from '../kubernetes/kinds.ts'

/** How an object in the cluster differs from what we applied: pure. */

/** Whether everything that is wanted is there. Fields that the API server adds by itself do not count, members of lists do. */
export function isWithin(wanted: unknown, found: unknown, field = ''): boolean {
  if (isNothing(wanted)) return isNothing(found)
  if (Array.isArray(wanted))
    return (
      Array.isArray(found) &&
      wanted.length === found.length &&
      wanted.every((item, at) => isWithin(item, found[at], field))
    )
  if (typeof wanted === 'object')
    return (
      typeof found === 'object' &&
      found !== null &&
      Object.entries(wanted as object).every(([name, value]) => isWithin(value, (found as Tree)[name], name))
    )
  // `0.5` is stored as `500m`.
  if (field === 'cpu' || field === 'memory') return amount(wanted) === amount(found)
  return wanted === found
}

type Tree = Record<string, unknown>

/** What the API server leaves out. */
const isNothing = (value: unknown) =>
  value === undefined || value === null || value === '' || value === false || (Array.isArray(value) && !value.length)

const units: Record<string, number> = {
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
}
function amount(text: unknown): number {
  const [, number = '', unit = ''] = /^([\d.]+)(\w*)$/.exec(typeof text === 'string' ? text : '') ?? []
  // To a thousandth, in which Kubernetes counts.
  return Math.round(Number(number) * (units[unit] ?? 1) * 1000)
}

/** The fields below `spec` that someone else has set, as managedFields tell them. */
export function othersFields({ managedFields = [] }: Pick<Metadata, 'managedFields'>, part: string): Tree[] {
  return managedFields.flatMap(({ manager, subresource, fieldsV1 }) => {
    const fields = (fieldsV1 as Tree | undefined)?.[`f:${part}`]
    return manager === '1ctl' || subresource === 'status' || !fields ? [fields].slice(1) : [fields]
  }) as Tree[]
}

/**
 * A merge patch that takes away what others have added; undefined if that is nothing. Server-side apply gives back what they changed, but
 * leaves what they added: a variable, a container, the host's network. A list is put back whole: a merge patch knows no members.
 */
export function undoing(fields: Tree, wanted: unknown, path = ''): Tree | undefined {
  const patch: Tree = {}
  for (const [step, below] of Object.entries(fields)) {
    if (!step.startsWith('f:')) continue
    const name = step.slice(2)
    const at = `${path}.${name}`
    // `kubectl rollout restart` sets one; it changes nothing that a container sees.
    if (at === '.template.metadata.annotations') continue
    const mine = (wanted as Tree | undefined)?.[name]
    if (mine === undefined) patch[name] = null
    else if (Array.isArray(mine)) {
      if (hasOtherMembers(below as Tree, mine)) patch[name] = mine
    } else if (typeof mine === 'object') {
      const inner = undoing(below as Tree, mine, at)
      if (inner) patch[name] = inner
    }
  }
  return Object.keys(patch).length > 0 ? patch : undefined
}

function hasOtherMembers(fields: Tree, mine: unknown[]): boolean {
  return Object.entries(fields).some(([step, below]) => {
    if (!step.startsWith('k:')) return false
    const key = JSON.parse(step.slice(2)) as Tree
    const same = mine.find((item) => Object.entries(key).every(([name, value]) => (item as Tree)[name] === value))
    return same === undefined || undoing(below as Tree, same) !== undefined
  })
}

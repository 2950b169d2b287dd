import type { ApiContract, Output } from '@1ctl/contract'
import type { Deps } from './deps.ts'
import { placeOfBag } from './place.ts'
import type { Values } from './values.ts'
import { plural } from './words.ts'

/** What a person reads about a bag that was changed or would be: names, never values. */

export type ChangedBag = Output<ApiContract['secretPatch']>
export type Plan = Output<ApiContract['secretDiff']>

/** `values` are those that were sent just now: only of them the length is told. */
export async function showChanged(bag: ChangedBag, deps: Deps, values: Values = new Map()): Promise<void> {
  const where = `${bag.name} (${placeOfBag(bag)})`
  if (bag.unchanged) return deps.out.one(bag, bag.name, [`No change: ${where} has that already.`])
  const { added, changed, removed } = bag.changes
  const digests = await digestsOf(bag, deps)
  const row = (what: string) => (key: string) => {
    const value = values.get(key)
    const digest = digests.get(key)
    return [
      `  ${key}`,
      what,
      value === undefined ? '' : plural(Array.from(value).length, 'char'),
      digest === undefined ? '' : `digest ${digest}`,
    ]
  }
  deps.out.one(bag, bag.name, [
    `✓ ${where}: ${counts(bag.changes)}`,
    ...aligned([...added.map(row('added')), ...changed.map(row('changed')), ...removed.map(row('removed'))]),
  ])
}

/** Asked for people only, and of the very version that was made. */
async function digestsOf(bag: ChangedBag, { client, flags }: Deps): Promise<Map<string, string>> {
  if (flags.output !== 'table' || flags.quiet) return new Map()
  const { keyDetails } = await client().secretView({ ref: bag.id })
  return new Map(
    keyDetails.flatMap(({ name, version, digest }) =>
      version === bag.version && digest !== null ? [[name, digest]] : [],
    ),
  )
}

/** `kept`: keys of the bag that stay though the file has them not. */
export function showPlan(name: string, where: string, plan: Plan, { out }: Deps, { kept }: { kept: boolean }): void {
  const { added, changed, unchanged, removed, notCompared } = plan
  const groups = { added, changed, ...(kept ? {} : { removed }), unchanged, 'too short to compare': notCompared }
  out.one({ name, ...plan }, name, [
    `${name} (${where}): ${counts(kept ? { ...groups, kept: removed } : groups) || 'no keys'}`,
    ...aligned(Object.entries(groups).flatMap(([what, keys]) => keys.map((key) => [`  ${key}`, what]))),
  ])
}

const counts = (groups: Record<string, string[]>) =>
  Object.entries(groups)
    .filter(([, keys]) => keys.length > 0)
    .map(([what, keys]) => `${keys.length} ${what}`)
    .join(', ')

/** Columns with two spaces between them; one that has nothing in it is left out. */
export function aligned(rows: string[][]): string[] {
  const widths = (rows[0] ?? []).map((_, place) => Math.max(...rows.map((row) => row[place]?.length ?? 0)))
  return rows.map((row) =>
    row
      .flatMap((cell, place) => (widths[place] ? [cell.padEnd(widths[place])] : []))
      .join('  ')
      .trimEnd(),
  )
}

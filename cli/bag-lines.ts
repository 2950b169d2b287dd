import type { ApiContract, Output } from '@1ctl/contract'
import type { Deps } from './deps.ts'
import { bagAgain, placeOfBag } from './place.ts'
import { showAndFollow, type WaitOptions } from './rollout.ts'
import type { Values } from './values.ts'
import { plural } from './words.ts'

/** What a person reads about a bag that was changed or would be: names, never values. */

export type ChangedBag = Output<ApiContract['secretPatch']>
export type Plan = Output<ApiContract['secretDiff']>

/** Says what changed, and waits for the pods that get it. `values` are those that were sent just now: only of them the length is told. */
export async function showChanged(
  bag: ChangedBag,
  options: WaitOptions,
  deps: Deps,
  values: Values = new Map(),
): Promise<void> {
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
  const lines = [
    `✓ ${where}: ${counts(bag.changes)}`,
    ...aligned([...added.map(row('added')), ...changed.map(row('changed')), ...removed.map(row('removed'))]),
  ]
  await showFollowed(bag, lines, options, deps)
}

/** What a change of a bag means for pods. */
async function showFollowed(bag: ChangedBag, lines: string[], options: WaitOptions, deps: Deps): Promise<void> {
  const data = (rollouts: object[]) => ({ ...bag, rollouts })
  await showAndFollow({ name: bag.name, lines, data, notes: notesOf(bag) }, bag, options, deps)
}

/** The same for `secret deploy`, which may find that all pods have it already. */
export async function showRolledOut(
  bag: Output<ApiContract['secretDeploy']>,
  options: WaitOptions,
  deps: Deps,
): Promise<void> {
  const where = `${bag.name} (${placeOfBag(bag)})`
  const otherwise = `No change: every app that uses ${where} runs v${bag.version} already.`
  const isSure = bag.rollouts.length > 0
  // A wave may find nothing to do either, app after app.
  const lines = isSure ? [`${where}: rolling out v${bag.version}`] : bag.wave ? [] : [otherwise]
  const notes = isSure ? notesOf(bag) : []
  const data = (rollouts: object[]) => ({ ...bag, rollouts })
  await showAndFollow({ name: bag.name, lines, notes, otherwise, data }, bag, options, deps)
}

function notesOf(bag: Pick<ChangedBag, 'stale' | 'rollouts' | 'wave'> & Parameters<typeof bagAgain>[0]): string[] {
  if (bag.stale.length === 0) return []
  const apps = bag.stale.map(({ app, vpc }) => (vpc === 'default' ? app : `${app} in VPC ${vpc}`)).join(', ')
  if (bag.wave) return [`First ${bag.rollouts.map(({ app }) => app).join(', ')}; once it is live ${apps}.`]
  return [
    `Not live yet: ${apps} ${bag.stale.length === 1 ? 'runs' : 'run'} what was there before. A restart does not change that; run: 1ctl secret deploy ${bagAgain(bag)}`,
  ]
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

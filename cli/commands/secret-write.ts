import { ApiError, type Client } from '@1ctl/contract/client'
import { decodeId } from '@1ctl/contract/ids'
import { labelOfApp } from '@1ctl/contract/names'
import { type ChangedBag, type Plan, showChanged, showPlan } from '../bag-lines.ts'
import type { Deps } from '../deps.ts'
import { CliError, usage } from '../errors.ts'
import { type Bag, bagsAt, labelOf, type Place, type PlaceOptions, placeFor, placeOfBag, whereOf } from '../place.ts'
import type { WaitOptions } from '../rollout.ts'
import { checked, readKeyFile, readValues, type ValueOptions, type Values } from '../values.ts'

/** Storing values: `create`, `import`, and `diff`, which only compares. */

type TargetOptions = PlaceOptions & { name?: string }
type WriteOptions = TargetOptions & ChangeOptions & { dryRun?: boolean }

export type ChangeOptions = WaitOptions & { note?: string; stage?: boolean; rollout?: boolean; waveSize?: number }

export const noteAndRollout = ({ note, ...choice }: ChangeOptions) => ({ note, rollout: rolloutChoice(choice) })

/** Without a flag it is the server's to say: at once for an app's own secret, staged for a shared one. */
export function rolloutChoice({ stage, rollout, waveSize }: Pick<ChangeOptions, 'stage' | 'rollout' | 'waveSize'>) {
  if (waveSize !== undefined) return { waves: { size: waveSize } }
  if (stage) return 'stage' as const
  return rollout ? ('now' as const) : undefined
}

export type SecretCreateOptions = WriteOptions & ValueOptions

export async function secretCreate(options: SecretCreateOptions, deps: Deps): Promise<void> {
  const api = deps.client()
  const target = await targetOf(options, deps)
  const values = await readValues(options, deps)
  if (options.dryRun) return showDryRun(target, values, deps, { kept: true })
  await showChanged(await merge(api, target, values, options), options, deps, values)
}

type FileOptions = { file?: string; format?: 'dotenv' | 'json' }
export type SecretImportOptions = WriteOptions & FileOptions & { prune?: boolean; allowEmpty?: boolean }

export async function secretImport(options: SecretImportOptions, deps: Deps): Promise<void> {
  const api = deps.client()
  const target = await targetOf(options, deps)
  const values = await readKeys(options, deps)
  if (options.dryRun) return showDryRun(target, values, deps, { kept: !options.prune })
  const bag = options.prune ? await findBag(api, target) : undefined
  const surplus = bag?.keys.filter((key) => !values.has(key)) ?? []
  if (!bag || surplus.length === 0) {
    return showChanged(await merge(api, target, values, options), options, deps, values)
  }
  await deps.prompt.confirm(
    `Remove from ${bag.name} (${placeOfBag(bag)}) what is not in the file: ${surplus.join(', ')}?`,
  )
  const pruned = await api.secretPatch(
    { ref: bag.id, set: Object.fromEntries(values), unset: surplus, ...noteAndRollout(options) },
    // Nothing is removed but what was read out.
    { headers: { 'if-match': `"${bag.version}"` } },
  )
  await showChanged(pruned, options, deps, values)
}

export type SecretDiffOptions = TargetOptions & FileOptions & { exitCode?: boolean }

export async function secretDiff(options: SecretDiffOptions, deps: Deps): Promise<void> {
  const api = deps.client()
  const target = await targetOf(options, deps)
  const values = await readKeys({ ...options, allowEmpty: true }, deps)
  const bag = await findBag(api, target)
  if (!bag)
    throw new CliError('notFound', 'secret_not_found', 'There is no such secret to compare with.', {
      fix: '1ctl secret list',
    })
  const plan = await planOf(api, bag, values)
  showPlan(bag.name, placeOfBag(bag), plan, deps, { kept: false })
  const differs = plan.added.length + plan.changed.length + plan.removed.length > 0
  if (differs && options.exitCode) throw new CliError('differs', 'differs', '')
}

/** Which bag: its place, and its label unless the server makes it up from the app of a deployment. */
type Target = { place: Place; label: string | undefined }

async function targetOf(options: TargetOptions, deps: Deps): Promise<Target> {
  const place = await placeFor(options, deps)
  if (options.name !== undefined) return { place, label: labelOf(options.name) }
  if (place.kind === 'deployment') return { place, label: undefined }
  if (place.kind === 'app') return { place, label: labelOfApp(place.app) }
  throw usage('A secret that is not of an app needs a name.', 'Give it with --name.')
}

async function findBag(api: Client, { place, label }: Target): Promise<Bag | undefined> {
  return (await bagsAt(api, place)).find(({ name, app }) => name === (label ?? labelOfApp(app ?? '')))
}

/**
 * Keys that are there and not given stay. For an app the server merges and attaches the bag; elsewhere this tries to change the
 * bag, then to create it if it is (still) not there, so that two who do this at once both get their keys in.
 */
async function merge(
  api: Client,
  { place, label }: Target,
  values: Values,
  options: WriteOptions,
): Promise<ChangedBag> {
  const shared = noteAndRollout(options)
  if (place.kind === 'deployment' || place.kind === 'app') {
    const app = place.kind === 'app' ? { deploymentId: place.app, vpc: place.vpc } : await deploymentOf(api, place)
    const keyValues = Array.from(values, ([key, value]) => ({ key, value }))
    return api.secretPut({ ...app, name: label, keyValues, ...shared })
  }
  const name = label ?? ''
  const where = whereOf(place)
  const change = () => api.secretPatch({ ref: name, ...where, set: Object.fromEntries(values), ...shared })
  try {
    return await change()
  } catch (error) {
    if (!isRefusal(error, 'secret_not_found')) throw error
  }
  try {
    const data = Object.fromEntries(values)
    return await api.secretPut({ name, ...where, data, ...shared }, { headers: { 'if-match': versionOfNone } })
  } catch (error) {
    if (!isRefusal(error, 'version_conflict')) throw error
    return change()
  }
}

/** What is no id would be taken for the name of an app that comes later. */
async function deploymentOf(api: Client, { deploymentId }: { deploymentId: string }) {
  if (decodeId('app', deploymentId) !== undefined) return { deploymentId }
  return { deploymentId: (await api.appView({ ref: deploymentId })).id }
}

// The version of a bag before its first one.
const versionOfNone = '"0"'

const isRefusal = (error: unknown, code: ApiError['code']) => error instanceof ApiError && error.code === code

async function readKeys(
  { file, format, allowEmpty }: FileOptions & { allowEmpty?: boolean },
  deps: Deps,
): Promise<Values> {
  if (file === undefined && process.stdin.isTTY) throw usage('Which file?', 'Name one, or - for stdin.')
  return checked(await readKeyFile(file ?? '-', format, deps), { allowEmpty }, deps)
}

async function showDryRun(target: Target, values: Values, deps: Deps, { kept }: { kept: boolean }): Promise<void> {
  const api = deps.client()
  const bag = await findBag(api, target)
  const plan = await planOf(api, bag, values)
  showPlan(bag?.name ?? target.label ?? 'a new secret', bag ? placeOfBag(bag) : 'new', plan, deps, { kept })
  deps.note('Dry run: nothing was saved.')
}

async function planOf(api: Client, bag: Bag | undefined, values: Values): Promise<Plan> {
  if (bag) return api.secretDiff({ ref: bag.id, data: Object.fromEntries(values) })
  return { added: [...values.keys()].sort(), changed: [], unchanged: [], removed: [], notCompared: [] }
}

import { ApiError } from '@1ctl/contract/client'
import { showDeployed } from '../app-lines.ts'
import { aligned, showChanged, showRolledOut } from '../bag-lines.ts'
import { crypto } from '../crypto.ts'
import type { Deps } from '../deps.ts'
import { CliError, usage } from '../errors.ts'
import { type Bag, bagFor, bagsAt, holderOf, keyNotFound, type PlaceOptions, placeFor, placeOfBag } from '../place.ts'
import { showAndFollow, type WaitOptions } from '../rollout.ts'
import { readOneValue } from '../values.ts'
import { plural } from '../words.ts'
import { type ChangeOptions, noteAndRollout } from './secret-write.ts'

/** What changes or asks about what is there: `unset`, `restore`, `rotate`, `deploy`, `delete`, `verify`. */

export type SecretUnsetOptions = PlaceOptions &
  ChangeOptions & { key: string[]; name?: string; ignoreMissing?: boolean; dryRun?: boolean }

export async function secretUnset(options: SecretUnsetOptions, deps: Deps): Promise<void> {
  const { key: keys, ignoreMissing, dryRun } = options
  const { out, note } = deps
  const api = deps.client()
  const bags = await bagsToSearch(options, deps)
  const held = keys.map((key) => ({ key, bag: holderOf(bags, key) }))
  const missing = held.find(({ bag }) => !bag)
  if (missing && !ignoreMissing)
    throw keyNotFound(
      missing.key,
      bags.flatMap((bag) => bag.keys),
    )

  const found = held.flatMap(({ key, bag }) => (bag ? [{ key, bag }] : []))
  const [first] = found
  if (!first) return out.one({ unchanged: true, removed: [] }, '', [`No change: there is no key ${keys.join(', ')}.`])
  const other = found.find(({ bag }) => bag.id !== first.bag.id)
  if (other) {
    throw usage(
      `${first.key} is in ${first.bag.name} and ${other.key} in ${other.bag.name}: one command changes one secret.`,
      'Repeat it for each.',
    )
  }
  const unset = [...new Set(found.map(({ key }) => key))]
  if (!dryRun) {
    const changed = await api.secretPatch({ ref: first.bag.id, unset, ...noteAndRollout(options) })
    return showChanged(changed, options, deps)
  }
  out.one({ name: first.bag.name, removed: unset }, first.bag.name, [
    `${first.bag.name} (${placeOfBag(first.bag)}): ${unset.length} removed`,
    ...aligned(unset.map((key) => [`  ${key}`, 'removed'])),
  ])
  note('Dry run: nothing was saved.')
}

export type SecretVerifyOptions = PlaceOptions & { key: string; name?: string; trim: boolean }

export async function secretVerify(options: SecretVerifyOptions, deps: Deps): Promise<void> {
  const { key, trim } = options
  const api = deps.client()
  const bags = await bagsToSearch(options, deps)
  const bag = holderOf(bags, key)
  if (!bag)
    throw keyNotFound(
      key,
      bags.flatMap(({ keys }) => keys),
    )
  const value = await readOneValue(key, trim, deps)
  const { match } = await api.secretVerify({ ref: bag.id, key, value })
  const verdict = match ? 'match' : 'no match'
  deps.out.one({ name: bag.name, key, match }, verdict, [`${key} in ${bag.name} (${placeOfBag(bag)}): ${verdict}`])
  if (!match) throw new CliError('differs', 'no_match', '')
}

/** The one that was named, or all of the app: a key is in one of them. */
async function bagsToSearch(options: PlaceOptions & { name?: string }, deps: Deps): Promise<Bag[]> {
  if (options.name !== undefined) return [await bagFor(options.name, options, deps)]
  return bagsAt(deps.client(), await placeFor(options, deps))
}

type GroupOptions = PlaceOptions & { group: string }

export type SecretRestoreOptions = GroupOptions & ChangeOptions & { key?: string[]; version: number }

export async function secretRestore(options: SecretRestoreOptions, deps: Deps): Promise<void> {
  const { group, key: keys, version } = options
  const bag = await bagFor(group, options, deps)
  const restored = await deps.client().secretRestore({ ref: bag.id, version, keys, ...noteAndRollout(options) })
  await showChanged(restored, options, deps)
}

export const charsets = ['base64url', 'hex', 'alnum'] as const

export type SecretRotateOptions = GroupOptions &
  ChangeOptions & {
    key: string
    bytes: number
    charset: (typeof charsets)[number]
    prompt?: boolean
    stdin?: boolean
    trim: boolean
  }

export async function secretRotate(options: SecretRotateOptions, deps: Deps): Promise<void> {
  const { group, key, bytes, charset, prompt, stdin, trim } = options
  const bag = await bagFor(group, options, deps)
  if (!bag.keys.includes(key)) throw keyNotFound(key, bag.keys)
  if (prompt && !process.stdin.isTTY) throw usage('--prompt needs a terminal.', 'Pipe the new value in, with --stdin.')
  const value = prompt || stdin ? await readOneValue(key, trim, deps) : generated(bytes, charset)
  if (value === '') throw usage(`The new value of ${key} is empty.`)
  const rotated = await deps.client().secretPatch({ ref: bag.id, set: { [key]: value }, ...noteAndRollout(options) })
  await showChanged(rotated, options, deps, new Map([[key, value]]))
}

const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789'

/** As hard to guess as so many random bytes, in any of the alphabets. */
export function generated(bytes: number, charset: (typeof charsets)[number]): string {
  const { randomBytes } = crypto()
  if (charset !== 'alnum') return randomBytes(bytes).toString(charset)
  const length = Math.ceil((bytes * 8) / Math.log2(letters.length))
  let text = ''
  // 248 is the last multiple of 62 in a byte: beyond it the first letters would come more often.
  while (text.length < length) for (const byte of randomBytes(length)) if (byte < 248) text += letters[byte % 62]
  return text.slice(0, length)
}

export type SecretDeployOptions = PlaceOptions &
  WaitOptions & { group?: string; waveSize?: number; resume?: string; abort?: string }

export async function secretDeploy({ group, ...options }: SecretDeployOptions, deps: Deps): Promise<void> {
  const { resume, abort, waveSize } = options
  const api = deps.client()
  if (abort !== undefined) {
    const wave = await api.waveAbort({ id: abort })
    const left = wave.apps.filter(({ rollout }) => rollout === null).map(({ app }) => app)
    return deps.out.one(wave, wave.id, [
      `The wave of ${wave.secret} v${wave.version} ends here${left.length > 0 ? `; as they are: ${left.join(', ')}` : ''}.`,
    ])
  }
  if (resume !== undefined) {
    const wave = await api.waveResume({ id: resume })
    const data = (rollouts: object[]) => ({ ...wave, rollouts })
    return showAndFollow({ name: wave.id, lines: [], data }, { rollouts: [], wave: wave.id }, options, deps)
  }
  try {
    const place = group === undefined ? await placeFor(options, deps) : undefined
    if (place?.kind === 'app' || place?.kind === 'deployment') {
      const app = place.kind === 'app' ? { ref: place.app, vpc: place.vpc } : { ref: place.deploymentId }
      return await showDeployed(await api.appRedeploy({ ...app, restart: false }), options, deps)
    }
    const { id } = await bagFor(group, options, deps)
    const bag = await api.secretDeploy({
      ref: id,
      rollout: waveSize === undefined ? 'now' : { waves: { size: waveSize } },
    })
    await showRolledOut(bag, options, deps)
  } catch (error) {
    if (!(error instanceof ApiError) || error.code !== 'nothing_staged') throw error
    deps.out.one({ unchanged: true, rollouts: [] }, '', [`No change. ${error.message}`])
  }
}

export async function secretDelete({ group, ...options }: GroupOptions, deps: Deps): Promise<void> {
  const bag = await bagFor(group, options, deps)
  const where = `${bag.name} (${placeOfBag(bag)})`
  // One that is in use is refused, with the list of who uses it: nothing to agree to.
  if (bag.usedBy === 0) {
    await deps.prompt.confirm(
      `Delete ${where} with ${plural(bag.keys.length, 'key')} and all its versions? This cannot be undone.`,
    )
  }
  await deps.client().secretDelete({ ref: bag.id })
  deps.out.one({ id: bag.id, name: bag.name, deleted: true }, bag.name, [`${where} deleted.`])
}

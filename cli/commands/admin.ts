import type { ApiContract, Output } from '@1ctl/contract'
import { limits } from '@1ctl/contract/limits'
import { type Command, InvalidArgumentError } from 'commander'
import { examples } from '../command.ts'
import type { Deps, Run } from '../deps.ts'
import { usage } from '../errors.ts'
import { keepOnce } from '../once.ts'
import { decode, readStdin } from '../stdin.ts'
import { plural } from '../words.ts'

export function adminCommands(admin: Command, run: Run): void {
  admin
    .command('status')
    .description('Show whether the server is sealed, and which master key is in use')
    .addHelpText('before', examples('1ctl admin status', '1ctl admin status -o json'))
    .action(run(sealView))

  admin
    .command('unseal')
    .description('Give the server one share of its master key, asked for or from stdin; the last one needed opens it')
    .addHelpText('before', examples('1ctl admin unseal', 'pass show 1ctl/share | 1ctl admin unseal'))
    .action(run(unseal))

  admin
    .command('seal')
    .description('Wipe the keys from the memory of all servers, until they are unsealed; running pods do not notice')
    .addHelpText('before', examples('1ctl admin seal', '1ctl admin seal -y'))
    .action(run(seal))

  admin
    .command('rotate-master')
    .description('Make a new master key; if it is in shares, new ones are shown once')
    .option('--output-file <path>', 'write new shares to this file (mode 0600) and do not show them')
    .addHelpText('before', examples('1ctl admin rotate-master', '1ctl admin rotate-master --output-file ./shares'))
    .action(run(masterRotate))

  admin
    .command('rekey')
    .description('Make a new master key in so many shares; also hands out one that is in a file or the environment')
    .requiredOption('--shares <number>', 'how many there are', shareCount)
    .requiredOption('--threshold <number>', 'how many of them open', shareCount)
    .option('--output-file <path>', 'write the shares to this file (mode 0600) and do not show them')
    .addHelpText('before', examples('1ctl admin rekey --shares 5 --threshold 3'))
    .action(run(masterRotate))

  admin
    .command('prove')
    .description('Give one share of the next master key, asked for or from stdin; the last one needed puts it in use')
    .addHelpText('before', examples('1ctl admin prove', 'pass show 1ctl/new-share | 1ctl admin prove'))
    .action(run(masterProve))
}

type SealState = Output<ApiContract['sealView']>

export async function sealView(_: object, { client, out }: Deps): Promise<void> {
  showState(await client().sealView(), out)
}

function showState(state: SealState, out: Deps['out']): void {
  const { sealed, source, masterKey, shares, threshold, entered, next } = state
  const places = {
    file: 'in a file',
    env: 'in the environment',
    manual: `in ${shares} shares, ${threshold} of which open`,
  }
  out.one(state, sealed ? 'sealed' : 'open', [
    `State: ${sealed ? `sealed (${entered} of ${threshold} shares are in)` : 'open'}`,
    `Master key: ${masterKey}, ${places[source]}`,
    ...(next
      ? [`Next master key: ${next.masterKey}, not in use (${next.entered} of ${next.threshold} shares are in)`]
      : []),
  ])
}

export async function unseal(_: object, deps: Deps): Promise<void> {
  const api = deps.client()
  let state = await api.sealView()
  if (!state.sealed) return deps.out.one(state, 'open', ['The server is open already.'])
  for (const share of await readShares('unseal', deps)) {
    const before: SealState = state
    state = await api.unseal({ share })
    if (!state.sealed) break
    if (state.entered === before.entered) deps.note('This share was in already.')
  }
  const { sealed, entered, threshold } = state
  deps.out.one(state, sealed ? 'sealed' : 'open', [sealed ? progress(entered, threshold) : 'The server is open.'])
}

export async function masterProve(_: object, deps: Deps): Promise<void> {
  const api = deps.client()
  let state = await api.sealView()
  if (!state.next) throw usage('No new master key waits for its shares.', 'Make one with: 1ctl admin rekey')
  for (const share of await readShares('prove', deps)) {
    const before: SealState = state
    state = await api.masterProve({ share })
    if (!state.next) break
    if (state.next.entered === before.next?.entered) deps.note('This share was in already.')
  }
  const { next, masterKey } = state
  const inUse = `The new master key ${masterKey} is in use. Shares of the old one are worth nothing now.`
  deps.out.one(state, masterKey, [next ? progress(next.entered, next.threshold) : inUse])
}

const progress = (entered: number, threshold: number | null) => {
  const missing = (threshold ?? 0) - entered
  return `${entered} of ${threshold} shares are in; ${plural(missing, 'more is', 'more are')} needed.`
}

/** One that is asked for, or all that come on stdin, a line each. Never an argument, which every user of the machine can see. */
async function readShares(command: string, { prompt }: Deps): Promise<string[]> {
  if (process.stdin.isTTY) return [await prompt.secret('Share', `stdin: 1ctl admin ${command} < file`)]
  const lines = decode(await readStdin(64 * 1024), 'stdin').split('\n')
  const shares = lines.map((line) => line.trim()).filter(Boolean)
  if (shares.length === 0) throw usage('No share came on stdin.')
  return shares
}

export async function seal(_: object, { client, out, prompt }: Deps): Promise<void> {
  const api = client()
  const { threshold, source } = await api.sealView()
  // Where it cannot be, the server says so.
  if (source === 'manual')
    await prompt.confirm(
      `Seal all servers? Secrets cannot be used until each was given ${plural(threshold ?? 0, 'share')}.`,
    )
  const state = await api.seal({})
  out.one(state, 'sealed', ['The server is sealed; others on the same database follow within seconds.'])
}

type RotateOptions = { shares?: number; threshold?: number; outputFile?: string }

export async function masterRotate({ shares: count, threshold, outputFile }: RotateOptions, deps: Deps): Promise<void> {
  if (count !== undefined && threshold !== undefined && threshold > count)
    throw usage(`--threshold ${threshold} is more than there are shares (${count}).`)
  const show = keepOnce(deps, outputFile)
  const { shares, ...rotated } = await deps.client().masterRotate({ shares: count, threshold })
  const { masterKey, inUse, rewrapped } = rotated
  if (inUse)
    return deps.out.one(rotated, masterKey, [
      `Master key ${masterKey} is in use (${plural(rewrapped, 'key')} wrapped anew).`,
    ])
  show({
    value: shares,
    data: { id: masterKey, ...rotated },
    field: 'shares',
    lines: [`Master key ${masterKey} was made, and is not in use yet.`],
    heading: 'Shares (shown once, each for another person)',
    undo: 'The master key until now is still in use',
  })
  deps.note('Once enough people have run `1ctl admin prove` with theirs, it is. Until then, keep the old shares.')
}

function shareCount(text: string): number {
  const count = Number(text)
  if (!Number.isInteger(count) || count < 1 || count > limits.sharesMax)
    throw new InvalidArgumentError(`Write a number from 1 to ${limits.sharesMax}.`)
  return count
}

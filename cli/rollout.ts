import { setTimeout as sleep } from 'node:timers/promises'
import type { ApiContract, Output } from '@1ctl/contract'
import { ApiError, type Client } from '@1ctl/contract/client'
import { type Command, Option } from 'commander'
import type { Deps } from './deps.ts'
import { CliError } from './errors.ts'
import { createProgress, type Progress } from './progress.ts'
import { duration, plural, took } from './words.ts'

/** Rollouts, followed to their end: what every command does that starts one. */

export type Summary = Output<ApiContract['rolloutList']>['items'][number]
export type Receipt = Output<ApiContract['rolloutView']>
type Wave = Output<ApiContract['waveView']>

export type WaitOptions = { detach?: boolean; wait?: boolean; waitTimeout: number }

export const addWaitOptions = (command: Command): Command =>
  command
    .option('--detach', 'return at once; the rollout goes on')
    .addOption(new Option('--wait', 'wait until it is live, which is what happens anyway').hideHelp())
    .option('--no-wait', 'the same as --detach')
    .addOption(
      new Option('--wait-timeout <duration>', 'how long to wait (exit 8); the rollout goes on')
        .argParser(duration('s'))
        .default(300_000, '5m'),
    )

export const isDetached = ({ detach, wait }: WaitOptions) => detach === true || wait === false

/** What was started: rollouts, or a wave, which starts one after the other. */
export type Started = { rollouts: Summary[]; wave?: string | null }

export type Outcome = {
  /** for -q and -o name */
  name: string
  /** for people, before anything is live */
  lines: string[]
  /** the same, on stderr */
  notes?: string[]
  /** for people, if in the end no pod had to change */
  otherwise?: string
  /** for programs, with what is known of the rollouts in the end */
  data: (rollouts: (Summary | Receipt)[]) => object | Promise<object>
}

/** Prints what was done, waits until pods run it, and says how that ended: by its words and the exit code. */
export async function showAndFollow(
  { name, lines, notes = [], otherwise, data }: Outcome,
  started: Started,
  options: WaitOptions,
  deps: Deps,
): Promise<void> {
  const { flags, out, note } = deps
  const forPrograms = flags.output === 'json' || flags.output === 'yaml'
  const forPeople = flags.output === 'table' && !flags.quiet
  const nothing = started.rollouts.length === 0 && !started.wave
  if (!forPrograms && (!forPeople || lines.length > 0)) out.one({}, name, lines)
  notes.forEach(note)
  if (nothing || isDetached(options)) {
    if (forPrograms) out.one(await data(started.rollouts), name, [])
    if (nothing) return
    if (forPeople) started.rollouts.forEach((each) => out.text(`Rolling out ${labelOf(each)} (${each.id})`))
    return note(`Not waiting. To follow it: ${statusCommands(toFollow(started))}`)
  }
  const { ended, failure } = await follow(started, options, deps)
  if (forPrograms) {
    const receipts = ended.map(({ receipt }) => receipt)
    out.one(await data(receipts), name, [])
  } else if (forPeople) {
    for (const each of ended) if (each.receipt.state === 'live') out.text(liveLine(each))
    if (otherwise !== undefined && ended.length === 0) out.text(otherwise)
  }
  if (failure) throw failure
}

/** One that was started, and where it led: another may have taken its place. */
type Ended = { first: Summary; receipt: Receipt }

export async function follow(
  started: Started,
  { waitTimeout }: Pick<WaitOptions, 'waitTimeout'>,
  deps: Deps,
): Promise<{ ended: Ended[]; failure: CliError | undefined }> {
  const progress = createProgress(deps)
  const interrupt = untilInterrupted(started)
  const watch: Watch = {
    api: deps.client(),
    timeoutMs: deps.flags.timeout,
    deadline: performance.now() + waitTimeout,
    progress,
    several: started.rollouts.length > 1 || Boolean(started.wave),
  }
  try {
    if (started.wave) return await Promise.race([followWave(started.wave, watch, waitTimeout), interrupt.happens])
    const all = Promise.all(started.rollouts.map((each) => followOne(each, watch)))
    const ended = await Promise.race([all, interrupt.happens])
    return { ended, failure: failureOf(ended, waitTimeout) }
  } finally {
    interrupt.forget()
    progress.end()
  }
}

type Watch = { api: Client; timeoutMs: number; deadline: number; progress: Progress; several: boolean }

/** To its end, or until the time is over. */
async function followOne(first: Summary, watch: Watch): Promise<Ended> {
  let { id } = first
  let receipt = await viewPatiently(watch, id, 0)
  for (;;) {
    if (receipt.supersededBy !== null && receipt.supersededBy !== id) {
      id = receipt.supersededBy
      receipt = await viewPatiently(watch, id, 0)
      continue
    }
    // Of several, those that are over stay in sight; of one the result says it.
    if (!isOver(receipt) || watch.several) watch.progress.show(first.id, lineOf(receipt, watch.several))
    if (isOver(receipt)) return { first, receipt }
    const left = watch.deadline - performance.now()
    if (left <= 0) return { first, receipt }
    receipt = await viewPatiently(watch, id, left, receipt.revision)
  }
}

async function followWave(id: string, watch: Watch, waitTimeout: number) {
  const followed = new Map<string, Promise<Ended>>()
  for (;;) {
    const wave = await patiently(watch, () => watch.api.waveView({ id }))
    for (const { rollout } of wave.apps) {
      if (rollout === null || followed.has(rollout)) continue
      const first = viewPatiently(watch, rollout, 0)
      followed.set(
        rollout,
        first.then((receipt) => followOne(receipt, watch)),
      )
    }
    const ended = await Promise.all(followed.values())
    if (wave.state !== 'running') return { ended, failure: failureOfWave(wave, ended) }
    const left = watch.deadline - performance.now()
    if (left <= 0) return { ended, failure: stillRunningWave(wave, waitTimeout) }
    // The server starts the next app when the one before is live.
    await sleep(Math.min(300, left))
  }
}

export const isOver = (receipt: Pick<Receipt, 'finishedAt'>) => receipt.finishedAt !== null

/** The receipt at its next change (at once if it is not the one of `since`), or after `waitMs`. */
function viewPatiently(watch: Watch, id: string, waitMs: number, since?: number): Promise<Receipt> {
  return patiently(watch, async () => {
    // Whole seconds, well within the time that an answer may take.
    const wait = Math.floor(Math.min(waitMs, 25_000, watch.timeoutMs - 5000) / 1000)
    if (wait >= 1) return watch.api.rolloutView({ id, wait, since })
    await sleep(Math.min(waitMs, 500))
    return watch.api.rolloutView({ id })
  })
}

const awayMsMax = 60_000

/** A server that is started anew comes back, and the rollout has gone on meanwhile. */
async function patiently<T>({ deadline }: Watch, ask: () => Promise<T>): Promise<T> {
  const giveUp = Math.min(performance.now() + awayMsMax, deadline)
  for (;;) {
    try {
      return await ask()
    } catch (error) {
      if (!isAway(error) || performance.now() > giveUp) throw error
      await sleep(1000)
    }
  }
}

const isAway = (error: unknown) =>
  error instanceof CliError ? error.exit === 'unavailable' : error instanceof ApiError && error.status >= 502

const labelOf = ({ app, release }: Pick<Summary, 'app' | 'release'>) => `${app} v${release}`

function lineOf(receipt: Receipt, several: boolean): { change: string; text: string } {
  const { release, state, services, message } = receipt
  const title = `Rolling out ${several ? labelOf(receipt) : `v${release}`}`
  const reasons = [...new Set(services.flatMap(({ reason }) => (reason === null ? [] : [reason])))]
  const { ready, wanted } = podsOf(receipt)
  // Of many pods not each is worth a line.
  const tenth = Math.floor((ready / Math.max(wanted, 1)) * 10)
  return {
    change: [state, message, tenth, ...reasons].join(),
    text: `${title} … ${[wordOf(receipt), ...reasons].join(', ')}`,
  }
}

function podsOf({ services }: Receipt) {
  const sum = (count: 'ready' | 'wanted') => services.reduce((total, service) => total + service[count], 0)
  return { ready: sum('ready'), wanted: sum('wanted') }
}

function wordOf(receipt: Receipt): string {
  const { state, message, previousRelease } = receipt
  if (state === 'rolling') return `${podsOf(receipt).ready}/${podsOf(receipt).wanted} ready`
  if (state === 'pending') return message?.replace(/\.$/, '') ?? 'waits for the cluster'
  if (state === 'failed' && !isOver(receipt)) return `failed, going back to v${previousRelease}`
  return state.replace('_', ' ')
}

export function liveLine({ first, receipt }: Ended): string {
  const ms = receipt.steps.findLast(({ state }) => state === 'live')?.ms
  const replaced = first.id === receipt.id ? '' : `, which took the place of v${first.release}`
  return `✓ ${labelOf(receipt)} live${ms === undefined ? '' : ` in ${took(ms)}`}${replaced}`
}

function failureOf(ended: Ended[], waitTimeout: number): CliError | undefined {
  const failure = firstFailureOf(ended)
  if (failure) return new CliError('rolloutFailed', 'rollout_failed', failure.message, failure)
  const open = ended.filter(({ receipt }) => !isOver(receipt)).map(({ receipt }) => receipt)
  if (open.length === 0) return undefined
  const what = open.map((receipt) => `${labelOf(receipt)} (${wordOf(receipt)})`).join(', ')
  return stillRunning(`Not live after ${took(waitTimeout)}: ${what}. The rollout goes on.`, open)
}

function failureOfWave(wave: Wave, ended: Ended[]): CliError | undefined {
  if (wave.state === 'done') return undefined
  const failure = firstFailureOf(ended)
  const rest = wave.apps.filter(({ state }) => state === null).map(({ app }) => app)
  const left = rest.length > 0 ? `not rolled out to ${rest.join(', ')}` : 'with no app left'
  const message = [failure?.message, `The wave was ${wave.state}, ${left}.`].filter(Boolean).join(' ')
  const why = failure?.why ?? wave.message ?? undefined
  const fix = wave.state === 'stopped' ? `1ctl secret deploy --resume ${wave.id}, or --abort ${wave.id}` : undefined
  return new CliError('rolloutFailed', `wave_${wave.state}`, message, { ...failure, why, fix })
}

const stillRunning = (message: string, open: { id: string }[]) =>
  new CliError('stillRunning', 'still_running', message, { fix: `To follow it: ${statusCommands(open)}` })

const stillRunningWave = (wave: Wave, waitTimeout: number) => {
  const open = wave.apps.filter(({ state }) => state !== 'live').map(({ app }) => app)
  return stillRunning(`Not live after ${took(waitTimeout)} in ${open.join(', ')}. The wave goes on.`, [wave])
}

const linesMax = 20

/** The pod's own words first: they are what helps. */
function firstFailureOf(ended: Ended[]) {
  const failed = ended.filter(({ receipt }) => isOver(receipt) && receipt.state !== 'live')
  const undone = ended.filter(
    ({ first, receipt }) => receipt.state === 'live' && first.id !== receipt.id && receipt.cause.startsWith('rollback'),
  )
  const all = [...failed, ...undone]
  const [worst] = all
  if (!worst) return undefined
  const { first, receipt } = worst
  const { id, app, release, state } = receipt
  const bad = receipt.services.filter((service) => service.reason !== null || service.state === 'failed')
  const reasons = bad.flatMap(({ name, reason, message }) => {
    const said = [reason, message].filter(Boolean).join(': ')
    return said ? [name === app ? said : `${name}: ${said}`] : []
  })
  const talkative = bad.find(({ logs }) => logs.length > 0)
  const others = all.length > 1 ? ` So did ${plural(all.length - 1, 'other rollout')}.` : ''
  return {
    message: `${howItFailed(first, receipt)}${others}`,
    why: receipt.message ?? (reasons.length > 0 ? reasons.join('; ') : undefined),
    fix: 'Correct it, and roll it out again.',
    lines: talkative ? [`last lines of ${talkative.name}:`, ...talkative.logs.slice(-linesMax)] : [],
    details: { rollout: id, app, release, state },
  }
}

function howItFailed(first: Summary, receipt: Receipt): string {
  const { state, previousRelease, cause, release } = receipt
  const what = labelOf(first)
  if (state === 'live') return `${what} did not go live: v${release} took its place (${cause}).`
  if (state === 'superseded') return `${what} was given up: another rollout took its place.`
  const previous = `v${previousRelease}`
  if (state === 'rolled_back')
    return `${what} failed and was rolled back: the previous version (${previous}) is still serving.`
  if (previousRelease === null || previousRelease === release)
    return `${what} failed, and there is no previous version to go back to.`
  return `${what} failed and was not rolled back; pods of ${previous} that are ready still serve.`
}

/** Ctrl-C ends the waiting, not the rollout. */
function untilInterrupted(started: Started) {
  const signal = new AbortController()
  const happens = new Promise<never>((_, reject) => {
    signal.signal.addEventListener('abort', () =>
      reject(
        new CliError('interrupted', 'interrupted', 'Interrupted. The rollout goes on.', {
          fix: `To follow it: ${statusCommands(toFollow(started))}`,
        }),
      ),
    )
  })
  const interrupt = () => signal.abort()
  process.once('SIGINT', interrupt)
  return { happens, forget: () => void process.off('SIGINT', interrupt) }
}

const toFollow = ({ rollouts, wave }: Started): { id: string }[] => (wave ? [{ id: wave }] : rollouts)
const statusCommands = (open: { id: string }[]) => open.map(({ id }) => `1ctl deploy status ${id}`).join('; ')

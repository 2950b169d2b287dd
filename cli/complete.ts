import type { Client } from '@1ctl/contract/client'
import type { Argument, Command, Option } from 'commander'
import { crypto } from './crypto.ts'
import { createDeps, type Deps, type Run } from './deps.ts'
import { clean } from './output.ts'
import { createProgram, fill } from './program.ts'

type Word = { word: string; about?: string | undefined }

/**
 * `1ctl __complete <shell> <words…>`, asked by the scripts of `1ctl completion`: what could stand in place of the last word. A shell that
 * waits for it is worse than one that knows nothing, hence the budget, and nothing is said about failures.
 */
export async function completions([shell = '', ...words]: string[]): Promise<void> {
  // Windows PowerShell cannot pass an empty argument.
  const typed = words.at(-1)?.replace(/^""$/, '') ?? ''
  const { prefix, expected } = whatFits(words.slice(0, -1), typed)
  const candidates = Array.isArray(expected) ? expected : await valuesOf(expected, words).catch(() => [])
  for (const { word, about } of candidates) {
    if (!(prefix + word).startsWith(typed)) continue
    process.stdout.write(`${formatted(shell, clean(prefix + word), about && clean(about))}\n`)
  }
}

function formatted(shell: string, word: string, about: string | undefined): string {
  if (shell === 'zsh') return about ? `${word.replaceAll(':', '\\:')}:${about}` : word.replaceAll(':', '\\:')
  return about && shell !== 'bash' ? `${word}\t${about}` : word
}

/** Words, or the argument or option whose values belong here. */
function whatFits(before: string[], typed: string): { prefix: string; expected: Word[] | Argument | Option } {
  const program = createProgram(notRun)
  let command = program
  let position = 0
  let waiting: Option | undefined
  for (const word of before) {
    if (waiting) waiting = undefined
    else if (word.startsWith('-')) waiting = word.includes('=') ? undefined : valued(command, program, word)
    else {
      const next = command.commands.find((candidate) => candidate.name() === word || candidate.aliases().includes(word))
      if (!next) position++
      command = next ? fill(next, notRun) : command
    }
  }
  if (waiting) return { prefix: '', expected: waiting }
  const [flag = '', ...value] = typed.split('=')
  const option = value.length > 0 ? valued(command, program, flag) : undefined
  if (option) return { prefix: `${flag}=`, expected: option }
  if (typed.startsWith('-')) return { prefix: '', expected: optionWords([...optionsOf(command), ...program.options]) }
  const subcommands = position > 0 ? [] : command.commands.filter((each) => each !== itself(command))
  const words = subcommands.map((each) => ({ word: each.name(), about: each.description() }))
  // The last argument may be the first of many.
  const argument = command.registeredArguments[position] ?? command.registeredArguments.find(({ variadic }) => variadic)
  return { prefix: '', expected: argument ?? words }
}

const notRun: Run = () => async () => {}

/** A noun that is a command as well has one of its own name: `deploy`. */
const itself = (command: Command) => command.commands.find((each) => each.name() === command.name())
const optionsOf = (command: Command) =>
  [...command.options, ...(itself(command)?.options ?? [])].filter((o) => !o.hidden)

const valued = (command: Command, program: Command, flag: string) =>
  [...optionsOf(command), ...program.options].find(
    (option) => [option.short, option.long].includes(flag) && option.required,
  )

const optionWords = (options: readonly Option[]): Word[] => [
  ...options.flatMap(({ long, description }) => (long ? [{ word: long, about: description }] : [])),
  { word: '--help', about: 'show help' },
]

async function valuesOf(expected: Argument | Option, words: string[]): Promise<Word[]> {
  if (expected.argChoices) return expected.argChoices.map((word) => ({ word }))
  // `<token-id>` of an argument, `--vpc <vpc>` of an option.
  const kind = 'flags' in expected ? (/<(.+)>/.exec(expected.flags)?.[1] ?? '') : expected.name()
  const profile = words.find((word, place) => words[place - 1] === '--profile' || word.startsWith('--profile='))
  const deps = createDeps({
    quiet: true,
    profile: profile?.replace(/^--profile=/, ''),
    timeout: budgetMs - performance.now(),
  })
  if (kind === 'profile') return Object.keys(deps.home.profiles().profiles).map((word) => ({ word }))
  const load = Object.hasOwn(listed, kind) ? listed[kind] : undefined
  return load ? cached(kind, deps, load) : []
}

const budgetMs = 800
const cacheMs = 60_000

const appNames = async (client: Client) =>
  (await client.appList()).items.map(({ name, vpc }) => ({ word: name, about: `in VPC ${vpc}` }))

const listed: Record<string, (client: Client) => Promise<Word[]>> = {
  'token-id': async (client) => (await client.tokenList()).items.map(({ id, name }) => ({ word: id, about: name })),
  'member-id': async (client) => (await client.memberList()).items.map(({ id, email }) => ({ word: id, about: email })),
  'session-id': async (client) =>
    (await client.sessionList()).items.map(({ id, agent }) => ({ word: id, about: agent })),
  group: async (client) =>
    (await client.secretList()).items.map(({ name, keys }) => ({ word: name, about: keys.join(' ') })),
  key: async (client) =>
    (await client.secretList()).items.flatMap(({ name, keys }) => keys.map((word) => ({ word, about: name }))),
  'dep-id': async (client) => (await client.appList()).items.map(({ id, name }) => ({ word: id, about: name })),
  app: appNames,
  target: appNames,
  service: async (client) =>
    (await client.appList()).items.flatMap(({ name, services }) =>
      services.map((service) => ({ word: service.name, about: name })),
    ),
  vpc: async (client) => (await client.vpcList()).items.map(({ name }) => ({ word: name })),
  organization: async (client) => (await client.organizationList()).items.map(({ name }) => ({ word: name })),
}

async function cached(kind: string, deps: Deps, load: (client: Client) => Promise<Word[]>): Promise<Word[]> {
  const account = deps.account()
  const name = crypto()
    .createHash('sha256')
    .update(`${kind} ${account.url} ${account.token}`)
    .digest('hex')
    .slice(0, 32)
  const kept = deps.home.cache(name)
  if (kept && kept.ageMs < cacheMs) return kept.value as Word[]
  const words = await load(deps.clientFor(account))
  deps.home.saveCache(name, words)
  return words
}

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import { expect } from 'vitest'
import { createProgram, fill } from '../cli/program.ts'
import { type Machine, newMachine, type RunOptions } from '../cli/testing/cli.ts'
import { inTerminal, needsTerminal } from '../cli/testing/terminal.ts'
import { newToken } from '../server/testing/actors.ts'
import { newApp } from '../server/testing/apps.ts'
import type { TestServer } from '../server/testing/server.ts'
import { argumentMark, bytesOf, control, filesIn, hunt, longValue, mark, value } from './hunt.ts'

/** The command line as doors: each way in which a value goes into a command, in fair weather and in foul. */

type Door = {
  /** the words after `1ctl secret` */
  args: string[]
  /** what comes through the pipe */
  stdin?: string
  /** what is typed at a terminal, by the key that is asked for */
  typed?: Record<string, string>
  env?: Record<string, string>
  /** how it ends where nothing is in the way; 0 if not said */
  code?: number
}

const dotenv = (door: string) => `KEY='${value(door)}'\nMORE="${value(door)}\nlines \${X}"\nHASH=${value(door)}#1\n`
const json = (door: string) => JSON.stringify({ KEY: value(door), MORE: `${value(door)}\n` })
const argument = (door: string) => value(door, argumentMark)
/** What is there before. */
const stored = value('stored before')
const noMatch = 10

const create = ['create', '--name', 'written']
const doors: Door[] = [
  { args: [...create, '--kv', `KEY=${argument('--kv')}`] },
  { args: [...create, '--kv', 'KEY', '--note', control], stdin: `${value('--kv, piped')}\n` },
  { args: [...create, '--kv', 'KEY', '--no-trim', '--stage'], stdin: `${value('--kv, piped as it is')}\n` },
  { args: [...create, '--stdin', 'KEY', '--dry-run'], stdin: value('a dry run') },
  { args: [...create, '--stdin', 'KEY'], stdin: value('--stdin') },
  { args: [...create, '--kv-file', 'KEY=value.txt', '--kv-file', 'PATH=value.txt', '--kv', 'B=', '--allow-empty'] },
  { args: [...create, '--kv-file', 'tls.key=-'], stdin: `${value('--kv-file')}\n` },
  { args: [...create, '--from-env-file', '.env', '--kv', 'B'], stdin: value('beside --from-env-file') },
  { args: [...create, '--from-env-file', '-'], stdin: dotenv('--from-env-file') },
  {
    args: [...create, '--kv', 'KEY', '--kv', 'B'],
    typed: { KEY: `${value('typed')}\r`, B: `${pasted(value('pasted'))}\r` },
  },

  { args: ['import', '.env', '--name', 'written', '--note', control] },
  { args: ['import', 'keys.json', '--name', 'pruned', '--prune', '-y', '--stage'] },
  { args: ['import', '-', '--name', 'written', '--format', 'json'], stdin: json('import') },
  { args: ['import', '--name', 'written', '--dry-run', '--allow-empty'], stdin: `${dotenv('import')}EMPTY=\n` },

  { args: ['diff', '.env', '--name', 'compared'] },
  { args: ['diff', '--name', 'compared', '--format', 'json', '--exit-code'], stdin: json('diff'), code: noMatch },

  { args: ['verify', '--name', 'compared', '-k', 'KEY'], stdin: stored },
  { args: ['verify', '--name', 'compared', '-k', 'KEY', '--no-trim'], stdin: value('a guess'), code: noMatch },
  { args: ['verify', '--name', 'compared', '-k', 'KEY'], typed: { KEY: `${value('a typed guess')}\r` }, code: noMatch },

  { args: ['rotate', 'written', '-k', 'KEY', '--stdin', '--note', control], stdin: `${value('rotate')}\n` },
  { args: ['rotate', 'written', '-k', 'KEY', '--stdin', '--no-trim', '--stage'], stdin: `${value('rotate')}\n` },
  { args: ['rotate', 'written', '-k', 'KEY', '--prompt'], typed: { KEY: `${pasted(`${value('rotate')}\nlines`)}\r` } },
  { args: ['rotate', 'generated', '-k', 'KEY'], env: { NODE_OPTIONS: '--require ./random.cjs' } },
  {
    args: ['rotate', 'generated', '-k', 'KEY', '--bytes', '48', '--charset', 'hex'],
    env: { NODE_OPTIONS: '--require ./random.cjs' },
  },

  { args: ['restore', 'restored', '--version', '1', '--note', control] },
  { args: ['restore', 'restored', '--version', '1', '-k', 'KEY', '--stage'] },
]

/** As the terminal hands over what is pasted. */
function pasted(text: string): string {
  return `\u001b[200~${text}\u001b[201~`
}

/** Each of these is refused before it is sent, or by a healthy server. */
function mistakes(): Line[] {
  const broken = [
    ['a bare line', (text: string) => `${text}\nKEY=1`],
    ['a name', (text: string) => `${text}=1`],
    ['an open quote', (text: string) => `KEY="${text}`],
    ['text after a quote', (text: string) => `KEY='${text}' ${text}`],
    ['a key twice', (text: string) => `KEY=${text}\nKEY=${text}`],
    ['a NUL', (text: string) => `KEY=${text}\0`],
    ['a private key', (text: string) => `KEY=-----BEGIN X-----\n${text}\n-----END X-----\n`],
    ['JSON, a list', (text: string) => `{["${text}"]}`],
    ['JSON, a number', (text: string) => `{"KEY": 1, "B": "${text}"}`],
    ['JSON, a name', (text: string) => `{"${text}": "x"}`],
    ['JSON, no quotes', (text: string) => `{"KEY": ${text}}`],
    ['JSON, no end', (text: string) => `{"KEY": "${text}"`],
    ['JSON, more', (text: string) => `{"KEY": "${text}"} ${text}`],
    ['JSON, a key twice', (text: string) => `{"KEY": "${text}", "KEY": "${text}"}`],
    ['JSON, an escape', (text: string) => `{"KEY": "\\x${text}"}`],
  ] as const
  const forms = [[], ['--debug'], ['-o', 'json']]
  const one = value('a mistake')
  return [
    ...broken.map(([what, text]) => ({ args: ['import', '--name', 'written'], stdin: text(value(what)) })),
    { args: [...create, '--from-env-file', '-'], stdin: `${one}\n${one}` },
    { args: ['diff', '--format', 'json'], stdin: one },
    { args: ['import', '--format', 'dotenv', '--name', 'written'], stdin: `{"KEY": "${one}"}` },
    { args: [...create, '--kv', 'KEY'], stdin: longValue(270_000) },
    { args: [...create, '--kv', 'KEY'], stdin: longValue(1_100_000) },
    {
      args: ['import', '--name', 'written'],
      stdin: ['A', 'B', 'C', 'D'].map((key) => `${key}=${longValue(255_000)}`).join('\n'),
    },
    { args: ['import', '--name', 'written'], stdin: Array.from({ length: 501 }, (_, n) => `K${n}=${one}`).join('\n') },
    { args: [...create, '--kv', `not a key=${argument('a bad name')}`] },
    { args: [...create, '--kv', argument('no name')] },
    { args: [...create, '--stdin', argument('no name')], stdin: one },
    { args: [...create, '--kv-file', argument('no name')], stdin: one },
    { args: [...create, '--kv-file', `KEY=${argument('no path')}`], stdin: one },
    { args: [...create, '--kv', 'KEY', '--stdin', 'KEY'], stdin: one },
    { args: [...create, '--kv', 'KEY', '--kv', `KEY=${argument('twice')}`], stdin: one },
    { args: [...create, `--kw=KEY=${argument('a mistyped flag')}`] },
    { args: [...create, `KEY=${argument('no flag')}`] },
    { args: [`KEY=${argument('no command')}`] },
    { args: [...create, '--kv', 'KEY', '--note', 'x'.repeat(141)], stdin: one },
    { args: ['create', '--name', 'Not a Name', '--kv', 'KEY'], stdin: one },
    { args: [...create, '--app', 'Not an App', '--kv', 'KEY'], stdin: one },
    { args: [...create, '-d', 'dep_00000000000000000000000000', '--kv', 'KEY'], stdin: one, code: 3 },
    { args: [...create, '--vpc', 'none-such', '--kv', 'KEY'], stdin: one, code: 3 },
    { args: [...create, '--config', 'none-such', '--kv', 'KEY'], stdin: one, code: 3 },
    { args: [...create, '--config', 'broken', '--kv', 'KEY'], stdin: one },
    { args: ['create', '--shared', '--name', 'managed', '--kv', 'KEY'], stdin: one, code: 6 },
    { args: [...create, '--kv', 'KEY', '--timeout', '1ms'], stdin: one, code: 9 },
    { args: ['verify', '--name', 'compared', '-k', 'NONE'], stdin: one, code: 3 },
    { args: ['verify', '--name', 'compared', '-k', argument('no name')], stdin: one },
    { args: ['verify', '--name', 'written', '-k', `KEY=${argument('as with --kv')}`], stdin: one },
    { args: ['rotate', 'written', '-k', `KEY=${argument('as with --kv')}`] },
    { args: ['restore', 'written', '-k', `KEY=${argument('as with --kv')}`, '--version', '1'] },
    { args: ['import', `KEY=${argument('as with --kv')}`] },
    { args: ['diff', `KEY=${argument('as with --kv')}`] },
    { args: [...create, '--from-env-file', `KEY=${argument('as with --kv')}`] },
    { args: ['rotate', 'written', '-k', 'NONE', '--stdin'], stdin: one, code: 3 },
    { args: ['rotate', 'written', '-k', 'KEY', '--prompt'], stdin: one },
    { args: ['restore', 'restored', '--version', '99'], code: 3 },
    { args: [...create, '--kv', 'KEY'], typed: { KEY: `${one}\u0003` }, code: 130 },
  ].flatMap((door) => forms.map((flags) => ({ door: { code: 2, ...door }, weather: { place: [], flags } })))
}

type Weather = {
  /** the flags that say where the secret is */
  place: string[]
  flags: string[]
  /** whose token, and at which address, if not that of someone who may */
  as?: 'reader' | 'nobody' | 'sealed' | 'nowhere' | 'echo'
  /** how each command ends instead */
  code?: number
}

const project: string[] = []
const staging = ['--config', 'staging']
const deployment = ['-d', 'DEPLOYMENT']
const vpc = ['--app', 'web', '--vpc', 'prod']
const shared = ['--shared']
const weathers: Weather[] = [
  { place: project, flags: [] },
  { place: staging, flags: ['-o', 'json', '--debug'] },
  { place: deployment, flags: ['-o', 'yaml', '--debug'] },
  { place: vpc, flags: ['-o', 'name', '-q'] },
  { place: shared, flags: ['--wide'] },
  { place: shared, flags: ['--debug'], as: 'reader', code: 5 },
  { place: project, flags: ['--no-color'], as: 'nobody', code: 4 },
  { place: vpc, flags: ['-o', 'json'], as: 'sealed', code: 9 },
  { place: staging, flags: ['--debug'], as: 'nowhere', code: 9 },
  { place: deployment, flags: ['--debug'], as: 'echo', code: 1 },
]
const brokenDatabase: Weather = { place: staging, flags: ['--debug'], code: 1 }

const isInBrokenDatabase = ({ weather }: Line) => weather === brokenDatabase

type Line = { door: Door; weather: Weather }

/** Each door in half of the weathers: in some that are fair, in some that are foul, and somewhere else each time. */
const lines: Line[] = [...weathers, brokenDatabase].flatMap((weather, n) =>
  doors.filter((_, m) => (n + m) % 2 === 0).map((door) => ({ door, weather })),
)

/** Runs them all: what was said, what was left behind, and where a process showed a value. */
export async function driveCommandLine(server: TestServer, sealed: TestServer, temporary: string) {
  const machine = newMachine()
  const folder = 'work'
  const work = join(machine.home, folder)
  mkdirSync(work)
  const files = filesOfProject()
  for (const [name, text] of Object.entries(files)) writeFileSync(join(work, name), text)
  const app = await newApp(server, 'shop')
  await storeBags(server, app.id)

  const account = (token: string, url = server.url) => ({ SATUSKY_API_KEY: token, SATUSKY_API_URL: url })
  const echo = await startEcho(server)
  const accounts: Record<NonNullable<Weather['as']>, Record<string, string>> = {
    reader: account((await newToken(server, { scopes: ['read'] })).token),
    nobody: account(`sat_${'0'.repeat(32)}`),
    sealed: account(sealed.token, sealed.url),
    nowhere: account(server.token, 'http://127.0.0.1:1'),
    echo: account(server.token, echo.url),
  }
  // The others use what is stored here.
  await machine.run(['auth', 'login', '--url', server.url, '--token', (await newToken(server)).token])

  const screens: string[] = []
  const common = Object.fromEntries(
    ['CONFIG', 'CACHE', 'DATA', 'STATE'].map((name) => [`XDG_${name}_HOME`, join(machine.home, name)]),
  )
  common.TMPDIR = temporary

  async function drive({ door, weather }: Line): Promise<void> {
    const args = ['secret', ...door.args, ...weather.place, ...weather.flags].map((word) =>
      word === 'DEPLOYMENT' ? app.id : word,
    )
    const env = { ...common, ...door.env, ...(weather.as && accounts[weather.as]) }
    const { code, text } = await run(args, door, { env, folder })
    screens.push(text)
    expect(code, `${args.join(' ')} ${weather.as ?? ''}\n${text}`).toBe(weather.code ?? door.code ?? 0)
  }

  async function run(args: string[], { stdin = '', typed }: Partial<Door>, options: RunOptions) {
    if (typed) {
      const answers = Object.entries(typed).map(([key, keys]): [string, string] => [`Value of ${key} (hidden): `, keys])
      const { code, screen } = await inTerminal(machine, args.join(' '), answers, options)
      return { code, text: screen }
    }
    const { code, stdout, stderr } = await machine.run(args, { ...options, stdin })
    return { code, text: stdout + stderr }
  }

  const shown = await watchProcesses(async () => {
    const [broken, others] = [lines.filter(isInBrokenDatabase), lines.filter((line) => !isInBrokenDatabase(line))]
    await someAtOnce([...others, ...mistakes()], drive)
    await server.db.query('alter table secret_values rename to secret_values_away')
    await someAtOnce(broken, drive)
    await server.db.query('alter table secret_values_away rename to secret_values')
    if (!needsTerminal.skip) screens.push(await meetConflict(server, machine, { env: common, folder }))
    for (const args of [
      ['__complete', 'bash', 'secret', 'create', '--kv', `KEY=${argument('completed')}`],
      ['__complete', 'bash', 'secret', 'get', 'contr'],
      ['secret', 'keys', 'control', '--shared'],
      ...['list', 'get written', 'history written', 'usage written'].map((line) => [
        'secret',
        ...line.split(' '),
        '--shared',
        '-o',
        'json',
        '--debug',
      ]),
      ['audit', 'list', '-o', 'json'],
    ])
      screens.push((await run(args, {}, { env: common })).text)
  })
  echo.close()

  // What would be drawn by lot was the mark indeed.
  const drawn = { ref: 'generated', appId: 'later', key: 'KEY', value: drawnByLot(32).toString('base64url') }
  expect(await server.client().secretVerify(drawn)).toEqual({ match: true })

  // The files of the person are as they were, and nothing is beside them.
  const now = readdirSync(work).map((name) => [name, readFileSync(join(work, name), 'utf8')])
  expect(Object.fromEntries(now)).toEqual(files)
  const left = filesIn(machine.home).filter((path) => !path.startsWith(work))
  return { screens: screens.join('\n'), files: Buffer.concat(left.map(bytesOf)), shown }
}

/** Someone else changes the secret while the person is asked. */
async function meetConflict(server: TestServer, machine: Machine, options: RunOptions): Promise<string> {
  const meanwhile = async () => {
    await server.client().secretPatch({ ref: 'control', set: { MEANWHILE: value('meanwhile') } })
    return 'y'
  }
  const args = 'secret import keys.json --prune --shared --name control --debug'
  const { code, screen } = await inTerminal(machine, args, [['(y/N)', meanwhile]], options)
  expect(code, screen).toBe(6)
  return screen
}

function filesOfProject(): Record<string, string> {
  const secret = `SECRET_KEY = "${value('a file of the project')}"`
  return {
    'satusky.toml': '[app]\nname = "later"\n',
    'satusky.staging.toml': `[app]\nname = "later-staging"\n[env]\n${secret}\n`,
    'satusky.broken.toml': `[app]\nname = "later"\n${secret} ${secret}\n`,
    'value.txt': `${value('a file')}\n`,
    '.env': dotenv('a .env file'),
    'keys.json': json('a JSON file'),
    'random.cjs': `require('node:crypto').randomBytes = (count) => Buffer.from('${drawnByLot(1024).toString()}').subarray(0, count)\n`,
  }
}

/** Instead of random bytes. */
const drawnByLot = (count: number) => Buffer.from(mark.repeat(count)).subarray(0, count)

/** Several, because they are changed at once: what is compared or restored stays; what is pruned or generated has no other writer. */
async function storeBags(server: TestServer, appId: string): Promise<void> {
  const client = server.client()
  const wheres = [{ appId: 'later' }, { appId: 'later-staging' }, { appId }, { appId: 'web', vpc: 'prod' }, {}]
  for (const where of wheres)
    for (const name of ['written', 'pruned', 'compared', 'generated', 'restored'])
      for (const data of [{ KEY: value('stored first') }, { KEY: stored }])
        await client.secretPut({ name, ...where, data })
  await client.secretPut({ name: 'control', data: { [control]: value('beside a name that is shown') } })
}

async function someAtOnce(all: Line[], drive: (line: Line) => Promise<void>): Promise<void> {
  // Without a terminal, those that type are left out.
  const rest = all.filter(({ door }) => !door.typed || !needsTerminal.skip)
  const worker = async () => {
    for (let line = rest.shift(); line; line = rest.shift()) await drive(line)
  }
  await Promise.all(Array.from({ length: 5 }, worker))
}

/** Reads as the real one does, and answers all else with what it was asked: headers and body. */
async function startEcho(server: TestServer) {
  const echo = createServer((request, response) => {
    void (async () => {
      let body = ''
      for await (const chunk of request) body += String(chunk)
      const headers = { 'x-satusky-api-key': String(request.headers['x-satusky-api-key']) }
      const answer = request.method === 'GET' ? await fetch(server.url + request.url, { headers }) : undefined
      response.writeHead(answer?.status ?? 400)
      response.end(answer ? await answer.text() : `<pre>${JSON.stringify(request.headers)} ${body}</pre>`)
    })()
  })
  await new Promise<void>((resolve) => echo.listen(0, '127.0.0.1', resolve))
  return { url: `http://127.0.0.1:${(echo.address() as AddressInfo).port}`, close: () => echo.close() }
}

/**
 * What processes show in their arguments and their environment while `work` is done, over and over. A value that a person writes on a
 * command line stands there in that very process, and may not elsewhere.
 */
async function watchProcesses(work: () => Promise<void>) {
  const found = { elsewhere: new Set<string>(), inOwnArguments: 0 }
  const look = () => {
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      const all = bytesOf(`/proc/${pid}/cmdline`)
      const isOwn = Number(/\) \S (\d+)/.exec(bytesOf(`/proc/${pid}/stat`).toString())?.[1]) === process.pid
      const hits = hunt(all, isOwn ? [mark] : undefined)
      if (isOwn && all.includes(argumentMark)) found.inOwnArguments++
      for (const hit of [...hits, ...hunt(bytesOf(`/proc/${pid}/environ`))]) found.elsewhere.add(`${pid}: ${hit}`)
    }
  }
  const over = new AbortController()
  const looking = (async () => {
    while (process.platform === 'linux' && !over.signal.aborted) {
      look()
      await sleep(40)
    }
  })()
  await work().finally(() => over.abort())
  await looking
  return { elsewhere: [...found.elsewhere], inOwnArguments: found.inOwnArguments }
}

/** Every command, as one types it. */
export function commandNames(): string[] {
  return leavesOf(newProgram().program).map(nameOf)
}

// When to roll out and how long to wait: no value goes through them. What a rollout tells is read from the server, good and bad.
const waiting = new Set([
  '--detach',
  '--no-wait',
  '--wait',
  '--wait-timeout <duration>',
  '--rollout',
  '--wave-size <count>',
])

/** Each option and argument of the commands that have a door, and those among them that a door uses. */
export async function waysIn() {
  const { program, last } = newProgram()
  const driven = new Set<string>()
  for (const { door, weather } of lines) {
    await program.parseAsync(['secret', ...door.args, ...weather.place], { from: 'user' })
    const command = last()
    for (const option of command.options)
      if (command.getOptionValueSource(option.attributeName()) === 'cli') driven.add(wayOf(command, option.flags))
    command.args.forEach((_, n) => driven.add(wayOf(command, `argument ${n}`)))
  }
  const commands = leavesOf(program).filter((command) =>
    [...driven].some((way) => way.startsWith(`${nameOf(command)} `)),
  )
  const known = commands.flatMap((command) => [
    ...command.options.filter(({ flags }) => !waiting.has(flags)).map(({ flags }) => wayOf(command, flags)),
    ...command.registeredArguments.map((_, n) => wayOf(command, `argument ${n}`)),
  ])
  return { commands: commands.map(nameOf), known, driven: [...driven] }
}

function newProgram() {
  let command: Command | undefined
  const program = createProgram(
    () =>
      async (...args) =>
        void (command = args.at(-1) as Command),
    // Or `--version` would be that of the program.
    ['restore'],
  )
  return { program, last: () => command! }
}

const leavesOf = (command: Command): Command[] => {
  const { commands } = fill(command, () => async () => {})
  return commands.length === 0 ? [command] : commands.flatMap(leavesOf)
}

const nameOf = (command: Command): string =>
  command.parent?.parent ? `${nameOf(command.parent)} ${command.name()}` : command.name()

const wayOf = (command: Command, way: string) => `${nameOf(command)} ${way}`

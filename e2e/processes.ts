import { execFileSync, type SpawnOptions, spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Bootstrap } from '../server/identity/bootstrap.ts'
import type { Answer } from '../server/testing/server.ts'

export const root = dirname(import.meta.dirname)

/** A process of the product, and what it has said so far. */
export type Running = {
  pid: number
  stdout(): string
  stderr(): string
  /** how long it has been silent at most */
  longestSilenceMs(): number
  /** resolves with the first match in stdout; rejects, with all that was said, if the process ends without it */
  says(pattern: RegExp): Promise<RegExpExecArray>
  ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
  kill(signal: NodeJS.Signals): void
  /** nobody reads its stdout from now on */
  hangUp(): void
}

const undo: (() => unknown)[] = []

/** For `afterEach` or `afterAll`: ends every process that was started here, and removes every folder. */
export async function cleanUp(): Promise<void> {
  for (const step of undo.splice(0).reverse()) await step()
}

/** What was started so far stays, until the function that is returned is called. */
export function keepForLater(): () => Promise<void> {
  const kept = undo.splice(0)
  return async () => {
    undo.push(...kept)
    await cleanUp()
  }
}

export const onCleanUp = (step: () => unknown) => void undo.push(step)

/** Starts a command in a process group of its own, with nothing of our environment but the way to node. */
export function run(
  command: string,
  args: string[],
  { env, ...options }: SpawnOptions & { env?: Record<string, string> } = {},
): Running {
  const child = spawn(command, args, {
    cwd: root,
    ...options,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...cleanEnvironment, ...env },
  })
  const said = { stdout: '', stderr: '' }
  const listeners = new Set<() => void>()
  let lastWords = performance.now()
  let silenceMs = 0
  for (const name of ['stdout', 'stderr'] as const)
    child[name].setEncoding('utf8').on('data', (text: string) => {
      said[name] += text
      silenceMs = Math.max(silenceMs, performance.now() - lastWords)
      lastWords = performance.now()
      for (const listener of listeners) listener()
    })
  let hasEnded = false
  const ended = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, signal) => resolve({ code, signal }))
  }).finally(() => {
    hasEnded = true
    for (const listener of listeners) listener()
  })
  undo.push(async () => {
    if (hasEnded) return
    // The group: npm's own child, the server, is in it.
    process.kill(-child.pid!, 'SIGKILL')
    await ended
  })
  return {
    pid: child.pid!,
    stdout: () => said.stdout,
    stderr: () => said.stderr,
    longestSilenceMs: () => Math.max(silenceMs, performance.now() - lastWords),
    ended,
    says: (pattern) =>
      new Promise((resolve, reject) => {
        const look = () => {
          const match = pattern.exec(said.stdout)
          if (!match && !hasEnded) return
          listeners.delete(look)
          if (match) resolve(match)
          else reject(new Error(`it ended without saying ${pattern}:\n${said.stdout}${said.stderr}`))
        }
        listeners.add(look)
        look()
      }),
    kill: (signal) => void process.kill(child.pid!, signal),
    hangUp: () => void child.stdout.destroy(),
  }
}

export const newFolder = (mode = 0o700): string => {
  const folder = mkdtempSync(join(tmpdir(), '1ctl-test-'))
  chmodSync(folder, mode)
  // Again for a while, as a PostgreSQL that is about to end may still write there.
  undo.push(() => rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 }))
  return folder
}

const cleanEnvironment = {
  // Without the `node_modules/.bin` that npm puts in front: a fresh copy must not find our tools.
  PATH: [dirname(process.execPath), ...(process.env.PATH ?? '').split(delimiter)]
    .filter((folder) => !folder.includes('node_modules'))
    .join(delimiter),
  HOME: '/nonexistent',
}

/** One that nothing listens on, for the moment. */
export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

export const mainFile = fileURLToPath(new URL('../server/dist/main.js', import.meta.url))

type Boot = Parameters<typeof run>[2] & { argv?: string[]; node?: string[] }

/** The built server itself, without npm, on a port that the system chooses. */
export function boot(flags: Record<string, string>, { argv = [], node = [], ...options }: Boot = {}): Running {
  const given = Object.entries({ port: '0', ...flags }).map(([name, value]) => `--${name}=${value}`)
  return run(process.execPath, [...node, mainFile, ...given, ...argv], options)
}

/** The address it prints when it is ready. */
export async function ready(server: Running): Promise<string> {
  const [, url = ''] = await server.says(/^1ctl: ready at (\S+)$/m)
  return url
}

export const readBootstrap = (dataDir: string) =>
  JSON.parse(readFileSync(join(dataDir, 'bootstrap.json'), 'utf8')) as Bootstrap

/** As curl would: below the API's base with a token, or anywhere with an absolute URL. */
export async function call(
  { apiUrl, token }: { apiUrl: string; token?: string },
  path: string,
  { body, headers = {} }: { body?: unknown; headers?: Record<string, string> } = {},
): Promise<Answer> {
  const answer = await fetch(path.startsWith('http') ? path : apiUrl + path, {
    method: body === undefined ? 'GET' : 'POST',
    headers: {
      connection: 'close',
      ...(token ? { 'x-satusky-api-key': token } : {}),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  const text = await answer.text()
  const isJson = answer.headers.get('content-type')?.startsWith('application/json')
  return { status: answer.status, headers: answer.headers, text, body: isJson ? JSON.parse(text) : undefined }
}

type Entry = { pid: number; parent: number; command: string }

/** All processes but zombies, which only wait for someone to ask how they ended. */
function processes(): Entry[] {
  // A small Linux image has no `ps`, and macOS no /proc.
  const lines = existsSync('/proc/self/stat')
    ? readdirSync('/proc').filter(Number).map(lineOf)
    : execFileSync('ps', ['-A', '-ww', '-o', 'pid=,stat=,ppid=,args='], { encoding: 'utf8' }).split('\n')
  return lines.flatMap((line) => {
    const [, pid, state, parent, command = ''] = /^ *(\d+) +(\S+) +(\d+) (.*)$/s.exec(line) ?? []
    return state && !state.startsWith('Z') ? [{ pid: Number(pid), parent: Number(parent), command }] : []
  })
}

function lineOf(pid: string): string {
  try {
    // `pid (name) state parent …`, and the name may hold anything.
    const [, state, parent] = /^.*\) (\S) (\d+)/s.exec(readFileSync(`/proc/${pid}/stat`, 'utf8')) ?? []
    return `${pid} ${state} ${parent} ${readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')}`
  } catch {
    return ''
  }
}

export const childrenOf = (pid: number): number[] =>
  processes()
    .filter(({ parent }) => parent === pid)
    .map(({ pid }) => pid)

/** The server that `npm start` became: npm's own child, as the script says `exec`. */
export function serverOf(npm: Running): number {
  const [server, ...others] = childrenOf(npm.pid)
  if (!server || others.length > 0) throw new Error('npm should have one child')
  return server
}

/** PostgreSQL and what supervises it carry the pid of their server in their command lines. */
export const postgresOf = (server: number): number[] =>
  processes()
    .filter(({ command }) => new RegExp(`1ctl-${server}\\b`).test(command))
    .map(({ pid }) => pid)

/** How long it took until PostgreSQL was gone; at most 10 s are waited. */
export async function postgresGoneAfterMs(server: number): Promise<number> {
  const began = performance.now()
  while (postgresOf(server).length > 0 && performance.now() - began < 10_000) await sleep(50)
  return performance.now() - began
}

export function isAlive(pid: number): boolean {
  return processes().some((entry) => entry.pid === pid)
}

/** Waits for what comes about by itself, such as a server that finds its database again. */
export async function eventually(check: () => Promise<boolean> | boolean, withinMs: number): Promise<void> {
  const until = performance.now() + withinMs
  while (!(await check())) {
    if (performance.now() > until) throw new Error(`not within ${withinMs} ms: ${check.toString()}`)
    await sleep(50)
  }
}

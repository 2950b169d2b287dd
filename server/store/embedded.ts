import { spawn, spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import type { Duplex } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { Client } from 'pg'
import { BootError } from '../boot-error.ts'
import { findBinaries, type RunAs } from './binaries.ts'

export type Embedded = {
  /** for `pg`: host is the socket folder */
  connection: { host: string; port: number; user: string; database: string }
  /** the major version, e.g. 15 */
  version: number
  /** the bin folder in use */
  binaries: string
  /** a fast shutdown; resolves when no process is left */
  stop(): Promise<void>
}

type Options = {
  /** the product's data folder; PostgreSQL's own is the folder `postgres` in it */
  dataDir: string
  progress: (line: string) => void
  /** called when PostgreSQL ends although `stop` was not called */
  exited: (reason: string) => void
  /** more settings of PostgreSQL, e.g. `{ fsync: 'off' }` for tests */
  settings?: Record<string, string>
}

/** Runs a PostgreSQL that lives and dies with this process, and that only its owner and root can reach. */
export async function startEmbedded(options: Options): Promise<Embedded> {
  try {
    return await start(options)
  } catch (error) {
    if (!(error instanceof Error && 'syscall' in error)) throw error
    throw new BootError(`The data folder ${options.dataDir} cannot be used (${error.message}). ${fixIt}`, {
      cause: error,
    })
  }
}

async function start({ dataDir, progress, exited, settings = {} }: Options): Promise<Embedded> {
  const folder = join(resolve(dataDir), 'postgres')
  mkdirSync(dataDir, { recursive: true, mode: 0o700 })
  const runAs = owner(folder)
  const binaries = findBinaries(folder, runAs)
  if (!holdsDatabase(folder)) {
    progress(`making a PostgreSQL ${binaries.version} database in ${folder}`)
    await makeDatabase(folder, binaries.bin, runAs, settings.fsync === 'off')
  }
  // The socket is in this folder, so its mode alone says who may connect. (A volume's fsGroup, for one, changes it.)
  chmodSync(folder, 0o700)

  const allSettings = { ...settingsFor(binaries.version), ...settings }
  const postgres = await launch(folder, binaries.bin, runAs, allSettings, progress)
  let stopped: Promise<void> | undefined
  void postgres.ended.then(({ why }) => stopped ?? exited(`PostgreSQL ended unexpectedly: ${why}`))
  const stop = () => (stopped ??= postgres.stop())

  try {
    const connection = { host: socketFolder(folder, postgres.fd), port: 5432, user: 'satusky', database: 'satusky' }
    await ensureDatabase(connection)
    removeDrafts(folder)
    return { connection, version: binaries.version, binaries: binaries.bin, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

const fixIt = 'Correct that and start again, or choose another folder with --data-dir.'

/**
 * PostgreSQL refuses to run as root and insists on owning its folder. So the owner of an existing folder runs it,
 * and a new one goes to `postgres` or `nobody`. Undefined: this very user.
 */
function owner(folder: string): RunAs | undefined {
  const me = process.geteuid!()
  const stat = statSync(folder, { throwIfNoEntry: false })
  if (me !== 0) {
    if (!stat || stat.uid === me) return undefined
    throw new BootError(
      `The folder ${folder} belongs to user id ${stat.uid} and you are ${me}. ` +
        'Start as that user or as root, or choose another folder with --data-dir.',
    )
  }
  const runAs = stat?.uid ? { uid: stat.uid, gid: stat.gid } : (account('postgres') ?? account('nobody') ?? noAccount)
  if (stat?.uid === 0 && holdsDatabase(folder)) {
    throw new BootError(
      `The folder ${folder} belongs to root, and PostgreSQL does not run as root. Run: chown -R ${runAs.uid} ${folder}`,
    )
  }
  const { error } = spawnSync('/bin/sh', ['-c', ':'], { ...runAs, cwd: '/' })
  if (error) {
    throw new BootError(
      `PostgreSQL does not run as root, and this process may not become user id ${runAs.uid} (${error.message}). ` +
        'Start as another user.',
    )
  }
  return runAs
}

const noAccount = { uid: 65534, gid: 65534 }

function account(name: string): RunAs | undefined {
  const [uid, gid] = ['-u', '-g'].map((flag) => Number.parseInt(String(spawnSync('id', [flag, name]).stdout), 10))
  return uid && gid ? { uid, gid } : undefined
}

function holdsDatabase(folder: string): boolean {
  return existsSync(join(folder, 'PG_VERSION'))
}

/** Makes it under another name and renames it, so that a start killed in here leaves no half of a database behind. */
async function makeDatabase(folder: string, bin: string, runAs: RunAs | undefined, noSync: boolean): Promise<void> {
  removeDrafts(folder, 10 * 60_000)
  const draft = mkdtempSync(`${folder}${draftSuffix}`)
  if (runAs) chownSync(draft, runAs.uid, runAs.gid)
  // Locale C is the only one that every version and machine has, and that no update of a system library can change.
  // Trust: whoever reaches the socket is this user or root (see chmod above), and both could read the files anyway.
  const initdb = run(draft, runAs, [
    join(bin, 'initdb'),
    ...'--username=satusky --encoding=UTF8 --locale=C --data-checksums'.split(' '),
    ...'--auth-local=trust --auth-host=reject --no-instructions'.split(' '),
    ...(noSync ? ['--no-sync'] : []),
  ])
  const { code, why } = await initdb.ended
  try {
    if (code !== 0) throw new BootError(`PostgreSQL could not make a database in ${folder}: ${why}. ${fixIt}`)
    renameSync(draft, folder)
    syncFolder(dirname(folder))
  } catch (error) {
    rmSync(draft, { recursive: true, force: true })
    // Another server that started at the same moment may have been first: `launch` will say so.
    if (!holdsDatabase(folder)) throw error
  }
}

const draftSuffix = '.new-'

/** Once the database is ours, all of them are leftovers, or of a start that comes too late. */
function removeDrafts(folder: string, ageMs = 0): void {
  try {
    for (const name of readdirSync(dirname(folder))) {
      const draft = join(dirname(folder), name)
      if (!name.startsWith(basename(folder) + draftSuffix) || statSync(draft).mtimeMs > Date.now() - ageMs) continue
      rmSync(draft, { recursive: true, force: true })
    }
  } catch {
    // Another user's, or still being written to: it does no harm.
  }
}

/** Without this, a power cut could take the rename back, and with it all that was committed since. */
function syncFolder(folder: string): void {
  const fd = openSync(folder, 'r')
  fsyncSync(fd)
  closeSync(fd)
}

const settingsFor = (version: number): Record<string, string> => ({
  // Relative to the folder, so neither its length nor who may walk to it matters.
  unix_socket_directories: '.',
  listen_addresses: '',
  // Seen in `ps`, and read by a second server that finds the folder in use.
  cluster_name: `1ctl-${process.pid}`,

  shared_buffers: '64MB',
  max_connections: '60',
  jit: 'off',
  wal_level: 'minimal',
  max_wal_senders: '0',
  max_logical_replication_workers: '0',
  max_parallel_workers_per_gather: '0',
  ...(version >= 18 && { io_method: 'sync' }),

  // `log` leaves out errors: their text and statement may quote values, and the client gets them anyway.
  log_min_messages: 'log',
  log_error_verbosity: 'terse',
  log_min_error_statement: 'panic',
  log_statement: 'none',
  log_parameter_max_length: '0',
  log_parameter_max_length_on_error: '0',
  log_checkpoints: 'off',
  log_line_prefix: '',
})

/** Starts PostgreSQL; while another one has the folder, waits for it, as it may be just about to end. */
async function launch(
  folder: string,
  bin: string,
  runAs: RunAs | undefined,
  settings: Record<string, string>,
  progress: (line: string) => void,
): Promise<Running> {
  const command = [
    join(bin, 'postgres'),
    ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
  ]
  const began = Date.now()
  for (let attempt = 1; ; attempt++) {
    const postgres = run(folder, runAs, command)
    const slow = setTimeout(() => progress('PostgreSQL is still starting, perhaps recovering from a crash'), 5_000)
    const end = await Promise.race([postgres.ready, postgres.ended])
    clearTimeout(slow)
    if (!end) return postgres
    if (end.code !== IN_USE && !/lock file "postmaster.pid" already exists|shared memory block/.test(end.why)) {
      throw new BootError(`PostgreSQL did not start in ${folder}: ${end.why}. ${fixIt}`)
    }
    const server = serverOf(folder)
    const other = `Another 1ctl server${server ? ` (pid ${server})` : ''} is using the data folder ${dirname(folder)}`
    if (Date.now() - began > (isAlive(server) ? 3_000 : 15_000)) {
      throw new BootError(`${other}. Stop it, or choose another folder with --data-dir.`)
    }
    if (attempt === 1) progress(`${other}; waiting a moment for it to end`)
    await sleep(50)
  }
}

function serverOf(folder: string): number | undefined {
  try {
    return Number(/cluster_name=1ctl-(\d+)/.exec(readFileSync(join(folder, 'postmaster.opts'), 'utf8'))![1])
  } catch {
    return undefined
  }
}

function isAlive(pid: number | undefined): boolean {
  try {
    return pid !== undefined && process.kill(pid, 0)
  } catch {
    return false
  }
}

/** The path of a socket has at most 103 bytes; Linux has a short name for any folder we hold open. */
function socketFolder(folder: string, fd: number): string {
  const short = `/proc/${process.pid}/fd/${fd}`
  if (Buffer.byteLength(join(folder, '.s.PGSQL.5432')) <= 103) return folder
  if (existsSync(short)) return short
  throw new BootError(`The path ${folder} is too long for a socket. Choose a shorter one with --data-dir.`)
}

async function ensureDatabase(connection: Embedded['connection']): Promise<void> {
  const client = new Client({ ...connection, database: 'postgres' })
  await client.connect()
  const { rowCount } = await client.query('select from pg_database where datname = $1', [connection.database])
  if (!rowCount) await client.query(`create database ${connection.database}`)
  await client.end()
}

type End = { code: number; why: string }
type Running = { fd: number; ready: Promise<undefined>; ended: Promise<End>; stop(): Promise<void> }

const IN_USE = 75

/**
 * Runs a command beside a watcher. File descriptor 3 is the command's folder, 4 a pipe to this process.
 *
 * The kernel closes our end of the pipe whenever and however we die, and then the watcher ends the command: at once
 * (QUIT), and for sure (KILL), as a command that has only just begun may miss the first. A line on the pipe asks for
 * a fast shutdown (INT). `setpriv --pdeathsig` would do it on Linux only, and fires when a thread ends, too. The shell
 * waits for the command, so nobody's init has to. It ignores what a service manager may send to every process.
 *
 * The lock holds until the last process with the folder open is gone, in all containers that mount it. Under it
 * postmaster.pid can only be stale, and by now its number may be another process, which PostgreSQL would take for a
 * server. Where `flock` is missing or fails (macOS, some network volumes), postmaster.pid alone is the lock.
 */
const supervise = `
flock -n 3 2>/dev/null
case $? in
  0) rm -f "$PGDATA/postmaster.pid" ;;
  1) exit ${IN_USE} ;;
esac
trap '' HUP INT TERM
"$@" 4<&- &
pid=$!
{ read -r _ && kill -INT $pid && read -r _; kill -QUIT $pid; sleep 1; kill -KILL $pid; } <&4 3<&- &
watch=$!
wait $pid 2>/dev/null
code=$?
kill -KILL $watch
exit $code`

function run(folder: string, runAs: RunAs | undefined, command: string[]): Running {
  const fd = openSync(folder, 'r')
  const child = spawn('/bin/sh', ['-c', supervise, 'sh', ...command], {
    ...runAs,
    // Its own session: a Ctrl-C in our terminal must not stop it before we have finished.
    detached: true,
    // A folder that any user may enter, which PostgreSQL 15 needs in order to find itself.
    cwd: '/',
    // Not our environment, which may hold keys. The name in /proc spares the unprivileged user the way to the folder.
    env: {
      PATH: process.env.PATH,
      PGDATA: existsSync('/proc/self/fd') ? '/proc/self/fd/3' : folder,
      LC_ALL: 'C',
      TZ: 'UTC',
    },
    stdio: ['ignore', 'ignore', 'pipe', fd, 'pipe'],
  })
  const log: string[] = []
  const lines = createInterface({ input: child.stderr! })
  const ready = new Promise<undefined>((resolve) => {
    lines.on('line', (line) => {
      log.push(line)
      if (log.length > 20) log.shift()
      if (line.includes('ready to accept connections')) resolve(undefined)
    })
  })
  const ended = new Promise<End>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code) => resolve({ code: code ?? 1, why: whyEnded(code, log) }))
  }).finally(() => closeSync(fd))

  const pipe = child.stdio[4] as Duplex
  pipe.on('error', () => {})
  pipe.resume()
  return {
    fd,
    ready,
    ended,
    async stop() {
      pipe.write('\n')
      const enough = setTimeout(() => pipe.destroy(), 5_000)
      await ended
      clearTimeout(enough)
    },
  }
}

function whyEnded(code: number | null, log: string[]): string {
  const how = !code || code < 128 ? `exit code ${code}` : `killed by signal ${code - 128}`
  const words =
    log.findLast((line) => /FATAL|PANIC|error:/.test(line)) ?? log.findLast((line) => !line.startsWith('LOG'))
  return words ? `${words.replace(/^.*?(FATAL|PANIC|error): */, '')} (${how})` : how
}

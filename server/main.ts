import { accessSync, constants, mkdirSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import pino, { type Logger } from 'pino'
import { startAnnouncer } from './announce.ts'
import { BootError } from './boot-error.ts'
import { type Config, helpText, readConfig } from './config.ts'
import type { Platform } from './context.ts'
import { deliver } from './delivery/start.ts'
import { startHousekeeping } from './housekeeping.ts'
import { dashboardFolder, loadDashboard } from './http/dashboard.ts'
import { createHttp } from './http/server.ts'
import { attemptsIn } from './identity/attempts.ts'
import { bootstrap, followAddress } from './identity/bootstrap.ts'
import { openKeyring } from './keys/boot.ts'
import { startKeyWatch } from './keys/watch.ts'
import { createMetrics } from './observe/metrics.ts'
import { type Connection, type Database, openDatabase, sqlState } from './store/database.ts'
import { startEmbedded } from './store/embedded.ts'
import { migrate } from './store/migrate.ts'
import { version } from './version.ts'

/** How to undo what has been started. */
const stops: (() => unknown)[] = []

/** The process: the only file that starts things, and stops them in reverse order. */
async function main(): Promise<void> {
  const config = readConfig(process.argv.slice(2), process.env)
  say(`starting, version ${version}`)
  const log = openLog(config)
  listenToTheSystem(log)
  const stopProgress = showProgress()
  stops.push(stopProgress)

  makeDataDir(config.dataDir)
  const db = openDatabase(await ensureDatabase(config, log), (error) => {
    // At an end, our own PostgreSQL may be quicker than the farewell of a connection.
    if (!ending) log.warn({ code: sqlState(error) }, 'a database connection was lost')
  })
  stops.push(() => db.end())
  await refuseUnfitDatabase(db, config)
  await migrate(db, say)
  stops.push(await startHousekeeping(db, config.auditMonths, log))

  if (process.argv.some((word) => /^--master-key(-previous)?(=|$)/.test(word)))
    say('every user of this machine can see the flags of a process: better give the master key in SATUSKY_MASTER_KEY')
  const keys = await openKeyring({ db, log, seal: config.seal, say })
  const metrics = createMetrics(db)
  stops.push(() => metrics.close())
  const announcer = startAnnouncer(db, log)
  stops.push(() => announcer.close())
  const platform: Platform = { db, log, attempts: attemptsIn(db), keys, announcer, cluster: { kubernetes: undefined } }
  stops.push(startKeyWatch(platform))
  stops.push(await deliver(platform, metrics.delivery, config, say))
  const { tls, publicUrl, trustProxy } = config
  const app = await createHttp(platform, metrics, {
    tls,
    publicUrl,
    trustProxy,
    dashboard: loadDashboard(dashboardFolder),
  })
  stops.push(() => app.close())

  // Before anyone can ask whether the server is ready: who waits for that will read the file next.
  const first = await bootstrap(db, config.dataDir, publicUrl ?? urlOf(config, config.port))
  const url = publicUrl ?? urlOf(config, await listen(app, config))
  followAddress(first.file, url)
  stopProgress()
  say(`ready at ${url}`)
  if (keys.sealed) say('sealed: operators open it with 1ctl admin unseal')
  if (first.email) say(`sign in as ${first.email}; the password is in ${first.file}`)
}

const say = (line: string) => console.log(`1ctl: ${line}`)

let ending = false
const stopMsMax = 20_000

/** Stops everything, the last started first, and exits. */
async function end(code: number, why?: string): Promise<void> {
  if (ending) return
  ending = true
  if (why) say(why)
  // A database that no longer answers, for one, would keep us here. The embedded one ends with this process in any case.
  setTimeout(() => {
    say(`not everything stopped within ${stopMsMax / 1000} s; leaving`)
    process.exit(1)
  }, stopMsMax)
  for (const stop of stops.reverse()) await stop()
  process.exit(code)
}

// Words for people go to stdout; the log, one JSON object a line, to stderr.
const openLog = ({ logLevel }: Config) =>
  pino({ level: logLevel, base: null, timestamp: pino.stdTimeFunctions.isoTime }, pino.destination(2))

function listenToTheSystem(log: Logger): void {
  // From the beginning: as process 1 of a container, a process that does not listen cannot be stopped.
  // `on`, not `once`: a signal to the whole process group arrives twice, from the terminal and from npm.
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.on(signal, () => void end(0, 'finishing requests, then stopping'))
  // A fault of ours, after which nothing is certain. Logged without its message, which may quote data.
  process.on('uncaughtException', ({ name, stack = '' }) => {
    const frames = stack.split('\n').filter((line) => /^\s+at /.test(line))
    log.fatal({ err: { type: name, stack: frames.join('\n') } }, 'an error that nobody caught')
    void end(1, 'stopping after an unexpected error; the log says where it happened')
  })
  // Words that nobody reads any more (`npm start | head`, a Ctrl-C that ended `tee` first) are no reason to stop.
  process.stdout.on('error', () => undefined)
  process.removeAllListeners('warning').on('warning', ({ name, message }) => log.warn({ name }, message))
}

/** Whatever takes long shows that it goes on. */
function showProgress(): () => void {
  const began = Date.now()
  const timer = setInterval(() => {
    const seconds = Math.round((Date.now() - began) / 1000)
    if (seconds <= 5 || seconds % 5 === 0) say(`still starting, ${seconds} s`)
  }, 1000)
  return () => clearInterval(timer)
}

function makeDataDir(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    accessSync(folder, constants.W_OK | constants.X_OK)
  } catch (error) {
    throw new BootError(`The data folder ${folder} cannot be used (${codeOf(error)}). Choose another with --data-dir.`)
  }
}

/** The one that was named, else our own, started now. */
async function ensureDatabase({ databaseUrl, dataDir }: Config, log: Logger): Promise<Connection> {
  if (databaseUrl !== undefined) return { connectionString: databaseUrl }
  const embedded = await startEmbedded({
    dataDir,
    progress: say,
    exited(reason) {
      log.fatal(reason)
      void end(1, `${reason}. Start again; what was acknowledged is there.`)
    },
  })
  stops.push(() => embedded.stop())
  return embedded.connection
}

async function refuseUnfitDatabase(db: Database, { databaseUrl }: Config): Promise<void> {
  const name = `The database${databaseUrl === undefined ? '' : ` at ${withoutPassword(databaseUrl)}`}`
  const { number, encoding } = await factsOf(db).catch((error: unknown) => {
    throw new BootError(`${name} cannot be used: ${reasonOf(error)}. Check --database-url (DATABASE_URL).`)
  })
  const major = Math.floor(Number(number) / 10_000)
  if (major < 15)
    throw new BootError(`${name} is PostgreSQL ${major}, and 1ctl needs 15 or newer. Name another with --database-url.`)
  if (encoding !== 'UTF8')
    throw new BootError(`${name} has the encoding ${encoding}. Make one with: create database … encoding 'UTF8'`)
}

// `async`, since the driver throws at once if the URL names files that are not there.
async function factsOf(db: Database): Promise<{ number?: string; encoding?: string }> {
  const { rows } = await db.query<{ number: string; encoding: string }>(
    "select current_setting('server_version_num') as number, current_setting('server_encoding') as encoding",
  )
  return rows[0] ?? {}
}

function withoutPassword(text: string): string {
  const { protocol, host, pathname } = new URL(text)
  return `${protocol}//${host}${pathname}`
}

const codeOf = (error: unknown) => (error instanceof Error && 'code' in error ? String(error.code) : 'unknown reason')

const reasonOf = (error: unknown) => (error instanceof Error && error.message) || codeOf(error)

/** As it can be called from here: "every address" is none. */
function urlOf({ tls, host }: Config, port: number): string {
  const name = { '0.0.0.0': '127.0.0.1', '::': '[::1]' }[host] ?? (host.includes(':') ? `[${host}]` : host)
  return `${tls ? 'https' : 'http'}://${name}:${port}`
}

/** The port, which the system chose where 0 was asked for. */
async function listen(app: FastifyInstance, { host, port }: Config): Promise<number> {
  try {
    await app.listen({ host, port })
  } catch (error) {
    const code = codeOf(error)
    if (code === 'EADDRINUSE')
      throw new BootError(`Port ${port} on ${host} is in use. Stop what uses it, or choose another with --port.`)
    if (code === 'EACCES')
      throw new BootError(`Port ${port} may not be used by this user. Choose one above 1023 with --port.`)
    if (!(error instanceof Error && 'syscall' in error)) throw error
    throw new BootError(`Nothing can listen on ${host} here (${code}). Choose another address with --host.`)
  }
  return (app.server.address() as AddressInfo).port
}

if (process.argv.includes('--help') || process.argv.includes('-h')) console.log(helpText())
else
  main().catch((error: unknown) => {
    // What fails because we are stopping already is no news.
    if (ending) return
    // Of other errors not the properties, in which the driver keeps what it was given.
    if (error instanceof BootError) console.error(`1ctl: ${error.message}`)
    else console.error(error instanceof Error ? error.stack : error)
    void end(1)
  })

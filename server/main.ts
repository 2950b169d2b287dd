import { mkdirSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import pino from 'pino'
import { BootError } from './boot-error.ts'
import { type Config, helpText, readConfig } from './config.ts'
import type { Platform } from './context.ts'
import { startHousekeeping } from './housekeeping.ts'
import { dashboardFolder, loadDashboard } from './http/dashboard.ts'
import { createHttp } from './http/server.ts'
import { attemptsIn } from './identity/attempts.ts'
import { bootstrap, followAddress } from './identity/bootstrap.ts'
import { openKeyring } from './keys/boot.ts'
import { startKeyWatch } from './keys/watch.ts'
import { createMetrics } from './observe/metrics.ts'
import { type Connection, type Database, openDatabase, sqlState } from './store/database.ts'
import { type Embedded, startEmbedded } from './store/embedded.ts'
import { migrate } from './store/migrate.ts'

/** The process: the only file that starts things, and stops them in reverse order. */
async function main(): Promise<void> {
  const config = readConfig(process.argv.slice(2), process.env)
  // Words for people go to stdout; the log, one JSON object a line, to stderr.
  const log = pino(
    { level: config.logLevel, base: null, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination(2),
  )
  const stops: (() => unknown)[] = []
  const stop = async () => {
    for (const undo of stops.reverse()) await undo()
  }
  try {
    makeDataDir(config.dataDir)
    const embedded =
      config.databaseUrl === undefined ? await startOwnDatabase(config, () => void end(stop, 1)) : undefined
    if (embedded) stops.push(() => embedded.stop())
    const db = openDatabase(connectionOf(config, embedded), (error) =>
      log.warn({ code: sqlState(error) }, 'a database connection was lost'),
    )
    stops.push(() => db.end())
    await refuseOldDatabase(db, config)
    await migrate(db, say)
    stops.push(await startHousekeeping(db, config.auditMonths, log))
    if (process.argv.some((word) => /^--master-key(-previous)?(=|$)/.test(word)))
      say('every user of this machine can see the flags of a process: better give the master key in SATUSKY_MASTER_KEY')
    const keys = await openKeyring({ db, log, seal: config.seal, say })
    const metrics = createMetrics(db)
    stops.push(() => metrics.close())
    const platform: Platform = { db, log, attempts: attemptsIn(db), keys }
    stops.push(startKeyWatch(platform))
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
    say(`ready at ${url}`)
    if (keys.sealed) say('sealed: operators open it with 1ctl admin unseal')
    if (first.email) say(`sign in as ${first.email}; the password is in ${first.file}`)
    // `on`, not `once`: a signal to the whole process group arrives twice, from the terminal and from npm.
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => void end(stop, 0))
  } catch (error) {
    await stop()
    throw error
  }
}

const say = (line: string) => console.log(`1ctl: ${line}`)

let ending = false
async function end(stop: () => Promise<void>, code: number): Promise<void> {
  if (ending) return
  ending = true
  say('finishing requests, then stopping')
  await stop()
  process.exit(code)
}

function makeDataDir(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
  } catch (error) {
    const why = error instanceof Error && 'code' in error ? String(error.code) : 'unknown reason'
    throw new BootError(`The data folder ${folder} cannot be made (${why}). Choose another with --data-dir.`)
  }
}

const startOwnDatabase = (config: Config, ended: () => void) =>
  startEmbedded({
    dataDir: config.dataDir,
    progress: say,
    exited: (reason) => {
      say(`PostgreSQL ended: ${reason}`)
      ended()
    },
  })

function connectionOf({ databaseUrl }: Config, embedded: Embedded | undefined): Connection {
  if (embedded) return embedded.connection
  return { connectionString: databaseUrl ?? '' }
}

async function refuseOldDatabase(db: Database, { databaseUrl }: Config): Promise<void> {
  const { rows } = await db
    .query<{ number: string }>("select current_setting('server_version_num') as number")
    .catch((error: unknown) => {
      throw new BootError(
        `The database at ${databaseUrl === undefined ? 'the data folder' : safeUrl(databaseUrl)} cannot be used: ${reason(error)}. Check --database-url (DATABASE_URL).`,
      )
    })
  const major = Math.floor(Number(rows[0]?.number) / 10_000)
  if (major < 15) throw new BootError(`The database is PostgreSQL ${major}; 1ctl needs 15 or newer.`)
}

const safeUrl = (text: string) => {
  const { protocol, host, pathname } = new URL(text)
  return `${protocol}//${host}${pathname}`
}

const reason = (error: unknown) =>
  error instanceof Error ? error.message || ('code' in error ? String(error.code) : error.name) : 'unknown reason'

const urlOf = ({ tls, host }: Config, port: number) =>
  `${tls ? 'https' : 'http'}://${host.includes(':') ? `[${host}]` : host}:${port}`

/** The port, which the system chose where 0 was asked for. */
async function listen(app: FastifyInstance, { host, port }: Config): Promise<number> {
  try {
    await app.listen({ host, port })
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (code === 'EADDRINUSE')
      throw new BootError(`Port ${port} on ${host} is in use. Stop what uses it, or choose another with --port.`)
    if (code === 'EACCES')
      throw new BootError(`Port ${port} may not be used by this user. Choose one above 1023 with --port.`)
    if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND')
      throw new BootError(`This machine has no address ${host}. Choose another with --host.`)
    throw error
  }
  return (app.server.address() as AddressInfo).port
}

if (process.argv.includes('--help') || process.argv.includes('-h')) console.log(helpText())
else
  main().catch((error: unknown) => {
    console.error(error instanceof BootError ? `1ctl: ${error.message}` : error)
    process.exit(1)
  })

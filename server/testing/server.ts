import { randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { apiBase } from '@1ctl/contract'
import { type Client, createClient } from '@1ctl/contract/client'
import { table } from '@1ctl/contract/table'
import pino from 'pino'
import { inject } from 'vitest'
import { startAnnouncer } from '../announce.ts'
import type { Seal } from '../config.ts'
import type { Platform } from '../context.ts'
import { type Delivery, type DeliveryOptions, startDelivery } from '../delivery/loop.ts'
import { startHousekeeping } from '../housekeeping.ts'
import { dashboardFolder, loadDashboard } from '../http/dashboard.ts'
import { createHttp, type HttpOptions } from '../http/server.ts'
import { attemptsIn } from '../identity/attempts.ts'
import { type Bootstrap, bootstrap } from '../identity/bootstrap.ts'
import { openKeyring } from '../keys/boot.ts'
import { startKeyWatch } from '../keys/watch.ts'
import type { Kubernetes } from '../kubernetes/client.ts'
import { createMetrics, type Metrics } from '../observe/metrics.ts'
import { type Database, openDatabase } from '../store/database.ts'
import { type TestDatabase, template } from './global-setup.ts'

export type TestServer = Bootstrap & {
  db: Database
  platform: Platform
  metrics: Metrics
  delivery: Delivery | undefined
  /** the database's name, to start a second server on it */
  database: string
  /** what the server has logged so far */
  log(): string
  /** the typed client, with a token or a cookie */
  client(credential?: Credential): Client
  /** one raw request below the API's base, or anywhere with an absolute URL */
  call(path: string, init?: CallInit): Promise<Answer>
  close(): Promise<void>
}

/** Without it a test server delivers nothing: its apps and rollouts stay as they were written. */
export type TestDelivery = DeliveryOptions & { kubernetes: Kubernetes }

export type Credential = { token: string } | { cookie: string }
export type CallInit = {
  method?: string
  body?: unknown
  headers?: Record<string, string>
  as?: Credential
  from?: string
}
// oxlint-disable-next-line typescript/no-explicit-any -- tests look into answers of every shape
export type Answer = { status: number; headers: Headers; text: string; body: any }

/**
 * A running server over a database of its own, as `npm start` would leave it: first organization, owner and token. It trusts
 * forwarded headers, so that a test can come from an address of its own (`from`).
 */
export async function startTestServer(
  options: Partial<HttpOptions> & { database?: string; seal?: Seal; delivery?: TestDelivery } = {},
): Promise<TestServer> {
  const { database: existing, seal = testSeal, delivery: deliverTo, ...http } = options
  const database = existing ?? (await newDatabase())
  const db = openDatabase({ ...inject('postgres'), database }, () => undefined)
  const lines: string[] = []
  const log = pino({ level: 'debug' }, new Writable({ write: (line, _, done) => (lines.push(String(line)), done()) }))
  const metrics = createMetrics(db)
  const stopHousekeeping = await startHousekeeping(db, undefined, log)
  const keys = await openKeyring({ db, log, seal, say: () => undefined })
  const announcer = startAnnouncer(db, log)
  const platform: Platform = {
    db,
    log,
    attempts: attemptsIn(db),
    keys,
    announcer,
    cluster: { kubernetes: deliverTo?.kubernetes },
  }
  const stopKeyWatch = startKeyWatch(platform, 500)
  const delivery = deliverTo && startDelivery(platform, metrics.delivery, deliverTo.kubernetes, deliverTo)
  const app = await createHttp(platform, metrics, {
    trustProxy: true,
    dashboard: loadDashboard(dashboardFolder),
    ...http,
  })
  await app.listen({ host: '127.0.0.1', port: 0 })
  const url = `${http.tls ? 'https' : 'http'}://127.0.0.1:${(app.server.address() as AddressInfo).port}`
  const dataDir = mkdtempSync(join(tmpdir(), '1ctl-test-'))
  const { file } = await bootstrap(db, dataDir, url)
  const first = existing
    ? ({ url, apiUrl: url + apiBase } as Bootstrap)
    : (JSON.parse(readFileSync(file, 'utf8')) as Bootstrap)
  const call = (path: string, init: CallInit = {}) => send(path.startsWith('http') ? path : first.apiUrl + path, init)
  return {
    ...first,
    db,
    platform,
    metrics,
    delivery,
    database,
    log: () => lines.join(''),
    call,
    client: (as = { token: first.token }) =>
      createClient(table, async ({ method, path, headers, body }) => {
        const answer = await call(path, { method, headers, as, ...(body === undefined ? {} : { body }) })
        return answer
      }),
    close: async () => {
      await delivery?.close()
      await stopKeyWatch()
      stopHousekeeping()
      metrics.close()
      await app.close()
      await announcer.close()
      await db.end()
      rmSync(dataDir, { recursive: true, force: true })
    },
  }
}

/** The same for all, so that a second server on the same database opens what the first has sealed. */
export const testSeal: Seal = { source: 'env', key: Buffer.alloc(32, 'test key'), previous: undefined }

/** An empty database with the schema of now. */
export async function newDatabase(): Promise<string> {
  const server: TestDatabase = inject('postgres')
  const database = `test_${randomBytes(8).toString('hex')}`
  const admin = openDatabase({ ...server, database: 'postgres' }, () => undefined)
  await admin.query(`create database ${database} template ${template}`)
  await admin.end()
  return database
}

async function beginningOf(answer: Response): Promise<string> {
  const reader = answer.body?.getReader()
  const chunk = await reader?.read()
  await reader?.cancel()
  return Buffer.from(chunk?.value ?? []).toString()
}

async function send(url: string, { method, body, headers = {}, as, from }: CallInit): Promise<Answer> {
  const answer = await fetch(url, {
    method: method ?? (body === undefined ? 'GET' : 'POST'),
    redirect: 'manual',
    headers: {
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(as && 'token' in as ? { 'x-satusky-api-key': as.token } : {}),
      // A cookie request comes from our own page, unless the test says otherwise.
      ...(as && 'cookie' in as ? { cookie: as.cookie, origin: new URL(url).origin } : {}),
      ...(from ? { 'x-forwarded-for': from } : {}),
      ...headers,
    },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  })
  // What does not end is looked at as it begins.
  const isEndless = answer.headers.get('content-type')?.startsWith('text/event-stream')
  const text = isEndless ? await beginningOf(answer) : await answer.text()
  return { status: answer.status, headers: answer.headers, text, body: parse(text) }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

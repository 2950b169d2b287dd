import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { Agent, request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import pino from 'pino'
import { afterEach } from 'vitest'
import { type EmbeddedCluster, startEmbeddedCluster } from './embedded.ts'

// oxlint-disable-next-line typescript/no-explicit-any -- tests look into answers of every shape
export type Answer = { status: number; headers: Record<string, unknown>; text: string; body: any }
export type Call = {
  method?: string
  body?: unknown
  type?: string
  headers?: Record<string, string>
}

export type Api = {
  call: (path: string, init?: Call) => Promise<Answer>
  /** the lines of an answer that does not end, as they come */
  stream: (path: string) => { lines: string[]; ended: Promise<number>; close: () => void }
  close: () => void
}

export type TestCluster = EmbeddedCluster &
  Api & {
    dataDir: string
    /** what it has logged */
    log: () => string
    kubectl: (...args: string[]) => Promise<string>
    /** stops it and starts it again on the same folder */
    restart: () => Promise<TestCluster>
  }

const undo: (() => unknown)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

export function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), '1ctl-cluster-'))
  undo.push(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

export async function startTestCluster(dataDir = newFolder(), port?: number): Promise<TestCluster> {
  const lines: string[] = []
  const log = pino({ level: 'debug' }, new Writable({ write: (line, _, done) => (lines.push(String(line)), done()) }))
  const cluster = await startEmbeddedCluster({ dataDir, log, port })
  const api = apiOf(cluster.url, cluster.token, cluster.certificate)
  let stopped = false
  const stop = async () => {
    if (stopped) return
    stopped = true
    api.close()
    await cluster.stop()
  }
  undo.push(stop)
  return {
    ...cluster,
    ...api,
    stop,
    dataDir,
    log: () => lines.join(''),
    kubectl: (...args) => kubectl(cluster.kubeconfigFile, ...args),
    async restart() {
      await stop()
      return startTestCluster(dataDir)
    },
  }
}

/** From a kubeconfig with one cluster and one user with a token. */
export function apiFrom(kubeconfigFile: string): Api {
  const text = readFileSync(kubeconfigFile, 'utf8')
  const read = (pattern: RegExp) => pattern.exec(text)![1]!
  const authority = Buffer.from(read(/certificate-authority-data"?: ?"?([\w+/=]+)/), 'base64').toString()
  return apiOf(read(/server"?: ?"?(https:\/\/[\d.:]+)/), read(/token"?: ?"?([\w-]+)/), authority)
}

function apiOf(url: string, token: string, ca: string): Api {
  const agent = new Agent({ keepAlive: true, ca })
  const open = (path: string, { method = 'GET', headers = {} }: Call) =>
    request(url + path, {
      method,
      agent,
      ...(headers.host && { servername: 'localhost' }),
      headers: { authorization: `Bearer ${token}`, ...headers },
    })
  return {
    close: () => agent.destroy(),
    call: (path, init = {}) =>
      new Promise((resolve, reject) => {
        const { body, type = 'application/json' } = init
        const text = body === undefined || typeof body === 'string' ? body : JSON.stringify(body)
        const length = String(Buffer.byteLength(text ?? ''))
        const headers = {
          ...(text !== undefined && { 'content-type': type, 'content-length': length }),
          ...init.headers,
        }
        const sent = open(path, { ...init, headers })
        sent.on('error', reject)
        sent.on('response', (response) => {
          const chunks: Buffer[] = []
          response.on('data', (chunk: Buffer) => chunks.push(chunk))
          response.on('error', reject)
          response.on('end', () => {
            const text = Buffer.concat(chunks).toString()
            resolve({ status: response.statusCode!, headers: response.headers, text, body: jsonIn(text) })
          })
        })
        sent.end(text)
      }),
    stream(path) {
      const lines: string[] = []
      const sent = open(path, {})
      const ended = new Promise<number>((resolve) => {
        sent.on('error', () => resolve(0))
        sent.on('response', (response) => {
          let rest = ''
          response.on('data', (chunk: Buffer) => {
            const parts = (rest + chunk.toString()).split('\n')
            rest = parts.pop()!
            lines.push(...parts)
          })
          response.on('error', () => resolve(response.statusCode!))
          response.on('end', () => resolve(response.statusCode!))
        })
      })
      sent.end()
      return { lines, ended, close: () => sent.destroy() }
    },
  }
}

function jsonIn(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** stdout; a failure's message ends with what it printed. */
export function kubectl(kubeconfigFile: string, ...args: string[]): Promise<string> {
  // Its cache of what a server has would outlive the server, whose port another one may get.
  const cache = newFolder()
  return new Promise((resolve, reject) => {
    const options = { env: { ...process.env, KUBECONFIG: kubeconfigFile, KUBECACHEDIR: cache } }
    execFile('kubectl', args, options, (error, stdout, stderr) =>
      error ? reject(new Error(`kubectl ${args.join(' ')}: ${stdout}${stderr}`)) : resolve(stdout),
    )
  })
}

/** Until the answer is something. */
export async function until<Found>(look: () => Promise<Found | undefined | false>, ms = 10_000): Promise<Found> {
  const end = Date.now() + ms
  for (;;) {
    const found = await look()
    if (found) return found
    if (Date.now() > end) throw new Error(`not within ${ms} ms`)
    await sleep(20)
  }
}

export const apply = 'application/apply-patch+yaml'
export const merge = 'application/merge-patch+json'
export const strategic = 'application/strategic-merge-patch+json'
export const jsonPatch = 'application/json-patch+json'

export const secretsIn = '/api/v1/namespaces/default/secrets'
export const deploymentsIn = '/apis/apps/v1/namespaces/default/deployments'
export const podsIn = '/api/v1/namespaces/default/pods'

export const secret = (name: string, data: Record<string, string>, more: object = {}) => ({
  apiVersion: 'v1',
  kind: 'Secret',
  metadata: { name },
  data: Object.fromEntries(Object.entries(data).map(([key, value]) => [key, Buffer.from(value).toString('base64')])),
  ...more,
})

export const deployment = (name: string, container: object = {}, spec: object = {}) => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name },
  spec: {
    replicas: 1,
    selector: { matchLabels: { app: name } },
    template: {
      metadata: { labels: { app: name } },
      spec: { containers: [{ name: 'app', image: 'nginx:1.27', ...container }] },
    },
    ...spec,
  },
})

import { execFile } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { get } from 'node:http'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { apiBase } from '@1ctl/contract'
import { type Client, createClient } from '@1ctl/contract/client'
import { table } from '@1ctl/contract/table'
import { listOf, type Place } from '../server/delivery/testing.ts'
import { connect } from '../server/kubernetes/client.ts'
import type { Found } from '../server/kubernetes/kinds.ts'
import { readKubeconfig } from '../server/kubernetes/kubeconfig.ts'
import { openDatabase } from '../server/store/database.ts'
import { type Cluster, startCluster } from './cluster/cluster.ts'
import { boot, call, type Running, readBootstrap, ready, root } from './processes.ts'

/** A genuine Kubernetes with a node, where the product has its own account with the role that it ships, and no right more. */
export type RealPlace = Place & {
  cluster: Cluster
  /** of that account */
  accountFile: string
  /** what a command prints in the first container of a pod */
  exec(pod: Pod, ...command: string[]): Promise<string>
}

export type Pod = Found<'Pod'>

export async function realPlace(): Promise<RealPlace> {
  const cluster = await startCluster({ node: true })
  try {
    const kubernetes = connect(await readKubeconfig(cluster.kubeconfig), { timeoutMs: 10_000 })
    await cluster.kubectl('apply', '-f', join(root, 'deploy/kubernetes/rbac.yaml'))
    const token = await cluster.kubectl('create', 'token', '1ctl', '--namespace=1ctl', '--duration=12h')
    const accountFile = join(cluster.dir, 'account.kubeconfig')
    const config = JSON.parse(readFileSync(cluster.kubeconfig, 'utf8')) as object
    const users = [{ name: 'admin', user: { token: token.trim() } }]
    writeFileSync(accountFile, JSON.stringify({ ...config, users }), { mode: 0o600 })
    return {
      isReal: true,
      cluster,
      kubernetes,
      kubeconfigFile: cluster.kubeconfig,
      accountFile,
      connect: async () => connect(await readKubeconfig(accountFile), { timeoutMs: 3_000 }),
      pause: () => cluster.stopApi(),
      restart: () => cluster.startApi(),
      list: listOf(kubernetes),
      exec: async ({ metadata }, ...command) => {
        const where = ['--kubeconfig', cluster.kubeconfig, '--namespace', metadata.namespace!]
        const { stdout } = await execute('kubectl', [...where, 'exec', metadata.name, '--', ...command])
        return stdout
      },
      stop: async () => {
        kubernetes.close()
        await cluster.stop()
      },
    }
  } catch (error) {
    await cluster.stop()
    throw error
  }
}

const execute = promisify(execFile)

/** The built server as a process, and what is asked of it. */
export type Product = {
  child: Running
  url: string
  apiUrl: string
  token: string
  client: Client
  /** how many writes to the cluster it has made */
  writes(): Promise<number>
}

/** With its embedded database in a folder, or on the database that is named in the environment. */
export async function startProduct(
  { accountFile }: RealPlace,
  dataDir: string,
  { env = {}, token: known }: { env?: Record<string, string>; token?: string } = {},
): Promise<Product> {
  const child = boot({ 'data-dir': dataDir, cluster: 'kubeconfig', kubeconfig: accountFile }, { env })
  const url = await ready(child)
  const token = known ?? readBootstrap(dataDir).token
  return {
    child,
    url,
    apiUrl: url + apiBase,
    token,
    client: clientOf(url, token),
    writes: async () => {
      const { text } = await call({ apiUrl: url }, `${url}/metrics`)
      return Array.from(text.matchAll(/^satusky_kubernetes_writes_total\{.*\} (\d+)$/gm), ([, count]) =>
        Number(count),
      ).reduce((sum, count) => sum + count, 0)
    },
  }
}

const clientOf = (url: string, token: string) =>
  createClient(table, async ({ method, path, headers, body }) => {
    const all = { ...headers, 'x-satusky-api-key': token }
    const answer = await fetch(url + apiBase + path, { method, headers: all, ...(body === undefined ? {} : { body }) })
    return { status: answer.status, headers: answer.headers, text: await answer.text() }
  })

/** Of each app of a product with an embedded database: when its row was last written, and whether the loop has work with it. */
export async function rowsOfApps(dataDir: string): Promise<{ id: string; written: string; isDue: boolean }[]> {
  const at = { host: join(dataDir, 'postgres'), port: 5432, user: 'satusky', database: 'satusky' }
  const db = openDatabase(at, () => undefined)
  try {
    const sql = `select id, xmin::text as written, due_at is not null or claimed_by is not null as "isDue" from apps`
    return (await db.query<{ id: string; written: string; isDue: boolean }>(sql)).rows
  } finally {
    await db.end()
  }
}

/** What a pod answers at its own address: there is no proxy for Services. */
export const fetchFrom = (pod: Pod, port: number, path = '/') =>
  new Promise<string>((resolve, reject) => {
    const options = { host: pod.status!.podIP, port, path, timeout: 10_000, agent: false as const }
    const request = get(options, (answer) => void text(answer).then(resolve, reject))
    request.on('timeout', () => request.destroy(new Error('no answer')))
    request.on('error', reject)
  })

export const isReady = ({ status }: Pod) =>
  status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false

/** Variables as the container's first process got them, without those that image, runtime and API server put into every one. */
export async function environmentOf(place: RealPlace, pod: Pod): Promise<Record<string, string>> {
  const entries = (await place.exec(pod, 'cat', '/proc/1/environ'))
    .split('\0')
    .filter(Boolean)
    .map((entry) => entry.split(/=(.*)/s, 2) as [string, string])
  return Object.fromEntries(entries.filter(([name]) => !/^(PATH|HOME|HOSTNAME|KUBERNETES_.*)$/.test(name)))
}

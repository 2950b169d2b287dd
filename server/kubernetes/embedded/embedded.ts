import { randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync } from 'node:fs'
import { createServer, request, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { BootError } from '../../boot-error.ts'
import { writePrivate } from '../../private-file.ts'
import { selfSigned } from './certificate.ts'
import { startControllers } from './controllers.ts'
import { gitVersion } from './discovery.ts'
import { createEvents } from './events.ts'
import { handler } from './http.ts'
import { kindOf } from './kinds.ts'
import { sendLogs } from './logs.ts'
import { nodeName, notice, noticeKey } from './pods.ts'
import { openStore, type Store } from './store.ts'
import { addOwn } from './write.ts'

export type EmbeddedCluster = {
  url: string
  token: string
  /** the certificate that the server shows, to be trusted as an authority */
  certificate: string
  /** usable by kubectl as it is; mode 0600 */
  kubeconfigFile: string
  stop(): Promise<void>
}

type Options = {
  dataDir: string
  log: Logger
  /** the port to try first; without it, the one of last time. If it is taken the system chooses another */
  port?: number
}

/** A subset of the Kubernetes API in this process, on loopback. No container runs: pods are simulated. See docs/embedded-cluster.md. */
export async function startEmbeddedCluster({ dataDir, log, port }: Options): Promise<EmbeddedCluster> {
  const folder = join(dataDir, 'cluster')
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const identity = identityIn(folder)
  await refuseSecondServer(identity, folder)

  const store = openStore(folder)
  addFirstObjects(store)
  const events = createEvents(store)
  const { token, key, certificate } = identity
  const server: Server = createServer(
    { key, cert: certificate },
    handler({
      store,
      token,
      log,
      address: () => `127.0.0.1:${(server.address() as AddressInfo).port}`,
      logs: (pod, query, response) => sendLogs(store, pod, query, response),
      expireEvents: events.expire,
    }),
  )
  // A client that keeps its connections should be the one to close them: otherwise it may write into one that has just ended.
  server.keepAliveTimeout = 120_000
  const listening = await listen(server, port ?? identity.port)
  const controllers = startControllers(store, events, log)

  const url = `https://127.0.0.1:${listening}`
  if (listening !== identity.port) writeIdentity(folder, { ...identity, port: listening })
  const kubeconfigFile = join(dataDir, 'kubeconfig')
  ensureFile(kubeconfigFile, kubeconfig(url, identity))
  return {
    url,
    token,
    certificate,
    kubeconfigFile,
    async stop() {
      controllers.stop()
      const closed = new Promise((resolve) => server.close(resolve))
      server.closeAllConnections()
      await closed
      store.close()
    },
  }
}

type Identity = { token: string; key: string; certificate: string; port: number }

const identityFile = (folder: string) => join(folder, 'identity.json')
const writeIdentity = (folder: string, identity: Identity) =>
  writePrivate(identityFile(folder), `${JSON.stringify(identity, null, 2)}\n`)

/** Who this cluster is to its clients: it stays the same, so that a kubeconfig handed out goes on working. */
function identityIn(folder: string): Identity {
  const text = readIfThere(identityFile(folder))
  if (text === undefined) {
    const identity = { token: randomBytes(32).toString('base64url'), ...selfSigned('1ctl embedded cluster'), port: 0 }
    writeIdentity(folder, identity)
    return identity
  }
  try {
    return JSON.parse(text) as Identity
  } catch {
    throw new BootError(`${identityFile(folder)} is damaged. Remove it, and a new one is made (and a new kubeconfig).`)
  }
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
}

/** Two writers would tear the journal. Whoever answers with our certificate and knows our token has this folder in use. */
async function refuseSecondServer({ port, certificate, token }: Identity, folder: string): Promise<void> {
  if (!port) return
  const isRunning = await new Promise<boolean>((resolve) => {
    const options = { port, host: '127.0.0.1', path: '/healthz', ca: certificate, timeout: 2000, agent: false }
    const probe = request({ ...options, headers: { authorization: `Bearer ${token}` } }, (response) => {
      response.resume()
      resolve(response.statusCode === 200)
    })
    probe.on('timeout', () => probe.destroy())
    probe.on('error', () => resolve(false))
    probe.end()
  })
  if (isRunning)
    throw new BootError(
      `Another 1ctl server is using the embedded cluster in ${folder}. Stop it, or choose another folder with --data-dir.`,
    )
}

async function listen(server: Server, port: number): Promise<number> {
  const tryPort = (port: number) =>
    new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(port, '127.0.0.1', () => {
        server.off('error', reject)
        resolve()
      })
    })
  await tryPort(port).catch((error: unknown) => {
    if (!(error instanceof Error && 'code' in error && (error.code === 'EADDRINUSE' || error.code === 'EACCES')))
      throw error
    return tryPort(0)
  })
  return (server.address() as AddressInfo).port
}

/** Where nothing changes the file is left alone. */
function ensureFile(path: string, text: string): void {
  if (readIfThere(path) !== text) writePrivate(path, text)
}

function kubeconfig(server: string, { token, certificate }: Identity): string {
  const authority = Buffer.from(certificate).toString('base64')
  return `apiVersion: v1
kind: Config
clusters:
- name: 1ctl-simulated
  cluster:
    server: ${server}
    certificate-authority-data: ${authority}
users:
- name: 1ctl-simulated
  user:
    token: ${token}
contexts:
- name: 1ctl-simulated
  context:
    cluster: 1ctl-simulated
    user: 1ctl-simulated
current-context: 1ctl-simulated
`
}

/** What a new cluster has. */
function addFirstObjects(store: Store): void {
  const namespaces = kindOf('Namespace')
  for (const name of ['default', 'kube-node-lease', 'kube-public', 'kube-system'])
    if (!store.get(namespaces, '', name)) addOwn(store, namespaces, { metadata: { name } })
  const nodes = kindOf('Node')
  if (store.get(nodes, '', nodeName)) return
  addOwn(store, nodes, {
    metadata: { name: nodeName, annotations: { [noticeKey]: notice }, labels: { 'kubernetes.io/hostname': nodeName } },
    spec: {},
    status: {
      addresses: [{ type: 'Hostname', address: nodeName }],
      capacity: { pods: '10000' },
      allocatable: { pods: '10000' },
      conditions: [{ type: 'Ready', status: 'True', reason: 'Simulated', message: notice }],
      nodeInfo: {
        architecture: 'none',
        bootID: '',
        containerRuntimeVersion: 'simulated://none',
        kernelVersion: 'none',
        kubeProxyVersion: '',
        kubeletVersion: gitVersion,
        machineID: '',
        operatingSystem: 'linux',
        osImage: 'simulated',
        systemUUID: '',
      },
    },
  })
}

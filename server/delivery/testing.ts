import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Client } from '@1ctl/contract/client'
import pino from 'pino'
import { connect, type Kubernetes } from '../kubernetes/client.ts'
import { startEmbeddedCluster } from '../kubernetes/embedded/embedded.ts'
import { apiFrom } from '../kubernetes/embedded/testing.ts'
import type { Found, Kind } from '../kubernetes/kinds.ts'
import { readKubeconfig } from '../kubernetes/kubeconfig.ts'
import { type Credential, startTestServer, type TestServer } from '../testing/server.ts'
import { oursSelector } from './desired.ts'
import type { DeliveryOptions } from './loop.ts'

/** A cluster that tests deliver to. */
export type Place = {
  /** whether its containers are real */
  isReal: boolean
  /** an administrator's */
  kubernetes: Kubernetes
  kubeconfigFile: string
  /** a connection such as each server has */
  connect(): Promise<Kubernetes>
  /** takes the API server away, and brings it back */
  pause(): Promise<void>
  restart(): Promise<void>
  /** what is ours */
  list<K extends Kind>(kind: K, namespace?: string): Promise<Found<K>[]>
  stop(): Promise<void>
}

export async function embeddedPlace(): Promise<Place> {
  const dataDir = mkdtempSync(join(tmpdir(), '1ctl-test-'))
  const start = () => startEmbeddedCluster({ dataDir, log: pino({ level: 'silent' }) })
  let embedded = await start()
  const connectToIt = async () => connect(await readKubeconfig(embedded.kubeconfigFile), { timeoutMs: 3_000 })
  const kubernetes = await connectToIt()
  return {
    isReal: false,
    kubernetes,
    kubeconfigFile: embedded.kubeconfigFile,
    connect: connectToIt,
    pause: () => embedded.stop(),
    restart: async () => {
      embedded = await start()
    },
    list: listOf(kubernetes),
    stop: async () => {
      kubernetes.close()
      await embedded.stop()
      rmSync(dataDir, { recursive: true, force: true })
    },
  }
}

export const listOf =
  (kubernetes: Kubernetes): Place['list'] =>
  async (kind, namespace) =>
    (await kubernetes.list(kind, { labels: oursSelector, ...(namespace ? { namespace } : {}) })).items

/** Quicker than the product: one restart is a crash loop. Two seconds, as times of Kubernetes are whole seconds. */
export const quick = {
  times: { minReadySeconds: 2, progressDeadlineSeconds: 30 },
  patience: { restarts: 1, lastingMs: 1_500 },
} satisfies DeliveryOptions

/** A server that delivers to the place. */
export async function startDelivering(
  place: Place,
  { times, patience, tickMs, resyncMs, ...others }: DeliveryOptions & Parameters<typeof startTestServer>[0] = {},
): Promise<TestServer> {
  const delivery = {
    kubernetes: await place.connect(),
    times: times ?? quick.times,
    patience: patience ?? quick.patience,
    ...(tickMs ? { tickMs } : {}),
    ...(resyncMs ? { resyncMs } : {}),
  }
  const server = await startTestServer({ ...others, delivery })
  let isClosed = false
  const close = async () => {
    if (!isClosed) await server.close()
    isClosed = true
  }
  return { ...server, close }
}

/** Until the answer is something. */
export async function eventually<Found>(
  look: () => Promise<Found | undefined | false | null>,
  ms = 20_000,
): Promise<Found> {
  const end = Date.now() + ms
  for (;;) {
    const found = await look()
    if (found) return found
    if (Date.now() > end) throw new Error(`not within ${ms} ms`)
    await sleep(20)
  }
}

type Deploy = Parameters<Client['deploy']>[0]

/** Deploys and waits for the end of the rollout. */
export async function deployed(server: TestServer, input: Deploy, as?: Credential) {
  const answer = await server.client(as).deploy(input)
  if (!answer.rollout) throw new Error('nothing to roll out')
  return receipt(server, answer.rollout.id, as)
}

/** The receipt once it is over. */
export async function receipt(server: TestServer, id: string, as?: Credential, ms = 60_000) {
  return eventually(async () => {
    const found = await server.client(as).rolloutView({ id, wait: 1 })
    return found.finishedAt !== null && found
  }, ms)
}

/** The receipt as soon as it is in this state. */
export const receiptIn = (server: TestServer, id: string, state: string) =>
  eventually(async () => {
    const found = await server.client().rolloutView({ id })
    return found.state === state && found
  })

/** How many writes to the cluster there were so far. */
export async function writesOf(server: TestServer): Promise<number> {
  const { values } = await server.metrics.delivery.kubernetesWrites.get()
  return values.reduce((sum, { value }) => sum + value, 0)
}

/** Until the loop writes no more, and no app is due. */
export async function settled(server: TestServer): Promise<void> {
  await eventually(async () => {
    const before = await writesOf(server)
    await sleep(200)
    const { rowCount } = await server.db.query('select from apps where due_at <= now() or claimed_by is not null')
    return rowCount === 0 && (await writesOf(server)) === before
  })
}

/** Changes made by someone else: not by the product's client, whose manager of fields is `1ctl`. */
export async function editBy(place: Place, ref: { namespace: string; name: string }, body: object): Promise<void> {
  const path = `/apis/apps/v1/namespaces/${ref.namespace}/deployments/${ref.name}?fieldManager=kubectl-edit`
  await call(place, path, { method: 'PATCH', type: 'application/strategic-merge-patch+json', body })
}
export async function createBy(place: Place, kind: 'Namespace' | 'Secret' | 'Service', object: object): Promise<void> {
  const { metadata } = object as { metadata: { namespace?: string } }
  const plural = `${kind.toLowerCase()}s`
  const path = `/api/v1${metadata.namespace ? `/namespaces/${metadata.namespace}` : ''}/${plural}`
  const body = { apiVersion: 'v1', kind, ...object }
  await call(place, `${path}?fieldManager=kubectl-create`, { method: 'POST', body })
}

async function call({ kubeconfigFile }: Place, path: string, init: Parameters<ReturnType<typeof apiFrom>['call']>[1]) {
  const api = apiFrom(kubeconfigFile)
  try {
    const { status, text } = await api.call(path, init)
    if (status >= 300) throw new Error(`${status}: ${text}`)
  } finally {
    api.close()
  }
}

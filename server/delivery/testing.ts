import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Client } from '@1ctl/contract/client'
import { decodeId } from '@1ctl/contract/ids'
import pino from 'pino'
import { connect, type Kubernetes } from '../kubernetes/client.ts'
import { startEmbeddedCluster } from '../kubernetes/embedded/embedded.ts'
import type { Found, Kind } from '../kubernetes/kinds.ts'
import { readKubeconfig } from '../kubernetes/kubeconfig.ts'
import { type Credential, startTestServer, type TestServer } from '../testing/server.ts'
import { oursSelector } from './desired.ts'
import type { DeliveryOptions } from './loop.ts'

/** Quick enough for tests: a pod has to stay ready for a moment only, and one restart is a crash loop. */
export const quick: DeliveryOptions = {
  times: { minReadySeconds: 0, progressDeadlineSeconds: 20 },
  patience: { restarts: 1, lastingMs: 1_500 },
}

export type Place = {
  kubernetes: Kubernetes
  kubeconfigFile: string
  /** another connection, such as each server has */
  connect(): Promise<Kubernetes>
  list<K extends Kind>(kind: K, namespace?: string): Promise<Found<K>[]>
  stop(): Promise<void>
}

/** The embedded cluster, as a place that tests deliver to. */
export async function embeddedPlace(): Promise<Place & { restart(): Promise<void>; pause(): Promise<void> }> {
  const dataDir = mkdtempSync(join(tmpdir(), '1ctl-test-'))
  const log = pino({ level: 'silent' })
  let embedded = await startEmbeddedCluster({ dataDir, log })
  const connectToIt = async () => connect(await readKubeconfig(embedded.kubeconfigFile), { timeoutMs: 3_000 })
  const place = placeOf(await connectToIt(), embedded.kubeconfigFile, connectToIt)
  return {
    ...place,
    pause: () => embedded.stop(),
    restart: async () => {
      embedded = await startEmbeddedCluster({ dataDir, log })
    },
    stop: async () => {
      place.kubernetes.close()
      await embedded.stop()
      rmSync(dataDir, { recursive: true, force: true })
    },
  }
}

export function placeOf(kubernetes: Kubernetes, kubeconfigFile: string, connectToIt: () => Promise<Kubernetes>): Place {
  return {
    kubernetes,
    kubeconfigFile,
    connect: connectToIt,
    list: async (kind, namespace) => {
      const where = { labels: oursSelector, ...(namespace ? { namespace } : {}) }
      return (await kubernetes.list(kind, where)).items
    },
    stop: () => Promise.resolve(),
  }
}

/** A server that delivers to the place. */
export const startDelivering = async (
  place: Place,
  options: DeliveryOptions & Parameters<typeof startTestServer>[0] = {},
): Promise<TestServer> => {
  const { times, patience, tickMs, resyncMs, ...others } = { ...quick, ...options }
  const delivery = Object.fromEntries(
    Object.entries({ times, patience, tickMs, resyncMs }).filter(([, value]) => value !== undefined),
  )
  return startTestServer({ ...others, delivery: { ...delivery, kubernetes: await place.connect() } })
}

/** Until the answer is something. */
export async function eventually<Found>(
  look: () => Promise<Found | undefined | false | null>,
  ms = 10_000,
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
  return answer.rollout ? receipt(server, answer.rollout.id, as) : undefined
}

/** The receipt once it is over. */
export async function receipt(server: TestServer, id: string, as?: Credential, ms = 20_000) {
  return eventually(async () => {
    const found = await server.client(as).rolloutView({ id, wait: 1 })
    return found.finishedAt !== null && found
  }, ms)
}

/** The number of writes to the cluster so far, in all or of one verb. */
export async function writesOf(server: TestServer, verb?: string): Promise<number> {
  const { values } = await server.metrics.delivery.kubernetesWrites.get()
  return values
    .filter(({ labels }) => verb === undefined || labels.verb === verb)
    .reduce((sum, { value }) => sum + value, 0)
}

export const rawId = (id: string) => decodeId(undefined, id) ?? ''

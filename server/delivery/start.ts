import { Client } from 'pg'
import type { ClusterChoice, Config } from '../config.ts'
import type { Platform } from '../context.ts'
import { connect } from '../kubernetes/client.ts'
import { startEmbeddedCluster } from '../kubernetes/embedded/embedded.ts'
import { readInCluster, readKubeconfig } from '../kubernetes/kubeconfig.ts'
import type { DeliveryMetrics } from '../observe/metrics.ts'
import { startDelivery } from './loop.ts'

/** Delivery to the cluster that was named. Says which one it is; returns what stops it. */
export function deliver(
  platform: Platform,
  metrics: DeliveryMetrics,
  { cluster, dataDir }: Pick<Config, 'cluster' | 'dataDir'>,
  say: (line: string) => void,
): Promise<() => Promise<void>> {
  return cluster.kind === 'embedded'
    ? deliverEmbedded(platform, metrics, dataDir, say)
    : deliverTo(platform, metrics, cluster, say)
}

// Not longer, since whoever waits for a rollout should hear soon that the cluster does not answer.
const timeoutMs = 10_000

async function deliverTo(
  platform: Platform,
  metrics: DeliveryMetrics,
  cluster: Exclude<ClusterChoice, { kind: 'embedded' }>,
  say: (line: string) => void,
) {
  const connection = cluster.kind === 'kubeconfig' ? await readKubeconfig(cluster.path) : readInCluster()
  const kubernetes = connect(connection, { timeoutMs })
  platform.cluster.kubernetes = kubernetes
  say(`apps run in the cluster at ${connection.server}`)
  // Said, but no reason to stay down: it may come back, and everything else works without it.
  await kubernetes.version().catch((error: unknown) => say(`${(error as Error).message}; apps wait until it is back`))
  const delivery = startDelivery(platform, metrics, kubernetes)
  return () => delivery.close()
}

/**
 * Of several servers on one database, one has the embedded cluster: two would each be delivered half of the apps. The lock goes with the
 * connection that holds it, so another server takes over when this one dies.
 */
async function deliverEmbedded(
  platform: Platform,
  metrics: DeliveryMetrics,
  dataDir: string,
  say: (line: string) => void,
): Promise<() => Promise<void>> {
  let isStopped = false
  let stop: (() => Promise<void>) | undefined
  let retry: NodeJS.Timeout | undefined

  const begin = async () => {
    const embedded = await startEmbeddedCluster({ dataDir, log: platform.log })
    const kubernetes = connect(await readKubeconfig(embedded.kubeconfigFile), { timeoutMs })
    platform.cluster.kubernetes = kubernetes
    const delivery = startDelivery(platform, metrics, kubernetes)
    say(
      `apps run in the embedded cluster: simulated, no container runs; kubectl --kubeconfig ${embedded.kubeconfigFile}`,
    )
    return async () => {
      await delivery.close()
      await embedded.stop()
    }
  }
  const attempt = async (): Promise<boolean> => {
    if (isStopped) return false
    const lock = await holdLock(platform, () => {
      // Another may have it by now. Whatever we had begun, it finishes.
      platform.log.warn('the lock on the embedded cluster was lost with its connection')
      const stopping = stop?.()
      stop = undefined
      void stopping?.finally(later)
    })
    if (!lock) return false
    const end = await begin()
    stop = async () => {
      await end()
      await lock.release()
    }
    return true
  }
  const later = () => {
    if (isStopped) return
    retry = setTimeout(() => {
      attempt().then(
        (isOurs) => isOurs || later(),
        (error: unknown) => {
          platform.log.warn({ err: error instanceof Error ? error.name : typeof error }, 'no embedded cluster yet')
          later()
        },
      )
    }, 2_000).unref()
  }

  if (!(await attempt())) {
    say('another server on this database has the embedded cluster; apps run there for as long as it does')
    later()
  }
  return async () => {
    isStopped = true
    clearTimeout(retry)
    await stop?.()
  }
}

const lockNumber = 7117_001

/** Undefined where another server has it. */
async function holdLock({ db }: Platform, lost: () => void): Promise<{ release: () => Promise<void> } | undefined> {
  const client = new Client(db.options)
  client.on('error', () => undefined)
  let isOver = false
  const ended = () => {
    if (isOver) return
    isOver = true
    client.end().catch(() => undefined)
    lost()
  }
  try {
    await client.connect()
    const { rows } = await client.query<{ held: boolean }>('select pg_try_advisory_lock($1) as held', [lockNumber])
    if (rows[0]?.held) {
      client.on('error', ended).on('end', ended)
      return {
        release: async () => {
          isOver = true
          await client.end().catch(() => undefined)
        },
      }
    }
    await client.end()
    return undefined
  } catch (error) {
    await client.end().catch(() => undefined)
    throw error
  }
}

// Ten thousand bags: delivered for the first time, and then left alone.
import { setTimeout as sleep } from 'node:timers/promises'
import { bare, bareList, busyboxImage, kubeconfigOfNothing } from '../cluster.mjs'
import { cpuSeconds, cpuSecondsOfTree, memory } from '../processes.mjs'
import { call, select, startProduct } from '../servers.mjs'

const apps = 200
const bagsOfApp = 50
export const bags = apps * bagsOfApp
export const namespace = 'main--many'

const bag = (number) => ({
  name: `bag-${number}`,
  data: Object.fromEntries(
    // Unlike those of all others of the app, or only one of them would be used.
    Array.from({ length: 5 }, (_, key) => [`BAG_${number % bagsOfApp}_KEY_${key}`, `value ${key} of bag ${number}`]),
  ),
})
const app = (number, vpc) => ({
  name: `many-${number}`,
  vpc,
  image: busyboxImage,
  replicas: 0,
  envFrom: Array.from({ length: bagsOfApp }, (_, at) => `bag-${number * bagsOfApp + at}`),
})

/** So many at once, from a first number to before a last one. */
export async function inParallel(atOnce, from, to, work) {
  let next = from
  const worker = async () => {
    while (next < to) await work(next++)
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
}

/**
 * All of it is stored while the cluster is away, so that what is timed is delivery alone: the server starts with ten thousand bags to
 * deliver. Before and after, the bare loop creates half as many of the same objects each.
 */
export async function firstDelivery(product, cluster, args) {
  await inParallel(1, 0, bagsOfApp, (number) => call(product, '/secrets', bag(number)))
  await call(product, '/deploy', app(0, 'default'))
  await allOver(product)
  const peer = await preparePeer(cluster)
  await peer.create(0, 2)
  await product.stop()

  const { dataDir } = product
  const away = await startProduct({
    dataDir,
    args: ['--cluster', 'kubeconfig', '--kubeconfig', kubeconfigOfNothing(cluster)],
  })
  await call(away, '/vpcs', { name: 'many' })
  await inParallel(8, bagsOfApp, bags, (number) => call(away, '/secrets', bag(number)))
  await inParallel(8, 0, apps, (number) => call(away, '/deploy', app(number, 'many')))
  await select(away, 'analyze')
  await away.stop()

  const before = await peer.create(2, 2 + apps / 2)
  const again = await startProduct({ dataDir, args })
  const cpu = cpuOf(again)
  const ours = await watchCount(cluster)
  await allOver(again)
  const spent = cpu()
  const delivered = memory(again.pid)
  const after = await peer.create(2 + apps / 2, 2 + apps)
  // What the cluster has to do with the objects of the peer is not ours.
  await sleep(30_000)
  const quiet = await doNothing(again, 30)
  const rested = memory(again.pid)
  return { product: again, ours, peer: [before, after], spent, delivered, rested, quiet }
}

/** Secrets a second, from the first that is there to the last. The API server says how many there are without listing them. */
async function watchCount(cluster) {
  const path = `/api/v1/namespaces/${namespace}/secrets?limit=1`
  let first
  for (;;) {
    const { items, metadata } = await cluster.call('GET', path, { accept: bareList })
    const [at, count] = [performance.now(), (items?.length ?? 0) + (metadata.remainingItemCount ?? 0)]
    if (count > 0) first ??= { at, count }
    if (count >= bags) return (count - first.count) / ((at - first.at) / 1000)
    if (first && at - first.at > 180_000) throw new Error(`After three minutes, ${count} of ${bags} Secrets are there.`)
    await sleep(200)
  }
}

/** Until every rollout has ended. */
export async function allOver(product) {
  for (const end = Date.now() + 180_000; ; await sleep(200)) {
    const [{ count }] = await select(product, 'select count(*)::int as count from rollouts where finished_at is null')
    if (count === 0) return
    if (Date.now() > end) throw new Error(`${count} rollouts do not end.`)
  }
}

/** The bare loop: eight in flight, the objects as the product makes them, in a namespace of their own and not labeled as ours. */
async function preparePeer(cluster) {
  const namespace = 'bare'
  await cluster.call('POST', '/api/v1/namespaces', {
    body: { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } },
  })
  const of = '/namespaces/main--default'
  const secret = copyOf(await cluster.call('GET', `/api/v1${of}/secrets/org.bag-0.v1`))
  const deployment = copyOf(await cluster.call('GET', `/apis/apps/v1${of}/deployments/many-0`))
  const post = (path, template, name) => {
    const body = { ...template, metadata: { ...template.metadata, name, namespace } }
    return cluster.call('POST', `${path}/namespaces/${namespace}/${template.kind.toLowerCase()}s`, {
      body,
      accept: bare,
    })
  }
  const deploymentOf = (name) => JSON.parse(JSON.stringify(deployment).replaceAll('"many-0"', `"${name}"`))
  return {
    /** From one app to before another; Secrets a second. */
    async create(from, to) {
      const began = performance.now()
      const each = bagsOfApp + 1
      await inParallel(8, from * each, to * each, async (number) => {
        const app = Math.floor(number / each)
        if (number % each < bagsOfApp) await post('/api/v1', secret, `org.bag-${number - app}.v1`)
        else await post('/apis/apps/v1', deploymentOf(`many-${app}`), `many-${app}`)
      })
      return ((to - from) * bagsOfApp) / ((performance.now() - began) / 1000)
    },
  }
}

function copyOf({ apiVersion, kind, metadata: { labels, annotations }, spec, ...content }) {
  const { type, immutable, data } = content
  const managedBy = { 'app.kubernetes.io/managed-by': 'bench' }
  const metadata = { labels: { ...labels, ...managedBy }, annotations }
  return { apiVersion, kind, metadata, ...(spec && { spec }), ...(data && { type, immutable, data }) }
}

/** Seconds of CPU that the server and its PostgreSQL take from now on. */
function cpuOf({ pid, postgresPid }) {
  const look = () => ({ server: cpuSeconds(pid), postgres: cpuSecondsOfTree(postgresPid) })
  const before = look()
  return () => {
    const now = look()
    return { server: now.server - before.server, postgres: now.postgres - before.postgres }
  }
}

async function doNothing(product, seconds) {
  const writes = await writesOf(product)
  const cpu = cpuOf(product)
  await sleep(seconds * 1000)
  const { server, postgres } = cpu()
  return {
    writes: (await writesOf(product)) - writes,
    server: (server / seconds) * 100,
    postgres: (postgres / seconds) * 100,
  }
}

async function writesOf({ url }) {
  const text = await (await fetch(`${url}/metrics`)).text()
  const counts = Array.from(text.matchAll(/^satusky_kubernetes_writes_total\{.*\} (\d+)$/gm), ([, count]) =>
    Number(count),
  )
  if (counts.length === 0) throw new Error('The metric of writes to the cluster is gone.')
  return counts.reduce((sum, count) => sum + count, 0)
}

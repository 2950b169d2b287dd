import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, existsSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { build } from 'esbuild'
import { expect, test } from 'vitest'
import { BootError } from '../../boot-error.ts'
import {
  type Api,
  apiFrom,
  apply,
  deployment,
  deploymentsIn,
  merge,
  newFolder,
  podsIn,
  secret,
  secretsIn,
  startTestCluster,
  until,
} from './testing.ts'

const journalOf = (dataDir: string) => join(dataDir, 'cluster/journal')

const isReady = async (api: Api) => (await api.call(`${deploymentsIn}/web`)).body.status.availableReplicas === 1
const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length

test('a restart on the same folder keeps objects, pods, token and port', async () => {
  const cluster = await startTestCluster()
  await cluster.call(secretsIn, { method: 'POST', body: secret('one', { A: 'a' }) })
  await cluster.call(deploymentsIn, { method: 'POST', body: deployment('web') })
  await until(() => isReady(cluster))
  const pods = (await cluster.call(podsIn)).body.items
  const before = (await cluster.call(secretsIn)).body
  const kubeconfig = readFileSync(cluster.kubeconfigFile, 'utf8')
  const again = await cluster.restart()
  expect([again.url, again.token]).toEqual([cluster.url, cluster.token])
  expect(readFileSync(again.kubeconfigFile, 'utf8')).toBe(kubeconfig)
  const after = (await again.call(secretsIn)).body
  expect(after.items).toEqual(before.items)
  // Versions go on from a higher one, as what was written in the second before a power cut may be lost.
  expect(Number(after.metadata.resourceVersion)).toBeGreaterThan(Number(before.metadata.resourceVersion))
  await sleep(400)
  expect((await again.call(podsIn)).body.items).toEqual(pods)
})

test('a port that is taken meanwhile is replaced, and the kubeconfig says so', async () => {
  const cluster = await startTestCluster()
  await cluster.stop()
  const { port } = new URL(cluster.url)
  const other = createServer().listen(Number(port), '127.0.0.1')
  await once(other, 'listening')
  const again = await startTestCluster(cluster.dataDir)
  other.close()
  expect(again.url).not.toBe(cluster.url)
  expect(readFileSync(again.kubeconfigFile, 'utf8')).toContain(again.url)
  expect((await apiFrom(again.kubeconfigFile).call('/version')).status).toBe(200)
})

test('a second server on the same folder does not start, and the first one goes on', async () => {
  const cluster = await startTestCluster()
  await expect(startTestCluster(cluster.dataDir)).rejects.toThrow(BootError)
  expect((await cluster.call('/version')).status).toBe(200)
})

test('an incomplete last record is dropped, and everything before it is there', async () => {
  const cluster = await startTestCluster()
  await cluster.call(secretsIn, { method: 'POST', body: secret('one', {}) })
  const size = statSync(journalOf(cluster.dataDir)).size
  await cluster.call(secretsIn, { method: 'POST', body: secret('two', {}) })
  await cluster.stop()
  const whole = readFileSync(journalOf(cluster.dataDir))
  for (const cut of [size, size + 1, size + 3, size + 20, whole.length - 1]) {
    writeFileSync(journalOf(cluster.dataDir), whole)
    truncateSync(journalOf(cluster.dataDir), cut)
    const again = await startTestCluster(cluster.dataDir)
    const names = (await again.call(secretsIn)).body.items.map(
      (item: { metadata: { name: string } }) => item.metadata.name,
    )
    expect(names).toEqual(['one'])
    expect((await again.call(secretsIn, { method: 'POST', body: secret('three', {}) })).status).toBe(201)
    await again.stop()
  }
  writeFileSync(journalOf(cluster.dataDir), whole)
  appendFileSync(journalOf(cluster.dataDir), Buffer.alloc(5000))
  const zeros = await startTestCluster(cluster.dataDir)
  expect((await zeros.call(secretsIn)).body.items).toHaveLength(2)
})

test('a journal that is damaged in the middle, or without its key, is not taken for an empty one', async () => {
  const cluster = await startTestCluster()
  for (let n = 0; n < 20; n++) await cluster.call(secretsIn, { method: 'POST', body: secret(`s${n}`, {}) })
  await cluster.stop()
  const whole = readFileSync(journalOf(cluster.dataDir))
  const damaged = Buffer.from(whole)
  damaged[Math.floor(whole.length / 2)]! ^= 1
  writeFileSync(journalOf(cluster.dataDir), damaged)
  await expect(startTestCluster(cluster.dataDir)).rejects.toThrow(/journal .* is damaged at byte \d+/)
  writeFileSync(journalOf(cluster.dataDir), whole)
  const key = join(cluster.dataDir, 'cluster/key')
  const text = readFileSync(key)
  writeFileSync(key, `${'ab'.repeat(32)}\n`)
  await expect(startTestCluster(cluster.dataDir)).rejects.toThrow(BootError)
  writeFileSync(key, text)
  expect((await (await startTestCluster(cluster.dataDir)).call(secretsIn)).body.items).toHaveLength(20)
})

test('the journal does not grow for ever', async () => {
  const cluster = await startTestCluster()
  const body = secret('large', { A: 'x'.repeat(500_000) })
  for (let n = 0; n < 20; n++)
    await cluster.call(`${secretsIn}/large?fieldManager=1ctl`, {
      method: 'PATCH',
      type: apply,
      body: { ...body, metadata: { name: 'large', labels: { n: String(n) } } },
    })
  expect(statSync(journalOf(cluster.dataDir)).size).toBeLessThan(8 * 1024 * 1024)
  const again = await cluster.restart()
  expect((await again.call(`${secretsIn}/large`)).body.metadata.labels.n).toBe('19')
})

test('no value of a Secret is in a file, the log, an event or a pod, in any form', async () => {
  const cluster = await startTestCluster()
  const value = 'Tr0ub4dor&3 ?correct/horse'
  const longer = `${value}${'y'.repeat(50)}`
  await cluster.call(secretsIn, { method: 'POST', body: secret('bag', { KEY: value, LONG: longer }) })
  const env = [
    { name: 'KEY', valueFrom: { secretKeyRef: { name: 'bag', key: 'KEY' } } },
    { name: 'SIMULATE_CRASH_IF', valueFrom: { secretKeyRef: { name: 'bag', key: 'KEY' } } },
  ]
  await cluster.call(deploymentsIn, {
    method: 'POST',
    body: deployment('web', { env, envFrom: [{ secretRef: { name: 'bag' } }] }),
  })
  const pod = await until(async () => {
    const [found] = (await cluster.call(podsIn)).body.items
    return found?.status.containerStatuses?.[0].state.running && found
  })
  // Refusals, too, whose words a client may log.
  const refusals = [
    await cluster.call(secretsIn, { method: 'POST', body: { ...secret('bad name', {}), data: { A: value } } }),
    await cluster.call(secretsIn, { method: 'POST', body: `{"kind":"Secret","data":{"A":"${value}"` }),
    await cluster.call(`${secretsIn}/bag`, { method: 'PATCH', type: merge, body: { immutable: true } }),
    await cluster.call(`${secretsIn}/bag`, {
      method: 'PATCH',
      type: merge,
      body: { data: { KEY: Buffer.from(longer).toString('base64') } },
    }),
    await cluster.call(secretsIn, {
      method: 'POST',
      body: { ...secret('bad', {}), stringData: { A: { nested: value } } },
    }),
  ]
  expect(refusals.map(({ status }) => status)).toEqual([400, 400, 200, 422, 400])
  const logs = await cluster.call(`${podsIn}/${pod.metadata.name}/log`)
  const events = await cluster.call('/api/v1/namespaces/default/events')
  expect(logs.text).toContain('KEY')
  await cluster.restart()

  const files = readdirSync(cluster.dataDir, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  expect(files.length).toBeGreaterThanOrEqual(4)
  const places = new Map<string, Buffer>([
    ...files.map(({ parentPath, name }) => [name, readFileSync(join(parentPath, name))] as const),
    ['log', Buffer.from(cluster.log())],
    ['pod', Buffer.from(JSON.stringify(pod))],
    ['pod log', Buffer.from(logs.text)],
    ['events', Buffer.from(events.text)],
    ...refusals
      .filter(({ status }) => status !== 200)
      .map(({ text }, at) => [`refusal ${at}`, Buffer.from(text)] as const),
  ])
  const bytes = Buffer.from(value)
  const forms = [
    bytes.toString(),
    bytes.toString('base64').slice(0, -3),
    bytes.toString('base64url').slice(0, -3),
    bytes.toString('hex'),
    encodeURIComponent(value),
    JSON.stringify(value).slice(1, -1),
  ]
  const found = [...places].flatMap(([place, content]) =>
    forms.filter((form) => content.includes(form)).map((form) => `${place}: ${form}`),
  )
  expect(found).toEqual([])
  // That the hunt would find it where it is.
  const shown = await (await startTestClusterAgain(cluster.dataDir)).call(`${secretsIn}/bag`)
  expect(forms.some((form) => shown.text.includes(form))).toBe(true)
})

/** The one that `restart` left running. */
const startTestClusterAgain = async (dataDir: string) => apiFrom(join(dataDir, 'kubeconfig'))

test('killed at any moment, it has all that was acknowledged', { timeout: 60_000 }, async () => {
  const dataDir = newFolder()
  const script = join(newFolder(), 'cluster.cjs')
  await build({
    stdin: {
      contents: `
        import { startEmbeddedCluster } from './embedded.ts'
        import pino from 'pino'
        void startEmbeddedCluster({ dataDir: process.argv[2], log: pino({ enabled: false }) }).then(() => process.send('ready'))`,
      resolveDir: import.meta.dirname,
      loader: 'ts',
    },
    bundle: true,
    platform: 'node',
    format: 'cjs',
    outfile: script,
    logLevel: 'error',
  })
  const start = async (): Promise<ChildProcess> => {
    const child = fork(script, [dataDir], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
    await once(child, 'message')
    return child
  }
  const acknowledged = new Map<string, string>()
  for (let round = 0; round < 5; round++) {
    const child = await start()
    const api = apiFrom(join(dataDir, 'kubeconfig'))
    const list = (await api.call(secretsIn)).body.items as { metadata: { name: string; labels: { n: string } } }[]
    const there = new Map(list.map(({ metadata }) => [metadata.name, metadata.labels.n]))
    // What was sent and not answered may be there or not; `>=` as each number is larger than the one before.
    for (const [name, n] of acknowledged) expect(Number(there.get(name))).toBeGreaterThanOrEqual(Number(n))
    const state = { isOver: false }
    const writer = async (name: string) => {
      for (let n = round * 10_000; !state.isOver; n++) {
        const body = secret(name, { A: 'x'.repeat(20_000) }, { metadata: { name, labels: { n: String(n) } } })
        const call = { method: 'PATCH', type: apply, body }
        const answer = await api.call(`${secretsIn}/${name}?fieldManager=1ctl`, call).catch(() => undefined)
        if (answer && answer.status < 300) acknowledged.set(name, String(n))
        else return
      }
    }
    const writers = ['a', 'b', 'c', 'd'].map(writer)
    await sleep(100 + Math.random() * 400)
    child.kill('SIGKILL')
    await once(child, 'exit')
    state.isOver = true
    await Promise.all(writers)
    api.close()
  }
  expect(acknowledged.size).toBe(4)
  expect(existsSync(journalOf(dataDir))).toBe(true)
})

test('at rest it has no timer', async () => {
  const others = timers()
  const cluster = await startTestCluster()
  await cluster.call(deploymentsIn, { method: 'POST', body: deployment('web') })
  await until(() => isReady(cluster))
  const watch = cluster.stream(`${podsIn}?watch=1`)
  // The last write is on disk after a second.
  await sleep(1500)
  const left = timers()
  watch.close()
  expect(left).toBeLessThanOrEqual(others)
})

import { once } from 'node:events'
import { readFileSync, statSync } from 'node:fs'
import { Agent, request } from 'node:https'
import { connect as connectTls } from 'node:tls'
import { describe, expect, test } from 'vitest'
import {
  apply,
  deployment,
  deploymentsIn,
  merge,
  secret,
  secretsIn,
  startTestCluster,
  strategic,
  type TestCluster,
  until,
} from './testing.ts'

const named = (cluster: TestCluster, query: string) =>
  cluster
    .call(`${secretsIn}?${query}`)
    .then(({ body }) => body.items.map((item: { metadata: { name: string } }) => item.metadata.name))
const addLabeled = (cluster: TestCluster, name: string, labels: Record<string, string>) =>
  cluster.call(secretsIn, { method: 'POST', body: secret(name, {}, { metadata: { name, labels } }) })
const ssa = (cluster: TestCluster, body: object, manager = '1ctl', force = false) =>
  cluster.call(`${secretsIn}/one?fieldManager=${manager}${force ? '&force=true' : ''}`, {
    method: 'PATCH',
    type: apply,
    body,
  })
const keysOf = async (cluster: TestCluster) => Object.keys((await cluster.call(`${secretsIn}/one`)).body.data ?? {})
const eventsIn = (lines: string[]) =>
  lines
    .map((line) => JSON.parse(line))
    .map(({ type, object }) => `${type} ${object.metadata?.name ?? object.code ?? ''}`)
const add = (cluster: TestCluster, name: string, labels = {}) =>
  cluster.call(secretsIn, { method: 'POST', body: secret(name, { A: 'a' }, { metadata: { name, labels } }) })
describe('who may ask', () => {
  test('a request without the token, or with another one, is refused, and one with it is answered', async () => {
    const cluster = await startTestCluster()
    expect((await cluster.call('/version')).body.gitVersion).toMatch(/^v1\.\d+\.\d+\+1ctl-simulated$/)
    for (const authorization of ['', 'Bearer ', `Bearer ${cluster.token}x`, `Basic ${cluster.token}`]) {
      const answer = await cluster.call('/version', { headers: { authorization } })
      expect([answer.status, answer.body.reason]).toEqual([401, 'Unauthorized'])
    }
  })

  test('a request under a foreign name is refused, as a page of another site would send it', async () => {
    const cluster = await startTestCluster()
    expect((await cluster.call('/version', { headers: { host: 'evil.example' } })).status).toBe(403)
    expect((await cluster.call('/version', { headers: { host: 'localhost:1' } })).status).toBe(200)
  })

  test('the server listens on loopback, proves itself with its certificate, and its kubeconfig is for its owner', async () => {
    const cluster = await startTestCluster()
    expect(new URL(cluster.url).hostname).toBe('127.0.0.1')
    expect(statSync(cluster.kubeconfigFile).mode & 0o777).toBe(0o600)
    expect(readFileSync(cluster.kubeconfigFile, 'utf8')).toContain(cluster.url)
    const untrusting = new Promise((resolve, reject) => {
      request(cluster.url, { agent: new Agent() }, resolve).on('error', reject).end()
    })
    await expect(untrusting).rejects.toThrow(/self-signed/)
  })
})

test('a body of more than 3 MiB is refused, and one of a Secret of 1 MiB taken', async () => {
  const cluster = await startTestCluster()
  const large = await cluster.call(secretsIn, { method: 'POST', body: secret('large', { A: 'x'.repeat(1_048_000) }) })
  expect(large.status).toBe(201)
  const body = `{"a":"${'x'.repeat(3 * 1024 * 1024)}"}`
  const tooLarge = await cluster.call(secretsIn, { method: 'POST', body }).catch(() => undefined)
  // The connection may end before all is sent.
  expect(tooLarge?.status ?? 413).toBe(413)
  expect((await cluster.call(`${secretsIn}/large`)).status).toBe(200)
})

describe('lists', () => {
  test.each([
    ['labelSelector=app%3Da', ['one', 'two']],
    ['labelSelector=app!%3Da', ['four', 'three']],
    ['labelSelector=app%20in%20(a,b),tier', ['two']],
    ['labelSelector=app%20notin%20(a,b)', ['four']],
    ['labelSelector=!app', ['four']],
    ['labelSelector=app,!tier', ['one', 'three']],
    ['fieldSelector=metadata.name%3Done', ['one']],
    ['fieldSelector=metadata.name!%3Done&labelSelector=app%3Da', ['two']],
  ])('%s finds %j', async (query, names) => {
    const cluster = await startTestCluster()
    await addLabeled(cluster, 'one', { app: 'a' })
    await addLabeled(cluster, 'two', { app: 'a', tier: 'x' })
    await addLabeled(cluster, 'three', { app: 'b' })
    await addLabeled(cluster, 'four', {})
    expect(await named(cluster, query)).toEqual(names)
  })

  test('in pages hold each object once', async () => {
    const cluster = await startTestCluster()
    for (let n = 0; n < 7; n++) await addLabeled(cluster, `s${n}`, {})
    const names: string[] = []
    let next = ''
    do {
      const { body } = await cluster.call(`${secretsIn}?limit=3&continue=${next}`)
      expect(body.items.length).toBeLessThanOrEqual(3)
      names.push(...body.items.map((item: { metadata: { name: string } }) => item.metadata.name))
      next = body.metadata.continue ?? ''
    } while (next)
    expect(names).toEqual(['s0', 's1', 's2', 's3', 's4', 's5', 's6'])
  })

  test('as metadata alone hold no data', async () => {
    const cluster = await startTestCluster()
    await cluster.call(secretsIn, { method: 'POST', body: secret('one', { A: 'quiet' }) })
    const accept = 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1'
    const { text, body } = await cluster.call(secretsIn, { headers: { accept } })
    expect(body.kind).toBe('PartialObjectMetadataList')
    expect(body.items[0].metadata.name).toBe('one')
    expect(text).not.toContain(Buffer.from('quiet').toString('base64'))
  })
})

describe('versions', () => {
  test('a write that changes nothing leaves the version alone, whichever way it comes', async () => {
    const cluster = await startTestCluster()
    const at = `${deploymentsIn}/web`
    const send = () =>
      cluster.call(`${at}?fieldManager=1ctl`, { method: 'PATCH', type: apply, body: deployment('web') })
    await send()
    await until(async () => (await cluster.call(at)).body.status.availableReplicas === 1)
    const { metadata } = (await cluster.call(at)).body
    expect((await send()).body.metadata.resourceVersion).toBe(metadata.resourceVersion)
    const whole = (await cluster.call(at)).body
    for (const call of [
      { method: 'PUT', body: whole },
      { method: 'PATCH', type: merge, body: { spec: { replicas: 1 } } },
      {
        method: 'PATCH',
        type: strategic,
        body: { spec: { template: { spec: { containers: [{ name: 'app', image: 'nginx:1.27' }] } } } },
      },
    ])
      expect((await cluster.call(`${at}?fieldManager=1ctl`, call)).body.metadata.resourceVersion).toBe(
        metadata.resourceVersion,
      )
  })

  test('an apply of nothing but a name is no change the second time', async () => {
    const cluster = await startTestCluster()
    const body = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'bare' } }
    const send = () => cluster.call('/api/v1/namespaces/bare?fieldManager=1ctl', { method: 'PATCH', type: apply, body })
    const first = await send()
    const second = await send()
    expect([first.status, second.status]).toEqual([201, 200])
    expect(second.body).toEqual(first.body)
  })

  test('the generation rises with what is wanted, not with labels or status', async () => {
    const cluster = await startTestCluster()
    const at = `${deploymentsIn}/web`
    await cluster.call(deploymentsIn, { method: 'POST', body: deployment('web') })
    await cluster.call(at, { method: 'PATCH', type: merge, body: { metadata: { labels: { a: 'b' } } } })
    const status = { status: { observedGeneration: 1, replicas: 7 } }
    const written = await cluster.call(`${at}/status`, { method: 'PATCH', type: merge, body: status })
    expect(written.body).toMatchObject({ metadata: { generation: 1 }, ...status })
    await cluster.call(at, { method: 'PATCH', type: merge, body: { spec: { replicas: 2 } } })
    expect((await cluster.call(at)).body.metadata.generation).toBe(2)
  })

  test('an update of an old version is a conflict, and one of the version of now goes through', async () => {
    const cluster = await startTestCluster()
    const first = (await cluster.call(secretsIn, { method: 'POST', body: secret('one', { A: 'a' }) })).body
    await cluster.call(`${secretsIn}/one`, { method: 'PATCH', type: merge, body: { metadata: { labels: { a: 'b' } } } })
    const stale = await cluster.call(`${secretsIn}/one`, { method: 'PUT', body: first })
    expect([stale.status, stale.body.reason]).toEqual([409, 'Conflict'])
    const now = (await cluster.call(`${secretsIn}/one`)).body
    expect((await cluster.call(`${secretsIn}/one`, { method: 'PUT', body: { ...now, data: {} } })).status).toBe(200)
  })
})

describe('server-side apply', () => {
  test('takes away what a manager no longer applies, unless another one does, and keeps what others wrote', async () => {
    const cluster = await startTestCluster()
    expect((await ssa(cluster, secret('one', { A: 'a', B: 'b', C: 'c' }))).status).toBe(201)
    await ssa(cluster, secret('one', { B: 'b' }), 'other')
    await cluster.call(`${secretsIn}/one`, { method: 'PATCH', type: merge, body: { data: { D: 'ZA==' } } })
    expect((await ssa(cluster, secret('one', { A: 'a' }))).status).toBe(200)
    expect(await keysOf(cluster)).toEqual(['A', 'B', 'D'])
    await ssa(cluster, secret('one', {}), 'other')
    expect(await keysOf(cluster)).toEqual(['A', 'D'])
  })

  test('refuses to change what another manager owns, names the field and not the value, and takes it by force', async () => {
    const cluster = await startTestCluster()
    await ssa(cluster, secret('one', { A: 'precious' }), 'other')
    const { status, body, text } = await ssa(cluster, secret('one', { A: 'changed' }))
    expect([status, body.reason, body.details.causes[0].field]).toEqual([409, 'Conflict', '.data.A'])
    expect(text).not.toContain(Buffer.from('precious').toString('base64'))
    expect((await ssa(cluster, secret('one', { A: 'changed' }), '1ctl', true)).status).toBe(200)
    expect((await ssa(cluster, secret('one', { A: 'back' }), 'other')).status).toBe(409)
  })
})

test('an immutable Secret refuses other data and takes labels', async () => {
  const cluster = await startTestCluster()
  const at = `${secretsIn}/one`
  await cluster.call(secretsIn, { method: 'POST', body: { ...secret('one', { A: 'a' }), immutable: true } })
  const patch = (body: object) => cluster.call(at, { method: 'PATCH', type: merge, body })
  expect((await patch({ data: { A: 'eA==' } })).status).toBe(422)
  expect((await patch({ immutable: null })).status).toBe(422)
  expect((await patch({ metadata: { labels: { a: 'b' } } })).status).toBe(200)
  expect((await cluster.call(at, { method: 'DELETE' })).status).toBe(200)
})

describe('watches', () => {
  test('tell what happens after the version they name, and nothing before', async () => {
    const cluster = await startTestCluster()
    await add(cluster, 'before')
    const { resourceVersion } = (await cluster.call(secretsIn)).body.metadata
    await add(cluster, 'between')
    const { lines, close } = cluster.stream(`${secretsIn}?watch=1&resourceVersion=${resourceVersion}`)
    await until(async () => lines.length === 1)
    await cluster.call(`${secretsIn}/before`, {
      method: 'PATCH',
      type: merge,
      body: { metadata: { labels: { a: 'b' } } },
    })
    await cluster.call(`${secretsIn}/between`, { method: 'DELETE' })
    await until(async () => lines.length === 3)
    expect(eventsIn(lines)).toEqual(['ADDED between', 'MODIFIED before', 'DELETED between'])
    close()
  })

  test('without a version begin with what is there', async () => {
    const cluster = await startTestCluster()
    await add(cluster, 'one')
    const { lines, close } = cluster.stream(`${secretsIn}?watch=1`)
    await until(async () => lines.length === 1)
    expect(eventsIn(lines)).toEqual(['ADDED one'])
    close()
  })

  test('with a selector see objects come into it and leave it', async () => {
    const cluster = await startTestCluster()
    const { lines, close } = cluster.stream(`${secretsIn}?watch=1&labelSelector=app%3Da`)
    const label = (app: string) =>
      cluster.call(`${secretsIn}/one`, { method: 'PATCH', type: merge, body: { metadata: { labels: { app } } } })
    await add(cluster, 'other')
    await add(cluster, 'one')
    await label('a')
    await label('b')
    await until(async () => lines.length >= 2)
    expect(eventsIn(lines)).toEqual(['ADDED one', 'DELETED one'])
    close()
  })

  test('of a version that is too old, or from before a restart, end with 410', async () => {
    const cluster = await startTestCluster()
    const { resourceVersion } = (await cluster.call(secretsIn)).body.metadata
    for (let n = 0; n < 1100; n++)
      await cluster.call('/api/v1/namespaces/default', {
        method: 'PATCH',
        type: merge,
        body: { metadata: { labels: { n: String(n) } } },
      })
    const { lines, ended } = cluster.stream(`${secretsIn}?watch=1&resourceVersion=${resourceVersion}`)
    await ended
    expect(eventsIn(lines)).toEqual(['ERROR 410'])
    const now = (await cluster.call(secretsIn)).body.metadata.resourceVersion
    const again = await cluster.restart()
    const old = again.stream(`${secretsIn}?watch=1&resourceVersion=${now}`)
    await old.ended
    expect(eventsIn(old.lines)).toEqual(['ERROR 410'])
  })

  test('that see nothing are told by bookmarks how far they are, and end when their time is up', async () => {
    const cluster = await startTestCluster()
    const { lines, ended } = cluster.stream(
      `${secretsIn}?watch=1&allowWatchBookmarks=true&timeoutSeconds=1&resourceVersion=${(await cluster.call(secretsIn)).body.metadata.resourceVersion}`,
    )
    for (let n = 0; n < 250; n++)
      await cluster.call('/api/v1/namespaces/default', {
        method: 'PATCH',
        type: merge,
        body: { metadata: { labels: { n: String(n) } } },
      })
    expect(await ended).toBe(200)
    const types = eventsIn(lines)
    expect(types.length).toBeGreaterThanOrEqual(3)
    expect(new Set(types)).toEqual(new Set(['BOOKMARK ']))
    const last = JSON.parse(lines.at(-1)!).object.metadata.resourceVersion
    expect(cluster.stream(`${secretsIn}?watch=1&resourceVersion=${last}`).lines).toEqual([])
  })
})

test('a client that watches and does not read is let go, and everyone else is served', async () => {
  const cluster = await startTestCluster()
  const { hostname, port } = new URL(cluster.url)
  const socket = connectTls({ host: hostname, port: Number(port), ca: cluster.certificate })
  await once(socket, 'secureConnect')
  const ended = once(socket, 'close')
  socket.on('error', () => undefined)
  socket.pause()
  socket.write(`GET ${secretsIn}?watch=1 HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${cluster.token}\r\n\r\n`)
  for (let n = 0; n < 30; n++) {
    const body = secret('large', { A: 'x'.repeat(700_000) }, { metadata: { name: 'large', labels: { n: String(n) } } })
    await cluster.call(`${secretsIn}/large?fieldManager=1ctl`, { method: 'PATCH', type: apply, body })
  }
  socket.resume()
  await ended
  expect((await cluster.call(`${secretsIn}/large`)).body.metadata.labels.n).toBe('29')
})

test('a dry run answers as if, and changes nothing', async () => {
  const cluster = await startTestCluster()
  await cluster.call(secretsIn, { method: 'POST', body: secret('one', { A: 'a' }) })
  const before = await cluster.call(`${secretsIn}/one`)
  const dry = (call: object) => cluster.call(`${secretsIn}/one?dryRun=All&fieldManager=x`, call)
  expect((await dry({ method: 'PATCH', type: merge, body: { data: { B: 'Yg==' } } })).body.data).toHaveProperty('B')
  expect((await dry({ method: 'DELETE' })).status).toBe(200)
  expect(await cluster.call(`${secretsIn}/one`)).toMatchObject({ body: before.body })
})

test('deletecollection deletes what is selected', async () => {
  const cluster = await startTestCluster()
  for (const name of ['a', 'b', 'c'])
    await cluster.call(secretsIn, {
      method: 'POST',
      body: secret(name, {}, { metadata: { name, labels: { keep: String(name === 'c') } } }),
    })
  expect((await cluster.call(`${secretsIn}?labelSelector=keep%3Dfalse`, { method: 'DELETE' })).body.items).toHaveLength(
    2,
  )
  expect((await cluster.call(secretsIn)).body.items).toHaveLength(1)
})

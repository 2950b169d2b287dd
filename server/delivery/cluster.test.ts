import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, test } from 'vitest'
import type { Kind } from '../kubernetes/kinds.ts'
import type { TestServer } from '../testing/server.ts'
import { deployed, embeddedPlace, eventually, receipt, startDelivering, writesOf } from './testing.ts'

const namespace = 'main--default'
const undo: (() => unknown)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

async function start() {
  const place = await embeddedPlace()
  undo.push(() => place.stop())
  return { place, server: await deliverTo(place) }
}
async function deliverTo(
  place: Awaited<ReturnType<typeof embeddedPlace>>,
  options: Parameters<typeof startDelivering>[1] = {},
) {
  const server = await startDelivering(place, options)
  let isClosed = false
  const close = async () => {
    if (!isClosed) await server.close()
    isClosed = true
  }
  undo.push(close)
  return { ...server, close }
}

async function runningApp(server: TestServer, name = 'api') {
  await server.client().secretPut({ name: 'creds', data: { KEY: 'canary-value', FILE: 'canary-file' } })
  const over = await deployed(server, {
    name,
    image: 'acme/api:1.0',
    port: 80,
    envFrom: ['creds'],
    secretFiles: ['creds'],
  })
  expect(over).toMatchObject({ state: 'live' })
  await settled(server)
}
/** Until the loop writes no more. */
async function settled(server: TestServer) {
  await eventually(async () => {
    const before = await writesOf(server)
    await sleep(150)
    return (await writesOf(server)) === before
  })
}
const metric = async (server: TestServer, found: string) =>
  (await server.metrics.delivery.repairs.get()).values.find(({ labels }) => labels.found === found)?.value ?? 0

describe('what someone changes in the cluster', () => {
  test('is put back as soon as the watch tells it, and counted; pods that need no restart get none', async () => {
    const { place, server } = await start()
    await runningApp(server)
    const { kubernetes } = place
    const podsBefore = (await place.list('Pod', namespace)).map(({ metadata }) => metadata.name)

    const objects: [Kind, string][] = [
      ['Secret', 'org.creds.v1'],
      ['Service', 'api'],
    ]
    for (const [kind, name] of objects) {
      const before = await kubernetes.get(kind, { namespace, name }, { metadataOnly: true })
      const began = Date.now()
      await kubernetes.delete(kind, { namespace, name })
      await eventually(async () => {
        const again = await kubernetes.get(kind, { namespace, name }, { metadataOnly: true }).catch(() => undefined)
        return again && again.metadata.uid !== before.metadata.uid
      })
      expect(Date.now() - began, kind).toBeLessThan(1_000)
    }
    expect((await place.list('Pod', namespace)).map(({ metadata }) => metadata.name)).toEqual(podsBefore)

    const deployment = { namespace, name: 'api' }
    const edits = [
      { spec: { replicas: 5 } },
      { spec: { template: { spec: { containers: [{ name: 'api', image: 'evil/other:1' }] } } } },
      { spec: { template: { spec: { hostNetwork: true } } } },
      { metadata: { labels: { '1ctl.dev/app-id': null } } },
    ]
    const wanted = (await kubernetes.get('Deployment', deployment)).spec
    for (const edit of edits) {
      await editBy(place.kubeconfigFile, deployment, edit)
      await eventually(async () => {
        const { spec, metadata } = await kubernetes.get('Deployment', deployment)
        return JSON.stringify(spec) === JSON.stringify(wanted) && metadata.labels?.['1ctl.dev/app-id']
      })
    }
    const before = (await kubernetes.get('Deployment', deployment)).metadata.uid
    await kubernetes.delete('Deployment', deployment)
    await eventually(async () => {
      const again = await kubernetes.get('Deployment', deployment).catch(() => undefined)
      return again && again.metadata.uid !== before && again.status?.availableReplicas === 1
    })
    expect(await metric(server, 'watch')).toBeGreaterThanOrEqual(6)
    expect(await metric(server, 'timer')).toBe(0)
  })

  test('with our labels and other values is not taken for ours', async () => {
    const { place, server } = await start()
    await runningApp(server)
    const ref = { namespace, name: 'org.creds.v1' }
    const real = await place.kubernetes.get('Secret', ref)
    await place.kubernetes.delete('Secret', ref)
    const { resourceVersion: _, uid: __, managedFields: ___, creationTimestamp: ____, ...metadata } = real.metadata
    const forged = { apiVersion: 'v1', kind: 'Secret', ...real, metadata, data: { KEY: 'Zm9yZ2Vk', FILE: 'Zm9yZ2Vk' } }
    await createBy(place.kubeconfigFile, forged)
    await eventually(async () => {
      const now = await place.kubernetes.get('Secret', ref).catch(() => undefined)
      return now?.data?.['KEY'] === real.data?.['KEY']
    })
  })

  test('and is not ours is never overwritten: the rollout waits, names it, and goes on when it is gone', async () => {
    const { place, server } = await start()
    await runningApp(server)
    await createBy(place.kubeconfigFile, {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'web', namespace },
      spec: { ports: [{ port: 9 }], selector: { mine: 'yes' } },
    })
    const { rollout } = await server.client().deploy({ name: 'web', image: 'acme/web:1', port: 80 })
    const waiting = await eventually(async () => {
      const found = await server.client().rolloutView({ id: rollout!.id })
      return found.state === 'pending' && found
    })
    expect(waiting.message).toContain('Service main--default/web that 1ctl did not make')
    expect((await place.kubernetes.get('Service', { namespace, name: 'web' }))['spec']).toMatchObject({
      selector: { mine: 'yes' },
    })
    await place.kubernetes.delete('Service', { namespace, name: 'web' })
    expect(await receipt(server, rollout!.id)).toMatchObject({ state: 'live' })
  })

  test('a namespace of that name that is not ours is not touched', async () => {
    const { place, server } = await start()
    await createBy(place.kubeconfigFile, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } })
    const { rollout } = await server.client().deploy({ name: 'web', image: 'acme/web:1', port: 80 })
    const waiting = await eventually(async () => {
      const found = await server.client().rolloutView({ id: rollout!.id })
      return found.state === 'pending' && found
    })
    expect(waiting.message).toContain(`The namespace ${namespace} is there, but`)
    expect(await writesOf(server)).toBe(0)
  })
})

describe('a cluster that is away', () => {
  test('leaves rollouts pending, with the reason, and gets everything once it is back', async () => {
    const { place, server } = await start()
    await runningApp(server)
    await place.pause()
    const { rollout } = await server.client().deploy({ name: 'api', env: { NEW: 'yes' } })
    const waiting = await eventually(async () => {
      const found = await server.client().rolloutView({ id: rollout!.id })
      return found.state === 'pending' && found
    })
    expect(waiting.message).toMatch(/is away/)
    await place.restart()
    const over = await receipt(server, rollout!.id)
    expect(over).toMatchObject({ state: 'live' })
    expect(over.steps.map(({ state }) => state)).toEqual(['stored', 'pending', 'applied', 'rolling', 'live'])
  })
})

describe('a restart of the server', () => {
  test('writes nothing to the cluster and restarts no pod', async () => {
    const { place, server } = await start()
    await runningApp(server)
    await runningApp(server, 'other')
    const pods = async () => (await place.list('Pod', namespace)).map(({ metadata }) => metadata.uid).sort()
    const before = await pods()
    await server.close()
    const second = await deliverTo(place, { database: server.database })
    await sleep(500)
    const { rows } = await second.db.query('select from apps where due_at <= now() or claimed_by is not null')
    expect(rows).toEqual([])
    expect(await writesOf(second)).toBe(0)
    expect(await pods()).toEqual(before)
  })

  test('that was killed between any two steps: the next one finishes, and nothing is doubled', async () => {
    const { place, server } = await start()
    await runningApp(server)
    let current = server
    const as = { token: server.token }
    for (const ms of [0, 2, 5, 8, 12, 20, 40, 80, 200, 400]) {
      const { rollouts } = await current
        .client(as)
        .secretPatch({ ref: 'creds', set: { KEY: `canary-${ms}` }, rollout: 'now' })
      await sleep(ms)
      current.delivery!.abandon()
      // Its lease would run out by itself in half a minute.
      await current.db.query("update apps set claimed_until = now() - interval '1 second'")
      const next = await deliverTo(place, { database: server.database })
      expect(await receipt(next, rollouts[0]!.id, as), `after ${ms} ms`).toMatchObject({ state: 'live' })
      current = next
    }
    await settled(current)
    const deployments = await place.list('Deployment', namespace)
    expect(deployments).toHaveLength(1)
    // One template a change, and the first.
    expect(deployments[0]!.metadata.annotations?.['deployment.kubernetes.io/revision']).toBe('11')
    await eventually(async () => (await place.list('Secret', namespace)).length === 1)
    await eventually(async () => (await place.list('Pod', namespace)).length === 1)
  })
})

describe('two servers', () => {
  test('share the work: each app is rolled out once', async () => {
    const { place, server } = await start()
    const other = await deliverTo(place, { database: server.database })
    const names = Array.from({ length: 40 }, (_, at) => `app-${at}`)
    const receipts = await Promise.all(names.map((name) => deployed(server, { name, image: 'acme/api:1.0' })))
    expect(receipts.map((receipt) => receipt?.state)).toEqual(names.map(() => 'live'))
    await settled(server)
    await settled(other)
    const [one, two] = [await writesOf(server), await writesOf(other)]
    expect(Math.min(one, two)).toBeGreaterThan(0)
    // A Deployment each and the namespace, which both may make.
    expect(one + two).toBeLessThanOrEqual(names.length + 2)
  })
})

describe('an app whose delivery fails', () => {
  test('does not hold up the others', async () => {
    const { server } = await start()
    await runningApp(server)
    // As no deploy would write it: the loop stumbles over it each time.
    await server.client().deploy({ name: 'poisoned', image: 'acme/api:1' })
    await server.db.query(
      "update releases set services = '[{}]' from apps where app_id = apps.id and apps.name = 'poisoned'",
    )
    await server.db.query("update apps set due_at = now() where name = 'poisoned'")
    const began = Date.now()
    expect(await deployed(server, { name: 'healthy', image: 'acme/api:1' })).toMatchObject({ state: 'live' })
    expect(Date.now() - began).toBeLessThan(3_000)
  })
})

describe('what is deleted', () => {
  test('an app takes exactly its objects with it; an app made anew under its name takes over', async () => {
    const { place, server } = await start()
    await runningApp(server)
    await runningApp(server, 'other')
    await server
      .client()
      .secretPut({ name: 'own', appId: 'other', data: { OWN: 'canary' } })
      .catch(() => undefined)
    await server.client().appDelete({ ref: 'other', confirm: 'other' })
    const left = async () =>
      (
        await Promise.all(
          (['Deployment', 'Service', 'Secret', 'Pod'] as const).map((kind) => place.list(kind, namespace)),
        )
      ).map((items) => items.length)
    await eventually(async () => (await left()).join() === '1,1,1,1')
    await server.client().appDelete({ ref: 'api', confirm: 'api' })
    await eventually(async () => (await left()).join() === '0,0,0,0')
    await eventually(async () => (await server.db.query('select from departures')).rowCount === 0)
    await runningApp(server)
    expect((await left()).join()).toBe('1,1,1,1')
  })

  test('a VPC takes its namespace with it, and no other', async () => {
    const { place, server } = await start()
    await runningApp(server)
    await server.client().vpcCreate({ name: 'staging' })
    await deployed(server, { name: 'api', image: 'acme/api:1', vpc: 'staging' })
    await server.client().appDelete({ ref: 'api', vpc: 'staging', confirm: 'api' })
    await server.client().vpcDelete({ name: 'staging' })
    await eventually(
      async () => (await place.list('Namespace')).map(({ metadata }) => metadata.name).join() === namespace,
    )
    expect(await place.list('Pod', namespace)).toHaveLength(1)
  })
})

describe('no value', () => {
  test('is in the log, the metrics, the rows, or in what the cluster holds beside the Secret', async () => {
    const { place, server } = await start()
    await runningApp(server)
    const others = await Promise.all(
      (['Deployment', 'Service', 'Pod', 'Namespace', 'Event'] as const).map((kind) => place.kubernetes.list(kind, {})),
    )
    const rows = await server.db.query(
      'select rollouts::text as r, (select string_agg(releases::text, $1) from releases) as s from rollouts',
      [' '],
    )
    const everything = [
      server.log(),
      await server.metrics.registry.metrics(),
      JSON.stringify(others),
      JSON.stringify(rows.rows),
    ].join()
    for (const value of ['canary-value', 'canary-file'])
      for (const form of [value, Buffer.from(value).toString('base64')]) expect(everything).not.toContain(form)
  })
})

async function editBy(kubeconfigFile: string, ref: { namespace: string; name: string }, change: object) {
  const { apiFrom } = await import('../kubernetes/embedded/testing.ts')
  const api = apiFrom(kubeconfigFile)
  const path = `/apis/apps/v1/namespaces/${ref.namespace}/deployments/${ref.name}?fieldManager=kubectl-edit`
  const answer = await api.call(path, { method: 'PATCH', type: 'application/strategic-merge-patch+json', body: change })
  api.close()
  expect(answer.status, answer.text).toBe(200)
}

async function createBy(kubeconfigFile: string, object: { kind: string; metadata: object; [field: string]: unknown }) {
  const { apiFrom } = await import('../kubernetes/embedded/testing.ts')
  const api = apiFrom(kubeconfigFile)
  const { namespace: inside } = object.metadata as { namespace?: string }
  const plural = `${object.kind.toLowerCase()}s`
  const path = `/api/v1${inside ? `/namespaces/${inside}` : ''}/${plural}?fieldManager=kubectl-create`
  const answer = await api.call(path, { method: 'POST', body: object })
  api.close()
  expect(answer.status, answer.text).toBe(201)
}

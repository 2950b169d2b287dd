import { beforeAll, describe, expect, test } from 'vitest'
import type { TestServer } from '../testing/server.ts'
import { deployed, embeddedPlace, eventually, receipt, startDelivering, writesOf } from './testing.ts'

let place: Awaited<ReturnType<typeof embeddedPlace>>
let server: TestServer
const namespace = 'main--default'

beforeAll(async () => {
  place = await embeddedPlace()
  server = await startDelivering(place)
  return async () => {
    await server.close()
    await place.stop()
  }
})

describe('a deploy', () => {
  test('brings the secret and the pods, and its receipt ends live', async () => {
    await server.client().secretPut({ name: 'db-creds', data: { URL: 'postgres://canary-one', PASSWORD: 'p$(X)' } })
    const over = await deployed(server, {
      name: 'api',
      image: 'acme/api:1.0',
      port: 3000,
      replicas: 2,
      env: { LOG_LEVEL: 'info', PRICE: '$(URL)' },
      envFrom: ['db-creds'],
    })
    expect(over).toMatchObject({ state: 'live', message: null })
    expect(over!.steps.map(({ state }) => state)).toEqual(['stored', 'applied', 'rolling', 'live'])
    expect(over!.services).toMatchObject([{ name: 'api', state: 'live', ready: 2, wanted: 2 }])

    const [secret] = await place.list('Secret', namespace)
    expect(secret).toMatchObject({
      metadata: { name: 'org.db-creds.v1', labels: { 'app.kubernetes.io/managed-by': '1ctl' } },
      immutable: true,
      type: 'Opaque',
      data: { URL: Buffer.from('postgres://canary-one').toString('base64') },
    })
    const [deployment] = await place.list('Deployment', namespace)
    expect(deployment!.spec.template.spec.containers[0]!.env).toEqual([
      { name: 'LOG_LEVEL', value: 'info' },
      { name: 'PASSWORD', valueFrom: { secretKeyRef: { name: 'org.db-creds.v1', key: 'PASSWORD' } } },
      { name: 'PRICE', value: '$$(URL)' },
      { name: 'URL', valueFrom: { secretKeyRef: { name: 'org.db-creds.v1', key: 'URL' } } },
    ])
    expect(await server.client().appView({ ref: 'api' })).toMatchObject({ release: 1, liveRelease: 1, rejected: null })
  })

  test('of the same again writes nothing', async () => {
    const before = await writesOf(server)
    const again = await server.client().deploy({ name: 'api', image: 'acme/api:1.0' })
    expect(again.unchanged).toBe(true)
    expect(await writesOf(server)).toBe(before)
  })
})

describe('a change of a secret', () => {
  test('of the app makes a new object and new pods; an unset key is gone from the cluster after the rollout', async () => {
    const { id } = await server.client().appView({ ref: 'api' })
    const created = await server.client().secretPut({
      deploymentId: id,
      name: 'own',
      keyValues: [
        { key: 'GONE', value: 'canary-two' },
        { key: 'STAYS', value: 'canary-three' },
      ],
    })
    await receipt(server, created.rollouts[0]!.id)
    const names = async () => (await place.list('Secret', namespace)).map(({ metadata }) => metadata.name).sort()
    expect(await names()).toEqual(['app.api.own.v1', 'org.db-creds.v1'])

    const unset = await server.client().secretPatch({ ref: 'own', appId: id, unset: ['GONE'] })
    expect(await receipt(server, unset.rollouts[0]!.id)).toMatchObject({ state: 'live' })
    await eventually(async () => (await names()).join() === 'app.api.own.v2,org.db-creds.v1')
    const [pod] = await place.list('Pod', namespace)
    expect(pod!.spec.containers[0]!.env!.map(({ name }) => name)).not.toContain('GONE')
  })
})

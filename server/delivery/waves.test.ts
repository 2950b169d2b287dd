import { beforeAll, describe, expect, test } from 'vitest'
import type { TestServer } from '../testing/server.ts'
import { deployed, embeddedPlace, eventually, startDelivering } from './testing.ts'
import { nextOf } from './waves.ts'

const app = (
  app_id: string,
  state: Parameters<typeof nextOf>[0]['apps'][0]['state'] = null,
  message: string | null = null,
) => ({
  app_id,
  app: app_id,
  vpc: 'default',
  started: state !== null,
  state,
  message,
})

describe('the next step of a wave', () => {
  test('is one app, until it is live', () => {
    expect(nextOf({ size: 5, apps: [app('a'), app('b')] })).toEqual({ apps: ['a'] })
    expect(nextOf({ size: 5, apps: [app('a', 'rolling'), app('b')] })).toEqual({ apps: [] })
    expect(nextOf({ size: 5, apps: [app('a', 'superseded'), app('b'), app('c')] })).toEqual({ apps: ['b'] })
  })

  test('is as many at a time as were asked for', () => {
    const apps = [app('a', 'live'), app('b', 'rolling'), app('c'), app('d'), app('e')]
    expect(nextOf({ size: 2, apps })).toEqual({ apps: ['c'] })
    expect(nextOf({ size: 9, apps })).toEqual({ apps: ['c', 'd', 'e'] })
  })

  test('is none when one has failed, and it says which', () => {
    const apps = [app('a', 'live'), app('b', 'failed', 'Release 2 failed: b: OOMKilled.'), app('c')]
    expect(nextOf({ size: 2, apps })).toEqual({
      state: 'stopped',
      message: 'b (default): Release 2 failed: b: OOMKilled.',
    })
  })

  test('is the end when all are over', () => {
    expect(nextOf({ size: 2, apps: [app('a', 'live'), app('b', 'superseded')] })).toEqual({
      state: 'done',
      message: null,
    })
    expect(nextOf({ size: 2, apps: [] })).toEqual({ state: 'done', message: null })
  })
})

describe('a shared secret', () => {
  let place: Awaited<ReturnType<typeof embeddedPlace>>
  let server: TestServer
  beforeAll(async () => {
    place = await embeddedPlace()
    server = await startDelivering(place, { times: { minReadySeconds: 2, progressDeadlineSeconds: 20 } })
    await server.client().secretPut({ name: 'shared', data: { KEY: 'good-1' } })
    for (const name of ['one', 'two', 'three'])
      await deployed(server, { name, image: 'acme/api:1', envFrom: ['shared'], env: { SIMULATE_CRASH_IF: 'KEY=bad*' } })
    return async () => {
      await server.close()
      await place.stop()
    }
  })
  const change = async (KEY: string) => {
    const { wave } = await server.client().secretPatch({ ref: 'shared', set: { KEY }, rollout: { waves: { size: 2 } } })
    return eventually(async () => {
      const found = await server.client().waveView({ id: wave! })
      return found.state !== 'running' && found
    }, 20_000)
  }
  const versions = async () =>
    (await Promise.all(['one', 'two', 'three'].map((ref) => server.client().releaseList({ ref })))).map(
      ({ items }) => items.find(({ live }) => live)?.secrets[0]?.version,
    )

  test('goes through all apps when their pods take it', async () => {
    expect(await change('good-2')).toMatchObject({
      state: 'done',
      apps: [{ state: 'live' }, { state: 'live' }, { state: 'live' }],
    })
    expect(await versions()).toEqual([2, 2, 2])
  })

  test('stops at the first that does not, and the others run what they ran', async () => {
    const wave = await change('bad-3')
    expect(wave.state).toBe('stopped')
    expect(wave.message).toContain('CrashLoopBackOff')
    expect(wave.apps.map(({ rollout }) => rollout !== null)).toEqual([true, false, false])
    await eventually(async () => (await versions()).join() === '2,2,2')
  })
})

import { beforeAll, describe, expect, test } from 'vitest'
import type { TestServer } from '../testing/server.ts'
import { deployed, embeddedPlace, eventually, receipt, startDelivering } from './testing.ts'

let place: Awaited<ReturnType<typeof embeddedPlace>>
let server: TestServer
const namespace = 'main--default'

beforeAll(async () => {
  place = await embeddedPlace()
  // A crash is seen as one only if a pod has to stay ready for longer.
  server = await startDelivering(place, { times: { minReadySeconds: 2, progressDeadlineSeconds: 20 } })
  return async () => {
    await server.close()
    await place.stop()
  }
})

let counter = 0
/** An app that runs, with a bag of its own, and crashes where PASSWORD begins with "bad". */
async function runningApp(more: object = {}) {
  const name = `app-${counter++}`
  const { app } = await server.client().deploy({
    name,
    image: 'acme/api:1.0',
    env: { SIMULATE_CRASH_IF: 'PASSWORD=bad*' },
    ...more,
  })
  const set = async (PASSWORD: string) => {
    const { rollouts } = await server.client().secretPut({
      deploymentId: app.id,
      name: 'creds',
      keyValues: [{ key: 'PASSWORD', value: PASSWORD }],
    })
    return receipt(server, rollouts[0]!.id)
  }
  await set('good-canary-1')
  return { name, id: app.id, set, pods: () => podsOf(name), view: () => server.client().appView({ ref: app.id }) }
}
const podsOf = async (app: string) =>
  (await place.list('Pod', namespace))
    .filter(({ metadata }) => metadata.labels?.['1ctl.dev/app'] === app && !metadata.deletionTimestamp)
    .map(({ metadata, status }) => ({ name: metadata.name, restarts: status?.containerStatuses?.[0]?.restartCount }))

describe('a value that crashes the pods', () => {
  test('is taken back: the receipt tells why, and the pods of before were never touched', async () => {
    const app = await runningApp({ replicas: 2 })
    const before = await app.pods()
    expect(before).toHaveLength(2)
    const over = await app.set('bad-canary-2')
    expect(over).toMatchObject({ state: 'rolled_back', release: 3, previousRelease: 2 })
    expect(over.steps.map(({ state }) => state)).toEqual(['stored', 'applied', 'rolling', 'failed', 'rolled_back'])
    expect(over.services).toMatchObject([{ name: app.name, state: 'rolled_back', reason: 'CrashLoopBackOff' }])
    expect(over.message).toMatch(
      /^Release 3 failed: app-\d+: CrashLoopBackOff, ended with exit code 1.*Release 2 runs again\.$/,
    )
    expect(over.services[0]!.logs.join('\n')).toMatch(/simulated|crash/i)
    expect(JSON.stringify(over)).not.toContain('canary')
    await eventually(async () => (await app.pods()).length === 2)
    expect(await app.pods()).toEqual(before)
    const view = await app.view()
    expect(view).toMatchObject({ release: 2, liveRelease: 2 })
    expect(view.rejected).toContain('release 3')
  })

  test('is kept where that was asked for: nothing is undone, and the next change ends it', async () => {
    const app = await runningApp({ onFailure: 'keep' })
    const over = await app.set('bad-canary-3')
    expect(over).toMatchObject({ state: 'failed' })
    expect(over.message).toContain('left as they are')
    expect(await app.view()).toMatchObject({ release: 3, liveRelease: 2 })
    expect(await app.set('good-canary-4')).toMatchObject({ state: 'live' })
    expect(await app.view()).toMatchObject({ release: 4, liveRelease: 4, rejected: null })
  })

  test('is no matter of its successor: the next good one is live, and nothing is rejected any more', async () => {
    const app = await runningApp()
    expect(await app.set('bad-canary-5')).toMatchObject({ state: 'rolled_back' })
    expect(await app.set('good-canary-6')).toMatchObject({ state: 'live', previousRelease: 2 })
    expect(await app.view()).toMatchObject({ rejected: null })
  })
})

describe('a first deploy that fails', () => {
  test('has nothing to go back to, and says so', async () => {
    const over = await deployed(server, { name: 'never', image: 'acme/crash:1' })
    expect(over).toMatchObject({ state: 'failed' })
    expect(over!.message).toContain('no earlier release')
  })

  test.each([['acme/no-such:1', 'ImagePullBackOff']])('%s: %s', async (image, reason) => {
    const over = await deployed(server, { name: 'no-image', image })
    expect(over).toMatchObject({ state: 'failed', services: [{ reason }] })
  })
})

describe('while a rollout is on its way', () => {
  test('a burst of changes becomes one rollout at its end, and each receipt ends truthfully', async () => {
    const app = await runningApp()
    const answers = await Promise.all(
      ['one', 'two', 'three', 'four', 'five'].map((word) =>
        server.client().secretPatch({ ref: 'creds', appId: app.id, set: { PASSWORD: `good-${word}` } }),
      ),
    )
    const receipts = await Promise.all(answers.map(({ rollouts }) => receipt(server, rollouts[0]!.id)))
    const states = receipts.map(({ state }) => state).sort()
    expect(states).toEqual(['live', 'superseded', 'superseded', 'superseded', 'superseded'])
    const live = receipts.find(({ state }) => state === 'live')!
    expect((await app.view()).liveRelease).toBe(live.release)
    for (const { state, supersededBy } of receipts) if (state === 'superseded') expect(supersededBy).toMatch(/^rol_/)
  })

  test('a release that is replaced while it is taken back leaves the last word to its successor', async () => {
    const app = await runningApp()
    const { rollouts } = await server.client().secretPatch({ ref: 'creds', appId: app.id, set: { PASSWORD: 'bad-x' } })
    await eventually(async () => {
      const found = await server.client().rolloutView({ id: rollouts[0]!.id })
      return found.state === 'rolling'
    })
    expect(await app.set('good-y')).toMatchObject({ state: 'live' })
    expect(await receipt(server, rollouts[0]!.id)).toMatchObject({ state: 'superseded' })
  })

  test('staging touches nothing', async () => {
    const app = await runningApp()
    const before = await app.pods()
    const answer = await server.client().secretPatch({
      ref: 'creds',
      appId: app.id,
      set: { PASSWORD: 'good-later' },
      rollout: 'stage',
    })
    expect(answer.rollouts).toEqual([])
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(await app.pods()).toEqual(before)
    expect(await app.view()).toMatchObject({ staged: true, release: 2 })
  })
})

import { describe, expect, test } from 'vitest'
import type { ServiceState } from './observe.ts'
import type { DueApp, OpenRollout } from './queue.ts'
import { decide, type Look } from './rollout.ts'

const app = (rollout: Partial<OpenRollout> | null, release = 5): DueApp => ({
  id: 'a',
  name: 'api',
  organizationId: 'o',
  vpcId: 'v',
  namespace: 'ns',
  claim: { id: 'a', due: '', until: 0 },
  tries: 0,
  release,
  liveRelease: 4,
  serving: {},
  services: [{ name: 'api', image: 'x', replicas: 2, security: 'baseline', env: [], files: [] }],
  bags: [],
  rollout: rollout && {
    id: 'r',
    release: 5,
    previous: 4,
    state: 'stored',
    onFailure: 'rollback',
    services: [],
    message: null,
    ...rollout,
  },
})
const seen = (state: ServiceState['state'], more: Partial<ServiceState> = {}): Look => ({
  services: [{ name: 'api', state, ready: 0, wanted: 2, serving: 0, reason: null, message: null, pod: null, ...more }],
})
const sealed: Look = { obstacle: 'pending', reason: 'Sealed', message: 'The server is sealed.' }
const invalid: Look = { obstacle: 'failed', reason: 'Invalid', message: 'no such memory' }
const steps = (rollout: Partial<OpenRollout>, look: Look) => decide(app(rollout), look)?.steps

describe('a receipt', () => {
  test('goes from stored to live, and leaves out no step that was taken', () => {
    expect(steps({}, seen('applied'))).toEqual(['applied'])
    expect(steps({}, seen('rolling'))).toEqual(['applied', 'rolling'])
    expect(steps({ state: 'applied' }, seen('rolling'))).toEqual(['rolling'])
    expect(decide(app({ state: 'rolling' }), seen('live'))).toMatchObject({
      steps: ['live'],
      isFinished: true,
      live: 5,
      rejected: null,
    })
    expect(steps({}, seen('live'))).toEqual(['applied', 'live'])
  })

  test('is written only when it says something new', () => {
    const first = decide(app({ state: 'rolling' }), seen('rolling', { ready: 1 }))!
    expect(first.steps).toEqual([])
    expect(decide(app({ state: 'rolling', services: first.services }), seen('rolling', { ready: 1 }))).toBeUndefined()
    expect(decide(app(null), seen('rolling'))).toBeUndefined()
  })

  test('is pending with the reason, and applied again afterwards', () => {
    expect(decide(app({}), sealed)).toMatchObject({
      steps: ['pending'],
      message: 'The server is sealed.',
      isFinished: false,
    })
    expect(steps({ state: 'pending' }, seen('rolling'))).toEqual(['applied', 'rolling'])
  })
})

describe('a failure', () => {
  const crash = seen('failed', { reason: 'CrashLoopBackOff', message: 'ended with exit code 1' })

  test('turns to the release before', () => {
    expect(decide(app({ state: 'rolling' }), crash)).toMatchObject({
      steps: ['failed'],
      message: 'Release 5 failed: api: CrashLoopBackOff, ended with exit code 1. Going back to release 4.',
      isFinished: false,
      release: 4,
      rejected: 5,
    })
    expect(decide(app({}), invalid)).toMatchObject({ steps: ['failed'], release: 4, services: [{ reason: 'Invalid' }] })
  })

  test('is the end where it is to be kept, and where there was nothing before', () => {
    for (const rollout of [{ onFailure: 'keep' as const }, { previous: null }, { previous: 5 }]) {
      const decision = decide(app({ state: 'rolling', ...rollout }), crash)
      expect(decision).toMatchObject({ isFinished: true, rejected: 5 })
      expect(decision).not.toHaveProperty('release')
    }
  })
})

describe('the way back', () => {
  const failed = decide(app({ state: 'rolling' }), seen('failed', { reason: 'OOMKilled' }))!
  const back = (look: Look) =>
    decide(app({ state: 'failed', services: failed.services, message: failed.message }, 4), look)

  test('ends when the release before runs again', () => {
    expect(back(seen('rolling'))).toBeUndefined()
    expect(back(seen('live'))).toMatchObject({
      steps: ['rolled_back'],
      isFinished: true,
      live: 4,
      message: 'Release 5 failed: api: OOMKilled. Release 4 runs again.',
      services: [{ state: 'rolled_back', reason: 'OOMKilled' }],
    })
  })

  test('waits with a reason', () => {
    expect(back(sealed)).toMatchObject({ steps: [], isFinished: false })
    expect(back(sealed)!.message).toContain('Going back to release 4 waits: The server is sealed.')
  })

  test('says so if that does not start either', () => {
    expect(back(seen('failed', { reason: 'ImagePullBackOff' }))).toMatchObject({ steps: [], isFinished: true })
    expect(back(invalid)!.message).toContain('Release 4 did not start again either: Invalid.')
  })
})

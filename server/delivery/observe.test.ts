import { describe, expect, test } from 'vitest'
import { createPicture, type DeploymentStatus, type Picture, type Seen, type SeenPod } from './cluster.ts'
import { type AppAt, desiredWorkloads, labels, type Workload } from './desired.ts'
import { patience, serviceState, templateHash } from './observe.ts'

const app: AppAt = { id: 'a', name: 'api', organizationId: 'o', vpcId: 'v', namespace: 'ns' }
const service = { name: 'api', image: 'x:1', replicas: 2, security: 'baseline' as const, env: [], files: [] }
const [deployment] = desiredWorkloads(app, [service], new Map()) as [Workload]

/** A picture with this Deployment and these pods of the wanted template. */
function pictureOf(status: DeploymentStatus, pods: Partial<SeenPod>[] = [], more: Partial<Seen> = {}): Picture {
  const picture = createPicture()
  const metadata = { namespace: 'ns', uid: 'u', resourceVersion: '1', annotations: {}, labels: {} }
  picture.put({
    kind: 'Deployment',
    metadata: { ...metadata, name: 'api', generation: 2 },
    others: [],
    status,
    ...more,
  })
  pods.forEach((pod, at) =>
    picture.put({
      kind: 'Pod',
      metadata: {
        ...metadata,
        name: `api-${at}`,
        labels: { [labels.app]: 'api', [labels.service]: 'api', [labels.template]: templateHash(deployment) ?? '' },
      },
      others: [],
      pod: { secrets: [], isReady: false, conditions: [], containers: [], since: 0, ...pod },
    }),
  )
  return picture
}
const stateOf = (picture: Picture, now = 0) => serviceState(picture, deployment, service, patience, now)
const waiting = (reason: string, { restartCount = 0, message = '', ended = {} } = {}): Partial<SeenPod> => ({
  containers: [
    {
      name: 'api',
      ready: false,
      restartCount,
      state: { waiting: { reason, message } },
      lastState: restartCount ? { terminated: { exitCode: 1, ...ended } } : {},
    },
  ],
})
const rolling = { observedGeneration: 2, replicas: 3, updatedReplicas: 1, availableReplicas: 2 }
const deadline = (lastTransitionTime: string) => ({
  ...rolling,
  conditions: [
    { type: 'Progressing', status: 'False' as const, reason: 'ProgressDeadlineExceeded', lastTransitionTime },
  ],
})

describe('a service', () => {
  test('is applied until the cluster has taken notice, whatever it says of before', () => {
    expect(stateOf(createPicture()).state).toBe('applied')
    expect(stateOf(pictureOf({ ...rolling, observedGeneration: 1 })).state).toBe('applied')
  })

  test('is live when every pod is of the new template and available, and none of the old is left', () => {
    const live = { observedGeneration: 2, replicas: 2, updatedReplicas: 2, availableReplicas: 2 }
    expect(stateOf(pictureOf(live))).toMatchObject({ state: 'live', ready: 2, wanted: 2 })
    expect(stateOf(pictureOf({ ...live, replicas: 3 })).state).toBe('rolling')
    expect(stateOf(pictureOf({ ...live, availableReplicas: 1 })).state).toBe('rolling')
  })

  test('is rolling with as many as are ready', () => {
    expect(stateOf(pictureOf(rolling, [{ isReady: true }, {}]))).toMatchObject({
      state: 'rolling',
      ready: 1,
      reason: null,
    })
  })
})

describe('it has failed', () => {
  test('at once with a name that is none', () => {
    expect(stateOf(pictureOf(rolling, [waiting('InvalidImageName')]))).toMatchObject({
      state: 'failed',
      reason: 'InvalidImageName',
    })
  })

  test('with a crash loop once it has come back twice; killed for its memory, that is the reason', () => {
    expect(stateOf(pictureOf(rolling, [waiting('CrashLoopBackOff', { restartCount: 1 })]))).toMatchObject({
      state: 'rolling',
      reason: 'CrashLoopBackOff',
    })
    expect(stateOf(pictureOf(rolling, [waiting('CrashLoopBackOff', { restartCount: 2 })]))).toMatchObject({
      state: 'failed',
      message: 'ended with exit code 1, and was started again 2 times',
      pod: { name: 'api-0', hasRestarted: true },
    })
    const killed = waiting('CrashLoopBackOff', { restartCount: 2, ended: { reason: 'OOMKilled' } })
    expect(stateOf(pictureOf(rolling, [killed])).reason).toBe('OOMKilled')
  })

  test.each([
    ['CreateContainerConfigError', "couldn't find key X in Secret ns/bag", 'failed'],
    ['ImagePullBackOff', 'x:1: not found', 'failed'],
    ['ErrImagePull', 'pull access denied', 'failed'],
    // The registry is away: only the deadline ends that.
    ['ImagePullBackOff', 'connect: connection refused', 'rolling'],
  ])('with %s (%s) when that lasts: then it is %s', (reason, message, state) => {
    const picture = pictureOf(rolling, [waiting(reason, { message })])
    expect(stateOf(picture, patience.lastingMs - 1).state).toBe('rolling')
    expect(stateOf(picture, patience.lastingMs)).toMatchObject({ state, reason, message })
  })

  test('when nothing has moved until the deadline, but not by the deadline of the template before', () => {
    expect(stateOf(pictureOf(deadline('10:00'), [{}]))).toMatchObject({ state: 'failed', pod: { name: 'api-0' } })
    expect(stateOf(pictureOf(deadline('10:00'), [], { before: '10:00' })).state).toBe('rolling')
    expect(stateOf(pictureOf(deadline('10:05'), [], { before: '10:00' })).state).toBe('failed')
  })

  test('not yet where pods are refused or find no node: a quota or a node may come', () => {
    const refused = {
      type: 'ReplicaFailure',
      status: 'True' as const,
      reason: 'FailedCreate',
      message: 'exceeded quota',
    }
    expect(stateOf(pictureOf({ ...rolling, conditions: [refused] }))).toMatchObject({
      state: 'rolling',
      reason: 'FailedCreate',
    })
    const homeless = {
      conditions: [{ type: 'PodScheduled', status: 'False' as const, reason: 'Unschedulable', message: '0/1 nodes' }],
    }
    expect(stateOf(pictureOf(rolling, [homeless]))).toMatchObject({
      state: 'rolling',
      reason: 'Unschedulable',
      message: '0/1 nodes',
    })
  })
})

import { describe, expect, test } from 'vitest'
import type { Deployment, Pod } from './objects.ts'
import {
  apply,
  deployment,
  deploymentsIn,
  merge,
  podsIn,
  secret,
  secretsIn,
  startTestCluster,
  type TestCluster,
  until,
} from './testing.ts'

const at = `${deploymentsIn}/web`
const send = (cluster: TestCluster, container: object = {}, spec: object = {}) =>
  cluster.call(`${at}?fieldManager=1ctl`, { method: 'PATCH', type: apply, body: deployment('web', container, spec) })
const podsOf = async (cluster: TestCluster): Promise<Pod[]> => (await cluster.call(podsIn)).body.items
const read = async (cluster: TestCluster): Promise<Deployment> => (await cluster.call(at)).body
const condition = ({ status }: Deployment, type: string) => status.conditions?.find((found) => found.type === type)
const isLive = async (cluster: TestCluster) => {
  const { metadata, spec, status } = await read(cluster)
  return (
    status.observedGeneration === metadata.generation &&
    status.updatedReplicas === spec.replicas &&
    status.replicas === spec.replicas &&
    status.availableReplicas === spec.replicas
  )
}
const live = (cluster: TestCluster) => until(() => isLive(cluster))
const waitingOf = ({ status }: Pod) => status.containerStatuses?.[0]?.state.waiting
const waitFor = (cluster: TestCluster, reason: string) =>
  until(async () => (await podsOf(cluster)).find((pod) => waitingOf(pod)?.reason === reason))
const fromSecret = (key = 'A', optional?: boolean) => ({
  name: key,
  valueFrom: { secretKeyRef: { name: 'bag', key, optional } },
})
const gentle = { strategy: { rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } } }

describe('a rollout', () => {
  test('ends with every pod ready, and says on each pod that no container runs', async () => {
    const cluster = await startTestCluster()
    await send(cluster, {}, { replicas: 2 })
    await live(cluster)
    const deployed = await read(cluster)
    expect(condition(deployed, 'Available')).toMatchObject({ status: 'True', reason: 'MinimumReplicasAvailable' })
    expect(condition(deployed, 'Progressing')).toMatchObject({ status: 'True', reason: 'NewReplicaSetAvailable' })
    expect(deployed.metadata.annotations).toMatchObject({ 'deployment.kubernetes.io/revision': '1' })
    for (const pod of await podsOf(cluster)) {
      expect(pod.metadata.annotations).toMatchObject({
        'simulated.1ctl.dev/notice': expect.stringContaining('no container runs'),
      })
      expect(pod.spec.nodeName).toBe('simulated')
      expect(pod.status).toMatchObject({ phase: 'Running', containerStatuses: [{ ready: true, restartCount: 0 }] })
    }
    const { body } = await cluster.call('/api/v1/namespaces/default/events')
    const kubelet = body.items.filter((event: { source: { component: string } }) =>
      event.source.component.includes('kubelet'),
    )
    expect(kubelet.length).toBeGreaterThan(0)
    for (const event of kubelet) expect(event.message).toContain('simulated')
  })

  test('with maxUnavailable 0 never has fewer pods ready than wanted, nor more than one too many', async () => {
    const cluster = await startTestCluster()
    await send(cluster, {}, { replicas: 3, ...gentle })
    await live(cluster)
    const seen: { ready: number; total: number }[] = []
    const { lines, close } = cluster.stream(`${podsIn}?watch=1`)
    await send(cluster, { image: 'nginx:1.28' }, { replicas: 3, ...gentle })
    await live(cluster)
    const pods = new Map<string, Pod>()
    for (const line of lines) {
      const { type, object } = JSON.parse(line) as { type: string; object: Pod }
      if (type === 'DELETED' || object.metadata.deletionTimestamp) pods.delete(object.metadata.uid)
      else pods.set(object.metadata.uid, object)
      const ready = [...pods.values()].filter((pod) => pod.status.containerStatuses?.[0]?.ready).length
      seen.push({ ready, total: pods.size })
    }
    close()
    // The first three lines are the pods that were there.
    expect(Math.min(...seen.slice(3).map(({ ready }) => ready))).toBe(3)
    expect(Math.max(...seen.map(({ total }) => total))).toBe(4)
  })

  test('waits minReadySeconds, so that a crash in them keeps the old pods', async () => {
    const cluster = await startTestCluster()
    const careful = { ...gentle, minReadySeconds: 2, progressDeadlineSeconds: 3 }
    await send(cluster, {}, careful)
    await live(cluster)
    const [old] = await podsOf(cluster)
    await send(
      cluster,
      {
        env: [
          { name: 'A', value: 'bad' },
          { name: 'SIMULATE_CRASH_IF', value: 'A=bad' },
        ],
      },
      careful,
    )
    await waitFor(cluster, 'CrashLoopBackOff')
    await until(async () => condition(await read(cluster), 'Progressing')?.reason === 'ProgressDeadlineExceeded')
    expect(condition(await read(cluster), 'Progressing')!.status).toBe('False')
    const left = (await podsOf(cluster)).find(({ metadata }) => metadata.uid === old!.metadata.uid)
    expect(left!.status.containerStatuses![0]!.ready).toBe(true)
    await send(cluster, {}, careful)
    await live(cluster)
    await until(async () => (await podsOf(cluster)).length === 1)
    expect((await podsOf(cluster)).map(({ metadata }) => metadata.uid)).toEqual([old!.metadata.uid])
    expect(condition(await read(cluster), 'Progressing')).toMatchObject({
      status: 'True',
      reason: 'NewReplicaSetAvailable',
    })
  })

  test('keeps as many old replica sets as it is told', async () => {
    const cluster = await startTestCluster()
    for (const image of ['a:1', 'a:2', 'a:3', 'a:4']) {
      await send(cluster, { image }, { revisionHistoryLimit: 1 })
      await live(cluster)
    }
    await until(
      async () => (await cluster.call('/apis/apps/v1/namespaces/default/replicasets')).body.items.length === 2,
    )
    expect((await read(cluster)).metadata.annotations!['deployment.kubernetes.io/revision']).toBe('4')
  })

  test('that is interrupted by another one ends with the last template', async () => {
    const cluster = await startTestCluster()
    await send(cluster, { image: 'a:1' }, { replicas: 3, ...gentle })
    await live(cluster)
    await send(cluster, { image: 'a:no-such' }, { replicas: 3, ...gentle })
    await waitFor(cluster, 'ImagePullBackOff')
    await send(cluster, { image: 'a:3' }, { replicas: 3, ...gentle })
    await live(cluster)
    await until(async () => (await podsOf(cluster)).every(({ spec }) => spec.containers[0]!.image === 'a:3'))
  })

  test('of Recreate ends all old pods before it makes a new one', async () => {
    const cluster = await startTestCluster()
    await send(cluster, { image: 'a:1' }, { replicas: 2, strategy: { type: 'Recreate' } })
    await live(cluster)
    const { lines, close } = cluster.stream(
      `${podsIn}?watch=1&resourceVersion=${(await cluster.call(podsIn)).body.metadata.resourceVersion}`,
    )
    await send(cluster, { image: 'a:2' }, { replicas: 2, strategy: { type: 'Recreate' } })
    await live(cluster)
    close()
    const types = lines.map((line) => JSON.parse(line).type)
    expect(types.indexOf('ADDED')).toBeGreaterThan(types.lastIndexOf('DELETED'))
  })

  test('a deleted pod is made anew, and a scaled one fits', async () => {
    const cluster = await startTestCluster()
    await send(cluster)
    await live(cluster)
    const [pod] = await podsOf(cluster)
    expect((await cluster.call(`${podsIn}/${pod!.metadata.name}`, { method: 'DELETE' })).status).toBe(200)
    await until(
      async () =>
        (await podsOf(cluster)).every(({ metadata }) => metadata.uid !== pod!.metadata.uid) && isLive(cluster),
    )
    await cluster.call(`${at}/scale`, { method: 'PATCH', type: merge, body: { spec: { replicas: 0 } } })
    await until(async () => (await podsOf(cluster)).length === 0)
  })
})

describe('a pod', () => {
  test('whose Secret or key is missing says so, and starts when it appears', async () => {
    const cluster = await startTestCluster()
    await send(cluster, { env: [fromSecret()] })
    const lacking = await waitFor(cluster, 'CreateContainerConfigError')
    expect(waitingOf(lacking)!.message).toBe('secret "bag" not found')
    await cluster.call(secretsIn, { method: 'POST', body: secret('bag', { B: 'b' }) })
    await until(
      async () => waitingOf((await podsOf(cluster))[0]!)?.message === `couldn't find key A in Secret default/bag`,
    )
    await cluster.call(`${secretsIn}/bag`, { method: 'PATCH', type: merge, body: { data: { A: 'YQ==' } } })
    await live(cluster)
    expect((await podsOf(cluster))[0]!.metadata.uid).toBe(lacking.metadata.uid)
  })

  test('does not wait for what is optional', async () => {
    const cluster = await startTestCluster()
    await send(cluster, { env: [fromSecret('A', true)], envFrom: [{ secretRef: { name: 'none', optional: true } }] })
    await live(cluster)
  })

  test('whose volume lacks its Secret is not started, and an event says why', async () => {
    const cluster = await startTestCluster()
    const body = deployment('web')
    Object.assign(body.spec.template.spec, {
      volumes: [{ name: 'files', projected: { sources: [{ secret: { name: 'bag' } }] } }],
    })
    await cluster.call(deploymentsIn, { method: 'POST', body })
    await until(async () =>
      (
        await cluster.call('/api/v1/namespaces/default/events?fieldSelector=reason%3DFailedMount')
      ).body.items[0]?.message.includes('secret "bag" not found'),
    )
    expect(waitingOf((await podsOf(cluster))[0]!)!.reason).toBe('ContainerCreating')
    await cluster.call(secretsIn, { method: 'POST', body: secret('bag', { A: 'a' }) })
    await live(cluster)
  })

  test.each([
    ['nginx:no-such', 'ImagePullBackOff'],
    ['registry.example/does-not-exist:1', 'ImagePullBackOff'],
    ['Bad Image', 'InvalidImageName'],
    ['simulated/crash:1', 'CrashLoopBackOff'],
  ])('of the image %s is in %s', async (image, reason) => {
    const cluster = await startTestCluster()
    await send(cluster, { image })
    await waitFor(cluster, reason)
  })

  test.each([
    ['KEY=bad', 'bad', true],
    ['KEY=bad', 'good', false],
    ['KEY=b*d', 'bad', true],
    ['KEY=*://*@old*', 'pg://u@old.example/db', true],
    ['KEY=*://*@old*', 'pg://u@new.example/db', false],
    ['KEY!=good', 'good', false],
    ['KEY!=good', 'other', true],
    ['KEY', 'set', true],
    ['!KEY', 'set', false],
    ['!OTHER', 'set', true],
    ['KEY=ab*ba', 'aba', false],
  ])('with the condition %s and the value %s from a Secret crashes: %s', async (rule, value, crashes) => {
    const cluster = await startTestCluster()
    await cluster.call(secretsIn, { method: 'POST', body: secret('bag', { KEY: value }) })
    await send(
      cluster,
      {
        env: [
          fromSecret('KEY'),
          { name: 'SIMULATE_CRASH_IF', value: rule },
          { name: 'SIMULATE_READY_AFTER_MS', value: '1' },
        ],
      },
      { minReadySeconds: 1 },
    )
    if (!crashes) {
      await live(cluster)
      return
    }
    const pod = await waitFor(cluster, 'CrashLoopBackOff')
    const status = pod.status.containerStatuses![0]!
    expect(status).toMatchObject({ ready: false, lastState: { terminated: { exitCode: 1, reason: 'Error' } } })
    expect(status.restartCount).toBeGreaterThanOrEqual(1)
  })

  test('with a readiness probe runs before it is ready', async () => {
    const cluster = await startTestCluster()
    const { lines, close } = cluster.stream(`${podsIn}?watch=1`)
    await send(cluster, { readinessProbe: { httpGet: { port: 80 } } })
    await live(cluster)
    close()
    const states = lines.map((line) => (JSON.parse(line).object as Pod).status.containerStatuses?.[0])
    expect(states.some((status) => status?.state.running && !status.ready)).toBe(true)
    expect(states.at(-1)!.ready).toBe(true)
  })
})

describe('what is owned', () => {
  test('goes with its owner, and stays as an orphan where that is asked for', async () => {
    const cluster = await startTestCluster()
    const sets = '/apis/apps/v1/namespaces/default/replicasets'
    await send(cluster)
    await live(cluster)
    await cluster.call(at, { method: 'DELETE', body: { propagationPolicy: 'Orphan' } })
    expect((await cluster.call(sets)).body.items).toHaveLength(1)
    await send(cluster)
    await live(cluster)
    expect((await cluster.call(sets)).body.items).toHaveLength(1)
    await cluster.call(at, { method: 'DELETE' })
    await until(async () => (await podsOf(cluster)).length === 0)
    expect((await cluster.call(sets)).body.items).toHaveLength(0)
  })

  test('a namespace goes with all that is in it, takes nothing meanwhile, and leaves others alone', async () => {
    const cluster = await startTestCluster()
    const inside = '/api/v1/namespaces/team/secrets'
    await cluster.call('/api/v1/namespaces', {
      method: 'POST',
      body: { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'team' } },
    })
    await cluster.call(inside, { method: 'POST', body: secret('one', {}) })
    await cluster.call(secretsIn, { method: 'POST', body: secret('two', {}) })
    await cluster.call('/apis/apps/v1/namespaces/team/deployments', { method: 'POST', body: deployment('web') })
    await until(async () => (await cluster.call('/api/v1/namespaces/team/pods')).body.items.length === 1)
    const ending = await cluster.call('/api/v1/namespaces/team', { method: 'DELETE' })
    expect(ending.body.status.phase).toBe('Terminating')
    expect((await cluster.call(inside, { method: 'POST', body: secret('late', {}) })).status).toBe(403)
    await until(async () => (await cluster.call('/api/v1/namespaces/team')).status === 404)
    expect((await cluster.call(inside)).body.items).toEqual([])
    expect((await cluster.call(secretsIn)).body.items).toHaveLength(1)
  })
})

test('a stateful set makes its pods in order, with claims, and replaces them from the last', async () => {
  const cluster = await startTestCluster()
  const sets = '/apis/apps/v1/namespaces/default/statefulsets'
  const { spec } = deployment('db')
  const body = {
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: { name: 'db' },
    spec: {
      ...spec,
      replicas: 2,
      serviceName: 'db',
      volumeClaimTemplates: [
        {
          metadata: { name: 'data' },
          spec: {
            accessModes: ['ReadWriteOnce'],
            resources: { requests: { storage: '1Gi' } },
          },
        },
      ],
    },
  }
  expect((await cluster.call(sets, { method: 'POST', body })).status).toBe(201)
  const isReady = async () => {
    const { status, metadata } = (await cluster.call(`${sets}/db`)).body
    return (
      status.observedGeneration === metadata.generation && status.readyReplicas === 2 && status.updatedReplicas === 2
    )
  }
  await until(isReady)
  expect((await podsOf(cluster)).map(({ metadata }) => metadata.name)).toEqual(['db-0', 'db-1'])
  const claims = (await cluster.call('/api/v1/namespaces/default/persistentvolumeclaims')).body.items
  expect(claims.map((claim: Pod) => claim.metadata.name)).toEqual(['data-db-0', 'data-db-1'])
  const { lines, close } = cluster.stream(
    `${podsIn}?watch=1&resourceVersion=${(await cluster.call(podsIn)).body.metadata.resourceVersion}`,
  )
  await cluster.call(`${sets}/db`, {
    method: 'PATCH',
    type: merge,
    body: { spec: { template: { spec: { containers: [{ name: 'app', image: 'db:2' }] } } } },
  })
  await until(isReady)
  close()
  const made = lines.map((line) => JSON.parse(line)).filter(({ type }) => type === 'ADDED')
  expect(made.map(({ object }) => object.metadata.name)).toEqual(['db-1', 'db-0'])
})

import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Kind } from '../kubernetes/kinds.ts'
import type { TestServer } from '../testing/server.ts'
import {
  createBy,
  deployed,
  editBy,
  eventually,
  type Place,
  receipt,
  receiptIn,
  settled,
  startDelivering,
  writesOf,
} from './testing.ts'

/** Crashes where PASSWORD begins with "bad": on a genuine cluster by its command, on the embedded one by its rule. */
export const workload = {
  image: 'docker.io/local/busybox:1',
  command: [
    '/bin/sh',
    '-c',
    'case "$PASSWORD" in bad*) echo "refused: $PASSWORD"; exit 1;; esac; trap "exit 0" TERM; sleep 99999 & wait',
  ],
  env: { SIMULATE_CRASH_IF: 'PASSWORD=bad*' },
}

/** What delivery guarantees, on whatever cluster: the same suite runs on the embedded one and on a genuine one. */
export function describeDelivery(startPlace: () => Promise<Place>, timeoutMs?: number): void {
  let place: Place
  let server: TestServer
  const servers: TestServer[] = []

  beforeAll(async () => {
    place = await startPlace()
    server = await startDelivering(place)
    return async () => {
      for (const one of [server, ...servers]) await one.close()
      await place.stop()
    }
  }, timeoutMs)

  /** Another on the same database. */
  const another = async () => {
    const one = await startDelivering(place, { database: server.database })
    servers.push(one)
    return one
  }
  const as = () => ({ token: server.token })

  let counter = 0
  /** A VPC of its own, so that tests do not meet. */
  const newVpc = async () => {
    const vpc = `vpc-${counter++}`
    const { namespace } = await server.client().vpcCreate({ name: vpc })
    return { vpc, namespace }
  }
  /** An app that runs, and its bag `creds`. */
  const runningApp = async (more: object = {}, where?: { vpc: string; namespace: string }, name = 'api') => {
    const { vpc, namespace } = where ?? (await newVpc())
    const { app } = await server.client().deploy({ name, vpc, ...workload, port: 80, ...more })
    const change = async (PASSWORD: string) => {
      const keyValues = [{ key: 'PASSWORD', value: PASSWORD }]
      return (await server.client().secretPut({ deploymentId: app.id, name: 'creds', keyValues })).rollouts[0]!.id
    }
    const set = async (password: string) => receipt(server, await change(password))
    expect(await set('good-canary-1')).toMatchObject({ state: 'live' })
    const pods = async () =>
      (await place.list('Pod', namespace))
        .filter(({ metadata }) => metadata.labels?.['1ctl.dev/app'] === name && !metadata.deletionTimestamp)
        .map(({ metadata, status }) => ({ uid: metadata.uid, restarts: status?.containerStatuses?.[0]?.restartCount }))
        .sort((one, other) => one.uid.localeCompare(other.uid))
    const view = () => server.client().appView({ ref: app.id })
    return { id: app.id, name, vpc, namespace, change, set, pods, view }
  }
  const names = async (kind: Kind, namespace?: string) =>
    (await place.list(kind, namespace)).map(({ metadata }) => metadata.name).sort()
  const departing = async (namespace: string) =>
    (await server.db.query('select from departures where namespace = $1', [namespace])).rowCount
  const uidOf = async (kind: Kind, ref: { namespace?: string; name: string }) =>
    (await place.kubernetes.get(kind, ref, { metadataOnly: true }).catch(() => undefined))?.metadata.uid

  describe.concurrent('a deploy', () => {
    test('brings the secrets and the pods, and its receipt ends live', async () => {
      const { vpc, namespace } = await newVpc()
      await server.client().secretPut({ name: 'db-creds', vpc, data: { URL: 'postgres://canary', PASSWORD: 'p$(X)' } })
      const over = await deployed(server, {
        ...workload,
        name: 'api',
        vpc,
        port: 3000,
        replicas: 2,
        env: { PRICE: '$(URL)' },
        envFrom: ['db-creds'],
      })
      expect(over).toMatchObject({
        state: 'live',
        message: null,
        services: [{ name: 'api', state: 'live', ready: 2, wanted: 2 }],
      })
      expect(over.steps.map(({ state }) => state)).toEqual(['stored', 'applied', 'rolling', 'live'])
      expect(await place.kubernetes.get('Secret', { namespace, name: 'vpc.db-creds.v1' })).toMatchObject({
        metadata: { labels: { 'app.kubernetes.io/managed-by': '1ctl' } },
        immutable: true,
        data: { URL: Buffer.from('postgres://canary').toString('base64') },
      })
      const deployment = await place.kubernetes.get('Deployment', { namespace, name: 'api' })
      expect(deployment.spec.template.spec.containers[0]!.env).toEqual([
        { name: 'PASSWORD', valueFrom: { secretKeyRef: { name: 'vpc.db-creds.v1', key: 'PASSWORD' } } },
        { name: 'PRICE', value: '$$(URL)' },
        { name: 'URL', valueFrom: { secretKeyRef: { name: 'vpc.db-creds.v1', key: 'URL' } } },
      ])
      expect(await names('Service', namespace)).toEqual(['api'])
    })

    test('of several services names each after both; one that leaves the app leaves the cluster', async () => {
      const { vpc, namespace } = await newVpc()
      const { image, command } = workload
      await deployed(server, {
        name: 'shop',
        vpc,
        image,
        command,
        services: [{ name: 'shop' }, { name: 'worker', replicas: 0 }],
      })
      expect(await names('Deployment', namespace)).toEqual(['shop', 'shop--worker'])
      await deployed(server, { name: 'shop', vpc, services: [{ name: 'shop' }] })
      await eventually(async () => (await names('Deployment', namespace)).join() === 'shop')
    })

    test('that cannot succeed has nothing to go back to, and says so', async () => {
      const { vpc } = await newVpc()
      const over = await deployed(server, { name: 'never', vpc, ...workload, image: 'Bad//Image', env: {} }).catch(
        () => undefined,
      )
      const other =
        over ??
        (await deployed(server, {
          name: 'never',
          vpc,
          ...workload,
          env: { PASSWORD: 'bad', SIMULATE_CRASH_IF: 'PASSWORD' },
        }))
      expect(other).toMatchObject({ state: 'failed' })
      expect(other.message).toContain('no earlier release')
    })
  })

  describe.concurrent('a change of a secret', () => {
    test('makes a new object and new pods; an unset key is gone from the cluster when the rollout is over', async () => {
      const app = await runningApp()
      const { rollouts } = await server
        .client()
        .secretPatch({ ref: 'creds', appId: app.id, set: { KEPT: 'canary-2' }, unset: ['PASSWORD'] })
      expect(await receipt(server, rollouts[0]!.id)).toMatchObject({ state: 'live' })
      await eventually(async () => (await names('Secret', app.namespace)).join() === 'app.api.creds.v2')
      const [pod] = await place.list('Pod', app.namespace)
      expect(pod!.spec.containers[0]!.env!.map(({ name }) => name)).not.toContain('PASSWORD')
    })

    test('that is staged touches nothing', async () => {
      const app = await runningApp()
      const pods = await app.pods()
      const set = { PASSWORD: 'good-later' }
      const answer = await server.client().secretPatch({ ref: 'creds', appId: app.id, set, rollout: 'stage' })
      expect(answer.rollouts).toEqual([])
      await sleep(300)
      expect(await app.pods()).toEqual(pods)
      expect(await names('Secret', app.namespace)).toEqual(['app.api.creds.v1'])
      expect(await app.view()).toMatchObject({ staged: true, release: 2 })
    })

    test('in a burst becomes one rollout at its end, and each receipt ends truthfully', async () => {
      const app = await runningApp()
      const ids = await Promise.all(['one', 'two', 'three', 'four', 'five'].map((word) => app.change(`good-${word}`)))
      const receipts = await Promise.all(ids.map((id) => receipt(server, id)))
      expect(receipts.map(({ state }) => state).sort()).toEqual([
        'live',
        ...Array.from({ length: 4 }, () => 'superseded'),
      ])
      expect((await app.view()).liveRelease).toBe(receipts.find(({ state }) => state === 'live')!.release)
      for (const { state, supersededBy } of receipts) if (state === 'superseded') expect(supersededBy).toMatch(/^rol_/)
    })
  })

  describe.concurrent('a value that crashes the pods', () => {
    test('is taken back: the receipt tells why, and the pods of before were never touched', async () => {
      const app = await runningApp({ replicas: 2 })
      const before = await app.pods()
      expect(before).toHaveLength(2)
      const over = await app.set('bad-canary-2')
      expect(over).toMatchObject({ state: 'rolled_back', release: 3, previousRelease: 2 })
      expect(over.steps.map(({ state }) => state)).toEqual(['stored', 'applied', 'rolling', 'failed', 'rolled_back'])
      expect(over.services).toMatchObject([{ name: 'api', state: 'rolled_back', reason: 'CrashLoopBackOff' }])
      expect(over.message).toMatch(
        /^Release 3 failed: api: CrashLoopBackOff, ended with exit code 1.*Release 2 runs again\.$/,
      )
      const said = over.services[0]!.logs.join('\n')
      if (place.isReal) expect(said).toBe('refused: ***')
      else expect(said).toMatch(/simulated/)
      expect(JSON.stringify(over)).not.toContain('canary')
      await eventually(async () => (await app.pods()).length === 2)
      expect(await app.pods()).toEqual(before)
      const view = await app.view()
      expect(view).toMatchObject({ release: 2, liveRelease: 2 })
      expect(view.rejected).toContain('Release 3')
      await eventually(async () => (await app.view()).services[0]?.ready === 2)
      expect(await app.set('good-canary-3')).toMatchObject({ state: 'live', previousRelease: 2 })
      expect(await app.view()).toMatchObject({ rejected: null })
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

    test('leaves the last word to its successor, if that comes first', async () => {
      const app = await runningApp()
      const bad = await app.change('bad-x')
      await receiptIn(server, bad, 'rolling')
      expect(await app.set('good-y')).toMatchObject({ state: 'live' })
      expect(await receipt(server, bad)).toMatchObject({ state: 'superseded' })
    })
  })

  test.concurrent('an image that does not exist fails with the words of the cluster', async () => {
    const { vpc } = await newVpc()
    const over = await deployed(server, { name: 'no-image', vpc, image: 'localhost:1/no-such:1' })
    expect(over).toMatchObject({ state: 'failed' })
    // A registry that does not answer may come back: then it is the deadline that ends it.
    expect(over.services[0]!.reason).toMatch(/ImagePull|ProgressDeadline/)
  })

  describe.concurrent('what someone changes in the cluster', () => {
    test('with our labels and other values is not taken for ours', async () => {
      const { namespace } = await runningApp()
      const ref = { namespace, name: 'app.api.creds.v1' }
      const real = await place.kubernetes.get('Secret', ref)
      await place.kubernetes.delete('Secret', ref)
      const { labels, annotations } = real.metadata
      const forged = { metadata: { ...ref, labels, annotations }, immutable: true, data: { PASSWORD: 'Zm9yZ2Vk' } }
      // It may be put back before.
      await createBy(place, 'Secret', forged).catch(() => undefined)
      await eventually(async () => {
        const now = await place.kubernetes.get('Secret', ref).catch(() => undefined)
        return now?.data?.['PASSWORD'] === real.data?.['PASSWORD']
      })
    })

    test('and is not ours is never overwritten: the rollout waits, names it, and goes on when it is gone', async () => {
      const { vpc, namespace } = await runningApp()
      const ref = { namespace, name: 'web' }
      await createBy(place, 'Service', { metadata: ref, spec: { ports: [{ port: 9 }], selector: { mine: 'yes' } } })
      const { rollout } = await server.client().deploy({ ...workload, name: 'web', vpc, port: 80 })
      const waiting = await receiptIn(server, rollout!.id, 'pending')
      expect(waiting.message).toContain(`Service ${namespace}/web that 1ctl did not make`)
      expect((await place.kubernetes.get('Service', ref))['spec']).toMatchObject({ selector: { mine: 'yes' } })
      await place.kubernetes.delete('Service', ref)
      expect(await receipt(server, rollout!.id)).toMatchObject({ state: 'live' })
    })

    test('a namespace that is not ours is not touched', async () => {
      const { vpc, namespace } = await newVpc()
      await createBy(place, 'Namespace', { metadata: { name: namespace } })
      const { rollout } = await server.client().deploy({ ...workload, name: 'web', vpc })
      const waiting = await receiptIn(server, rollout!.id, 'pending')
      expect(waiting.message).toContain(`The namespace ${namespace} is there, but`)
      await server.client().appDelete({ ref: 'web', vpc, confirm: 'web' })
      await server.client().vpcDelete({ name: vpc })
      await eventually(async () => (await departing(namespace)) === 0)
      const { metadata } = await place.kubernetes.get('Namespace', { name: namespace })
      expect(metadata.labels?.['app.kubernetes.io/managed-by']).toBeUndefined()
    })
  })

  describe.concurrent('what is deleted', () => {
    test('an app takes exactly its objects with it; made anew under its name, it is there again', async () => {
      const app = await runningApp()
      await runningApp({}, app, 'other')
      const left = async () =>
        (
          await Promise.all(
            (['Deployment', 'Service', 'Secret', 'Pod'] as const).map((kind) => names(kind, app.namespace)),
          )
        ).map((items) => items.length)
      // Pods of before may take their time to end.
      await eventually(async () => (await left()).join() === '2,2,2,2', 60_000)
      await server.client().appDelete({ ref: 'other', vpc: app.vpc, confirm: 'other' })
      await eventually(async () => (await left()).join() === '1,1,1,1', 60_000)
      await server.client().appDelete({ ref: 'api', vpc: app.vpc, confirm: 'api' })
      await eventually(async () => (await left()).join() === '0,0,0,0', 60_000)
      await eventually(async () => (await departing(app.namespace)) === 0)
      await deployed(server, { ...workload, name: 'api', vpc: app.vpc })
      expect(await names('Deployment', app.namespace)).toEqual(['api'])
    })

    test('an app that is made anew at once takes over what runs', async () => {
      const { vpc, namespace, pods } = await runningApp({ env: workload.env })
      const uid = await uidOf('Deployment', { namespace, name: 'api' })
      await server.client().appDelete({ ref: 'api', vpc, confirm: 'api' })
      expect(await deployed(server, { ...workload, name: 'api', vpc, port: 80 })).toMatchObject({ state: 'live' })
      await settled(server)
      await eventually(async () => (await pods()).length === 1, 60_000)
      expect(await names('Deployment', namespace)).toEqual(['api'])
      expect(uid).toBeDefined()
    })

    test('a VPC takes its namespace with it, and no other; one made anew under its name gets one of its own', async () => {
      const { vpc, namespace } = await newVpc()
      const other = await runningApp()
      const uid = () => uidOf('Namespace', { name: namespace })
      expect(await deployed(server, { ...workload, name: 'api', vpc })).toMatchObject({ state: 'live' })
      const before = await uid()
      await server.client().appDelete({ ref: 'api', vpc, confirm: 'api' })
      await server.client().vpcDelete({ name: vpc })
      await server.client().vpcCreate({ name: vpc })
      expect(await deployed(server, { ...workload, name: 'api', vpc })).toMatchObject({ state: 'live' })
      expect([undefined, before]).not.toContain(await uid())
      await server.client().appDelete({ ref: 'api', vpc, confirm: 'api' })
      await server.client().vpcDelete({ name: vpc })
      await eventually(async () => (await uid()) === undefined, 60_000)
      expect(await names('Namespace')).toContain(other.namespace)
    })
  })

  test.concurrent('an app whose delivery fails does not hold up the others', async () => {
    const { vpc } = await newVpc()
    await server.client().deploy({ ...workload, name: 'poisoned', vpc })
    // As no deploy would write it: the loop stumbles over it each time.
    await server.db.query(
      "update releases set services = '[{}]' from apps where app_id = apps.id and apps.name = 'poisoned'",
    )
    await server.db.query("update apps set due_at = now() where name = 'poisoned'")
    expect(await deployed(server, { ...workload, name: 'healthy', vpc })).toMatchObject({ state: 'live' })
    await server.client().appDelete({ ref: 'poisoned', vpc, confirm: 'poisoned' })
  })

  // Alone, since they count what a server writes, or take the cluster away.
  describe('a server', () => {
    test('writes nothing when the same is deployed again', async () => {
      const app = await runningApp()
      await settled(server)
      const before = await writesOf(server)
      expect((await server.client().deploy({ ...workload, name: 'api', vpc: app.vpc, port: 80 })).unchanged).toBe(true)
      await sleep(200)
      expect(await writesOf(server)).toBe(before)
    })

    test('puts back what someone changed or deleted as soon as the watch tells it; pods that need no restart get none', async () => {
      const { namespace, pods } = await runningApp({ secretFiles: [] })
      await settled(server)
      const podsBefore = await pods()
      const repairs = async (found: string) =>
        (await server.metrics.delivery.repairs.get()).values.find(({ labels }) => labels.found === found)?.value ?? 0
      const [byWatch, byTimer] = [await repairs('watch'), await repairs('timer')]

      for (const [kind, name] of [
        ['Secret', 'app.api.creds.v1'],
        ['Service', 'api'],
      ] as const) {
        const before = await uidOf(kind, { namespace, name })
        const began = Date.now()
        await place.kubernetes.delete(kind, { namespace, name })
        await eventually(async () => ![undefined, before].includes(await uidOf(kind, { namespace, name })))
        expect(Date.now() - began, kind).toBeLessThan(1_000)
      }
      expect(await pods()).toEqual(podsBefore)

      const ref = { namespace, name: 'api' }
      const wanted = JSON.stringify((await place.kubernetes.get('Deployment', ref)).spec)
      for (const edit of [
        { spec: { replicas: 5 } },
        { spec: { template: { spec: { containers: [{ name: 'api', image: 'evil/other:1' }] } } } },
        { spec: { template: { spec: { containers: [{ name: 'api', env: [{ name: 'EVIL', value: 'yes' }] }] } } } },
        { spec: { template: { spec: { hostNetwork: true } } } },
        { metadata: { labels: { '1ctl.dev/app-id': null } } },
      ]) {
        await editBy(place, ref, edit)
        await eventually(async () => {
          const { spec, metadata } = await place.kubernetes.get('Deployment', ref)
          return JSON.stringify(spec) === wanted && metadata.labels?.['1ctl.dev/app-id']
        })
      }
      const before = await uidOf('Deployment', ref)
      await place.kubernetes.delete('Deployment', ref)
      await eventually(async () => {
        const again = await place.kubernetes.get('Deployment', ref).catch(() => undefined)
        return again && again.metadata.uid !== before && again.status?.availableReplicas === 1
      })
      expect((await repairs('watch')) - byWatch).toBeGreaterThanOrEqual(8)
      expect((await repairs('timer')) - byTimer).toBe(0)
    })

    test('that starts again writes nothing and restarts no pod', async () => {
      const app = await runningApp()
      const before = await app.pods()
      await settled(server)
      const second = await another()
      await sleep(500)
      await settled(second)
      expect(await writesOf(second)).toBe(0)
      expect(await app.pods()).toEqual(before)
      await second.close()
    })

    test('that is killed between any two steps leaves nothing undone, and nothing is done twice', async () => {
      const app = await runningApp()
      for (const ms of [0, 3, 6, 10, 15, 25, 60, 200]) {
        const doomed = await another()
        const id = await app.change(`good-${ms}-${counter++}`)
        await sleep(ms)
        doomed.delivery!.abandon()
        // Its lease would run out by itself in half a minute.
        await server.db.query("update apps set claimed_until = now() - interval '1 second' where claimed_by = $1", [
          doomed.delivery!.id,
        ])
        expect(await receipt(server, id, as()), `after ${ms} ms`).toMatchObject({ state: 'live' })
      }
      await settled(server)
      const [deployment, ...more] = await place.list('Deployment', app.namespace)
      expect(more).toEqual([])
      // The first deploy, its secret, and one template a change.
      expect(deployment!.metadata.annotations?.['deployment.kubernetes.io/revision']).toBe('10')
      await eventually(async () => (await names('Secret', app.namespace)).join() === 'app.api.creds.v9')
      await eventually(async () => (await app.pods()).length === 1)
    })

    test('shares the work with another: each app is rolled out once', async () => {
      const { vpc } = await newVpc()
      const other = await another()
      const apps = Array.from({ length: 40 }, (_, at) => ({
        ...workload,
        name: `app-${at}`,
        vpc,
        replicas: place.isReal ? 0 : 1,
      }))
      await settled(server)
      const before = await writesOf(server)
      const receipts = await Promise.all(apps.map((app) => deployed(server, app)))
      expect(receipts.map(({ state }) => state)).toEqual(apps.map(() => 'live'))
      await settled(server)
      await settled(other)
      const [one, two] = [(await writesOf(server)) - before, await writesOf(other)]
      expect(Math.min(one, two)).toBeGreaterThan(0)
      // A Deployment each and the namespace, which both may make.
      expect(one + two).toBeLessThanOrEqual(apps.length + 2)
      await other.close()
    })
  })

  test('no value is in the log, the metrics, the rows, or in what the cluster holds beside its Secrets', async () => {
    await runningApp()
    const kinds = ['Deployment', 'Service', 'Pod', 'Namespace', 'Event'] as const
    const objects = await Promise.all(kinds.map((kind) => place.kubernetes.list(kind, {})))
    const { rows } = await server.db.query(
      'select (select json_agg(r) from rollouts r)::text as o, (select json_agg(r) from releases r)::text as r',
    )
    const everything = [
      server.log(),
      await server.metrics.registry.metrics(),
      JSON.stringify(objects),
      JSON.stringify(rows),
    ].join()
    for (const form of ['good-canary', 'bad-canary', Buffer.from('good-canary').toString('base64').slice(0, -2)])
      expect(everything).not.toContain(form)
  })

  test('a cluster that is away leaves rollouts pending, with the reason, and gets everything once it is back', async () => {
    const app = await runningApp()
    await place.pause()
    const { rollout } = await server
      .client()
      .deploy({ name: 'api', vpc: app.vpc, env: { ...workload.env, NEW: 'yes' } })
    const waiting = await receiptIn(server, rollout!.id, 'pending')
    expect(waiting.message).toMatch(/is away/)
    await place.restart()
    const over = await receipt(server, rollout!.id)
    expect(over).toMatchObject({ state: 'live' })
    expect(over.steps.map(({ state }) => state)).toEqual(['stored', 'pending', 'applied', 'rolling', 'live'])
  })
}

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { ApiError, type Client } from '@1ctl/contract/client'
import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest'
import { createBy, eventually } from '../server/delivery/testing.ts'
import { connect } from '../server/kubernetes/client.ts'
import { follow } from '../server/kubernetes/follow.ts'
import { readKubeconfig } from '../server/kubernetes/kubeconfig.ts'
import { needs } from '../server/testing/needs.ts'
import { newDatabase } from '../server/testing/server.ts'
import { busyboxImage, startTimeoutMs } from './cluster/cluster.ts'
import { cleanUp, newFolder, root, run } from './processes.ts'
import {
  environmentOf,
  fetchFrom,
  isReady,
  type Pod,
  type Product,
  type RealPlace,
  realPlace,
  rowsOfApps,
  startProduct,
} from './real-place.ts'

/**
 * The built server delivers into real containers, on a genuine Kubernetes, with its own account and the role that it ships. One cluster
 * for all: each story has a VPC of its own.
 */
vi.setConfig({ testTimeout: 240_000, maxConcurrency: 10 })

describe('the built server', needs('cluster', 'containers', 'kubectl'), () => {
  let place: RealPlace
  const dataDir = newFolder()
  let product: Product
  beforeAll(async () => {
    place = await realPlace()
    product = await startProduct(place, dataDir)
  }, startTimeoutMs)
  afterAll(async () => {
    await cleanUp()
    await place?.stop()
  })

  // At the same time, as they mostly wait for containers.
  describe.concurrent('whatever else it does', () => {
    test('gives containers exactly the variables of the effective environment, as they were written (S2)', async () => {
      const { client } = product
      const { vpc, namespace } = await newVpc('variables')
      const odd = ' two\nlines=and "$(FIRST)" $$ ü '
      await client.secretPut({ name: 'creds', data: { ONLY_SHARED: 'never', URL: 'of all' } })
      await client.secretPut({ name: 'creds', appId: 'shop', vpc, data: { URL: 'of the app' } })
      await client.secretPut({ name: 'first', data: { FIRST: 'first', THEN: 'first', ODD: odd } })
      await client.secretPut({ name: 'second', data: { THEN: 'second', AT_LAST: 'second' } })
      await client.secretPut({ name: 'worker', data: { AT_LAST: 'worker', INLINE: 'worker' } })
      const { effectiveEnv } = await deploy(client, {
        ...waiter,
        name: 'shop',
        vpc,
        envFrom: ['creds', 'first', 'second'],
        env: { INLINE: 'plain $(FIRST) $$(FIRST) $$', EMPTY: '' },
        services: [{ name: 'shop' }, { name: 'worker', envFrom: ['worker'] }],
      })
      const inline = { INLINE: 'plain $(FIRST) $$(FIRST) $$', EMPTY: '' }
      const shared = { URL: 'of the app', FIRST: 'first', THEN: 'second', ODD: odd, ...inline }
      const wanted = { shop: { ...shared, AT_LAST: 'second' }, worker: { ...shared, AT_LAST: 'worker' } }
      for (const [service, expected] of Object.entries(wanted)) {
        const [pod] = await podsOf(namespace, 'shop', service)
        expect(await environmentOf(place, pod!), service).toEqual(expected)
        const told = effectiveEnv.find((one) => one.service === service)!.variables.map(({ name }) => name)
        expect(told.toSorted()).toEqual(Object.keys(expected).toSorted())
      }
    })

    test('gives them each key as a file in memory that nobody can change, and no token of the cluster (S2)', async () => {
      const { client } = product
      const { vpc, namespace } = await newVpc('files')
      const files = { 'tls.crt': '-----BEGIN-----\nüñ\n', KEY: 'no newline' }
      await client.secretPut({ name: 'tls-bundle', vpc, data: files })
      await deploy(client, { ...waiter, name: 'proxy', vpc, secretFiles: ['tls-bundle'] })
      const [pod] = await podsOf(namespace, 'proxy')
      for (const [name, content] of Object.entries(files))
        expect(await place.exec(pod!, 'cat', `/run/secrets/${name}`)).toBe(content)
      const modes = await place.exec(pod!, 'stat', '-L', '-c', '%a %n', '/run/secrets/tls.crt', '/run/secrets/KEY')
      expect(modes).toBe('444 /run/secrets/tls.crt\n444 /run/secrets/KEY\n')
      const mounts = await place.exec(pod!, 'cat', '/proc/mounts')
      expect(mounts).toMatch(/^tmpfs \/run\/secrets tmpfs ro\b/m)
      expect(mounts).not.toContain('serviceaccount')
      await expect(place.exec(pod!, 'touch', '/run/secrets/NEW')).rejects.toThrow('Read-only file system')
      expect(await environmentOf(place, pod!)).toEqual({})
    })

    test('links a key under the name of a variable, and brings its new value with a redeploy (S1)', async () => {
      const { client } = product
      const { vpc, namespace } = await newVpc('link')
      await client.secretPut({ name: 'stripe', vpc, data: { API_KEY: 'sk-one', WEBHOOK: 'never' } })
      const { app } = await deploy(client, { ...waiter, name: 'pay', vpc })
      const set = { STRIPE_KEY: { secret: 'stripe', key: 'API_KEY' } }
      await over(client, (await client.envPatch({ ref: app.id, set })).rollout!.id)
      const environment = async () => environmentOf(place, (await podsOf(namespace, 'pay'))[0]!)
      expect(await environment()).toEqual({ STRIPE_KEY: 'sk-one' })

      const saved = await client.secretPatch({ ref: 'stripe', vpc, set: { API_KEY: 'sk-two' } })
      expect([saved.rollouts, saved.stale.map(({ app }) => app)]).toEqual([[], ['pay']])
      expect(await environment()).toEqual({ STRIPE_KEY: 'sk-one' })
      await over(client, (await client.appRedeploy({ ref: app.id })).rollout!.id)
      expect(await environment()).toEqual({ STRIPE_KEY: 'sk-two' })
    })

    test('brings a key that the command line creates, and takes it from pods and cluster when it is unset (S0)', async () => {
      const { vpc, namespace } = await newVpc('cli')
      const folder = newFolder()
      const command = JSON.stringify(['/bin/sh', '-c', `echo "with $DATABASE_PASSWORD, $JWT_SECRET"; ${wait}`])
      const file = `[app]\nname = "web"\nvpc = "${vpc}"\nimage = "${waiter.image}"\ncommand = ${command}\n`
      writeFileSync(join(folder, 'satusky.toml'), file)
      const environment = async () => environmentOf(place, (await podsOf(namespace, 'web'))[0]!)
      const secrets = async () =>
        (await place.list('Secret', namespace)).map(({ metadata, data = {} }) => [metadata.name, ...Object.keys(data)])

      await oneCtl(folder, 'deploy')
      await oneCtl(folder, 'secret', 'create', '--kv', 'DATABASE_PASSWORD=hunter2', '--kv', 'JWT_SECRET=abc123')
      expect(await environment()).toEqual({ DATABASE_PASSWORD: 'hunter2', JWT_SECRET: 'abc123' })
      expect(await secrets()).toEqual([['app.web.web-secrets.v1', 'DATABASE_PASSWORD', 'JWT_SECRET']])
      expect(await oneCtl(folder, 'logs')).toMatch(/with \*\*\*, \*\*\*$/m)
      await oneCtl(folder, 'secret', 'unset', '-k', 'DATABASE_PASSWORD')
      expect(await environment()).toEqual({ JWT_SECRET: 'abc123' })
      await eventually(async () => JSON.stringify(await secrets()) === '[["app.web.web-secrets.v2","JWT_SECRET"]]')
    })

    test('takes back a value that makes the container crash; who calls the pods meanwhile sees no failure', async () => {
      const { client } = product
      const { vpc, namespace } = await newVpc('rejected')
      const { app } = await deploy(client, { ...web, name: 'web', vpc, replicas: 2 })
      const change = async (DATABASE_URL: string) => {
        const keyValues = [{ key: 'DATABASE_URL', value: DATABASE_URL }]
        const { rollouts } = await client.secretPut({ deploymentId: app.id, name: 'creds', keyValues })
        return over(client, rollouts[0]!.id)
      }
      expect(await change('postgres://app:canary-1@good-host/app')).toMatchObject({ state: 'live' })
      const uids = async () =>
        (await place.kubernetes.list('Pod', { namespace })).items.map(({ metadata }) => metadata.uid).sort()
      // Until those of before have ended.
      const before = await eventually(async () => (await uids()).length === 2 && uids(), 60_000)

      const caller = callAllTheTime(namespace)
      const rejected = await change('postgres://app:canary-2@bad-host/app')
      const { answers, failures } = await caller.stop()
      expect(failures).toEqual([])
      expect(answers).toBeGreaterThan(20)

      expect(rejected).toMatchObject({ state: 'rolled_back', services: [{ reason: 'CrashLoopBackOff' }] })
      expect(rejected.message).toContain('ended with exit code 3')
      expect(rejected.services[0]!.logs).toEqual(['starting', 'cannot reach ***'])
      expect(JSON.stringify(rejected)).not.toContain('canary')
      await eventually(async () => (await uids()).join() === before.join(), 60_000)
      expect((await client.appView({ ref: app.id })).rejected).toMatch(/^Release 3 failed: web: CrashLoopBackOff/)
      expect((await client.secretView({ ref: 'creds', appId: app.id })).status).toBe('rejected')

      expect(await change('postgres://app:canary-3@good-host/app')).toMatchObject({ state: 'live' })
      expect(await client.appView({ ref: app.id })).toMatchObject({ rejected: null })
      for (const pod of await podsOf(namespace, 'web'))
        expect(await environmentOf(place, pod)).toEqual({ DATABASE_URL: 'postgres://app:canary-3@good-host/app' })
    })

    test('changes a shared secret app after app, and stops at the first whose pods do not take it', async () => {
      const { client } = product
      const { vpc, namespace } = await newVpc('waves')
      await client.secretPut({ name: 'shared', vpc, data: { MODE: 'good' } })
      const command = ['/bin/sh', '-c', `[ "$MODE" = good ] || exit 1; ${wait}`]
      const names = ['one', 'two', 'three']
      for (const name of names) await deploy(client, { ...waiter, command, name, vpc, envFrom: ['shared'] })
      const uids = async () => (await Promise.all(names.map((name) => podsOf(namespace, name)))).flat().map(uidOf)
      const before = await uids()
      expect(before).toHaveLength(3)
      const { wave } = await client.secretPatch({ ref: 'shared', vpc, set: { MODE: 'bad' }, rollout: 'now' })
      const stopped = await eventually(async () => {
        const found = await client.waveView({ id: wave! })
        // It stops at the failure, and the way back takes a moment more.
        return found.apps.some(({ state }) => state === 'rolled_back') && found
      }, 90_000)
      expect(stopped.state).toBe('stopped')
      expect(stopped.apps.map(({ state }) => state)).toEqual(['rolled_back', null, null])
      await eventually(async () => (await uids()).join() === before.join(), 60_000)
    })

    test.for(['Deployment', 'Secret'] as const)('leaves a %s alone that is not its own, and names it', async (kind) => {
      const { client } = product
      const { vpc, namespace } = await newVpc(`foreign-${kind.toLowerCase()}`)
      await client.secretPut({ name: 'bag', vpc, data: { KEY: 'ours' } })
      await deploy(client, { ...waiter, name: 'first', vpc })
      const ref = { namespace, name: kind === 'Secret' ? 'vpc.bag.v1' : 'api' }
      if (kind === 'Secret') await createBy(place, kind, { metadata: ref, data: { KEY: 'dGhlaXJz' } })
      else await place.cluster.kubectl('create', 'deployment', ref.name, '-n', namespace, '--image=x', '--replicas=0')
      const there = async () => {
        const { uid, managedFields } = (await place.kubernetes.get(kind, ref, { metadataOnly: true })).metadata
        return [uid, managedFields!.map(({ manager }) => manager).includes('1ctl')]
      }
      const before = await there()

      const { rollout } = await client.deploy({ ...waiter, name: 'api', vpc, envFrom: ['bag'] })
      const waiting = await eventually(async () => {
        const found = await client.rolloutView({ id: rollout!.id })
        return found.state === 'pending' && found
      })
      expect(waiting.message).toContain(`a ${kind} ${namespace}/${ref.name} that 1ctl did not make`)
      expect(await there()).toEqual(before)
      await place.kubernetes.delete(kind, ref)
      expect(await over(client, rollout!.id)).toMatchObject({ state: 'live' })
    })

    test('reads no Secret outside of its namespaces, and lists them nowhere else', async () => {
      const { vpc, namespace } = await newVpc('rights')
      await product.client.secretPut({ name: 'mine', vpc, data: { KEY: 'value' } })
      await deploy(product.client, { ...waiter, name: 'api', vpc, envFrom: ['mine'] })
      await createBy(place, 'Secret', { metadata: { namespace: 'default', name: 'theirs' }, data: { KEY: 'dA==' } })
      const account = connect(await readKubeconfig(place.accountFile))
      expect(await account.whoAmI()).toBe('system:serviceaccount:1ctl:1ctl')
      const forbidden = { name: 'KubernetesError', status: 403 }
      await expect(account.get('Secret', { namespace: 'default', name: 'theirs' })).rejects.toMatchObject(forbidden)
      await expect(account.list('Secret', { namespace: 'default' })).rejects.toMatchObject(forbidden)
      await expect(account.list('Secret', { namespace: 'kube-system' })).rejects.toMatchObject(forbidden)
      await expect(account.list('Secret', {})).rejects.toMatchObject(forbidden)
      expect((await account.list('Secret', { namespace })).items).toHaveLength(1)
      account.close()
    })

    test('killed at any moment has delivered each acknowledged change in the end, and none twice', async () => {
      const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)
      const context = `SEED=${seed}`
      const random = randomFrom(seed)
      const folder = newFolder()
      let killed = await startProduct(place, folder)
      const { token } = killed
      const { namespace } = await killed.client.vpcCreate({ name: 'killed' })
      const apps = await Promise.all(
        ['one', 'two', 'three'].map(async (name) => {
          const { app } = await deploy(killed.client, { ...waiter, name, vpc: 'killed', replicas: 2 })
          return { id: app.id, name, written: new Written() }
        }),
      )
      await deploy(killed.client, { ...waiter, name: 'at-rest', vpc: 'killed', replicas: 2 })
      const pods = await followPods(namespace)
      for (let kill = 0; kill < kills; kill++) {
        const { client, child } = killed
        const writers = apps.map(({ id, written }) => changeUntilGone(client, id, written, random))
        await sleep(100 + random() * 3_000)
        child.kill('SIGKILL')
        await Promise.all([...writers, child.ended])
        killed = await startProduct(place, folder, { token })
      }
      const { client } = killed
      // What the last one had begun is free again when its lease runs out.
      await eventually(async () => (await rowsOfApps(folder)).every(({ isDue }) => !isDue), 90_000)
      for (const { id, name, written } of apps) {
        const { items: rollouts } = await client.rolloutList({ app: id, limit: 200 })
        expect((await over(client, rollouts[0]!.id)).state, context).toBe('live')
        const { items: releases } = await client.releaseList({ ref: id, limit: 200 })
        const numbers = releases.map(({ number }) => number)
        expect(numbers, context).toEqual(numbers.map((_, at) => numbers.length - at))
        // The deploy, and one for each version of its secret.
        const { version } = await client.secretView({ ref: 'creds', appId: id })
        expect(numbers.length, context).toBe(1 + version)
        written.expectIn(version, context)
        // Each release was rolled out once, and each receipt has its end.
        const attempts = rollouts.map(({ release }) => release)
        expect(attempts.toSorted(descending), context).toEqual(numbers)
        for (const rollout of written.rollouts) {
          const { state, steps } = await over(client, rollout)
          expect(['live', 'superseded'], context).toContain(state)
          const states = steps.map(({ state }) => state).filter((state) => state !== 'pending')
          expect(new Set(states).size, `${context} ${states.join()}`).toBe(states.length)
        }
        const found = await podsOf(namespace, name)
        expect(found, context).toHaveLength(2)
        const KEY = await written.current(client, id)
        for (const pod of found) expect(await environmentOf(place, pod), context).toEqual({ KEY })
        const { metadata } = await place.kubernetes.get('Deployment', { namespace, name })
        expect(metadata.generation, context).toBeLessThanOrEqual(numbers.length)
      }
      expectNoneInVain(pods.stop(), 2)
      await eventually(async () => (await place.list('Secret', namespace)).length === apps.length, 60_000)
    })

    test('shares its work with another on the same database, which loses and doubles nothing when it is killed', async () => {
      const { host, port, user } = inject('postgres')
      const env = {
        DATABASE_URL: `postgres://${user}@localhost:${port}/${await newDatabase()}?host=${encodeURIComponent(host)}`,
        SATUSKY_SEAL: 'env',
        SATUSKY_MASTER_KEY: Buffer.alloc(32, 'a key').toString('base64'),
      }
      const vpc = 'two-servers'
      const first = await startProduct(place, newFolder(), { env })
      const second = await startProduct(place, newFolder(), { env, token: first.token })
      const { namespace } = await first.client.vpcCreate({ name: vpc })
      const names = Array.from({ length: 8 }, (_, at) => `app-${at}`)
      const client = (at: number) => (at % 2 === 0 ? first : second).client
      await Promise.all(names.map((name, at) => deploy(client(at), { ...waiter, name, vpc })))
      const [one, other] = [await first.writes(), await second.writes()]
      expect(Math.min(one, other)).toBeGreaterThan(0)
      // A Deployment each, and the namespace, which both may have made.
      expect(one + other).toBeLessThanOrEqual(names.length + 2)

      const pods = await followPods(namespace)
      const changes = names.map(async (ref, at) => {
        const { rollout } = await client(at).envPatch({ ref, vpc, set: { KEY: 'new' } })
        return rollout!.id
      })
      await Promise.race(changes)
      first.child.kill('SIGKILL')
      const answers = await Promise.allSettled(changes)
      for (const [at, answer] of answers.entries()) {
        if (answer.status === 'rejected') continue
        expect(await over(second.client, answer.value)).toMatchObject({ state: 'live', release: 2 })
        const ref = { namespace, name: names[at]! }
        expect((await place.kubernetes.get('Deployment', ref)).metadata.generation).toBe(2)
        const [pod] = await podsOf(namespace, ref.name)
        expect(await environmentOf(place, pod!)).toEqual({ KEY: 'new' })
      }
      expectNoneInVain(pods.stop(), 1)
    })
  })

  test('restarted at rest writes nothing to the cluster and restarts no pod', async () => {
    const rows = await eventually(async () => {
      const rows = await rowsOfApps(dataDir)
      return rows.every(({ isDue }) => !isDue) && rows
    }, 60_000)
    const kinds = ['Namespace', 'Deployment', 'Service', 'Secret', 'RoleBinding', 'Pod'] as const
    const all = async () =>
      (await Promise.all(kinds.map((kind) => place.list(kind))))
        .flat()
        .map(({ metadata: { namespace, name, uid, resourceVersion } }) => [namespace, name, uid, resourceVersion])
    // Until the cluster's own controllers have come to rest too.
    const before = await eventually(async () => {
      const before = await all()
      await sleep(1_500)
      return JSON.stringify(await all()) === JSON.stringify(before) && before
    }, 60_000)
    expect(before.length).toBeGreaterThan(20)

    product.child.kill('SIGTERM')
    expect(await product.child.ended).toEqual({ code: 0, signal: null })
    product = await startProduct(place, dataDir)
    // A start looks at each app, and so claims its row.
    await eventually(async () => {
      const now = new Map((await rowsOfApps(dataDir)).map((row) => [row.id, row]))
      return rows.every(({ id, written }) => now.get(id)!.written !== written && !now.get(id)!.isDue)
    })
    expect(await product.writes()).toBe(0)
    expect(await all()).toEqual(before)
  })

  describe('when the API server', () => {
    test('hangs, leaves a rollout pending; when it is back, each change arrives once', async () => {
      const app = await changedApp('frozen')
      const begun = await app.change('two')
      await app.receiptIn(begun, 'rolling')
      place.cluster.freezeApi()
      const meanwhile = await app.change('three')
      try {
        expect((await app.receiptIn(meanwhile, 'pending')).message).toContain('away')
      } finally {
        place.cluster.thawApi()
      }
      const receipt = await over(product.client, meanwhile)
      expect(receipt.steps.map(({ state }) => state)).toEqual(['stored', 'pending', 'applied', 'rolling', 'live'])
      expect(await over(product.client, begun)).toMatchObject({ state: 'superseded', supersededBy: meanwhile })
      await app.expectOnce(['one', 'two', 'three'])
    })

    test('stops in the midst of a rollout, leaves it pending and finishes it when it is back', async () => {
      const app = await changedApp('stopped')
      const begun = await app.change('two')
      await app.receiptIn(begun, 'rolling')
      await place.pause()
      try {
        expect((await app.receiptIn(begun, 'pending')).message).toContain('away')
      } finally {
        await place.restart()
      }
      const states = (await over(product.client, begun)).steps.map(({ state }) => state)
      expect(states.slice(0, 4)).toEqual(['stored', 'applied', 'rolling', 'pending'])
      expect(states.at(-1)).toBe('live')
      await app.expectOnce(['one', 'two'])
    })
  })

  /** An app that runs with the value "one". */
  async function changedApp(name: string) {
    const { client } = product
    const { vpc, namespace } = await newVpc(name)
    const { app } = await deploy(client, { ...waiter, name, vpc, replicas: 2 })
    const change = async (value: string) => {
      const keyValues = [{ key: 'KEY', value }]
      return (await client.secretPut({ deploymentId: app.id, name: 'creds', keyValues })).rollouts[0]!.id
    }
    await over(client, await change('one'))
    const pods = await followPods(namespace)
    return {
      change,
      receiptIn: (id: string, state: string) =>
        eventually(async () => {
          const found = await client.rolloutView({ id })
          return found.state === state && found
        }, 60_000),
      /** Nothing of all that was changed was done twice, and the last of it is what runs. */
      expectOnce: async (values: string[]) => {
        const found = await podsOf(namespace, name)
        expect(found).toHaveLength(2)
        for (const pod of found) expect(await environmentOf(place, pod)).toEqual({ KEY: values.at(-1) })
        const secrets = async () => (await place.list('Secret', namespace)).map(({ metadata }) => metadata.name)
        await eventually(async () => (await secrets()).join() === `app.${name}.creds.v${values.length}`, 60_000)
        const deployment = await place.kubernetes.get('Deployment', { namespace, name })
        // The deploy, and one for each change.
        expect(deployment.metadata.generation).toBe(1 + values.length)
        expectNoneInVain(pods.stop(), 2)
      },
    }
  }

  async function newVpc(vpc: string) {
    const { namespace } = await product.client.vpcCreate({ name: vpc })
    return { vpc, namespace }
  }

  /** Those that are to stay. */
  async function podsOf(namespace: string, app: string, service = app): Promise<Pod[]> {
    const labels = `1ctl.dev/app=${app},1ctl.dev/service=${service}`
    const { items } = await place.kubernetes.list('Pod', { namespace, labels })
    return items.filter(({ metadata }) => !metadata.deletionTimestamp)
  }

  async function oneCtl(folder: string, ...args: string[]): Promise<string> {
    const env = { SATUSKY_API_URL: product.url, SATUSKY_API_KEY: product.token, HOME: folder }
    const ended = run(process.execPath, [join(root, 'cli/bin/1ctl.cjs'), ...args], { cwd: folder, env })
    const { code } = await ended.ended
    expect(code, ended.stdout() + ended.stderr()).toBe(0)
    return ended.stdout()
  }

  /** A client of the Service, in place of the proxy that there is not: it calls pods that are ready, one after the other. */
  function callAllTheTime(namespace: string) {
    const stopping = new AbortController()
    const result = { answers: 0, failures: [] as string[] }
    const calling = (async () => {
      while (!stopping.signal.aborted) {
        const { items } = await place.kubernetes.list('Pod', { namespace })
        const endpoints = items.filter((pod) => isReady(pod) && !pod.metadata.deletionTimestamp)
        if (endpoints.length === 0) result.failures.push('no pod is ready')
        for (const pod of endpoints) {
          try {
            expect(await fetchFrom(pod, web.port)).toBe('hello\n')
            result.answers++
          } catch (error) {
            result.failures.push(`${pod.metadata.name}: ${(error as Error).message}`)
          }
        }
        await sleep(20)
      }
      return result
    })()
    return {
      stop: () => {
        stopping.abort()
        return calling
      },
    }
  }

  /** Every pod of the namespace that there is, and will be until it is stopped. */
  async function followPods(namespace: string) {
    const seen = new Map<string, Pod>()
    const stopping = new AbortController()
    await new Promise<void>((synced, failed) => {
      const follower = {
        changed: (pod: Pod) => void seen.set(pod.metadata.uid, pod),
        deleted: () => undefined,
        synced,
      }
      follow(place.kubernetes, 'Pod', { namespace }, follower, stopping.signal).catch(failed)
    })
    return {
      stop: () => {
        stopping.abort()
        return [...seen.values()]
      },
    }
  }
})

/** With each environment as many pods as were asked for, and none was restarted. Not by template: who doubles may make another one. */
function expectNoneInVain(pods: Pod[], replicas: number): void {
  const counts = new Map<string, number>()
  for (const { metadata, spec, status } of pods) {
    const runs = `${metadata.labels?.['1ctl.dev/app']} ${JSON.stringify(spec.containers[0]!.env)}`
    counts.set(runs, (counts.get(runs) ?? 0) + 1)
    expect(status?.containerStatuses?.[0]?.restartCount ?? 0).toBe(0)
  }
  expect(counts.size).toBeGreaterThan(1)
  for (const [runs, count] of counts) expect(count, runs).toBeLessThanOrEqual(replicas)
}

const uidOf = ({ metadata }: Pod) => metadata.uid

/** Until it is stopped. */
const wait = 'trap "exit 0" TERM; sleep 100000 & wait'
const waiter = { image: busyboxImage, command: ['/bin/sh', '-c', wait] }

/** Answers "hello", or does not start where its database is on "bad-host". */
const web = {
  image: busyboxImage,
  port: 8080,
  healthPath: '/',
  command: [
    '/bin/sh',
    '-c',
    [
      'echo starting',
      'case "$DATABASE_URL" in *bad-host*) echo "cannot reach $DATABASE_URL"; exit 3;; esac',
      'mkdir /www; echo hello > /www/index.html',
      'trap "exit 0" TERM; httpd -f -p 8080 -h /www & wait',
    ].join('\n'),
  ],
}

/** Deploys and sees it live. */
async function deploy(client: Client, input: Parameters<Client['deploy']>[0]) {
  const answer = await client.deploy(input)
  const { state, message } = await over(client, answer.rollout!.id)
  expect(state, message ?? '').toBe('live')
  return answer
}

/** The receipt once it is over. */
const over = (client: Client, id: string) =>
  eventually(async () => {
    const found = await client.rolloutView({ id, wait: 5 })
    return found.finishedAt !== null && found
  }, 90_000)

const kills = 8

/** What was sent to the secret of one app, each value another, one after the other. */
class Written {
  acknowledged: { version: number; value: string }[] = []
  /** those that were begun by what was acknowledged */
  rollouts: string[] = []
  /** sent and not answered */
  unknown: string[] = []

  /** Each that was acknowledged is a version of its own; the others are some of those that were not answered. */
  expectIn(versions: number, context: string): void {
    const numbers = this.acknowledged.map(({ version }) => version)
    expect(new Set(numbers).size, context).toBe(numbers.length)
    expect(Math.max(...numbers), context).toBeLessThanOrEqual(versions)
    expect(versions - numbers.length, context).toBeLessThanOrEqual(this.unknown.length)
    // There was a load, and it was met by the kills.
    expect(numbers.length, context).toBeGreaterThan(kills / 2)
  }

  /** What pods should have: the last that was acknowledged, or one after it that was done all the same. */
  async current(client: Client, appId: string): Promise<string> {
    for (const value of [this.acknowledged.at(-1)!.value, ...this.unknown.toReversed()])
      if ((await client.secretVerify({ ref: 'creds', appId, key: 'KEY', value })).match) return value
    throw new Error('what was acknowledged last is lost')
  }
}

async function changeUntilGone(client: Client, id: string, written: Written, random: () => number): Promise<void> {
  for (;;) {
    const value = `value ${performance.now()}`
    try {
      const keyValues = [{ key: 'KEY', value }]
      const { version, rollouts } = await client.secretPut({ deploymentId: id, name: 'creds', keyValues })
      written.acknowledged.push({ version, value })
      written.rollouts.push(rollouts[0]!.id)
    } catch (error) {
      // Refused, or not answered?
      if (error instanceof ApiError && error.code) throw error
      written.unknown.push(value)
      return
    }
    await sleep(random() * 2_000)
  }
}

const descending = (one: number, other: number) => other - one

/** The same moments again from the same seed (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createHttpsServer, request } from 'node:https'
import { type AddressInfo, connect as connectSocket, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import type { TLSSocket } from 'node:tls'
import { inspect } from 'node:util'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { type Cluster, startCluster, startTimeoutMs } from '../../e2e/cluster/cluster.ts'
import { needs } from '../testing/needs.ts'
import { connect, type Kubernetes, type Where } from './client.ts'
import { ClusterAway, KubernetesError } from './errors.ts'
import { follow } from './follow.ts'
import type { Kind, Manifest } from './kinds.ts'
import { type Connection, readInCluster, readKubeconfig } from './kubeconfig.ts'

describe('the Kubernetes client and a real API server', needs('cluster'), () => {
  let cluster: Cluster
  let connection: Connection
  let kubernetes: Kubernetes
  let folder: string
  /** one of its own for each test */
  let namespace: string
  let stopFollowing = new AbortController()

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), '1ctl-test-'))
    cluster = await startCluster({ node: false })
    connection = await readKubeconfig(cluster.kubeconfig)
    kubernetes = connect(connection)
  }, startTimeoutMs)
  afterAll(async () => {
    await cluster?.stop()
    rmSync(folder, { recursive: true })
  })
  beforeEach(async () => {
    namespace = `test-${randomBytes(4).toString('hex')}`
    await kubernetes.apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } })
    stopFollowing = new AbortController()
  })
  afterEach(() => stopFollowing.abort())

  const secret = (name: string, data: Record<string, string>, labels?: Record<string, string>): Manifest<'Secret'> => ({
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { namespace, name, labels },
    data: encode(data),
  })
  const ref = (name: string) => ({ namespace, name })

  /** What another program sends, and what the API server answers in its own words. */
  const raw = async (method: string, path: string, body: unknown, type = 'application/json'): Promise<string> => {
    const { token } = await connection.credentials()
    const headers = { authorization: `Bearer ${token}`, 'content-type': type }
    const sent = request(connection.server + path, { method, headers, ca: connection.tls.ca })
    sent.end(JSON.stringify(body))
    const [answer] = (await once(sent, 'response')) as [IncomingMessage]
    return text(answer)
  }
  const secretPath = (name: string) => `/api/v1/namespaces/${namespace}/secrets/${name}`
  const applyAs = (manager: string, manifest: Manifest<'Secret'>) =>
    raw(
      'PATCH',
      `${secretPath(manifest.metadata.name)}?fieldManager=${manager}&force=true`,
      manifest,
      'application/apply-patch+yaml',
    )

  describe('writes', () => {
    test('applying makes an object, changes it, and removes the keys that are left out', async () => {
      const made = await kubernetes.apply(secret('bag', { A: '1', B: '2' }))
      const changed = await kubernetes.apply(secret('bag', { A: '1', C: '3' }))
      expect(changed.uid).toBe(made.uid)
      expect(changed.managedFields).toMatchObject([{ manager: '1ctl', operation: 'Apply' }])
      expect((await kubernetes.get('Secret', ref('bag'))).data).toEqual(encode({ A: '1', C: '3' }))
    })

    test('applying the same again changes nothing', async () => {
      const first = await kubernetes.apply(secret('bag', { A: '1' }))
      expect((await kubernetes.apply(secret('bag', { A: '1' }))).resourceVersion).toBe(first.resourceVersion)
    })

    test('creating leaves alone what has the name already', async () => {
      await kubernetes.create(secret('bag', { A: 'theirs' }))
      const again = kubernetes.create(secret('bag', { A: 'ours' }))
      await expect(again).rejects.toMatchObject({ name: 'KubernetesError', status: 409, reason: 'AlreadyExists' })
      expect((await kubernetes.get('Secret', ref('bag'))).data).toEqual(encode({ A: 'theirs' }))
    })

    test('a field of another manager is a conflict that names it; force makes it ours', async () => {
      await applyAs('someone', secret('bag', { KEY: 'theirs' }))
      const conflict = { name: 'KubernetesError', status: 409, reason: 'Conflict', fields: ['.data.KEY'] }
      await expect(kubernetes.apply(secret('bag', { KEY: 'ours' }))).rejects.toMatchObject(conflict)
      expect((await kubernetes.get('Secret', ref('bag'))).data).toEqual(encode({ KEY: 'theirs' }))

      await kubernetes.apply(secret('bag', { KEY: 'ours' }), { force: true })
      expect((await kubernetes.get('Secret', ref('bag'))).data).toEqual(encode({ KEY: 'ours' }))
    })

    test('a merge patch sets fields and removes those that are null', async () => {
      await kubernetes.apply(secret('bag', { A: '1', B: '2' }))
      const metadata = { labels: { tier: 'web' } }
      await kubernetes.patch('Secret', ref('bag'), { data: { A: null }, metadata })
      const { data, metadata: now } = await kubernetes.get('Secret', ref('bag'))
      expect([data, now.labels]).toEqual([encode({ B: '2' }), metadata.labels])
    })

    test('deleting with a uid deletes that object, and not another one of its name', async () => {
      const { uid } = await kubernetes.create(secret('bag', { A: '1' }))
      const conflict = { name: 'KubernetesError', status: 409, reason: 'Conflict' }
      await expect(kubernetes.delete('Secret', ref('bag'), { uid: `${uid}0` })).rejects.toMatchObject(conflict)
      await kubernetes.delete('Secret', ref('bag'), { uid })
      const notFound = { name: 'KubernetesError', status: 404, reason: 'NotFound' }
      await expect(kubernetes.delete('Secret', ref('bag'), { uid })).rejects.toMatchObject(notFound)
      await expect(kubernetes.get('Secret', ref('bag'))).rejects.toMatchObject(notFound)
    })

    test('what belongs to an object goes with it, or is orphaned where that is asked for', async () => {
      const template = { metadata: { labels: { app: 'a' } }, spec: { containers: [{ name: 'a', image: 'a' }] } }
      const spec = { replicas: 1, selector: { matchLabels: { app: 'a' } }, template }
      const named = (name: string) =>
        ({ apiVersion: 'apps/v1', kind: 'Deployment', metadata: ref(name), spec }) as Manifest<'Deployment'>
      await Promise.all(['gone', 'orphaned'].map((name) => kubernetes.apply(named(name))))
      const owners = async () => {
        const { items } = await kubernetes.list('ReplicaSet', { namespace, metadataOnly: true })
        return items.map(({ metadata }) => metadata.name.replace(/-.*/, '')).sort()
      }
      await vi.waitFor(async () => expect(await owners()).toEqual(['gone', 'orphaned']), 10_000)
      await kubernetes.delete('Deployment', ref('gone'))
      await kubernetes.delete('Deployment', ref('orphaned'), { propagation: 'Orphan' })
      await vi.waitFor(async () => expect(await owners()).toEqual(['orphaned']), 10_000)
    })

    test('a name that would address something else is refused here', async () => {
      for (const name of ['', '..', 'a/b', '?x']) {
        await expect(async () => kubernetes.delete('Secret', ref(name))).rejects.toThrow('is no name')
      }
      await expect(async () => kubernetes.get('Secret', { name: 'bag' })).rejects.toThrow('has a namespace')
    })

    test('at most 8 are under way at once', async () => {
      const wire = await layWire()
      const wired = connect(wire.connection)
      const writes = Array.from({ length: 40 }, (_, n) => wired.apply(secret(`bag-${n}`, { A: '1' })))
      await Promise.all(writes)
      expect(wire.mostAtOnce()).toBe(8)
    })
  })

  describe('reads', () => {
    test('a list comes in pages, of those with a label only, without their content where that is enough', async () => {
      const names = ['a', 'b', 'c', 'd', 'e']
      await Promise.all(names.map((name) => kubernetes.apply(secret(name, { KEY: 'hunter2' }, { ours: 'yes' }))))
      await kubernetes.apply(secret('foreign', { KEY: 'hunter2' }))
      const where = { namespace, labels: 'ours=yes', metadataOnly: true } as const
      const pages = [await kubernetes.list('Secret', { ...where, limit: 2 })]
      while (pages.at(-1)?.continue) {
        pages.push(await kubernetes.list('Secret', { ...where, limit: 2, continue: pages.at(-1)?.continue }))
      }
      expect(pages.map(({ items }) => items.map(({ metadata }) => metadata.name))).toEqual([
        ['a', 'b'],
        ['c', 'd'],
        ['e'],
      ])
      expect(JSON.stringify(pages)).not.toContain(Buffer.from('hunter2').toString('base64'))
      expect((await kubernetes.list('Secret', { ...where, labels: 'ours=no' })).items).toEqual([])
    })

    test('the version, and what we may do', async () => {
      expect((await kubernetes.version()).gitVersion).toMatch(/^v1\.\d+/)
      expect(await kubernetes.may('create', 'Deployment', namespace)).toBe(true)
      const nobody = connect(await accountOf('nobody'))
      expect(await nobody.may('create', 'Deployment', namespace)).toBe(false)
      const forbidden = { name: 'KubernetesError', status: 403, reason: 'Forbidden' }
      await expect(nobody.get('Secret', ref('bag'))).rejects.toMatchObject(forbidden)
    })

    test('a history that is lost is 410', async () => {
      await kubernetes.apply(secret('bag', { A: '1' }))
      await restartApi()
      const lost = async () => {
        for await (const event of await kubernetes.watch('Secret', { namespace, resourceVersion: '1' })) return event
      }
      await expect(lost()).rejects.toMatchObject({ name: 'KubernetesError', status: 410, reason: 'Expired' })
    })
  })

  describe('who we are', () => {
    test('a token that was replaced in its file is taken from there, within the same call', async () => {
      const { token } = await (await accountOf('app')).credentials()
      const account = inCluster('not yet the token')
      const other = connect(account.connection)
      const unauthorized = { name: 'KubernetesError', status: 401, reason: 'Unauthorized' }
      await expect(other.version()).rejects.toMatchObject(unauthorized)
      account.rotate(token!)
      expect((await other.version()).major).toBe('1')
    })

    test('a program of the kubeconfig gives the token, once until it expires, and sees nothing of our keys', async () => {
      const { token } = await (await accountOf('app')).credentials()
      const [runs, environment] = [join(folder, 'runs'), join(folder, 'environment')]
      const answer = (more: object) =>
        JSON.stringify({ kind: 'ExecCredential', status: { token, ...more } }).replaceAll("'", '')
      const program = join(folder, 'program.sh')
      const say = (more: object) =>
        writeFileSync(program, `echo >>${runs}; env >${environment}; echo '${answer(more)}'`)
      const config = JSON.parse(readFileSync(cluster.kubeconfig, 'utf8'))
      const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: '/bin/sh', args: [program] }
      config.users[0].user = { exec: { ...exec, provideClusterInfo: true, env: [{ name: 'MINE', value: 'x' }] } }
      const file = join(folder, 'kubeconfig')
      writeFileSync(file, JSON.stringify(config))
      vi.stubEnv('SATUSKY_MASTER_KEY', 'the master key')

      const timesRun = () => readFileSync(runs, 'utf8').length
      say({})
      const lasting = connect(await readKubeconfig(file))
      await Promise.all([lasting.version(), lasting.version(), lasting.version()])
      await lasting.version()
      expect(timesRun()).toBe(1)
      const seen = readFileSync(environment, 'utf8')
      expect(seen).toContain('MINE=x')
      expect(seen).toContain(`"server":"${connection.server}"`)
      expect(seen).not.toContain('the master key')

      say({ expirationTimestamp: new Date().toISOString() })
      const expiring = connect(await readKubeconfig(file))
      await expiring.version()
      await expiring.version()
      expect(timesRun()).toBe(3)

      writeFileSync(program, `echo '${answer({})}'; echo 'log in first' >&2; exit 1`)
      const failing = await connect(await readKubeconfig(file))
        .version()
        .catch((error: unknown) => error)
      expect(failing).toBeInstanceOf(ClusterAway)
      expect(String(failing)).toContain('log in first')
      expect(inspect(failing, { depth: 9 })).not.toContain(token)
      vi.unstubAllEnvs()
    })

    test('a server whose certificate the kubeconfig does not know is away, and gets no token', async () => {
      const stranger = connect({ ...connection, tls: {} })
      await expect(stranger.version()).rejects.toThrow(/away: (SELF_SIGNED|DEPTH_ZERO|UNABLE_TO)/)
      const careless = connect({ ...connection, tls: { rejectUnauthorized: false } })
      expect((await careless.version()).major).toBe('1')
    })

    test.each(['in the file', 'from a program'])(
      'a client certificate %s is shown',
      needs('openssl'),
      async (where) => {
        const [cert, key] = ['client.crt', 'client.key'].map((name) => join(folder, name)) as [string, string]
        const newKey = ['-newkey', 'rsa:2048', '-nodes', '-keyout', key]
        execFileSync('openssl', ['req', '-x509', ...newKey, '-subj', '/CN=us', '-out', cert], { stdio: 'ignore' })
        const own = (name: string) => readFileSync(join(cluster.dir, 'certs', name))
        const tls = { cert: own('apiserver.crt'), key: own('apiserver.key'), ca: readFileSync(cert), requestCert: true }
        const server = createHttpsServer(tls, ({ socket }, answer) => {
          answer.end(JSON.stringify((socket as TLSSocket).getPeerCertificate().subject))
        }).listen(0, '127.0.0.1')
        await once(server, 'listening')
        onTestFinished(() => void server.close())

        const config = JSON.parse(readFileSync(cluster.kubeconfig, 'utf8'))
        config.clusters[0].cluster.server = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
        const status = { clientCertificateData: readFileSync(cert, 'utf8'), clientKeyData: readFileSync(key, 'utf8') }
        writeFileSync(join(folder, 'status.json'), JSON.stringify({ status }))
        const program = { command: 'cat', args: [join(folder, 'status.json')] }
        config.users[0].user =
          where === 'in the file'
            ? { 'client-certificate': cert, 'client-key-data': readFileSync(key, 'base64') }
            : { exec: { apiVersion: 'client.authentication.k8s.io/v1', ...program } }
        const file = join(folder, 'with-certificate')
        writeFileSync(file, JSON.stringify(config))
        const client = connect(await readKubeconfig(file))
        onTestFinished(() => client.close())
        expect(await client.version()).toEqual({ CN: 'us' })
      },
    )
  })

  describe('a Secret that is refused', () => {
    const value = 'correct-horse-battery-staple'
    const encoded = Buffer.from(value).toString('base64')
    const good = () => secret('bag', { KEY: value })

    test.each<[string, () => Manifest<'Secret'>, number]>([
      ['a name that is none', () => ({ ...good(), metadata: ref(`${value}_`) }), 422],
      ['a label that is none', () => secret('bag', { KEY: value }, { tier: `${value} !` }), 422],
      ['data that is not base64', () => ({ ...good(), data: { KEY: `${value} !` } }), 400],
      ['data that is a number', () => ({ ...good(), data: { KEY: value, N: 1 } }), 400],
      ['a field of another type', () => ({ ...good(), immutable: value }), 400],
      ['too much of it', () => secret('bag', { KEY: value, MORE: 'x'.repeat(2 ** 20) }), 422],
    ])('%s: its value is nowhere in the error', async (_, manifest, status) => {
      await kubernetes.apply({ ...good() })
      const errors = await Promise.all([
        kubernetes.apply(manifest()).catch((error: unknown) => error),
        kubernetes.create({ ...manifest() }).catch((error: unknown) => error),
        kubernetes.patch('Secret', ref('bag'), manifest()).catch((error: unknown) => error),
      ])
      for (const error of errors) {
        expect(error).toBeInstanceOf(KubernetesError)
        const all = inspect(error, { depth: Number.POSITIVE_INFINITY, showHidden: true }) + JSON.stringify(error)
        // The name is the caller's own word, and no value.
        const known = all.replaceAll(`${namespace}/${manifest().metadata.name}`, '')
        expect(known).not.toContain(value)
        expect(known).not.toContain(encoded)
      }
      expect(errors[1]).toMatchObject({ status })
    })

    test('the API server itself does quote it', async () => {
      expect(await applyAs('someone', secret('bag', {}, { tier: `${value} !` }))).toContain(value)
      expect(await applyAs('someone', { ...good(), immutable: value })).toContain(value)
    })

    test('the words about other kinds are kept', async () => {
      const manifest = { apiVersion: 'v1', kind: 'Service', metadata: ref('web'), spec: { type: 'Nonsense' } } as const
      await expect(kubernetes.apply(manifest)).rejects.toThrow('Unsupported value: "Nonsense"')
    })

    test('a server that is away in the middle of it does not bring it into the error either', async () => {
      const wire = await layWire()
      const wired = connect(wire.connection)
      await wired.apply(good())
      wire.hold()
      const lost = wired.apply(good()).catch((error: unknown) => error)
      await sleep(100)
      wire.cut()
      expect(await lost).toBeInstanceOf(ClusterAway)
      const all = inspect(await lost, { depth: Number.POSITIVE_INFINITY, showHidden: true })
      expect(all).not.toContain(value)
      expect(all).not.toContain(encoded)
    })
  })

  describe('a cluster in trouble', () => {
    test('one that takes connections and does not answer is away after the timeout, and here again when it answers', async () => {
      const impatient = connect(connection, { timeoutMs: 500 })
      cluster.freezeApi()
      try {
        await expect(impatient.version()).rejects.toThrow(ClusterAway)
        await expect(impatient.apply(secret('bag', { A: '1' }))).rejects.toThrow('no answer within 500 ms')
      } finally {
        cluster.thawApi()
      }
      await vi.waitFor(() => impatient.version(), 10_000)
    })

    test('one that refuses connections is away at once', async () => {
      const wire = await layWire()
      wire.cut()
      await expect(connect(wire.connection).version()).rejects.toThrow(/away: ECONNREFUSED/)
    })

    test('a kept connection that the server has given up costs no call', async () => {
      const wire = await layWire()
      const wired = connect(wire.connection)
      await wired.version()
      wire.dropNext()
      expect((await wired.version()).major).toBe('1')
      expect(wire.connections()).toBe(2)
    })

    // A real API server asks for patience only under a load that a test cannot dose, so here one speaks that says nothing else.
    test('one that asks for patience is asked again when it says so, and is away if that goes on', async () => {
      let refusals = 2
      const busy = await serve((answer) => {
        if (refusals-- > 0) answer.writeHead(429, { 'retry-after': '1' }).end('{}')
        else answer.end('{"major":"1"}')
      })
      const began = performance.now()
      expect((await connect(busy).version()).major).toBe('1')
      expect(performance.now() - began).toBeGreaterThan(1_900)

      let asked = 0
      const busier = await serve((answer) => {
        asked++
        answer.writeHead(429, { 'retry-after': '0' }).end('{}')
      })
      await expect(connect(busier).version()).rejects.toThrow(ClusterAway)
      expect(asked).toBe(4)
    })

    test.each([
      ['an error of a proxy before it', 502, '<html>hunter2</html>'],
      ['a page that is not of Kubernetes', 200, '<html>hunter2</html>'],
    ])('%s is no answer, and is not quoted', async (_, status, page) => {
      const proxy = await serve((answer) => answer.writeHead(status).end(page))
      const error = await connect(proxy)
        .apply(secret('bag', { A: '1' }))
        .catch((error: unknown) => error)
      expect(error).toBeInstanceOf(ClusterAway)
      expect(inspect(error, { depth: Number.POSITIVE_INFINITY, showHidden: true })).not.toContain('hunter2')
    })

    test('a call that is aborted ends at once, with the reason', async () => {
      const stop = new AbortController()
      cluster.freezeApi()
      const call = kubernetes.version({ signal: stop.signal })
      stop.abort(new Error('not needed any more'))
      await expect(call).rejects.toThrow('not needed any more')
      cluster.thawApi()
    })
  })

  describe('following', () => {
    test('tells what is there, then each change, of what was asked for only', async () => {
      await kubernetes.apply(secret('old', { A: '1' }, { ours: 'yes' }))
      const seen = begin('Secret', { namespace, labels: 'ours=yes', metadataOnly: true })
      await seen.come('+old', 'synced')
      await kubernetes.apply(secret('new', { A: '1' }, { ours: 'yes' }))
      await kubernetes.apply(secret('foreign', { A: '1' }))
      await kubernetes.apply(secret('new', { A: '2' }, { ours: 'yes' }))
      await kubernetes.delete('Secret', ref('old'))
      // No longer among them.
      await kubernetes.apply(secret('new', { A: '2' }))
      await seen.come('+new', '+new', '-old', '-new')
      expect(JSON.stringify(seen.objects)).not.toContain('"data"')
    })

    test('hundreds of objects are read in pages, and each is told once', async () => {
      const names = Array.from({ length: 520 }, (_, n) => `bag-${n}`)
      await Promise.all(names.map((name) => kubernetes.create(secret(name, { A: '1' }))))
      const seen = begin('Secret', { namespace, metadataOnly: true })
      await vi.waitFor(() => expect(seen.words).toContain('synced'), 10_000)
      expect(seen.words.toSorted()).toEqual([...names.map((name) => `+${name}`), 'synced'].sort())
    })

    test('a connection that dies without a word is noticed, and the watch goes on where it was', async () => {
      const wire = await layWire()
      const seen = begin('Secret', { namespace }, connect(wire.connection, { timeoutMs: 1_000 }), 1_000)
      await seen.come('synced')
      wire.hold()
      await kubernetes.create(secret('meanwhile', { A: '1' }))
      await seen.come('away')
      wire.mend()
      // Not read anew: nothing says "synced".
      await seen.come('back', '+meanwhile')
    })

    test('an API server that was frozen', async () => {
      const seen = begin('Secret', { namespace }, connect(connection, { timeoutMs: 1_000 }), 1_000)
      await seen.come('synced')
      cluster.freezeApi()
      await seen.come('away')
      cluster.thawApi()
      await seen.come('back')
      await kubernetes.create(secret('afterwards', { A: '1' }))
      await seen.come('+afterwards')
    })

    test('a history that was lost: the list is read anew, and what went or was made anew meanwhile is told', async () => {
      for (const name of ['stays', 'goes', 'again']) await kubernetes.create(secret(name, { A: '1' }))
      const wire = await layWire()
      const seen = begin('Secret', { namespace }, connect(wire.connection))
      await seen.come('+again', '+goes', '+stays', 'synced')
      wire.cut()
      await seen.come('away')
      for (const name of ['goes', 'again']) await kubernetes.delete('Secret', ref(name))
      await kubernetes.create(secret('again', { A: '1' }))
      await restartApi()
      wire.mend()
      await seen.come('back', '-again', '+again', '-goes', 'synced')
    })

    test('an API server that goes away and comes back', async () => {
      const seen = begin('Secret', { namespace })
      await seen.come('synced')
      await cluster.stopApi()
      await seen.come('away')
      await cluster.startApi()
      await vi.waitFor(() => expect(seen.words).toContain('back'), 10_000)
      await kubernetes.create(secret('afterwards', { A: '1' }))
      await vi.waitFor(() => expect(seen.words).toContain('+afterwards'), 10_000)
    })

    test('an error of the follower is its own, and ends it', async () => {
      await kubernetes.create(secret('bag', { A: '1' }))
      const follower = { changed: ownError, deleted: ownError }
      const following = follow(kubernetes, 'Secret', { namespace }, follower, stopFollowing.signal)
      await expect(following).rejects.toThrow('of the follower')
    })
  })

  /** Follows until the test ends: what was told, in words. */
  function begin(kind: Kind, where: Where, by = kubernetes, idleMs?: number) {
    const words: string[] = []
    const objects: object[] = []
    const told = (word: string) => () => void words.push(word)
    const follower = {
      changed: (object: { metadata: { name: string } }) => {
        objects.push(object)
        words.push(`+${object.metadata.name}`)
      },
      deleted: ({ metadata }: { metadata: { name: string } }) => void words.push(`-${metadata.name}`),
      synced: told('synced'),
      away: told('away'),
      back: told('back'),
    }
    void follow(by, kind, where, follower, stopFollowing.signal, { idleMs })
    let read = 0
    return {
      words,
      objects,
      /** exactly these come next */
      come: async (...expected: string[]) => {
        await vi.waitFor(() => expect(words.length - read).toBeGreaterThanOrEqual(expected.length), 15_000)
        await sleep(50)
        expect(words.slice(read)).toEqual(expected)
        read += expected.length
      },
    }
  }

  async function restartApi() {
    await cluster.stopApi()
    await cluster.startApi()
    await vi.waitFor(() => kubernetes.version(), 10_000)
  }

  /** A service account of this test's namespace, as a pod of it would connect. */
  async function accountOf(name: string): Promise<Connection> {
    await kubernetes.apply({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: ref(name) })
    const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${name}/token`
    const { status } = JSON.parse(
      await raw('POST', path, { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: {} }),
    )
    return inCluster(status.token).connection
  }

  function inCluster(token: string) {
    const account = mkdtempSync(join(folder, 'account-'))
    const rotate = (token: string) => writeFileSync(join(account, 'token'), `${token}\n`)
    rotate(token)
    writeFileSync(join(account, 'ca.crt'), connection.tls.ca!)
    const { hostname, port } = new URL(connection.server)
    const environment = { KUBERNETES_SERVICE_HOST: hostname, KUBERNETES_SERVICE_PORT: port }
    return { rotate, connection: readInCluster(account, environment) }
  }

  /** A network between the client and the API server, which can be cut, or swallow everything. */
  async function layWire() {
    const { port } = new URL(connection.server)
    const open = new Set<Socket>()
    let [held, dropNext, most, count] = [false, false, 0, 0]
    const server = createServer((near) => {
      const far = connectSocket(Number(port), '127.0.0.1')
      open.add(near)
      most = Math.max(most, open.size)
      count++
      near.on('data', (data) => {
        if (dropNext) near.destroy()
        else if (!held) far.write(data)
        dropNext = false
      })
      far.on('data', (data) => void (held || near.write(data)))
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        one.on('error', () => undefined)
        one.on('close', () => {
          open.delete(one)
          other.destroy()
        })
      }
    })
    onTestFinished(() => {
      server.close()
      for (const socket of open) socket.destroy()
    })
    const listen = (port: number) => new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
    await listen(0)
    const wirePort = (server.address() as AddressInfo).port
    return {
      connection: { ...connection, server: `https://127.0.0.1:${wirePort}` },
      mostAtOnce: () => most,
      connections: () => count,
      /** nothing passes any more, and nobody is told */
      hold: () => void (held = true),
      /** the next request on a connection that exists meets its end */
      dropNext: () => void (dropNext = true),
      cut: () => {
        server.close()
        for (const socket of open) socket.destroy()
      },
      mend: () => {
        held = false
        for (const socket of open) socket.destroy()
        if (!server.listening) void listen(wirePort)
      },
    }
  }
})

const encode = (data: Record<string, string>) =>
  Object.fromEntries(Object.entries(data).map(([key, value]) => [key, Buffer.from(value).toString('base64')]))

/** What is not a Kubernetes API server, until the test ends. */
async function serve(respond: (answer: ServerResponse) => unknown): Promise<Connection> {
  const server = createHttpServer((_, answer) => void respond(answer)).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return { server: address, tls: {}, credentials: () => Promise.resolve({ token: 'a token' }) }
}

function ownError(): never {
  throw new TypeError('of the follower')
}

import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { get } from 'node:http'
import { basename, dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { type Call, connect, type Kubernetes, type LogOptions } from '../../server/kubernetes/client.ts'
import { readKubeconfig } from '../../server/kubernetes/kubeconfig.ts'
import { needs } from '../../server/testing/needs.ts'
import { busyboxImage, type Cluster, clusterNeeds, startCluster, startTimeoutMs } from './cluster.ts'

const everything = needs('cluster', 'containers')

describe('a cluster with a node', everything, () => {
  let cluster: Cluster
  let kubernetes: Kubernetes
  beforeAll(async () => {
    cluster = await startCluster({ node: true })
    kubernetes = connect(await readKubeconfig(cluster.kubeconfig))
  }, startTimeoutMs)
  afterAll(() => cluster?.stop())

  test('runs a container that reads a Secret from its environment and from a file in memory', async () => {
    const data = { KEY: Buffer.from('the value').toString('base64') }
    const metadata = { namespace: 'default', name: 'bag' }
    await kubernetes.create({ apiVersion: 'v1', kind: 'Secret', metadata, data })
    const say = 'echo "environment: $KEY, file: $(cat /run/secrets/KEY)"; grep /run/secrets /proc/mounts'
    await deploy('reader', {
      image: busyboxImage,
      command: ['sh', '-c', `${say}; exec sleep 1000`],
      env: [{ name: 'KEY', valueFrom: { secretKeyRef: { name: 'bag', key: 'KEY' } } }],
      volumeMounts: [{ name: 'bags', mountPath: '/run/secrets', readOnly: true }],
    })
    const pod = await podOf('reader', (status) => status?.phase === 'Running')
    const read = async () => text(await kubernetes.logs({ namespace: 'default', name: pod.metadata.name }))
    const said = await vi.waitFor(async () => {
      const said = await read()
      expect(said).toContain('tmpfs /run/secrets tmpfs ro')
      return said
    }, 10_000)
    expect(said).toContain('environment: the value, file: the value')
  }, 60_000)

  test('runs an image that a test makes: a server that answers, and crashes on a bad value', async () => {
    const folder = join(cluster.dir, 'greeter')
    mkdirSync(join(folder, 'bin'), { recursive: true })
    writeFileSync(join(folder, 'bin/busybox'), readFileSync(join(cluster.dir, 'busybox/bin/busybox')), { mode: 0o755 })
    writeFileSync(join(folder, 'index.html'), 'hello')
    const script = 'echo "first line"; echo "mode is $MODE"; [ "$MODE" != bad ] && exec busybox httpd -f -p 8080 -h /'
    await cluster.image('docker.io/local/greeter:1', folder, ['/bin/busybox', 'sh', '-c', script])
    await deploy('good', { image: 'docker.io/local/greeter:1' })
    await deploy('bad', { image: 'docker.io/local/greeter:1', env: [{ name: 'MODE', value: 'bad' }] })

    const good = await podOf('good', (status) => status?.phase === 'Running')
    await vi.waitFor(async () => expect(await fetchText(`http://${good.status!.podIP}:8080/`)).toBe('hello'), 10_000)
    const bad = await podOf('bad', (status) => (status?.containerStatuses?.[0]?.restartCount ?? 0) > 0)
    expect(bad.status!.containerStatuses![0]!.lastState!.terminated!.exitCode).toBe(1)

    // Of one that has ended: the kubelet keeps only one such container, so `previous` mostly finds none.
    expect(await text(await logs(bad, { tail: 1 }))).toBe('mode is bad\n')
    const refused = { name: 'KubernetesError', status: 400, reason: 'BadRequest' }
    await expect(logs(good, { previous: true })).rejects.toMatchObject(refused)
    await expect(logs(good, { container: 'none' })).rejects.toMatchObject(refused)
    const enough = new AbortController()
    const following = await logs(good, { follow: true }, { signal: enough.signal })
    const [first] = (await once(following, 'data')) as [Buffer]
    expect(first.toString()).toMatch(/^first line\n/)
    const end = once(following, 'end')
    enough.abort()
    await expect(end).rejects.toThrow('aborted')
  }, 60_000)

  async function deploy(app: string, container: object) {
    const pod = {
      automountServiceAccountToken: false,
      terminationGracePeriodSeconds: 0,
      containers: [{ name: app, imagePullPolicy: 'IfNotPresent', ...container }],
      volumes: [{ name: 'bags', projected: { sources: [{ secret: { name: 'bag', optional: true } }] } }],
    }
    await kubernetes.apply({
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { namespace: 'default', name: app },
      spec: { selector: { matchLabels: { app } }, template: { metadata: { labels: { app } }, spec: pod } },
    })
  }

  const logs = (pod: Pod, options: LogOptions, call?: Call) =>
    kubernetes.logs({ namespace: 'default', name: pod.metadata.name }, options, call)

  type Pod = Awaited<ReturnType<typeof kubernetes.get<'Pod'>>>
  const podOf = (app: string, isSo: (status: Pod['status']) => boolean): Promise<Pod> =>
    vi.waitFor(
      async () => {
        const { items } = await kubernetes.list('Pod', { namespace: 'default', labels: `app=${app}` })
        const pod = items.find(({ status }) => isSo(status))
        if (!pod) throw new Error(`not yet: ${JSON.stringify(items[0]?.status)}`)
        return pod
      },
      { timeout: 30_000, interval: 100 },
    )
})

describe('nothing is left', everything, () => {
  test(
    'of a cluster that was stopped',
    async () => {
      const cluster = await startCluster({ node: true })
      expect(traces(cluster.dir)).toContain('a process')
      await cluster.stop()
      expect(traces(cluster.dir)).toEqual([])
    },
    startTimeoutMs,
  )

  test(
    'when the process that started it is killed, its containers included',
    async () => {
      const { owner, dir } = await startElsewhere()
      const kubernetes = connect(await readKubeconfig(join(dir, 'kubeconfig')))
      const container = {
        name: 'a',
        image: busyboxImage,
        command: ['sleep', `${dir}/1000`],
        imagePullPolicy: 'IfNotPresent',
      }
      const pod = { name: 'a', namespace: 'default' }
      // `sleep` refuses such a time, so that this pod keeps coming and going.
      await kubernetes.create({ apiVersion: 'v1', kind: 'Pod', metadata: pod, spec: { containers: [container] } })
      await vi.waitFor(async () => expect((await kubernetes.get('Pod', pod)).status?.podIP).toBeTruthy(), 20_000)
      expect(traces(dir)).toEqual(['its folder', 'its bridge', 'control groups', 'a process'])
      owner.kill('SIGKILL')
      await vi.waitFor(() => expect(traces(dir)).toEqual([]), 15_000)
    },
    startTimeoutMs,
  )

  test(
    'after the next start, even if the keeper was killed as well',
    async () => {
      const { owner, dir } = await startElsewhere()
      process.kill(keeperOf(owner.pid!), 'SIGKILL')
      owner.kill('SIGKILL')
      await vi.waitFor(() => expect(traces(dir)).not.toContain('a process'), 10_000)
      expect(traces(dir)).toContain('its bridge')
      const next = await startCluster({ node: false })
      const left = traces(dir)
      await next.stop()
      expect(left).toEqual([])
    },
    startTimeoutMs,
  )
})

test('what this machine lacks is a sentence', () => {
  vi.stubEnv('PATH', '/nonexistent')
  vi.stubEnv('KUBE_BINARY', '')
  expect(clusterNeeds({ node: true })).toMatch(/no cluster here: .*install Go.*no containers here: .*containerd/)
  vi.unstubAllEnvs()
})

/** A cluster of another process, for which this one is not to blame. */
async function startElsewhere() {
  const owner = spawn(process.execPath, [join(import.meta.dirname, 'up.mjs')], { stdio: ['ignore', 'pipe', 'inherit'] })
  const kubeconfig = await new Promise<string>((resolve) => createInterface(owner.stdout).on('line', resolve))
  return { owner, dir: dirname(kubeconfig) }
}

/** What of a cluster is on the machine. */
function traces(dir: string): string[] {
  const name = `1ctl${basename(dir)}`
  const groups = execFileSync('find', ['/sys/fs/cgroup', '-maxdepth', '2', '-name', name], { encoding: 'utf8' })
  return [
    ...(existsSync(dir) ? ['its folder'] : []),
    ...(existsSync(`/sys/class/net/${name}`) ? ['its bridge'] : []),
    ...(groups ? ['control groups'] : []),
    ...(processesOf(dir).length > 0 ? ['a process'] : []),
    ...(readFileSync('/proc/mounts', 'utf8').includes(dir) ? ['a mount'] : []),
  ]
}

function processesOf(dir: string): { pid: number; command: string }[] {
  return allProcesses().filter(({ command }) => command.includes(`${dir}/`))
}

const keeperOf = (owner: number) =>
  allProcesses().find(({ parent, command }) => parent === owner && command.includes('keeper.sh'))!.pid

function allProcesses() {
  return readdirSync('/proc').flatMap((pid) => {
    try {
      if (!Number(pid)) return []
      const parent = Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1])
      return { pid: Number(pid), parent, command: readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ') }
    } catch {
      return []
    }
  })
}

const fetchText = (url: string) =>
  new Promise<string>((resolve, reject) => {
    get(url, (answer) => void text(answer).then(resolve, reject)).on('error', reject)
  })

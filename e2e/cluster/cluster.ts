import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto'
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { get as httpsGet } from 'node:https'
import { type AddressInfo, createServer } from 'node:net'
import { basename, delimiter, join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { needs } from '../../server/testing/needs.ts'
import { binary, ensureBinary } from './binary.mjs'

export type Cluster = {
  /** the path of the file; its user may do everything */
  kubeconfig: string
  /** logs and all that the cluster keeps; gone with it */
  dir: string
  /** the API server takes connections and does not answer */
  freezeApi(): void
  thawApi(): void
  /** the API server refuses connections; once it is back, at the same address, it has forgotten what watches resume from */
  stopApi(): Promise<void>
  startApi(): Promise<void>
  /** makes an image of one layer from a folder, e.g. `docker.io/local/web:1`; pods use it with `imagePullPolicy: IfNotPresent` */
  image(name: string, folder: string, command: string[]): Promise<void>
  /** what kubectl prints, where this machine has one */
  kubectl(...args: string[]): Promise<string>
  stop(): Promise<void>
}

/** For `beforeAll`: the first start on a machine builds the binary. */
export const startTimeoutMs = 20 * 60_000

/** Every applet of busybox is a command in it. */
export const busyboxImage = 'docker.io/local/busybox:1'
const pauseImage = 'docker.io/local/pause:1'

/** What this machine lacks, as a sentence. A test says `needs('cluster', 'containers')`. */
export function clusterNeeds({ node }: { node: boolean }): string | undefined {
  return needs(...(node ? (['cluster', 'containers'] as const) : (['cluster'] as const))).meta?.lacking || undefined
}

/**
 * A genuine Kubernetes on loopback: etcd, API server, controller manager and scheduler, each the real thing, and on request a node
 * whose kubelet runs real containers. Without a node, pods stay Pending.
 *
 * Nothing outlives the process that starts it, even if that is killed: the kernel then ends the components (`setpriv`, and all that
 * runs in the node's process namespace), and the keeper removes the rest.
 */
export async function startCluster({ node }: { node: boolean }): Promise<Cluster> {
  const lacking = clusterNeeds({ node })
  if (lacking) throw new Error(lacking)
  await ensureBinary()
  const keeper = await startKeeper()
  const components: Components = new Map()
  const stop = async () => {
    await Promise.all([...components.values()].map(kill))
    await keeper.release()
  }
  try {
    return { ...(await start(keeper.dir, components, node)), stop }
  } catch (error) {
    const log = [...components.keys()].map((name) => `\n--- ${name}\n${lastWords(keeper.dir, name)}`)
    await stop()
    throw new Error(`The cluster did not start: ${(error as Error).message}${log.join('')}`, { cause: error })
  }
}

type Components = Map<string, ChildProcess>

async function start(dir: string, components: Components, hasNode: boolean): Promise<Omit<Cluster, 'stop'>> {
  const path = (name: string) => join(dir, name)
  const [etcd, peer, api, manager, scheduler, kubelet] = await freePorts()
  const [kubeconfig, certificate, accountKey] = [path('kubeconfig'), path('certs/apiserver.crt'), path('account.key')]
  const token = randomBytes(16).toString('hex')

  const begin = (name: string, command: string[]) => components.set(name, run(command, path(`${name}.log`)))
  const beginPart = (part: string, flags: Record<string, string | number>) =>
    begin(part, [binary, part, ...Object.entries(flags).map(([flag, value]) => `--${flag}=${value}`)])
  const until = async (name: string, isThere: () => unknown) => {
    for (const end = Date.now() + 60_000; !(await isThere()); await sleep(50)) {
      const ended = components.get(name)!
      if (ended.exitCode !== null || ended.signalCode) throw new Error(`${name} has ended`)
      if (Date.now() > end) throw new Error(`no ${name} after a minute`)
    }
  }
  const get = (what: string) => answerOf(`https://127.0.0.1:${api}${what}`, certificate, token)

  write(path('etcd.json'), etcdConfig(path('etcd'), `http://127.0.0.1:${etcd}`, `http://127.0.0.1:${peer}`))
  begin('etcd', [binary, 'etcd', path('etcd.json')])

  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  write(accountKey, privateKey.export({ type: 'pkcs8', format: 'pem' }))
  write(path('tokens.csv'), `${token},admin,admin,"system:masters"\n`)
  const startApi = async () => {
    beginPart('apiserver', {
      'etcd-servers': `http://127.0.0.1:${etcd}`,
      'cert-dir': path('certs'),
      'bind-address': '127.0.0.1',
      'advertise-address': '127.0.0.1',
      'secure-port': api,
      'token-auth-file': path('tokens.csv'),
      'authorization-mode': 'Node,RBAC',
      'allow-privileged': 'true',
      'service-account-issuer': 'https://kubernetes.default.svc',
      'service-account-key-file': accountKey,
      'service-account-signing-key-file': accountKey,
      'service-cluster-ip-range': '10.96.0.0/16',
      'endpoint-reconciler-type': 'none',
      'kubelet-preferred-address-types': 'Hostname',
    })
    await until('apiserver', () => get('/readyz'))
  }
  await startApi()
  write(kubeconfig, kubeconfigOf(`https://127.0.0.1:${api}`, readFileSync(certificate, 'base64'), token))

  const common = { kubeconfig, 'leader-elect': 'false', 'bind-address': '127.0.0.1' }
  beginPart('controller-manager', {
    ...common,
    'secure-port': manager,
    'cert-dir': path('certs/manager'),
    'service-account-private-key-file': accountKey,
    'root-ca-file': certificate,
    // Its 20 requests a second take a hundred Deployments 20 seconds to notice.
    'kube-api-qps': 500,
    'kube-api-burst': 1000,
  })
  beginPart('scheduler', { ...common, 'secure-port': scheduler, 'cert-dir': path('certs/scheduler') })

  const image: Cluster['image'] = (name, folder, command) => loadImage(dir, name, folder, command)
  if (hasNode) {
    const address = await configureNode(dir, kubelet)
    const namespaces = ['--mount', '--propagation', 'private', '--pid', '--fork', '--kill-child', '--mount-proc']
    begin('node', ['unshare', ...namespaces, join(import.meta.dirname, 'node.sh'), dir, binary, address])
    await until('node', () => existsSync(path('containerd.sock')))
    const busybox = await busyboxFolder(dir)
    await image(pauseImage, busybox, [
      '/bin/sh',
      '-c',
      'trap "exit 0" TERM INT; while :; do sleep 3600 & wait $!; done',
    ])
    await image(busyboxImage, busybox, ['/bin/sh'])
    await until('node', async () => isReady(await get('/api/v1/nodes/localhost')))
  }
  // Without it no pod is admitted.
  await until('controller-manager', () => get('/api/v1/namespaces/default/serviceaccounts/default'))

  return {
    kubeconfig,
    dir,
    image,
    freezeApi: () => void components.get('apiserver')!.kill('SIGSTOP'),
    thawApi: () => void components.get('apiserver')!.kill('SIGCONT'),
    stopApi: () => kill(components.get('apiserver')!),
    startApi,
    kubectl: async (...args) => (await execute('kubectl', ['--kubeconfig', kubeconfig, ...args])).stdout,
  }
}

const execute = promisify(execFile)

/** Runs keeper.sh, which gives us a folder. When it ends, nothing of the cluster is left. */
async function startKeeper(): Promise<{ dir: string; release(): Promise<void> }> {
  const keeper = spawn(join(import.meta.dirname, 'keeper.sh'), {
    detached: true,
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const ended = new Promise<void>((resolve, reject) => keeper.on('error', reject).on('close', () => resolve()))
  const dir = await Promise.race([
    new Promise<string>((resolve) => createInterface(keeper.stdout).once('line', resolve)),
    ended.then(() => Promise.reject(new Error('There is no folder for a cluster; see above.'))),
  ])
  return {
    dir,
    release: async () => {
      keeper.stdin.end()
      await ended
    },
  }
}

/** The kernel ends it with us, at the latest. */
function run(command: string[], logFile: string): ChildProcess {
  const log = openSync(logFile, 'a')
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...command], {
    // A Ctrl-C in our terminal is ours to handle.
    detached: true,
    stdio: ['ignore', log, log],
    env: { PATH: process.env.PATH },
  })
  closeSync(log)
  child.on('error', () => undefined)
  return child
}

/** Without ceremony: none of it is needed again. */
async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode) return
  const ended = new Promise((resolve) => child.once('close', resolve))
  child.kill('SIGKILL')
  await ended
}

/** Undefined while it does not answer as it should. */
function answerOf(url: string, certificate: string, token: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    if (!existsSync(certificate)) return resolve(undefined)
    const options = { ca: readFileSync(certificate), headers: { authorization: `Bearer ${token}` }, timeout: 5_000 }
    const request = httpsGet(url, options, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (part: string) => (text += part))
      response.on('close', () => resolve(response.statusCode === 200 ? text : undefined))
    })
    request.on('timeout', () => request.destroy())
    request.on('error', () => resolve(undefined))
  })
}

function isReady(node: string | undefined): boolean {
  const conditions: { type: string; status: string }[] = node ? (JSON.parse(node).status.conditions ?? []) : []
  return conditions.some(({ type, status }) => type === 'Ready' && status === 'True')
}

function lastWords(dir: string, name: string): string {
  return readFileSync(join(dir, `${name}.log`), 'utf8').slice(-1_500)
}

/** Different ones, as all are held until the last is known. */
async function freePorts() {
  const servers = Array.from({ length: 6 }, () => createServer().listen(0, '127.0.0.1'))
  await Promise.all(servers.map((server) => new Promise((resolve) => server.once('listening', resolve))))
  const ports = servers.map((server) => (server.address() as AddressInfo).port)
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports as [number, number, number, number, number, number]
}

/** All in one folder that only we may enter. JSON is YAML. */
function write(file: string, content: unknown): void {
  writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content), { mode: 0o600 })
}

const etcdConfig = (folder: string, client: string, peer: string) => ({
  name: 'test',
  'data-dir': folder,
  'listen-client-urls': client,
  'advertise-client-urls': client,
  'listen-peer-urls': peer,
  'initial-advertise-peer-urls': peer,
  'initial-cluster': `test=${peer}`,
  // Nothing outlives a test.
  'unsafe-no-fsync': true,
  'log-level': 'warn',
})

const kubeconfigOf = (server: string, certificate: string, token: string) => ({
  apiVersion: 'v1',
  kind: 'Config',
  clusters: [{ name: 'test', cluster: { server, 'certificate-authority-data': certificate } }],
  users: [{ name: 'admin', user: { token } }],
  contexts: [{ name: 'test', context: { cluster: 'test', user: 'admin' } }],
  'current-context': 'test',
})

/** Files and a bridge for node.sh; the address that the node will have, which is the bridge's, since it must not be loopback. */
async function configureNode(dir: string, port: number): Promise<string> {
  const number = basename(dir)
  // The keeper knows them by these names. Two kubelets in one control group would kill each other's pods.
  const [bridge, group, network] = [`1ctl${number}`, `/1ctl${number}`, `10.${number}.0`]
  for (const hierarchy of hierarchies()) mkdirSync(join(hierarchy, group), { recursive: true })
  await execute('ip', ['link', 'add', bridge, 'type', 'bridge'])
  await execute('ip', ['address', 'add', `${network}.1/24`, 'dev', bridge])
  await execute('ip', ['link', 'set', bridge, 'up'])
  mkdirSync(join(dir, 'cni'))
  write(join(dir, 'cni/10-test.conflist'), {
    cniVersion: '0.4.0',
    name: 'test',
    plugins: [
      {
        type: 'bridge',
        bridge,
        ipam: { type: 'host-local', subnet: `${network}.0/24`, dataDir: join(dir, 'addresses') },
      },
    ],
  })
  write(
    join(dir, 'containerd.toml'),
    `version = 2
root = "${dir}/containerd"
state = "/run/containerd"
[grpc]
  address = "${dir}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${pauseImage}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "${dir}/cni"
`,
  )
  write(join(dir, 'kubelet.yaml'), {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    containerRuntimeEndpoint: `unix://${dir}/containerd.sock`,
    address: '127.0.0.1',
    port,
    healthzPort: 0,
    cgroupDriver: 'cgroupfs',
    cgroupRoot: group,
    failSwapOn: false,
    enforceNodeAllocatable: [],
    // A full disk of the machine is not what is tested.
    evictionHard: { 'imagefs.available': '0%', 'nodefs.available': '0%', 'nodefs.inodesFree': '0%' },
    imageGCHighThresholdPercent: 100,
    authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
    authorization: { mode: 'AlwaysAllow' },
    resolvConf: '',
    maxPods: 220,
  })
  return `${network}.1`
}

/** Of control groups: one for each controller (version 1), or one for all (version 2). */
function hierarchies(): string[] {
  const root = '/sys/fs/cgroup'
  if (existsSync(join(root, 'cgroup.controllers'))) return [root]
  return readdirSync(root).map((name) => join(root, name))
}

/** A root folder with busybox and a link for each of its applets. No registry is asked for images, as none can be assumed. */
async function busyboxFolder(dir: string): Promise<string> {
  const folder = join(dir, 'busybox')
  for (const name of ['bin', 'etc', 'run', 'tmp']) mkdirSync(join(folder, name), { recursive: true })
  const places = (process.env.PATH ?? '').split(delimiter).map((place) => join(place, 'busybox'))
  copyFileSync(places.find(existsSync)!, join(folder, 'bin/busybox'))
  const { stdout } = await execute('busybox', ['--list'])
  for (const applet of stdout.trim().split('\n')) {
    if (applet !== 'busybox') symlinkSync('busybox', join(folder, 'bin', applet))
  }
  return folder
}

/** An archive as `docker save` writes it: one layer, and what to run. */
async function loadImage(dir: string, name: string, folder: string, command: string[]): Promise<void> {
  const work = mkdtempSync(join(dir, 'image-'))
  const layer = join(work, 'layer.tar')
  await execute('tar', ['-C', folder, '--owner=0', '--group=0', '-cf', layer, '.'])
  write(join(work, 'config.json'), {
    architecture: process.arch === 'x64' ? 'amd64' : process.arch,
    os: 'linux',
    config: { Cmd: command, Env: ['PATH=/bin:/usr/bin'], WorkingDir: '/' },
    rootfs: { type: 'layers', diff_ids: [`sha256:${createHash('sha256').update(readFileSync(layer)).digest('hex')}`] },
  })
  write(join(work, 'manifest.json'), [{ Config: 'config.json', RepoTags: [name], Layers: ['layer.tar'] }])
  const archive = join(work, 'image.tar')
  await execute('tar', ['-C', work, '-cf', archive, 'manifest.json', 'config.json', 'layer.tar'])
  await execute('ctr', ['-a', join(dir, 'containerd.sock'), '-n', 'k8s.io', 'images', 'import', archive])
  rmSync(work, { recursive: true })
}

import { execFile } from 'node:child_process'
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { dirname, isAbsolute, join, resolve } from 'node:path'
import { z } from 'zod'
import { BootError } from '../boot-error.ts'
import { ClusterAway } from './errors.ts'

/** Where a cluster is, and how to prove who we are. */
export type Connection = {
  /** without a slash at its end */
  server: string
  tls: { ca?: string; rejectUnauthorized?: boolean; servername?: string }
  /** What to use now. `refused` were turned down by the API server: others come back, or the same ones where there are no others. */
  credentials: (refused?: Credentials) => Promise<Credentials>
}

export type Credentials = { token?: string; cert?: string; key?: string }

/** A context of a kubeconfig file, its current one if none is named. A BootError says which field of which file to correct. */
export async function readKubeconfig(path: string, contextName?: string): Promise<Connection> {
  const file = resolve(path)
  const wrong = (words: string) => new BootError(`The kubeconfig ${file} cannot be used: ${words}.`)
  const config = await parse(file, wrong)

  const name = contextName ?? config['current-context']
  if (!name) throw wrong('current-context is missing')
  const context = find(config.contexts, name, 'contexts', wrong).context
  const at = `clusters "${context.cluster}"`
  const cluster = find(config.clusters, context.cluster, 'clusters', wrong).cluster
  const user = context.user ? find(config.users, context.user, 'users', wrong).user : {}
  if (cluster['proxy-url']) throw wrong(`${at}: proxy-url is not supported. Name an address that is reached directly`)
  const server = checkServer(cluster.server, (words) => wrong(`${at}: server ${words}`))
  for (const field of refusedFields) {
    if (user[field] !== undefined) throw wrong(`users "${context.user}": ${field} is not supported`)
  }

  const folder = dirname(file)
  const pem = (holder: Record<string, unknown>, where: string, field: string) =>
    pemOf(holder, field, folder, (words) => wrong(`${where}: ${words}`))
  const ca = pem(cluster, at, 'certificate-authority')
  const tls = {
    ca,
    rejectUnauthorized: !cluster['insecure-skip-tls-verify'],
    servername: cluster['tls-server-name'],
  }
  const who = `users "${context.user}"`
  const cert = pem(user, who, 'client-certificate')
  const key = pem(user, who, 'client-key')
  if (!cert !== !key) throw wrong(`${who}: client-certificate and client-key go together`)
  if (cert && key && !new X509Certificate(cert).checkPrivateKey(createPrivateKey(key))) {
    throw wrong(`${who}: client-key is not the key of client-certificate`)
  }
  const fixed: Credentials = { cert, key }

  // The order of kubectl: a token beats its file, and both beat a program.
  if (user.token) return { server, tls, credentials: always({ ...fixed, token: user.token }) }
  if (user.tokenFile) {
    const tokenFile = resolve(folder, user.tokenFile)
    return { server, tls, credentials: fromFile(tokenFile, fixed, (words) => wrong(`${who}: tokenFile ${words}`)) }
  }
  if (!user.exec) return { server, tls, credentials: always(fixed) }
  if (user.exec.interactiveMode === 'Always') throw wrong(`${who}: exec wants a terminal (interactiveMode: Always)`)
  return { server, tls, credentials: fromProgram(user.exec, { ...cluster, server, ca }, folder) }
}

/** The account of the pod that this process runs in. */
export function readInCluster(folder = serviceAccount, env: NodeJS.ProcessEnv = process.env): Connection {
  const wrong = (words: string) => new BootError(`There is no service account in ${folder}: ${words}.`)
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = env
  if (!host || !port) throw wrong('KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set')
  const ca = readText(join(folder, 'ca.crt'), wrong)
  if (!isPem(ca)) throw wrong('ca.crt is not a PEM')
  const credentials = fromFile(join(folder, 'token'), {}, wrong)
  return { server: `https://${host.includes(':') ? `[${host}]` : host}:${port}`, tls: { ca }, credentials }
}

const serviceAccount = '/var/run/secrets/kubernetes.io/serviceaccount'

type Wrong = (words: string) => BootError

/** Ways to prove who one is that are not ours, and must not be passed over in silence. */
const refusedFields = ['auth-provider', 'username', 'password', 'as', 'as-uid', 'as-groups', 'as-user-extra'] as const

const text = z.string()
const exec = z.object({
  apiVersion: z.enum(['client.authentication.k8s.io/v1', 'client.authentication.k8s.io/v1beta1']),
  command: text.min(1),
  args: z.array(text).nullish(),
  env: z.array(z.object({ name: text, value: text })).nullish(),
  provideClusterInfo: z.boolean().optional(),
  installHint: text.optional(),
  interactiveMode: text.optional(),
})
const schema = z.object({
  'current-context': text.optional(),
  contexts: z.array(z.object({ name: text, context: z.object({ cluster: text, user: text.optional() }) })),
  clusters: z.array(
    z.object({
      name: text,
      cluster: z.object({
        server: text,
        'certificate-authority': text.optional(),
        'certificate-authority-data': text.optional(),
        'insecure-skip-tls-verify': z.boolean().optional(),
        'tls-server-name': text.optional(),
        'proxy-url': text.optional(),
      }),
    }),
  ),
  users: z
    .array(
      z.object({
        name: text,
        user: z.looseObject({
          token: text.optional(),
          tokenFile: text.optional(),
          'client-certificate': text.optional(),
          'client-certificate-data': text.optional(),
          'client-key': text.optional(),
          'client-key-data': text.optional(),
          exec: exec.nullish(),
        }),
      }),
    )
    .nullish(),
})
type Exec = z.output<typeof exec>

async function parse(file: string, wrong: Wrong): Promise<z.output<typeof schema>> {
  const source = readText(file, wrong)
  // Loaded here, since most servers never read a kubeconfig.
  const { LineCounter, parseDocument } = await import('yaml')
  const lines = new LineCounter()
  const document = parseDocument(source, { lineCounter: lines, prettyErrors: false })
  const [problem] = document.errors
  // The parser's own words quote the file, which holds keys.
  if (problem) throw wrong(`line ${lines.linePos(problem.pos[0]).line} is not YAML`)
  const { data, error } = schema.safeParse(document.toJS())
  if (data) return data
  const problems = error.issues.map(({ path, message }) => `${path.join('.') || 'the file'}: ${message}`)
  throw wrong(problems.join('; '))
}

function find<Entry extends { name: string }>(
  entries: Entry[] | null | undefined,
  name: string,
  list: string,
  wrong: Wrong,
): Entry {
  const found = entries?.find((entry) => entry.name === name)
  if (found) return found
  const names = entries?.map((entry) => `"${entry.name}"`).join(', ')
  throw wrong(`${list} has no "${name}"${names ? ` (it has ${names})` : ''}`)
}

function checkServer(server: string, wrong: Wrong): string {
  if (!URL.canParse(server)) throw wrong(`is no address`)
  const { protocol, hostname, origin, pathname } = new URL(server)
  const isLoopback = /^(localhost|127\.[\d.]+|\[::1\])$/.test(hostname)
  if (protocol !== 'https:' && !(protocol === 'http:' && isLoopback)) {
    throw wrong('must begin with https://, since secrets travel there (http:// is for this machine alone)')
  }
  return origin + pathname.replace(/\/+$/, '')
}

/** `field-data` in base64, or a file named by `field`. */
function pemOf(holder: Record<string, unknown>, field: string, folder: string, wrong: Wrong): string | undefined {
  const read = (text: string, where: string) => {
    if (isPem(text)) return text
    throw wrong(`${where} is not a PEM`)
  }
  const [data, path] = [holder[`${field}-data`], holder[field]]
  if (typeof data === 'string' && data) return read(Buffer.from(data, 'base64').toString(), `${field}-data, in base64,`)
  if (typeof path !== 'string' || !path) return undefined
  return read(
    readText(resolve(folder, path), (words) => wrong(`${field} ${words}`)),
    `${field} ${path}`,
  )
}

function isPem(text: string): boolean {
  try {
    return Boolean(text.includes('PRIVATE KEY-----') ? createPrivateKey(text) : new X509Certificate(text))
  } catch {
    return false
  }
}

function readText(file: string, wrong: Wrong): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw wrong(`${file} cannot be read (${(error as NodeJS.ErrnoException).code})`)
  }
}

const always = (credentials: Credentials) => () => Promise.resolve(credentials)

/** A token that someone else replaces now and then: the kubelet does it while the old one is still good for some minutes. */
function fromFile(file: string, others: Credentials, wrong: Wrong): Connection['credentials'] {
  const read = () => ({ ...others, token: readText(file, wrong).trim() })
  let now = read()
  let readAt = Date.now()
  return async (refused) => {
    if (!refused && Date.now() - readAt < 10_000) return now
    try {
      const next = read()
      if (next.token !== now.token) now = next
      readAt = Date.now()
    } catch (error) {
      throw new ClusterAway((error as Error).message)
    }
    return now
  }
}

/** https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins */
function fromProgram(exec: Exec, cluster: ClusterInfo, folder: string): Connection['credentials'] {
  let now: (Credentials & { expiresAt: number }) | undefined
  let running: Promise<Credentials> | undefined
  const renew = async () => {
    now = await runProgram(exec, cluster, folder)
    return now
  }
  return async (refused) => {
    // Asked for by many at once, it runs once.
    if (running) return running
    if (now && now !== refused && now.expiresAt - Date.now() > 10_000) return now
    running = renew().finally(() => (running = undefined))
    return running
  }
}

type ClusterInfo = {
  server: string
  ca?: string
  'insecure-skip-tls-verify'?: boolean
  'tls-server-name'?: string
}

const execStatus = z.object({
  status: z.object({
    token: text.optional(),
    clientCertificateData: text.optional(),
    clientKeyData: text.optional(),
    expirationTimestamp: text.optional(),
  }),
})

async function runProgram(exec: Exec, cluster: ClusterInfo, folder: string) {
  const { apiVersion, command, args, env, installHint } = exec
  const program = command.includes('/') && !isAbsolute(command) ? join(folder, command) : command
  const info = {
    server: cluster.server,
    'certificate-authority-data': cluster.ca && Buffer.from(cluster.ca).toString('base64'),
    'insecure-skip-tls-verify': cluster['insecure-skip-tls-verify'],
    'tls-server-name': cluster['tls-server-name'],
  }
  const question = {
    apiVersion,
    kind: 'ExecCredential',
    spec: { interactive: false, cluster: exec.provideClusterInfo ? info : undefined },
  }
  // Without what is ours: it may hold the master key and the database's password.
  const ours = Object.entries(process.env).filter(([name]) => !/^(SATUSKY_|DATABASE_URL$)/.test(name))
  const theirs = (env ?? []).map(({ name, value }) => [name, value])
  const environment = Object.fromEntries([...ours, ...theirs, ['KUBERNETES_EXEC_INFO', JSON.stringify(question)]])
  const failed = (words: string) => new ClusterAway(`The kubeconfig's program ${command} gave no credentials: ${words}`)
  const answer = await new Promise<string>((resolve, reject) => {
    execFile(
      program,
      args ?? [],
      { env: environment, timeout: 30_000, killSignal: 'SIGKILL' },
      (error, stdout, stderr) => {
        if (!error) return resolve(stdout)
        // What it says on stderr is for people; its stdout is secret.
        if (error.code === 'ENOENT') return reject(failed(`it is not installed. ${installHint ?? ''}`.trim()))
        reject(failed(stderr.trim().slice(-500) || `it ended with ${error.signal ?? error.code}`))
      },
    )
  })
  const { data } = execStatus.safeParse(tryJson(answer))
  const status = data?.status
  if (!status?.token && !status?.clientCertificateData) throw failed('its answer is no ExecCredential')
  const { token, clientCertificateData: cert, clientKeyData: key, expirationTimestamp } = status
  const expiresAt = expirationTimestamp ? Date.parse(expirationTimestamp) : Number.POSITIVE_INFINITY
  return { token, cert, key, expiresAt }
}

function tryJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

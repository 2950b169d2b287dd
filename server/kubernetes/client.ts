import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { ClusterAway, KubernetesError } from './errors.ts'
import { type Bare, type Found, type Kind, kinds, type Manifest, type Metadata, pathOf, type Ref } from './kinds.ts'
import type { Connection, Credentials } from './kubeconfig.ts'

/**
 * The calls we make to a Kubernetes API server. Each one ends in an answer, a KubernetesError (it refused) or a ClusterAway (it gave no
 * answer); trying again is the caller's affair. Values of Secrets pass through here and are in no error.
 */
export type Kubernetes = {
  readonly server: string
  version(call?: Call): Promise<{ major: string; minor: string; gitVersion: string }>
  /** Whether we may do this, e.g. `may('create', 'Secret', 'team-a')`; without a namespace, in all of them. */
  may(verb: string, kind: Kind, namespace?: string, call?: Call): Promise<boolean>
  /** Who we are there: `system:serviceaccount:<namespace>:<name>`, or the name of a user. */
  whoAmI(call?: Call): Promise<string>
  /** Makes a new object: where there is one of that name, whoever's, this is a KubernetesError AlreadyExists. */
  create<K extends Kind>(manifest: Manifest<K>, call?: Call): Promise<Metadata>
  /** Server-side apply: makes it so. Fields of other managers are a KubernetesError Conflict, or with `force` become ours. */
  apply<K extends Kind>(manifest: Manifest<K>, call?: Call & { force?: boolean }): Promise<Metadata>
  /** A JSON merge patch: null removes a field. */
  patch(kind: Kind, ref: Ref, change: object, call?: Call): Promise<Metadata>
  /** With `uid`, only that very object. */
  delete(kind: Kind, ref: Ref, call?: Call & { uid?: string; propagation?: Propagation }): Promise<void>
  get<K extends Kind, Only extends boolean = false>(
    kind: K,
    ref: Ref,
    call?: Call & { metadataOnly?: Only },
  ): Promise<View<K, Only>>
  /** One page. */
  list<K extends Kind, Only extends boolean = false>(
    kind: K,
    where: Where<Only> & { limit?: number; continue?: string },
    call?: Call,
  ): Promise<{ items: View<K, Only>[]; resourceVersion: string; continue?: string }>
  /** What happens after `resourceVersion`, once the server has agreed to tell it. It ends now and then: see `follow`. */
  watch<K extends Kind, Only extends boolean = false>(
    kind: K,
    where: Where<Only> & { resourceVersion: string; idleMs?: number },
    call?: Call,
  ): Promise<AsyncIterable<WatchEvent<View<K, Only>>>>
  /** What a container has written, as bytes. */
  logs(pod: Ref & { namespace: string }, options?: LogOptions, call?: Call): Promise<Readable>
  /** Closes idle connections. */
  close(): void
}

export type Call = { signal?: AbortSignal }
export type Where<Only extends boolean = boolean> = {
  /** without one, in all namespaces */
  namespace?: string
  /** a label selector, e.g. `app.kubernetes.io/managed-by=1ctl` */
  labels?: string
  /** a field selector, e.g. `involvedObject.uid=…` */
  fields?: string
  /** leaves the content on the server */
  metadataOnly?: Only
}
export type View<K extends Kind, Only extends boolean> = Only extends true ? Bare : Found<K>
export type WatchEvent<Object> = { type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK'; object: Object }
export type Propagation = 'Background' | 'Foreground' | 'Orphan'
export type LogOptions = {
  container?: string
  follow?: boolean
  /** how many lines from the end */
  tail?: number
  /**
   * Of the run before this one. Only for a container that runs: of one that has ended or waits for its next start, the last run is what
   * comes without this, and with it the kubelet mostly says "unable to retrieve container logs", as it keeps one dead container.
   */
  previous?: boolean
  sinceTime?: string
  timestamps?: boolean
}

export const fieldManager = '1ctl'

type Options = {
  /** until the answer is complete; for watches and logs until it begins */
  timeoutMs?: number
  /** More at once hardly bring more, and take longer each: with 32, 9 % more than with 8 at four times the latency. */
  writesAtOnce?: number
}

export function connect(connection: Connection, { timeoutMs = 30_000, writesAtOnce = 8 }: Options = {}): Kubernetes {
  const base = new URL(connection.server)
  const root = base.pathname.replace(/\/$/, '')
  const [request, Agent] = base.protocol === 'https:' ? [httpsRequest, HttpsAgent] : [httpRequest, HttpAgent]
  const inTurn = atMost(writesAtOnce)

  let agent: HttpAgent | undefined
  let agentFor: Credentials = {}
  /** A connection proves once who we are where we have a certificate, so others need another agent. */
  const agentWith = (credentials: Credentials) => {
    if (!agent || credentials.cert !== agentFor.cert) {
      const { cert, key } = credentials
      agent = new Agent({ keepAlive: true, ...connection.tls, cert, key })
    }
    agentFor = credentials
    return agent
  }

  /** Resolves when the answer begins. */
  const begin = (ask: Ask, credentials: Credentials, signal: AbortSignal | undefined): Promise<IncomingMessage> =>
    new Promise((resolve, reject) => {
      const { method = 'GET', path, accept = json, type, body } = ask
      const sent = request(
        {
          method,
          host: base.hostname.replace(/^\[|\]$/g, ''),
          port: base.port || (base.protocol === 'https:' ? 443 : 80),
          path: root + path,
          agent: agentWith(credentials),
          signal,
          headers: {
            accept,
            'user-agent': '1ctl',
            ...(credentials.token ? { authorization: `Bearer ${credentials.token}` } : {}),
            ...(body === undefined ? {} : { 'content-type': type, 'content-length': Buffer.byteLength(body) }),
          },
        },
        resolve,
      )
      const timer = setTimeout(() => sent.destroy(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs)
      sent.on('close', () => clearTimeout(timer))
      if (ask.stream) sent.on('response', () => clearTimeout(timer))
      sent.on('error', (error: NodeJS.ErrnoException) => {
        // A connection that the server was closing just when we took it from the pool. What must not happen twice is left to the caller.
        if (sent.reusedSocket && error.code === 'ECONNRESET' && method !== 'POST' && !ask.isRepeat) {
          resolve(begin({ ...ask, isRepeat: true }, credentials, signal))
        } else reject(signal?.aborted ? signal.reason : away(error))
      })
      sent.end(body)
    })

  /** Of a network error only its code: it never quotes a request, but that should not depend on Node. */
  const away = (error: unknown) => {
    const { code, message } = error as NodeJS.ErrnoException
    return new ClusterAway(`The cluster at ${connection.server} is away: ${code ?? message}`)
  }

  const textOf = async (answer: IncomingMessage, signal: AbortSignal | undefined): Promise<string> => {
    const parts: string[] = []
    try {
      for await (const part of answer.setEncoding('utf8')) parts.push(part)
    } catch (error) {
      throw signal?.aborted ? signal.reason : away(error)
    }
    return parts.join('')
  }

  /** A successful answer. A token that was just replaced, and a server that asks for patience, are met here. */
  const answerTo = async (ask: Ask, { signal }: Call = {}): Promise<IncomingMessage> => {
    let credentials = await connection.credentials()
    for (let waits = 0, renewed = false; ; ) {
      signal?.throwIfAborted()
      const answer = await begin(ask, credentials, signal)
      const status = answer.statusCode!
      if (status < 300) return answer
      const text = await textOf(answer, signal)
      if (status === 401 && !renewed) {
        const others = await connection.credentials(credentials)
        renewed = true
        if (others !== credentials) {
          credentials = others
          continue
        }
      }
      if (status === 429 && waits++ < 3) {
        const seconds = Number(answer.headers['retry-after'] ?? 1)
        await sleep(Math.min(seconds, 10) * 1000, undefined, { signal })
        continue
      }
      if ([429, 502, 503, 504].includes(status)) throw away(new Error(`HTTP status ${status}`))
      throw refusal(ask, status, text)
    }
  }

  const ask = async <Answer>(question: Ask, call?: Call): Promise<Answer> => {
    const answer = await answerTo(question, call)
    return parse(await textOf(answer, call?.signal)) as Answer
  }
  const write = (question: Ask, call?: Call) =>
    inTurn(async () => (await ask<Bare>({ accept: bareJson, ...question }, call)).metadata)

  return {
    server: connection.server,
    version: (call) => ask({ path: '/version' }, call),

    may: async (verb, kind, namespace, call) => {
      const { group, plural: resource } = kinds[kind]
      const apiGroup = group === 'v1' ? '' : group.split('/')[0]
      const body = { spec: { resourceAttributes: { verb, group: apiGroup, resource, namespace } } }
      const path = '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews'
      const review = { apiVersion: 'authorization.k8s.io/v1', kind: 'SelfSubjectAccessReview', ...body }
      const { status } = await ask<{ status: { allowed: boolean } }>(
        { method: 'POST', path, type: json, body: JSON.stringify(review) },
        call,
      )
      return status.allowed
    },

    whoAmI: async (call) => {
      const path = '/apis/authentication.k8s.io/v1/selfsubjectreviews'
      const review = { apiVersion: 'authentication.k8s.io/v1', kind: 'SelfSubjectReview' }
      const { status } = await ask<{ status: { userInfo: { username: string } } }>(
        { method: 'POST', path, type: json, body: JSON.stringify(review) },
        call,
      )
      return status.userInfo.username
    },

    create: (manifest, call) => {
      const { kind, metadata } = manifest
      const path = `${pathOf(kind, { namespace: metadata.namespace })}?fieldManager=${fieldManager}`
      return write({ method: 'POST', path, ...about(kind, metadata), type: json, body: JSON.stringify(manifest) }, call)
    },

    apply: (manifest, call) => {
      const { kind, metadata } = manifest
      const path = `${pathOf(kind, metadata)}?fieldManager=${fieldManager}${call?.force ? '&force=true' : ''}`
      // JSON is YAML, and takes the server less time to read.
      const type = 'application/apply-patch+yaml'
      return write({ method: 'PATCH', path, ...about(kind, metadata), type, body: JSON.stringify(manifest) }, call)
    },

    patch: (kind, ref, change, call) => {
      const path = `${pathOf(kind, ref)}?fieldManager=${fieldManager}`
      const type = 'application/merge-patch+json'
      return write({ method: 'PATCH', path, ...about(kind, ref), type, body: JSON.stringify(change) }, call)
    },

    delete: async (kind, ref, { uid, propagation = 'Background', ...call } = {}) => {
      const options = { propagationPolicy: propagation, ...(uid ? { preconditions: { uid } } : {}) }
      const question = { method: 'DELETE', path: pathOf(kind, ref), ...about(kind, ref) }
      // Its answer is the object, or a status: nothing to know.
      await write({ ...question, accept: json, type: json, body: JSON.stringify(options) }, call)
    },

    get: (kind, ref, { metadataOnly, ...call } = {}) =>
      ask({ path: pathOf(kind, ref), ...about(kind, ref), accept: metadataOnly ? bareJson : json }, call),

    list: async (kind, { limit, continue: next, ...where }, call) => {
      const path = pathWith(pathOf(kind, where), { ...selectors(where), limit, continue: next })
      const accept = where.metadataOnly ? bareListJson : json
      const { items, metadata } = await ask<List>({ path, ...about(kind, where), accept }, call)
      const { resourceVersion, continue: more } = metadata
      // oxlint-disable-next-line typescript/no-explicit-any -- what comes back is what `accept` asks for
      return { items: (items ?? []) as any[], resourceVersion, ...(more ? { continue: more } : {}) }
    },

    watch: async (kind, { resourceVersion, idleMs = 90_000, ...where }, { signal } = {}) => {
      const path = pathWith(pathOf(kind, where), {
        ...selectors(where),
        watch: 'true',
        allowWatchBookmarks: 'true',
        resourceVersion,
        // So that many that began together do not end together.
        timeoutSeconds: 240 + Math.floor(Math.random() * 60),
      })
      const question = { path, ...about(kind, where), accept: where.metadataOnly ? bareJson : json, stream: true }
      const answer = await answerTo(question, { signal })
      return eventsOf(question, answer, idleMs, (error) => (signal?.aborted ? signal.reason : away(error)))
    },

    logs: (pod, options = {}, call) => {
      const { tail, ...others } = options
      const path = pathWith(`${pathOf('Pod', pod)}/log`, { ...others, tailLines: tail })
      return answerTo({ path, ...about('Pod', pod), accept: '*/*', stream: true }, call)
    },

    close: () => agent?.destroy(),
  }
}

type Ask = {
  method?: string
  path: string
  accept?: string
  type?: string
  body?: string
  /** the answer goes on and on */
  stream?: boolean
  isRepeat?: boolean
  kind?: Kind
  /** for a refusal: what this was about */
  what?: string
}

/** Of nothing, the list of bare objects is null. */
type List = { items: unknown[] | null; metadata: { resourceVersion: string; continue?: string } }
type Status = { reason?: string; message?: string; details?: { causes?: { field?: string }[] } }

const json = 'application/json'
/** An answer without content, which for a Secret means without its values. */
const bareJson = 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1'
const bareListJson = 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1'

const about = (kind: Kind, { namespace, name }: Partial<Ref>) => ({
  kind,
  what: [kind, [namespace, name].filter(Boolean).join('/')].join(' ').trim(),
})

const selectors = ({ labels, fields }: Where) => ({ labelSelector: labels, fieldSelector: fields })

function pathWith(path: string, values: Record<string, string | number | boolean | undefined>): string {
  const query = new URLSearchParams()
  for (const [name, value] of Object.entries(values)) if (value !== undefined) query.set(name, `${value}`)
  return `${path}?${query.toString()}`
}

/** The parser's own words would quote the text. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new ClusterAway('The cluster answered with something else than JSON.')
  }
}

function refusal({ method = 'GET', kind, what }: Ask, status: number, text: string): KubernetesError {
  let said: Status = {}
  try {
    said = JSON.parse(text) as Status
  } catch {
    // A proxy's page, say: the status has to do.
  }
  return refusalOf(`${method} ${what ?? ''}`.trim(), kind, status, said)
}

function refusalOf(deed: string, kind: Kind | undefined, status: number, said: Status): KubernetesError {
  const reason = said.reason || 'Unknown'
  const fields = [...new Set((said.details?.causes ?? []).flatMap(({ field }) => field ?? []))]
  const where = fields.length > 0 ? ` (${fields.join(', ')})` : ''
  const words = kind !== 'Secret' && said.message ? `: ${said.message}` : ''
  return new KubernetesError(`Kubernetes refused ${deed}: ${status} ${reason}${where}${words}`, status, reason, fields)
}

async function* eventsOf<Object>(
  { kind, what }: Ask,
  answer: IncomingMessage,
  idleMs: number,
  failure: (error: unknown) => unknown,
): AsyncGenerator<WatchEvent<Object>> {
  // A server with nothing to tell sends a bookmark every minute, so a long silence is a connection that died without a word.
  const idle = setTimeout(() => answer.destroy(new Error(`silent for ${idleMs} ms`)), idleMs)
  try {
    for await (const line of linesOf(answer, () => idle.refresh())) {
      const event = parse(line) as WatchEvent<Object> | { type: 'ERROR'; object: Status & { code: number } }
      if (event.type === 'ERROR') throw refusalOf(`GET ${what}`, kind, event.object.code, event.object)
      yield event
    }
  } catch (error) {
    throw error instanceof KubernetesError || error instanceof ClusterAway ? error : failure(error)
  } finally {
    clearTimeout(idle)
    answer.destroy()
  }
}

async function* linesOf(answer: IncomingMessage, received: () => void): AsyncGenerator<string> {
  let rest = ''
  for await (const part of answer.setEncoding('utf8') as AsyncIterable<string>) {
    received()
    let from = 0
    for (let end = part.indexOf('\n'); end >= 0; end = part.indexOf('\n', from)) {
      yield rest + part.slice(from, end)
      rest = ''
      from = end + 1
    }
    rest += part.slice(from)
  }
}

function atMost(count: number): <Result>(work: () => Promise<Result>) => Promise<Result> {
  let running = 0
  const waiting: (() => void)[] = []
  return async (work) => {
    if (running < count) running++
    else await new Promise<void>((resolve) => waiting.push(resolve))
    try {
      return await work()
    } finally {
      const next = waiting.shift()
      if (next) next()
      else running--
    }
  }
}

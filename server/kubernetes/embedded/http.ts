import { timingSafeEqual } from 'node:crypto'
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import type { Logger } from 'pino'
import { discovery } from './discovery.ts'
import { type Kind, kindAt, kindOf } from './kinds.ts'
import { isTree, type Obj, type Tree } from './objects.ts'
import { notice } from './pods.ts'
import { fromProtobuf } from './protobuf.ts'
import { type DeleteOptions, remove } from './remove.ts'
import { fieldMatcher, labelMatcher, type Matches } from './selectors.ts'
import { ApiError, badRequest, invalid, notFound, statusOf } from './status.ts'
import { type Store, type Stored, treeOf } from './store.ts'
import { listKindOf, partialListKind, partialOf, scaleOf, tableOf } from './tables.ts'
import { watch } from './watch.ts'
import { applyPatch, create, type PatchType, patch, patchTypes, replace, type Writing } from './write.ts'

export type Deps = {
  store: Store
  token: string
  log: Logger
  /** `127.0.0.1:1234` */
  address: () => string
  logs: (pod: Obj, query: URLSearchParams, response: ServerResponse) => void
  /** called before events are listed */
  expireEvents: () => void
}

type Request = {
  method: string
  path: string
  query: URLSearchParams
  headers: IncomingMessage['headers']
  body: unknown
  response: ServerResponse
}

/** What a path names: all of a kind, one, or a part of one. */
type Target = { kind: Kind; namespace: string; name?: string; subresource?: string }

/** The API over HTTP: from a request to an answer or a Status that says why not. */
export function handler(deps: Deps): RequestListener {
  return (request, response) => {
    void answer(deps, request, response).catch((error: unknown) => {
      if (response.headersSent) return response.destroy()
      send(response, ...asStatus(error, deps.log))
    })
  }
}

async function answer(deps: Deps, message: IncomingMessage, response: ServerResponse): Promise<void> {
  const { method = 'GET', headers } = message
  // A page of another site may have its name point here, but cannot choose this header. (DNS rebinding)
  if (!/^(127\.0\.0\.1|localhost|\[::1\])(:\d+)?$/.test(headers.host ?? ''))
    throw new ApiError(403, 'Forbidden', 'this server answers only under its own address')
  if (!hasToken(headers.authorization, deps.token)) throw new ApiError(401, 'Unauthorized', 'Unauthorized')
  const url = new URL(message.url ?? '/', 'http://localhost')
  const path = decodePath(url.pathname)
  if (method === 'GET' && /^\/(healthz|readyz|livez)(\/|$)/.test(path)) {
    response.end('ok')
    return
  }
  if (method === 'GET' && path === '/openapi/v2') {
    response.writeHead(200, { 'content-type': 'application/com.github.proto-openapi.spec.v2.v1.0+protobuf' })
    response.end(emptyDescription)
    return
  }
  const found = method === 'GET' ? discovery(path.replace(/\/$/, ''), deps.address) : undefined
  if (found) return send(response, 200, found)
  if (method === 'POST' && path === '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews') {
    // Whoever has the token may do everything.
    send(response, 201, { ...((await readBody(message)) as object), status: { allowed: true } })
    return
  }
  const target = targetOf(path)
  const body = method === 'GET' ? undefined : await readBody(message)
  serve(deps, target, { method, path, query: url.searchParams, headers, body, response })
}

/** kubectl asks for it before it applies a `List`. In its binary form: field 1, the text `2.0`; of no kind it says anything. */
const emptyDescription = Buffer.from([0x0a, 3, ...Buffer.from('2.0')])

function hasToken(header: string | undefined, token: string): boolean {
  const given = Buffer.from(/^Bearer (.+)$/i.exec(header ?? '')?.[1] ?? '')
  const wanted = Buffer.from(token)
  return given.length === wanted.length && timingSafeEqual(given, wanted)
}

function decodePath(path: string): string {
  try {
    return decodeURIComponent(path)
  } catch {
    throw badRequest('the path is not well encoded')
  }
}

const noSuchPath = () => new ApiError(404, 'NotFound', 'the server could not find the requested resource')

function targetOf(path: string): Target {
  const [root, ...steps] = path.split('/').slice(1)
  if (root !== 'api' && root !== 'apis') throw noSuchPath()
  const group = root === 'api' ? '' : (steps.shift() ?? '')
  if (steps.shift() !== 'v1') throw noSuchPath()
  // `namespaces/a` is a namespace itself, `namespaces/a/pods` what is in it.
  const isInside = steps[0] === 'namespaces' && steps.length > 2 && kindAt(group, steps[2]!) !== undefined
  const namespace = isInside ? steps.splice(0, 2)[1]! : ''
  const [plural = '', name, subresource, ...more] = steps
  const kind = kindAt(group, plural)
  if (!kind || more.length) throw noSuchPath()
  if (kind.kind === 'Pod' && /^(exec|attach|portforward|proxy)$/.test(subresource ?? ''))
    throw new ApiError(405, 'MethodNotAllowed', `${notice}, so there is nothing to connect to`)
  // Objects of all namespaces can be listed, one of them only in its own.
  const isPlaced = kind.namespaced ? isInside || !name : !isInside
  if (!isPlaced || (subresource && !Object.hasOwn(kind.subresources, subresource))) throw noSuchPath()
  return { kind, namespace, name, subresource }
}

const tooLarge = () => new ApiError(413, 'RequestEntityTooLarge', `Request entity too large: limit is ${bodyBytesMax}`)
const bodyBytesMax = 3 * 1024 * 1024

async function readBody(message: IncomingMessage): Promise<unknown> {
  if (Number(message.headers['content-length'] ?? 0) > bodyBytesMax) throw tooLarge()
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of message as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > bodyBytesMax) throw tooLarge()
    chunks.push(chunk)
  }
  if (!bytes) return undefined
  const type = mediaType(message.headers['content-type'])
  if (type === 'application/vnd.kubernetes.protobuf') return fromProtobuf(Buffer.concat(chunks))
  if (type && !/json$|^application\/apply-patch\+yaml$/.test(type))
    throw new ApiError(
      415,
      'UnsupportedMediaType',
      `the body of the request was in an unknown format - ${type}; this cluster reads JSON`,
    )
  try {
    return JSON.parse(Buffer.concat(chunks).toString())
  } catch {
    // Without the parser's own words, which quote the text.
    throw badRequest('the object provided is unrecognized: the body is no JSON, which is all this cluster reads')
  }
}

const mediaType = (header = '') => header.split(';')[0]!.trim()

function serve(deps: Deps, target: Target, request: Request): void {
  const { method, query } = request
  const { name, subresource } = target
  if (target.kind.kind === 'Event' && method === 'GET') deps.expireEvents()
  if (!name) {
    if (method === 'GET')
      return isTrue(query.get('watch')) ? startWatch(deps, target, request) : list(deps, target, request)
    if (method === 'POST') return post(deps, target, request)
    if (method === 'DELETE') return deleteAll(deps, target, request)
  } else {
    if (subresource === 'log') return deps.logs(one(deps, target), query, request.response)
    if (subresource === 'scale') return serveScale(deps, target, request)
    // The old form of a watch on one object; clients still send it together with a field selector.
    if (method === 'GET') return respond(request, 200, target.kind, one(deps, target))
    if (method === 'PUT') return put(deps, target, request)
    if (method === 'PATCH') return servePatch(deps, target, request)
    if (method === 'DELETE' && !subresource) return deleteOne(deps, target, request)
  }
  throw new ApiError(405, 'MethodNotAllowed', 'the server does not allow this method on the requested resource')
}

function one({ store }: Deps, { kind, namespace, name = '' }: Target): Obj {
  const object = store.get(kind, namespace, name)
  if (!object) throw notFound(kind, name)
  return object
}

function list({ store }: Deps, { kind, namespace }: Target, { query, headers, response }: Request): void {
  const matches = matcher(kind, query)
  const limit = Number(query.get('limit') ?? 0)
  const after = readContinue(query.get('continue'))
  let found = store.list(kind, namespace)
  if (after) found = found.filter((stored) => keyOf(stored) > after)
  // Keys sort as the list does, since names are compared only within a namespace.
  if (matches) found = found.filter((stored) => matches(treeOf(stored)))
  const page = limit > 0 ? found.slice(0, limit) : found
  const left = found.length - page.length
  const metadata = {
    resourceVersion: String(store.version()),
    ...(left > 0 && { continue: writeContinue(keyOf(page.at(-1)!)), ...(!matches && { remainingItemCount: left }) }),
  }
  const as = wantedForm(headers.accept)
  if (as === 'Table') return send(response, 200, tableOf(kind, page.map(treeOf<Obj>), metadata, includeOf(query)))
  if (as === 'PartialObjectMetadataList' || as === 'PartialObjectMetadata')
    return send(response, 200, { ...partialListKind, metadata, items: page.map((stored) => partialOf(treeOf(stored))) })
  const head = JSON.stringify({ ...listKindOf(kind), metadata }).slice(0, -1)
  sendText(response, 200, `${head},"items":[${page.map(({ body }) => body).join(',')}]}`)
}

const keyOf = ({ namespace, name }: Stored) => `${namespace}/${name}`
const writeContinue = (key: string) => Buffer.from(key).toString('base64url')
const readContinue = (text: string | null) => (text ? Buffer.from(text, 'base64url').toString() : undefined)

function matcher(kind: Kind, query: URLSearchParams): Matches | undefined {
  const byLabel = labelMatcher(query.get('labelSelector') ?? '')
  const byField = fieldMatcher(kind, query.get('fieldSelector') ?? '')
  return byLabel && byField ? (object) => byLabel(object) && byField(object) : (byLabel ?? byField)
}

function startWatch({ store }: Deps, { kind, namespace }: Target, { query, headers, response }: Request): void {
  if (query.has('sendInitialEvents'))
    throw new ApiError(422, 'Invalid', 'sendInitialEvents: Forbidden: this server cannot stream a list')
  const version = query.get('resourceVersion') ?? ''
  if (!/^\d*$/.test(version)) throw badRequest(`invalid resource version: ${version}`)
  const timeout = query.get('timeoutSeconds')
  const as = wantedForm(headers.accept)
  response.setHeader('content-type', 'application/json')
  watch(store, response, {
    kind,
    namespace,
    matches: matcher(kind, query),
    bookmarks: isTrue(query.get('allowWatchBookmarks')),
    ...(Number(version) > 0 && { from: Number(version) }),
    ...(timeout && { timeoutSeconds: Math.min(Number(timeout) || 0, 86400) }),
    ...(as === 'Table' && { present: (object) => tableOf(kind, [object], {}, includeOf(query)) }),
    ...(as.startsWith('Partial') && { present: partialOf }),
  })
}

function post({ store }: Deps, target: Target, request: Request): void {
  const { kind } = target
  // Without one in the path it is that of the object, for kinds of the whole cluster none.
  const given = isTree(request.body) && isTree(request.body.metadata) ? request.body.metadata.namespace : undefined
  const namespace = target.namespace || (kind.namespaced && typeof given === 'string' ? given : '')
  if (kind.namespaced && !namespace) throw badRequest('an object of this kind needs a namespace')
  respond(request, 201, kind, create(store, kind, namespace, request.body, writing(target, request)))
}

function put({ store }: Deps, target: Target, request: Request): void {
  const { kind, namespace, name = '' } = target
  respond(request, 200, kind, replace(store, kind, namespace, name, request.body, writing(target, request)))
}

function servePatch({ store }: Deps, target: Target, request: Request): void {
  const { kind, namespace, name = '' } = target
  const { body, query } = request
  const how = writing(target, request)
  const type = mediaType(request.headers['content-type'])
  if (type === 'application/apply-patch+yaml') {
    if (!query.get('fieldManager'))
      throw badOption('Patch', 'fieldManager', 'FieldValueRequired', 'Required value: is required for apply patch')
    const written = applyPatch(store, kind, namespace, name, body, isTrue(query.get('force')), how)
    return respond(request, written.created ? 201 : 200, kind, written.object)
  }
  respond(request, 200, kind, patch(store, kind, namespace, name, patchType(type), body, how))
}

function patchType(type: string): PatchType {
  if (Object.hasOwn(patchTypes, type)) return type as PatchType
  throw new ApiError(
    415,
    'UnsupportedMediaType',
    `the body of the request was in an unknown format - accepted media types include: ${Object.keys(patchTypes).join(', ')}, ` +
      'application/apply-patch+yaml',
  )
}

/** A replica count may be read and written alone. */
function serveScale(deps: Deps, target: Target, request: Request): void {
  const { kind, namespace, name = '' } = target
  const live = one(deps, target)
  if (request.method === 'GET') return send(request.response, 200, scaleOf(live))
  const scale = scaleOf(live)
  const wanted = request.method === 'PUT' ? request.body : patchedScale(scale, request)
  const { metadata, spec } = isTree(wanted) ? wanted : {}
  const replicas = isTree(spec) ? (spec.replicas ?? 0) : 0
  const { resourceVersion } = (metadata ?? {}) as Tree
  const body = { metadata: resourceVersion ? { resourceVersion } : {}, spec: { replicas } }
  const how = writing(target, request)
  const object = patch(deps.store, kind, namespace, name, 'application/merge-patch+json', body, how)
  send(request.response, 200, scaleOf(object))
}

function patchedScale(scale: object, { headers, body }: Request): unknown {
  const type = mediaType(headers['content-type'])
  if (type === 'application/apply-patch+yaml') return body
  return patchTypes[patchType(type)](scale as Obj, body, scaleKind)
}

const scaleKind = { ...kindOf('Deployment'), kind: 'Scale' }

function deleteOne({ store }: Deps, { kind, namespace, name = '' }: Target, request: Request): void {
  const { object, gone } = remove(store, kind, namespace, name, deleteOptions(request), isDryRun(request))
  if (!gone) return respond(request, 200, kind, object)
  const { group, plural } = kind
  const details = { name, ...(group && { group }), kind: plural, uid: object.metadata.uid }
  send(request.response, 200, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details })
}

function deleteAll({ store }: Deps, { kind, namespace }: Target, request: Request): void {
  const matches = matcher(kind, request.query)
  const found = store.list(kind, namespace).filter((stored) => !matches || matches(treeOf(stored)))
  const items = found.map((stored) => {
    const { object } = remove(store, kind, stored.namespace, stored.name, deleteOptions(request), isDryRun(request))
    return object
  })
  send(request.response, 200, { ...listKindOf(kind), metadata: { resourceVersion: String(store.version()) }, items })
}

function deleteOptions({ body, query }: Request): DeleteOptions {
  const options = (isTree(body) ? body : {}) as DeleteOptions
  const grace = query.get('gracePeriodSeconds')
  return {
    ...options,
    ...(grace !== null && { gracePeriodSeconds: Number(grace) }),
    ...(query.has('propagationPolicy') && { propagationPolicy: query.get('propagationPolicy')! }),
  }
}

/** Of the question's end, not of the object. */
const badOption = (verb: string, field: string, reason: string, message: string) =>
  invalid({ group: 'meta.k8s.io', kind: `${verb}Options` }, '', [{ field, reason, message }])

function isDryRun({ method, query, body }: Request): boolean {
  const values = [...query.getAll('dryRun'), ...((isTree(body) && (body.dryRun as string[])) || [])]
  if (values.some((value) => value !== 'All'))
    throw badOption(
      { POST: 'Create', PUT: 'Update', PATCH: 'Patch' }[method] ?? 'Delete',
      'dryRun',
      'FieldValueNotSupported',
      `Unsupported value: ${JSON.stringify(values)}: supported values: "All"`,
    )
  return values.length > 0
}

function writing({ subresource }: Target, request: Request): Writing {
  const { query, headers, response } = request
  // As the real one names a writer that does not say who it is.
  const manager = query.get('fieldManager') || (headers['user-agent'] ?? 'unknown').split('/')[0]!.slice(0, 128)
  const warnings: string[] = []
  return {
    manager,
    dryRun: isDryRun(request),
    fieldValidation: query.get('fieldValidation') ?? 'Warn',
    ...(subresource && { subresource }),
    warn(text) {
      warnings.push(`299 - ${JSON.stringify(text.replace(/[^ -~]/g, '?'))}`)
      response.setHeader('warning', warnings)
    },
  }
}

const isTrue = (text: string | null) => text === 'true' || text === '1'
const includeOf = (query: URLSearchParams) => query.get('includeObject') ?? 'Metadata'

/** The form that a client's `Accept` asks for first: `Table`, `PartialObjectMetadata`, or '' for the object itself. */
function wantedForm(accept = ''): string {
  for (const range of accept.split(',')) {
    const [type, ...parameters] = range.split(';').map((part) => part.trim())
    if (type !== 'application/json') continue
    const as = parameters.find((parameter) => parameter.startsWith('as='))
    return as ? as.slice(3) : ''
  }
  return ''
}

function respond({ headers, query, response }: Request, code: number, kind: Kind, object: Obj): void {
  const as = wantedForm(headers.accept)
  if (as === 'Table') {
    const { resourceVersion } = object.metadata
    return send(response, code, tableOf(kind, [object], { resourceVersion }, includeOf(query)))
  }
  send(response, code, as === 'PartialObjectMetadata' ? partialOf(object) : object)
}

const send = (response: ServerResponse, code: number, body: object) => sendText(response, code, JSON.stringify(body))

function sendText(response: ServerResponse, code: number, text: string): void {
  response.writeHead(code, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) })
  response.end(text)
}

/** An error of ours is logged without its message, which may quote data. */
function asStatus(error: unknown, log: Logger): [code: number, body: object] {
  if (error instanceof ApiError) return [error.code, statusOf(error)]
  const { name, stack = '' } = error instanceof Error ? error : new Error('not an error')
  const frames = stack.split('\n').filter((line) => /^\s+at /.test(line))
  log.error({ err: { type: name, stack: frames.join('\n') } }, 'the embedded cluster failed to answer')
  return [500, statusOf(new ApiError(500, 'InternalError', 'Internal error occurred: the log says where'))]
}

import { randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { apiBase } from '@1ctl/contract'
import type { ErrorCode } from '@1ctl/contract/errors'
import { limits } from '@1ctl/contract/limits'
import { openapi } from '@1ctl/contract/openapi'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import helmet from 'helmet'
import type { Platform } from '../context.ts'
import { implementation } from '../implementation.ts'
import type { Metrics } from '../observe/metrics.ts'
import { Refusal } from '../refusal.ts'
import { version } from '../version.ts'
import { closeGently } from './closing.ts'
import { type Dashboard, serveDashboard } from './dashboard.ts'
import { errorText, shownPath, toRefusal } from './errors.ts'
import { acceptJson } from './json.ts'
import { mount } from './mount.ts'
import { operate } from './operate.ts'

export type HttpOptions = {
  tls?: { cert: Buffer; key: Buffer } | undefined
  publicUrl?: string | undefined
  trustProxy: boolean
  dashboard: Dashboard | undefined
}

/** The HTTP side of the product, not yet listening: the contract, the dashboard, and what operators ask (health, metrics). */
export async function createHttp(platform: Platform, metrics: Metrics, options: HttpOptions): Promise<FastifyInstance> {
  const connections = {
    maxHeaderSize: limits.headerBytesMax,
    headersTimeout: limits.requestTimeoutMs,
    connectionsCheckingInterval: 1_000,
    // Refused below, in the shape of every other refusal.
    requireHostHeader: false,
  }
  const app = Fastify({
    // One proxy: the last address of x-forwarded-for is the one it saw. Those before it are whatever the client wrote.
    trustProxy: options.trustProxy ? (_address: string, hop: number) => hop === 0 : false,
    genReqId: requestId,
    bodyLimit: limits.bodyBytesMax,
    requestTimeout: limits.requestTimeoutMs,
    keepAliveTimeout: 72_000,
    exposeHeadRoutes: false,
    routerOptions: { maxParamLength: 500 },
    // NUL is in no name, and PostgreSQL's text cannot hold it: what is named with it is not found, like any other wrong name.
    rewriteUrl: ({ url }: { url: string }) => url.replaceAll('%00', '%EF%BF%BD'),
    http: connections,
    ...(options.tls ? { https: { ...connections, ...options.tls } } : {}),
    clientErrorHandler: answerBrokenRequest,
    // A request that arrives while the server closes is answered, not reset: the load balancer may not know yet.
    return503OnClosing: false,
    frameworkErrors: refuse,
  } as object) as unknown as FastifyInstance
  closeGently(app)
  // Nothing to expect from us but 100-continue, which Node answers itself; a server may ignore the rest.
  app.server.on('checkExpectation', (request, response) => app.server.emit('request', request, response))

  const security = securityHeaders(options)
  app.addHook('onRequest', (request, reply, done) => {
    reply.headers(security)
    reply.header('x-request-id', request.id)
    if (request.headers.host === undefined && request.raw.httpVersionMinor > 0)
      throw new Refusal('invalid_request', 'This is not a well-formed HTTP request: it has no Host.')
    done()
  })
  app.addHook('onResponse', (request, reply, done) => {
    observe(platform, metrics, request, reply)
    done()
  })
  app.setErrorHandler(refuse)
  acceptJson(app)
  mount(app, platform, implementation, options.publicUrl)
  const description = JSON.stringify(openapi(version))
  app.get(`${apiBase}/openapi.json`, (_request, reply) => reply.type('application/json').send(description))
  operate(app, platform, metrics)
  const page = options.dashboard && serveDashboard(app, options.dashboard)
  app.setNotFoundHandler((request, reply) => {
    if (
      page &&
      request.method === 'GET' &&
      !request.url.startsWith('/v1/') &&
      request.headers.accept?.includes('text/html')
    )
      return page(reply)
    return refuse(notFound(app, request), request, reply)
  })
  return app

  function refuse(error: unknown, request: FastifyRequest, reply: FastifyReply) {
    const refusal = toRefusal(error, platform.log, request.id)
    // Again, because a URL that cannot be read passes no hook.
    reply.header('x-request-id', request.id).header('cache-control', 'no-store')
    return reply
      .code(refusal.status)
      .headers(refusal.headers)
      .type('application/json')
      .send(errorText(refusal, request.id))
  }
}

/** helmet's headers, made once: they are the same for every answer, and making them each time cost a tenth of a small request. */
function securityHeaders({ tls, publicUrl }: HttpOptions): Record<string, string> {
  const headers: Record<string, string> = { 'cache-control': 'no-store' }
  const collect = {
    setHeader: (name: string, value: string) => (headers[name.toLowerCase()] = value),
    removeHeader: () => undefined,
  }
  const set = helmet({
    contentSecurityPolicy: {
      useDefaults: false,
      directives: {
        defaultSrc: ["'self'"],
        scriptSrc: ["'self'"],
        styleSrc: ["'self'"],
        imgSrc: ["'self'", 'data:'],
        connectSrc: ["'self'"],
        objectSrc: ["'none'"],
        baseUri: ["'none'"],
        formAction: ["'self'"],
        frameAncestors: ["'none'"],
      },
    },
    // This host only: what else runs below its domain is not ours to decide.
    hsts:
      tls !== undefined || publicUrl?.startsWith('https:') ? { maxAge: 31_536_000, includeSubDomains: false } : false,
    referrerPolicy: { policy: 'no-referrer' },
    frameguard: { action: 'deny' },
  })
  set({} as IncomingMessage, collect as unknown as ServerResponse, () => undefined)
  return headers
}

function notFound(app: FastifyInstance, { method, url }: FastifyRequest): Refusal {
  const path = url.split('?', 1)[0] ?? ''
  const allowed = (['GET', 'POST', 'PATCH', 'DELETE'] as const).filter(
    (other) => app.findRoute({ method: other, url: path }) !== null,
  )
  if (allowed.length > 0)
    return new Refusal('method_not_allowed', `${method} is not possible here; ${allowed.join(', ')} is.`, {
      headers: { allow: allowed.join(', ') },
    })
  return new Refusal('endpoint_not_found', `There is nothing at ${method} ${path}.`, {
    hint: `The API is below ${apiBase}; its description is at ${apiBase}/openapi.json.`,
  })
}

/** One line for what changed something or was refused; a successful read is a number in the metrics. */
function observe({ log }: Platform, metrics: Metrics, request: FastifyRequest, reply: FastifyReply) {
  const { config } = request.routeOptions
  const route = 'name' in config ? String(config.name) : 'other'
  metrics.requests.labels(route, request.method, String(reply.statusCode)).observe(reply.elapsedTime / 1000)
  if (request.method === 'GET' && reply.statusCode < 400) return
  log.info(
    {
      requestId: request.id,
      method: request.method,
      path: shownPath(request.url),
      status: reply.statusCode,
      ms: Math.round(reply.elapsedTime),
      address: request.ip,
    },
    'request',
  )
}

// Unlike in every other process, so that an id names one request also where several processes share a database.
const processId = randomBytes(5).toString('hex')
let counter = 0
const requestId = () => `req_${processId}${(++counter).toString(36).padStart(6, '0')}`

/** What Node refuses before there is a request: headers too large, a timeout, no HTTP at all. */
function answerBrokenRequest(error: Error & { code?: string }, socket: Socket) {
  if (socket.destroyed || error.code === 'ECONNRESET') return void socket.destroy()
  // Answered already; this is more of the same.
  if (!socket.writable) return
  const [code, status, message] = brokenRequests[error.code ?? ''] ?? brokenRequest
  const id = requestId()
  const body = errorText(new Refusal(code, message), id)
  socket.end(
    [
      `HTTP/1.1 ${status}`,
      'content-type: application/json; charset=utf-8',
      `content-length: ${Buffer.byteLength(body)}`,
      'cache-control: no-store',
      `x-request-id: ${id}`,
      'connection: close',
      '',
      body,
    ].join('\r\n'),
  )
  // Time to read the answer: ended at once, a client that is still sending would see a reset instead.
  setTimeout(() => socket.destroy(), 1_000).unref()
}

const brokenRequest: [ErrorCode, string, string] = [
  'invalid_request',
  '400 Bad Request',
  'This is not a well-formed HTTP request.',
]
const brokenRequests: Record<string, [ErrorCode, string, string]> = {
  HPE_HEADER_OVERFLOW: [
    'headers_too_large',
    '431 Request Header Fields Too Large',
    'URL and headers are larger than 16 KiB.',
  ],
  ERR_HTTP_REQUEST_TIMEOUT: ['request_timeout', '408 Request Timeout', 'The request did not arrive within 30 seconds.'],
}

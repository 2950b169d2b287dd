import { Readable } from 'node:stream'
import { type ApiContract, apiBase, contract, type Route } from '@1ctl/contract'
import type { Problem } from '@1ctl/contract/errors'
import { decodeId } from '@1ctl/contract/ids'
import { jsonSchema } from '@1ctl/contract/openapi'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import { admit } from '../access.ts'
import { appendEvents } from '../audit/append.ts'
import type { AnswerParts, Api, Caller, Ctx, Platform, RequestFacts } from '../context.ts'
import {
  type CallerRow,
  type CallerWithRows,
  type Credential,
  findCaller,
  hashOf,
  noteUse,
  toCaller,
} from '../identity/callers.ts'
import { organizationNotFound } from '../identity/organizations.ts'
import { invalid, Refusal } from '../refusal.ts'
import { readSessionCookie } from './cookie.ts'
import { shownPath } from './errors.ts'
import { answerOnce } from './idempotency.ts'
import { readBody } from './json.ts'
import { refuseForeignOrigin } from './origin.ts'
import type { Query, View } from './view.ts'

/** One implementation per route of the contract: a function, or a view (one statement for caller and rows). */
export type Implementation = { [K in keyof ApiContract]: Api[K] | View<K> }

/** The path of every request: find the caller, let in, parse, answer. A wrong input is reported only to someone who was let in. */
export function mount(
  app: FastifyInstance,
  platform: Platform,
  implementation: Implementation,
  publicUrl: string | undefined,
) {
  const stopping = new AbortController()
  app.addHook('preClose', (done) => {
    stopping.abort()
    done()
  })
  for (const [name, route] of Object.entries(contract) as [keyof ApiContract, Route][]) {
    const implemented = implementation[name] as unknown as Handler | AnyView
    app.route({
      method: route.method,
      url: apiBase + route.path.replaceAll(/\{(\w+)\}/g, ':$1'),
      // Only for the answer: what the contract does not list does not leave the server.
      ...(route.stream ? {} : { schema: { response: { '2xx': jsonSchema(route.output, 'output') } } }),
      config: { name },
      handler: (request, reply) =>
        serve(platform, { name, route, implemented, publicUrl, stopping: stopping.signal }, request, reply),
    })
  }
}

type Handler = (ctx: Ctx, input: unknown) => Promise<object>
type AnyView = View<keyof ApiContract>
type Mounted = {
  name: string
  route: Route
  implemented: Handler | AnyView
  publicUrl: string | undefined
  stopping: AbortSignal
}

async function serve(platform: Platform, mounted: Mounted, request: FastifyRequest, reply: FastifyReply) {
  const { route, implemented } = mounted
  const facts = factsOf(request, mounted, reply)
  const answer: AnswerParts = {}
  let caller: Caller | null = null
  try {
    // A view's statement takes the input and finds the caller, so here alone the input comes first.
    const early = typeof implemented === 'object' ? parse(mounted, request) : undefined
    let rows: unknown[] = []
    if (route.access !== 'public') {
      const credential = credentialOf(request, facts, mounted)
      if (credential) {
        const found = early?.query
          ? await findWithRows(platform, early.query, credential)
          : { caller: await findCaller(platform.db, credential), rows: [] }
        caller = await settle(platform, credential, found?.caller, facts, request)
        rows = found?.rows ?? []
      }
    }
    const ctx = admit(platform, route, caller, { request: facts, answer })
    if (route.stream) facts.stillCounts = () => stillCounts(platform, route, credentialOf(request, facts, mounted))
    // Refuses while sealed.
    if (route.needsKeys) platform.keys.master()
    if (caller?.token?.expiresAt) reply.header('x-satusky-token-expires-at', caller.token.expiresAt)
    const input = early ?? parse(mounted, request)
    if (!input.ok) throw input.refusal
    const output =
      typeof implemented === 'object'
        ? implemented.present(rows as never[], input.value as never, caller as Caller)
        : await answerOnce(platform.db, caller, facts, answer, () => implemented(ctx, input.value))
    reply.code(answer.status ?? route.status ?? 200)
    if (answer.etag) reply.header('etag', answer.etag)
    if (answer.cookie) reply.header('set-cookie', answer.cookie)
    if (!route.stream) return output
    // `x-accel-buffering` tells proxies not to keep it back.
    reply.type(`${route.stream}; charset=utf-8`).header('x-accel-buffering', 'no')
    const sent = reply.send(Readable.from(output as AsyncIterable<string>))
    // At once, since the first bit may take a while.
    reply.raw.flushHeaders()
    return await sent
  } catch (error) {
    if (error instanceof Refusal && isAudited(error)) await auditRefusal(platform, caller, facts, request, error)
    throw error
  }
}

function factsOf(
  request: FastifyRequest,
  { name, route, publicUrl, stopping }: Mounted,
  reply: FastifyReply,
): RequestFacts {
  const key = route.method === 'POST' ? request.headers['idempotency-key'] : undefined
  return {
    id: request.id,
    route: name,
    address: request.ip,
    agent: request.headers['user-agent']?.slice(0, 300) ?? '',
    secure: publicUrl?.startsWith('https:') || request.protocol === 'https',
    idempotency:
      typeof key === 'string' && key !== ''
        ? { key, of: `${name} ${hashOf(request.url).toString('base64url')}` }
        : undefined,
    ifMatch: request.headers['if-match'],
    ended: route.stream ? AbortSignal.any([stopping, closeOf(reply)]) : undefined,
  }
}

function closeOf({ raw }: FastifyReply): AbortSignal {
  const gone = new AbortController()
  raw.once('close', () => gone.abort())
  return gone.signal
}

/** The input, or why it is none; for a view also what it asks of the database. */
type Parsed =
  | { ok: true; value: Record<string, unknown>; query: Query | undefined }
  | { ok: false; refusal: unknown; query?: undefined }

function parse({ route, implemented }: Mounted, request: FastifyRequest): Parsed {
  try {
    const value = {
      ...(request.params as Record<string, string>),
      ...part(route.query ?? nothing, request.query, 'invalid_query'),
      ...part(route.body ?? nothing, readBody(request.body) ?? (route.body ? undefined : {}), 'invalid_body'),
    }
    return { ok: true, value, query: typeof implemented === 'object' ? implemented.query(value as never) : undefined }
  } catch (refusal) {
    return { ok: false, refusal }
  }
}

const nothing = z.strictObject({})

function part(schema: z.ZodObject, given: unknown, code: 'invalid_body' | 'invalid_query'): Record<string, unknown> {
  const result = schema.safeParse(given)
  if (!result.success) throw invalid(code, result.error.issues.flatMap(problemsOf))
  return result.data
}

function problemsOf(issue: z.core.$ZodIssue): Problem[] {
  const path = issue.path.map(String)
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map((key) => ({ path: [...path, key].join('.'), message: 'is not known here' }))
  return [{ path: path.join('.'), message: inWords(issue) }]
}

/** The contract's own sentences where it has them, and ours instead of zod's where not. */
function inWords(issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_type' && issue.message.startsWith('Invalid input')) {
    if (!issue.message.endsWith('received undefined')) return `must be ${kinds[issue.expected] ?? issue.expected}`
    return issue.path.length > 0 ? 'is needed' : 'a JSON object is needed'
  }
  if (issue.code === 'too_small' && issue.message.startsWith('Too small'))
    return `must be at least ${issue.minimum}${unitOf(issue)}`
  if (issue.code === 'too_big' && issue.message.startsWith('Too big'))
    return `must be at most ${issue.maximum}${unitOf(issue)}`
  if (issue.code === 'invalid_value' && issue.message.startsWith('Invalid'))
    return `must be one of ${issue.values.join(', ')}`
  if (issue.code === 'invalid_format' && issue.format === 'datetime') return 'must be a time: 2026-07-26T10:00:00Z'
  return issue.message
}
const unitOf = ({ origin }: { origin: string }) =>
  origin === 'string' ? ' characters long' : origin === 'array' ? ' items long' : ''
const kinds: Record<string, string> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  object: 'an object',
  array: 'a list',
}

function credentialOf(
  request: FastifyRequest,
  facts: RequestFacts,
  { route, publicUrl }: Mounted,
): Credential | undefined {
  const organization = organizationIn(request)
  const inOrganization = organization === undefined ? null : (decodeId('organization', organization) ?? organization)
  const token = tokenOf(request)
  if (token !== undefined) return { kind: 'token', hash: hashOf(token), inOrganization }
  const session = readSessionCookie(request.headers.cookie, facts.secure)
  if (session === undefined) return undefined
  if (route.method !== 'GET') refuseForeignOrigin(request, publicUrl)
  return { kind: 'session', hash: hashOf(session), inOrganization }
}

const organizationIn = (request: FastifyRequest) => (request.params as Record<string, string>)['organization']

export function tokenOf({ headers }: FastifyRequest): string | undefined {
  const key = headers['x-satusky-api-key']
  if (typeof key === 'string' && key !== '') return key
  return /^bearer +(\S+)$/i.exec(headers.authorization ?? '')?.[1]
}

async function stillCounts(platform: Platform, route: Route, credential: Credential | undefined): Promise<boolean> {
  if (!credential) return false
  try {
    const caller = toCaller(credential.kind, await findCaller(platform.db, credential))
    admit(platform, route, caller, {} as never)
    if (route.needsKeys) platform.keys.master()
    return true
  } catch (error) {
    if (error instanceof Refusal) return false
    throw error
  }
}

async function findWithRows({ db }: Platform, { statements, values }: Query, { kind, hash }: Credential) {
  const { name, text } = statements[kind]
  const found = await db.query<CallerWithRows>({ name, text, values: [hash, ...values] })
  return found.rows[0]
}

/** The caller behind what was found, or the refusal; a token that does not count is counted against its address. */
export async function settle(
  platform: Platform,
  credential: Credential,
  found: CallerRow | undefined,
  facts: RequestFacts,
  request: FastifyRequest,
) {
  const { kind, inOrganization } = credential
  try {
    const caller = toCaller(kind, found)
    if (
      inOrganization !== null &&
      caller.organization?.id !== inOrganization &&
      caller.organization?.name !== inOrganization
    )
      throw organizationNotFound(organizationIn(request) ?? inOrganization)
    if (found?.stale)
      noteUse(platform.db, kind, found.id, facts.address).catch((error: unknown) =>
        platform.log.warn(error, 'last use not noted'),
      )
    return caller
  } catch (error) {
    if (kind === 'token' && error instanceof Refusal && error.status !== 404)
      await platform.attempts.count('token', facts.address)
    throw error
  }
}

/** "No" to who is calling, and "no" to what they want, but not "you made a typing mistake". */
const isAudited = ({ status, code }: Refusal) => [401, 403, 409, 429].includes(status) || code === 'invalid_invitation'

async function auditRefusal(
  platform: Platform,
  caller: Caller | null,
  facts: RequestFacts,
  request: FastifyRequest,
  refusal: Refusal,
) {
  if (!caller && (await isFlood(platform, facts.address))) return
  const { code, audit } = refusal
  await appendEvents(
    platform.db,
    { caller, request: facts },
    { outcome: 'refused', code, detail: { path: shownPath(request.url) }, ...audit },
  )
}

/** Whoever knocks without a credential that counts cannot fill the audit, nor make everyone wait for the end of its chain. */
async function isFlood({ attempts }: Platform, address: string): Promise<boolean> {
  try {
    await attempts.count('stranger', address)
    return false
  } catch (error) {
    if (error instanceof Refusal) return true
    throw error
  }
}

import type { FastifyInstance, FastifyRequest } from 'fastify'
import { admit } from '../access.ts'
import type { Platform } from '../context.ts'
import { findCaller, hashOf } from '../identity/callers.ts'
import type { Metrics } from '../observe/metrics.ts'
import { Refusal } from '../refusal.ts'
import { version } from '../version.ts'
import { settle, tokenOf } from './mount.ts'

/** What operators and their tools ask: is it alive, can it work, how does it do. */
export function operate(app: FastifyInstance, platform: Platform, metrics: Metrics): void {
  app.get('/healthz', { config: { name: 'healthz' } }, () => ({ status: 'ok', version }))

  app.get('/readyz', { config: { name: 'readyz' } }, async () => {
    await platform.db.query('select 1')
    // Refuses while sealed.
    platform.keys.master()
    return { status: 'ready', version }
  })

  app.get('/metrics', { config: { name: 'metrics' } }, async (request, reply) => {
    // What was forwarded came from elsewhere, whoever forwarded it.
    const isLocal = isLoopback(request.ip) && request.headers['x-forwarded-for'] === undefined
    if (!isLocal) await requireOperator(platform, request)
    return reply.type(metrics.registry.contentType).send(await metrics.registry.metrics())
  })
}

const isLoopback = (address: string) => /^(?:127\.|::1$|::ffff:127\.)/.test(address)

async function requireOperator(platform: Platform, request: FastifyRequest): Promise<void> {
  const token = tokenOf(request)
  if (token === undefined)
    throw new Refusal('missing_token', "Metrics need an operator's token, except from the machine itself.")
  const credential = { kind: 'token' as const, hash: hashOf(token), inOrganization: null }
  const facts = {
    id: request.id,
    route: 'metricsView',
    address: request.ip,
    agent: '',
    secure: false,
    idempotency: undefined,
    ifMatch: undefined,
    ended: undefined,
  }
  const caller = await settle(platform, credential, await findCaller(platform.db, credential), facts, request)
  admit(platform, { access: 'operator' }, caller, { request: facts, answer: {} })
}

import { z } from 'zod'
import { route } from './dsl.ts'
import { id, moment, page, pageQuery, time } from './schemas.ts'

const event = z.object({
  id: id('event'),
  seq: z.int().meta({ description: 'the place in the chain' }),
  at: time,
  actor: z.object({
    type: z.enum(['user', 'token', 'system', 'anonymous']),
    id: z.string().nullable(),
    name: z.string().meta({ description: "an address, or a token's name" }),
    user: z.string().nullable().meta({ description: 'for a token: the address of its creator' }),
  }),
  address: z.string().nullable(),
  action: z.string().meta({ description: 'noun.verb, such as token.create' }),
  object: z.object({ type: z.string(), id: z.string().nullable(), name: z.string().nullable() }).nullable(),
  outcome: z.enum(['done', 'refused']),
  code: z.string().nullable().meta({ description: 'why it was refused' }),
  detail: z.record(z.string(), z.unknown()),
  requestId: z.string().nullable(),
})

const auditQuery = z.strictObject({
  ...pageQuery,
  actor: z.string().min(1).max(254).optional().meta({ description: "an address, a token's name or an id" }),
  action: z.string().min(1).max(100).optional().meta({ description: 'token.create, or token.* for all of tokens' }),
  object: z.string().min(1).max(254).optional().meta({ description: 'a name or an id' }),
  since: moment.optional(),
  until: moment.optional(),
})

const verdict = z.discriminatedUnion('ok', [
  z.object({
    ok: z.literal(true),
    rows: z.int(),
    through: z.int().meta({ description: 'the last place in the chain' }),
  }),
  z.object({ ok: z.literal(false), brokenAt: z.int().meta({ description: 'the first place that does not fit' }) }),
])

export const audit = {
  auditList: route({
    method: 'GET',
    path: '/audit',
    summary: 'What was done and what was refused, newest first',
    access: 'read',
    query: auditQuery,
    output: page(event),
  }),
  auditVerify: route({
    method: 'GET',
    path: '/audit/verify',
    summary: 'Prove that no row of the audit was removed or changed',
    access: 'read',
    output: verdict,
  }),
  adminAuditList: route({
    method: 'GET',
    path: '/admin/audit',
    summary: "The installation's own audit: what belongs to no organization",
    access: 'operator',
    query: auditQuery,
    output: page(event),
  }),
  adminAuditVerify: route({
    method: 'GET',
    path: '/admin/audit/verify',
    summary: "Prove the installation's own audit",
    access: 'operator',
    output: verdict,
  }),
}

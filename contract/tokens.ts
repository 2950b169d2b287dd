import { z } from 'zod'
import { route } from './dsl.ts'
import { limits } from './limits.ts'
import { scopes } from './permissions.ts'
import { id, name, page, pageQuery, scope, time } from './schemas.ts'

export const token = z.object({
  id: id('token'),
  name: z.string(),
  prefix: z.string().meta({ description: 'the first characters, such as sat_prod_Ab12' }),
  last4: z.string(),
  status: z.enum(['active', 'disabled', 'expired']),
  scopes: z.array(scope).nullable().meta({ description: 'null: all that its creator may do' }),
  vpcs: z.array(z.string()).nullable().meta({ description: 'null: all' }),
  apps: z.array(z.string()).nullable().meta({ description: 'null: all' }),
  createdAt: time,
  createdBy: z.string(),
  expiresAt: time.nullable(),
  lastUsedAt: time.nullable(),
  lastUsedAddress: z.string().nullable(),
})

// Optional in the type because a repeated request (idempotency-key) answers without it.
const tokenWithValue = token.extend({
  token: z.string().optional().meta({ description: 'the token itself: shown in this one answer and never again' }),
})

export const tokens = {
  tokenList: route({
    method: 'GET',
    path: '/tokens',
    summary: 'API tokens of the organization',
    access: 'read',
    query: z.strictObject(pageQuery),
    output: page(token),
  }),
  tokenCreate: route({
    method: 'POST',
    path: '/tokens',
    summary: 'Create an API token; its value is in this answer only',
    access: 'tokens:admin',
    body: z.strictObject({
      name: name('token'),
      expiresInDays: z.int().min(1).max(limits.tokenExpiresDaysMax).optional(),
      scopes: z
        .array(scope)
        .min(1)
        .max(scopes.length)
        .transform((given) => scopes.filter((scope) => given.includes(scope)))
        .optional()
        .meta({ description: 'absent: all that the creator may do' }),
      vpcs: z.array(name('vpc')).min(1).max(limits.tokenLimitsMax).optional(),
      apps: z.array(name('app')).min(1).max(limits.tokenLimitsMax).optional(),
      tag: name('tokenTag').optional().meta({ description: 'shown inside the token: sat_prod_…' }),
    }),
    output: tokenWithValue,
    status: 201,
    errors: ['vpc_not_found'],
  }),
  tokenView: route({
    method: 'GET',
    path: '/tokens/{id}',
    summary: 'One API token, without its value',
    access: 'read',
    output: token,
    errors: ['token_not_found'],
  }),
  tokenPatch: route({
    method: 'PATCH',
    path: '/tokens/{id}',
    summary: 'Enable, disable or rename; effective on the next request',
    access: 'tokens:admin',
    body: z.strictObject({ enabled: z.boolean().optional(), name: name('token').optional() }),
    output: token,
    errors: ['token_not_found'],
  }),
  tokenDelete: route({
    method: 'DELETE',
    path: '/tokens/{id}',
    summary: 'Delete for good; effective on the next request',
    access: 'tokens:admin',
    output: z.object({}),
    errors: ['token_not_found'],
  }),
  tokenRotate: route({
    method: 'POST',
    path: '/tokens/{id}/rotate',
    summary: 'A successor with the same name, scopes, limits and lifetime; the old one ends after the grace',
    access: 'tokens:admin',
    body: z.strictObject({ graceHours: z.number().min(0).max(limits.tokenGraceHoursMax).default(24) }),
    output: tokenWithValue.extend({ replaces: id('token'), replacedEndsAt: time }),
    status: 201,
    errors: ['token_not_found'],
  }),
}

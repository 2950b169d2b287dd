import { z } from 'zod'
import { route } from './dsl.ts'
import { flag, id, page, pageQuery, time } from './schemas.ts'

const session = z.object({
  id: id('session'),
  createdAt: time,
  lastSeenAt: time,
  expiresAt: time,
  address: z.string(),
  agent: z.string(),
  current: z.boolean(),
})

export const sessions = {
  sessionList: route({
    method: 'GET',
    path: '/sessions',
    summary: 'Browser sessions of the caller (of its creator, for a token)',
    access: 'read',
    query: z.strictObject(pageQuery),
    output: page(session),
  }),
  sessionRevokeAll: route({
    method: 'DELETE',
    path: '/sessions',
    summary: 'End all browser sessions of the caller, on their next request',
    access: 'account',
    query: z.strictObject({ keepCurrent: flag.default(false) }),
    output: z.object({ revoked: z.int() }),
  }),
  sessionRevoke: route({
    method: 'DELETE',
    path: '/sessions/{id}',
    summary: 'End one browser session',
    access: 'account',
    output: z.object({}),
    errors: ['session_not_found'],
  }),
}

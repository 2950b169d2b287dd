import { encodeId } from '@1ctl/contract/ids'
import { sessionFor } from '../access.ts'
import { change } from '../change.ts'
import type { Api } from '../context.ts'
import { cleared } from '../http/cookie.ts'
import { pageValues, toPage, view } from '../http/view.ts'
import { Refusal } from '../refusal.ts'
import { execute, rfc3339, statement } from '../store/database.ts'
import { sessionEnded } from './callers.ts'

type SessionRow = {
  id: string
  created_at: string
  last_seen_at: string
  expires_at: string
  address: string
  agent: string
}

export const sessionList = view('sessionList', {
  sql: `select id, created_at, last_seen_at, expires_at, address, agent from sessions
        where user_id = caller.user_id and not ${sessionEnded} and ($2::uuid is null or sessions.id < $2)
        order by sessions.id desc limit $3`,
  values: (input) => pageValues('session', input),
  present: (rows: SessionRow[], input, caller) =>
    toPage('session', rows, input, (row) => ({
      id: encodeId('session', row.id),
      createdAt: rfc3339(row.created_at),
      lastSeenAt: rfc3339(row.last_seen_at),
      expiresAt: rfc3339(row.expires_at),
      address: row.address,
      agent: row.agent,
      current: row.id === caller.session?.id,
    })),
})

export const endSession = statement('sessions.end', 'delete from sessions where id = $1')
export const sessionRevoke: Api['sessionRevoke'] = async (ctx, { id: ref }) => {
  const session = await sessionFor(ctx, ref)
  await change(ctx, async (tx) => {
    if ((await execute(tx, endSession, [session.id])) === 0)
      throw new Refusal('session_not_found', 'This browser session ended meanwhile.')
    return { result: undefined, audit: { object: { type: 'session', id: session.id } } }
  })
  if (session.id === ctx.caller.session?.id) ctx.answer.cookie = cleared(ctx.request.secure)
  return {}
}

const revokeAll = statement(
  'sessions.revokeAll',
  'delete from sessions where user_id = $1 and ($2::uuid is null or id <> $2)',
)
export const sessionRevokeAll: Api['sessionRevokeAll'] = async (ctx, { keepCurrent }) => {
  const { userId, email, session } = ctx.caller
  const kept = keepCurrent ? (session?.id ?? null) : null
  const revoked = await change(ctx, async (tx) => {
    const result = await execute(tx, revokeAll, [userId, kept])
    return { result, audit: { object: { type: 'user', id: userId, name: email }, detail: { revoked: result } } }
  })
  if (session && !kept) ctx.answer.cookie = cleared(ctx.request.secure)
  return { revoked }
}

import type { Input, Output } from '@1ctl/contract'
import type { audit } from '@1ctl/contract/audit'
import { decodeId, encodeId, type Noun } from '@1ctl/contract/ids'
import type { Api, Ctx } from '../context.ts'
import { invalidCursor } from '../http/view.ts'
import { inTurn } from '../in-turn.ts'
import { rfc3339, row, rows, statement, transaction } from '../store/database.ts'
import { type Actor, installationChain } from './append.ts'

type Query = Input<typeof audit.auditList>
type Page = Output<typeof audit.auditList>
type Verdict = Output<typeof audit.auditVerify>

export const auditList: Api['auditList'] = (ctx, query) => list(ctx, ctx.caller.organization.id, query)
export const auditVerify: Api['auditVerify'] = (ctx) => verify(ctx, ctx.caller.organization.id)
export const adminAuditList: Api['adminAuditList'] = (ctx, query) => list(ctx, installationChain, query)
export const adminAuditVerify: Api['adminAuditVerify'] = (ctx) => verify(ctx, installationChain)

type EventRow = {
  id: string
  seq: number
  at: string
  actor_type: Actor['type']
  actor_id: string | null
  actor_name: string
  actor_user: string | null
  address: string | null
  action: string
  object_type: Noun | null
  object_id: string | null
  object_name: string | null
  outcome: 'done' | 'refused'
  code: string | null
  detail: Record<string, unknown>
  request_id: string | null
}

const events = statement<EventRow>(
  'audit.list',
  `select id, seq, at, actor_type, actor_id, actor_name, actor_user, address, action, object_type, object_id, object_name, outcome,
     code, detail, request_id
   from audit_events
   where chain = $1 and ($2::bigint is null or seq < $2)
     and ($3::text is null or $3 in (actor_name, actor_user, address) or actor_id = $4)
     and ($5::text is null or action like $5)
     and ($6::text is null or object_name = $6 or object_id = $7)
     and ($8::timestamptz is null or at >= $8) and ($9::timestamptz is null or at < $9)
   order by seq desc limit $10`,
)
async function list(ctx: Pick<Ctx, 'db'>, chain: string, query: Query): Promise<Page> {
  const { cursor, limit, actor, action, object, since, until } = query
  if (cursor !== undefined && !/^\d{1,15}$/.test(cursor)) throw invalidCursor()
  const found = await rows(ctx.db, events, [
    chain,
    cursor ?? null,
    actor ?? null,
    (actor && decodeId(undefined, actor)) ?? null,
    action === undefined ? null : likePattern(action),
    object ?? null,
    (object && decodeId(undefined, object)) ?? null,
    since ?? null,
    until ?? null,
    limit + 1,
  ])
  const shown = found.slice(0, limit)
  return { items: shown.map(present), nextCursor: found.length > limit ? String(shown.at(-1)?.seq) : null }
}

/** `token.*` means all of tokens; every other character stands for itself. */
const likePattern = (action: string) => action.replace(/[\\%_]/g, '\\$&').replaceAll('*', '%')

const present = (row: EventRow): Page['items'][number] => ({
  id: encodeId('event', row.id),
  seq: row.seq,
  at: rfc3339(row.at),
  actor: {
    type: row.actor_type,
    id: row.actor_id && encodeId(row.actor_type === 'token' ? 'token' : 'user', row.actor_id),
    name: row.actor_name,
    user: row.actor_user,
  },
  address: row.address,
  action: row.action,
  object: row.object_type && {
    type: row.object_type,
    id: row.object_id && encodeId(row.object_type, row.object_id),
    name: row.object_name,
  },
  outcome: row.outcome,
  code: row.code,
  detail: row.detail,
  requestId: row.request_id,
})

const verifyTimeoutMs = 300_000

// One statement, so that rows and head are of one moment. Each row must continue the one before it (the first, what retention left
// behind), and the last one must be what the head says.
const check = statement<{ rows: number; through: number; last: number; misfit: number | null; isHead: boolean }>(
  'audit.verify',
  `with kept as (
     select e.seq, e.hash, lag(e.seq, 1, h.first_seq) over chain + 1 as expected_seq,
       audit_hash(lag(e.hash, 1, h.first_hash) over chain, e) as expected_hash
     from audit_heads h join audit_events e on e.chain = h.chain where h.chain = $1
     window chain as (order by e.seq, e.at))
   select count(k.seq) as rows, h.seq as through, coalesce(max(k.seq), h.first_seq) as last,
     min(least(k.seq, k.expected_seq)) filter (where k.seq <> k.expected_seq or k.hash <> k.expected_hash) as misfit,
     h.hash = coalesce((select hash from audit_events where chain = $1 order by seq desc limit 1), h.first_hash) as "isHead"
   from audit_heads h left join kept k on true where h.chain = $1 group by h.chain`,
  verifyTimeoutMs,
)
// 150,000 rows take about a second, and a chain of years more than the 20 seconds of other requests: so there is more time, and one
// verification at a time, lest they take all connections.
const oneAtATime = inTurn()
async function verify(ctx: Pick<Ctx, 'db'>, chain: string): Promise<Verdict> {
  const found = await oneAtATime(() =>
    transaction(ctx.db, async (tx) => {
      const [, whole] = await Promise.all([
        tx.query(`set local statement_timeout = ${verifyTimeoutMs}`),
        row(tx, check, [chain]),
      ])
      return whole
    }),
  )
  if (!found) return { ok: false, brokenAt: 0 } // not even a head
  const { rows, through, last, misfit, isHead } = found
  if (misfit !== null) return { ok: false, brokenAt: misfit }
  if (last !== through) return { ok: false, brokenAt: Math.min(last, through) + 1 }
  return isHead ? { ok: true, rows, through } : { ok: false, brokenAt: through }
}

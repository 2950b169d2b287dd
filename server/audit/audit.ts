import type { Input, Output } from '@1ctl/contract'
import type { audit } from '@1ctl/contract/audit'
import { decodeId, encodeId, type Noun } from '@1ctl/contract/ids'
import type { Api, Ctx } from '../context.ts'
import { invalidCursor } from '../http/view.ts'
import { rfc3339, row, rows, statement } from '../store/database.ts'
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

// One statement, so that rows and head are of one moment. A chain is whole when each row continues the one before (the first, what
// retention left behind) and the last one is the head.
const check = statement<{ rows: number; through: number; broken_at: number | null }>(
  'audit.verify',
  `with head as (select * from audit_heads where chain = $1),
   linked as (
     select e.seq, e.hash, lag(e.seq, 1, head.first_seq) over (order by e.seq) + 1 = e.seq
       and e.hash = audit_hash(lag(e.hash, 1, head.first_hash) over (order by e.seq), e.chain, e.seq, e.at, e.id, e.actor_type,
         e.actor_id, e.actor_name, e.actor_user, e.address, e.action, e.object_type, e.object_id, e.object_name, e.outcome, e.code,
         e.detail, e.request_id) as fits
     from audit_events e join head on head.chain = e.chain)
   select count(linked.seq) as rows, head.seq as through,
     coalesce(min(linked.seq) filter (where not fits),
       case when head.seq <> coalesce(max(linked.seq), head.first_seq)
              or head.hash <> coalesce((array_agg(linked.hash order by linked.seq desc))[1], head.first_hash)
            then least(head.seq, coalesce(max(linked.seq), head.first_seq)) + case when head.seq > coalesce(max(linked.seq), head.first_seq) then 1 else 0 end
       end) as broken_at
   from head left join linked on true
   group by head.seq, head.hash, head.first_seq, head.first_hash`,
)
async function verify(ctx: Pick<Ctx, 'db'>, chain: string): Promise<Verdict> {
  const found = await row(ctx.db, check, [chain])
  if (!found) throw new Error('the audit chain of this organization is missing')
  const { rows, through, broken_at } = found
  return broken_at === null ? { ok: true, rows, through } : { ok: false, brokenAt: broken_at }
}

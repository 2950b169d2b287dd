import type { Noun } from '@1ctl/contract/ids'
import type { Caller, RequestFacts } from '../context.ts'
import { type Database, execute, statement, type Tx } from '../store/database.ts'
import { uuidv7 } from '../store/uuid.ts'

/** The chain of what belongs to no organization. */
export const installationChain = '00000000-0000-0000-0000-000000000000'

export type AuditObject = { type: Noun; id?: string | null; name?: string | null }

export type AuditEntry = {
  /** noun.verb; that of the route unless said otherwise */
  action?: string
  object?: AuditObject
  /** names and numbers, never values */
  detail?: Record<string, unknown>
  outcome?: 'done' | 'refused'
  code?: string
  /** the caller's organization unless said otherwise */
  chain?: string
  /** the caller unless said otherwise */
  actor?: Actor
}

export type Actor = { type: 'user' | 'token' | 'system' | 'anonymous'; id: string | null; name: string; user?: string }

// The hash is computed from the head's row as it is once its lock is held: `update` re-reads it, so the chain has no fork however
// many processes write. `greatest` keeps times in the order of the chain, so that a month is one stretch of it. The left join makes
// a missing head an error of the statement (seq is null), which takes the whole transaction back.
const columns = `$2::uuid, $3::text, $4::uuid, $5::text, $6::text, $7::text, $8::text, $9::text, $10::uuid, $11::text,
  $12::text, $13::text, $14::jsonb, $15::text`
const append = statement(
  'audit.append',
  `with head as (
     update audit_heads set seq = seq + 1, at = greatest(at, now()),
       hash = audit_hash(hash, row(chain, seq + 1, greatest(at, now()), ${columns}, null)::audit_events)
     where chain = $1 returning seq, at, hash)
   insert into audit_events (chain, seq, at, id, actor_type, actor_id, actor_name, actor_user, address, action, object_type,
     object_id, object_name, outcome, code, detail, request_id, hash)
   select $1::uuid, head.seq, head.at, ${columns}, head.hash from (select) one left join head on true`,
)

/** Sends its statements at once: in a transaction they travel together with the commit. */
export async function appendEvents(
  db: Tx | Database,
  ctx: { caller: Caller | null; request: RequestFacts | null },
  entries: AuditEntry | AuditEntry[],
) {
  await Promise.all([entries].flat().map((entry) => appendEvent(db, ctx.caller, ctx.request, entry)))
}

async function appendEvent(db: Tx | Database, caller: Caller | null, request: RequestFacts | null, entry: AuditEntry) {
  const actor = entry.actor ?? actorOf(caller)
  await execute(db, append, [
    chainOf(caller, entry),
    uuidv7(),
    actor.type,
    actor.id,
    actor.name,
    actor.user ?? null,
    request?.address ?? null,
    entry.action ?? actionOf(request?.route ?? ''),
    entry.object?.type ?? null,
    entry.object?.id ?? null,
    entry.object?.name ?? null,
    entry.outcome ?? 'done',
    entry.code ?? null,
    JSON.stringify(entry.detail ?? {}),
    request?.id ?? null,
  ])
}

export const chainOf = (caller: Caller | null, entry: AuditEntry) =>
  entry.chain ?? caller?.organization?.id ?? installationChain

/** `tokenCreate` -> `token.create`: endpoint, audit and test share one name. */
export const actionOf = (route: string) => route.replace(/[A-Z]/, (letter) => `.${letter.toLowerCase()}`)

export function actorOf(caller: Caller | null): Actor {
  if (!caller) return { type: 'anonymous', id: null, name: 'anonymous' }
  if (caller.token) return { type: 'token', id: caller.token.id, name: caller.token.name, user: caller.email }
  return { type: 'user', id: caller.userId, name: caller.email }
}

export const system: Actor = { type: 'system', id: null, name: '1ctl' }

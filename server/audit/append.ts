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

/**
 * A row at the end of a chain, for each row of `done`: the last part of a `with` that ends with it, its parameters from `$first` on.
 *
 * The hash is computed from the head's row as it is once its lock is held: `update` re-reads it, so the chain has no fork however many
 * processes write. `greatest` keeps times in the order of the chain, so that a month is one stretch of it. The left join makes a missing
 * head an error of the statement (seq is null), which takes the whole transaction back.
 */
export function appendSql(done: string, first: number): string {
  const types = ['uuid', 'uuid', 'text', 'uuid', 'text', 'text', 'text', 'text', 'text', 'uuid']
  const parameters = [...types, 'text', 'text', 'text', 'jsonb', 'text'].map((type, at) => `$${first + at}::${type}`)
  const [chain, ...columns] = parameters
  return `head as (
     update audit_heads set seq = seq + 1, at = greatest(at, now()),
       hash = audit_hash(hash, row(chain, seq + 1, greatest(at, now()), ${columns.join()}, null)::audit_events)
     where chain = ${chain} and exists (select from ${done}) returning seq, at, hash)
   insert into audit_events (chain, seq, at, id, actor_type, actor_id, actor_name, actor_user, address, action, object_type,
     object_id, object_name, outcome, code, detail, request_id, hash)
   select ${chain}, head.seq, head.at, ${columns.join()}, head.hash from ${done} left join head on true`
}
const append = statement('audit.append', `with one as (select), ${appendSql('one', 1)}`)

/** Sends its statements at once: in a transaction they travel together with the commit. */
export async function appendEvents(
  db: Tx | Database,
  ctx: { caller: Caller | null; request: RequestFacts | null },
  entries: AuditEntry | AuditEntry[],
) {
  await Promise.all([entries].flat().map((entry) => appendEvent(db, ctx.caller, ctx.request, entry)))
}

const appendEvent = (db: Tx | Database, caller: Caller | null, request: RequestFacts | null, entry: AuditEntry) =>
  execute(db, append, appendValues(caller, request, entry))

/** The parameters of `appendSql`. */
export function appendValues(caller: Caller | null, request: RequestFacts | null, entry: AuditEntry): unknown[] {
  const actor = entry.actor ?? actorOf(caller)
  return [
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
  ]
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

import { limits } from '@1ctl/contract/limits'
import type { Caller } from '../context.ts'
import { Refusal } from '../refusal.ts'
import { type Database, execute, row, statement, type Tx } from '../store/database.ts'

/**
 * Repeated POSTs: the same caller with the same `idempotency-key` within a day is answered as the first time and nothing is done.
 * The key is claimed inside the change's own transaction, so of two at once the second waits for the first.
 */
export class Replay extends Error {
  override name = 'Replay'
}

const age = `interval '${limits.idempotencyHours} hours'`

const find = statement<{ route: string; answer: unknown }>(
  'idempotency.find',
  `select route, answer from idempotency_keys where caller = $1 and key = $2 and created_at > now() - ${age}`,
)
export async function earlierAnswer(db: Database, caller: Caller, key: string, route: string): Promise<unknown> {
  const found = await row(db, find, [callerId(caller), key])
  if (found && found.route !== route)
    throw new Refusal(
      'idempotency_key_reused',
      `The idempotency-key "${key}" was used for another endpoint. Use a new one for each request.`,
    )
  return found?.answer
}

const claim = statement(
  'idempotency.claim',
  `insert into idempotency_keys (caller, key, route) values ($1, $2, $3)
   on conflict (caller, key) do update set route = $3, answer = null, created_at = now()
   where idempotency_keys.created_at <= now() - ${age}`,
)
export async function claimKey(tx: Tx, caller: Caller, key: string, route: string): Promise<void> {
  if ((await execute(tx, claim, [callerId(caller), key, route])) === 0) throw new Replay()
}

const keep = statement('idempotency.keep', 'update idempotency_keys set answer = $3 where caller = $1 and key = $2')
export const keepAnswer = (tx: Tx, caller: Caller, key: string, answer: unknown) =>
  execute(tx, keep, [callerId(caller), key, JSON.stringify(answer)])

const callerId = (caller: Caller) => caller.token?.id ?? caller.userId

import { limits } from '@1ctl/contract/limits'
import type { AnswerParts, Caller, RequestFacts } from '../context.ts'
import { Refusal } from '../refusal.ts'
import { type Database, execute, row, statement, type Tx } from '../store/database.ts'

type Once = NonNullable<RequestFacts['idempotency']>

/** The same key in another organization of the same person is another request. */
const purpose = (caller: Caller, { of }: Once) => `${of} ${caller.organization?.id ?? ''}`

/**
 * Repeated POSTs: the same caller with the same `idempotency-key` within a day is answered as the first time and nothing is done.
 * The key is claimed inside the change's own transaction (change.ts), so of two at once the second waits for the first.
 */
export async function answerOnce(
  db: Database,
  caller: Caller | null,
  { idempotency: once }: RequestFacts,
  parts: AnswerParts,
  work: () => Promise<object>,
): Promise<object> {
  if (!caller || !once) return work()
  if (once.key.length > limits.idempotencyKeyLengthMax)
    throw new Refusal('invalid_request', `An idempotency-key has at most ${limits.idempotencyKeyLengthMax} characters.`)
  const earlier = await earlierAnswer(db, caller, once, parts)
  if (earlier) return earlier
  return work().catch(async (error: unknown) => {
    const answer = error instanceof Replay ? await earlierAnswer(db, caller, once, parts) : undefined
    if (!answer) throw error
    return answer
  })
}

/** Someone with the same key was quicker. */
class Replay extends Error {
  override name = 'Replay'
}

const age = `interval '${limits.idempotencyHours} hours'`

const find = statement<{ route: string; answer: object | null; status: number | null }>(
  'idempotency.find',
  `select route, answer, status from idempotency_keys where caller = $1 and key = $2 and created_at > now() - ${age}`,
)
async function earlierAnswer(db: Database, caller: Caller, once: Once, parts: AnswerParts) {
  const found = await row(db, find, [callerId(caller), once.key])
  if (found && found.route !== purpose(caller, once))
    throw new Refusal(
      'idempotency_key_reused',
      `The idempotency-key "${once.key}" was used for something else. Use a new one for each request.`,
    )
  if (found?.status) parts.status = found.status
  return found?.answer
}

const claim = statement(
  'idempotency.claim',
  `insert into idempotency_keys (caller, key, route) values ($1, $2, $3)
   on conflict (caller, key) do update set route = $3, answer = null, created_at = now()
   where idempotency_keys.created_at <= now() - ${age}`,
)
export async function claimKey(tx: Tx, caller: Caller, once: Once): Promise<void> {
  if ((await execute(tx, claim, [callerId(caller), once.key, purpose(caller, once)])) === 0) throw new Replay()
}

const keep = statement(
  'idempotency.keep',
  'update idempotency_keys set answer = $3, status = $4 where caller = $1 and key = $2',
)
export const keepAnswer = (tx: Tx, caller: Caller, { key }: Once, answer: unknown, status: number | undefined) =>
  execute(tx, keep, [callerId(caller), key, JSON.stringify(answer), status ?? null])

const callerId = (caller: Caller) => caller.token?.id ?? caller.userId

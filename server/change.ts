import { appendEvents, type AuditEntry, chainOf } from './audit/append.ts'
import type { Ctx } from './context.ts'
import { claimKey, keepAnswer } from './http/idempotency.ts'
import { execute, statement, transaction, type Tx } from './store/database.ts'

/** Who listens for what: `delivery` is told that something about the desired state changed, and in which organization. */
export type Wake = 'delivery'

export type Changed<Result> = {
  result: Result
  audit: AuditEntry | AuditEntry[]
  wake?: Wake
}

const notify = statement('change.notify', 'select pg_notify($1, $2)')

/**
 * The only way to change something: rows, audit and wake-up commit together or not at all. A repeated POST (idempotency-key) is
 * settled in here as well: the key is claimed in the same transaction, and `result` is what the repetition will be answered, so a
 * value that is shown once is added by the handler after this returns.
 */
export async function change<Result>(
  ctx: Ctx,
  work: (tx: Tx, last: (statement: Promise<unknown>) => void) => Promise<Changed<Result>>,
): Promise<Result> {
  const { caller } = ctx
  const once = caller && ctx.request.idempotency
  return transaction(ctx.db, async (tx, last) => {
    if (once) await claimKey(tx, caller, once)
    const { result, audit, wake } = await work(tx, last)
    if (once) last(keepAnswer(tx, caller, once, result, ctx.answer.status))
    // An organization that is being founded is not the caller's yet, but it is where the change is audited.
    if (wake) for (const entry of [audit].flat()) last(execute(tx, notify, [wake, chainOf(caller, entry)]))
    // Last, because it holds the end of the organization's chain until the commit.
    last(appendEvents(tx, ctx, audit))
    return result
  })
}

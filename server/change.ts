import { type AuditEntry, appendEvents, appendSql, appendValues, chainOf } from './audit/append.ts'
import type { Ctx } from './context.ts'
import { claimKey, keepAnswer } from './http/idempotency.ts'
import { execute, type Statement, statement, type Tx, transaction } from './store/database.ts'

export type Changed<Result> = {
  result: Result
  audit: AuditEntry | AuditEntry[]
}

/**
 * The only way to change something: rows and audit commit together or not at all, and then the change is announced. A repeated POST
 * (idempotency-key) is settled in here as well: the key is claimed in the same transaction, and `result` is what the repetition will be
 * answered, so a value that is shown once is added by the handler after this returns.
 */
export async function change<Result>(
  ctx: Ctx,
  work: (tx: Tx, last: (statement: Promise<unknown>) => void) => Promise<Changed<Result>>,
): Promise<Result> {
  const { caller } = ctx
  const once = caller && ctx.request.idempotency
  let entries: AuditEntry[] = []
  const result = await transaction(ctx.db, async (tx, last) => {
    if (once) await claimKey(tx, caller, once)
    const { result, audit } = await work(tx, last)
    entries = [audit].flat()
    if (once) last(keepAnswer(tx, caller, once, result, ctx.answer.status))
    // Last, because it holds the end of the organization's chain until the commit.
    last(appendEvents(tx, ctx, entries))
    return result
  })
  announce(ctx, entries)
  return result
}

/**
 * A change that is one statement, joined by its audit row: one round trip and no transaction around it. The name and text of one come
 * from `single`.
 */
export async function changeAtOnce(
  ctx: Ctx,
  { name, text }: Single,
  values: unknown[],
  audit: AuditEntry,
): Promise<boolean> {
  const isDone =
    (await execute(ctx.db, { name, text }, [...values, ...appendValues(ctx.caller, ctx.request, audit)])) > 0
  if (isDone) announce(ctx, [audit])
  return isDone
}

type Single = Statement<never> & { readonly single: true }

/** `parts` of a `with`, of `count` parameters; one of them, `done`, has a row if the change took place. Nothing happens otherwise. */
export const single = (name: string, parts: string, count: number): Single => ({
  ...statement(name, `with ${parts}, ${appendSql('done', count + 1)}`),
  single: true,
})

// Where it is audited: an organization that is being founded is not the caller's yet.
function announce(ctx: Ctx, entries: AuditEntry[]): void {
  for (const entry of entries) if (entry.object) ctx.announcer.announce(chainOf(ctx.caller, entry), entry.object.type)
}

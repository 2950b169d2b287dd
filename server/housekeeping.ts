import { limits } from '@1ctl/contract/limits'
import type { Logger } from 'pino'
import { dropOldPartitions, ensurePartitions } from './audit/retention.ts'
import { sessionEnded } from './identity/callers.ts'
import { type Database, execute, sqlState, statement } from './store/database.ts'

const sweeps = [
  statement('sweep.sessions', `delete from sessions where ${sessionEnded}`),
  statement('sweep.attempts', 'delete from attempts where until <= now()'),
  statement(
    'sweep.idempotency',
    `delete from idempotency_keys where created_at <= now() - interval '${limits.idempotencyHours} hours'`,
  ),
  statement('sweep.invitations', 'delete from members where user_id is null and invited_until <= now()'),
]

/** What has ended by time is removed by the hour. Nothing relies on it: every statement looks at the time itself. */
export async function housekeep(db: Database, auditMonths: number | undefined, log: Logger): Promise<void> {
  await ensurePartitions(db, log)
  if (auditMonths !== undefined) await dropOldPartitions(db, auditMonths, log)
  for (const sweep of sweeps) await execute(db, sweep)
}

/** Once now, the partitions before the first write, and then every hour. */
export async function startHousekeeping(
  db: Database,
  auditMonths: number | undefined,
  log: Logger,
): Promise<() => void> {
  await ensurePartitions(db, log)
  const keep = () =>
    housekeep(db, auditMonths, log).catch((error: unknown) =>
      log.warn({ code: sqlState(error) }, 'housekeeping failed; it runs again in an hour'),
    )
  await keep()
  const timer = setInterval(() => void keep(), 3_600_000).unref()
  return () => clearInterval(timer)
}

import type { Logger } from 'pino'
import { checkViolation, type Database, lockNotAvailable, sqlState, type Tx, transaction } from '../store/database.ts'
import { appendEvents, system } from './append.ts'

/** Partitions of this month and the next two, made ahead of time, so that no write ever waits for one. */
export async function ensurePartitions(db: Database, log: Logger): Promise<void> {
  const there = await partitions(db)
  for (const ahead of [0, 1, 2]) {
    const [from, to] = [month(ahead), month(ahead + 1)]
    if (there.includes(nameOf(from))) continue
    await whenFree(db, log, async (tx) => {
      await tx.query(
        `create table if not exists ${nameOf(from)} partition of audit_events for values from ('${day(from)}') to ('${day(to)}')`,
      )
    })
  }
}

/**
 * Drops whole months. Each chain remembers the number and hash of the last row it lost, so that the rest still verifies, and says in a
 * row of its own how far back it now reaches.
 */
export async function dropOldPartitions(db: Database, monthsKept: number, log: Logger): Promise<void> {
  const oldest = nameOf(month(-monthsKept))
  const isOld = (name: string) => name < oldest
  if (!(await partitions(db)).some(isOld)) return
  await whenFree(db, log, async (tx) => {
    // First of all, because who writes holds this lock when they wait for the head of a chain.
    await tx.query('lock table audit_events in access exclusive mode')
    for (const name of (await partitions(tx)).filter(isOld)) await dropPartition(tx, name)
  })
}

async function dropPartition(tx: Tx, name: string): Promise<void> {
  // A chain's times follow its order, so a month is one stretch of it and the last row of the month is the new beginning.
  const { rows: chains } = await tx.query<{ chain: string; seq: number }>(
    `update audit_heads h set first_seq = gone.seq, first_hash = gone.hash
     from audit_heads c cross join lateral (select seq, hash from ${name} where chain = c.chain order by seq desc limit 1) gone
     where h.chain = c.chain returning h.chain, gone.seq`,
  )
  await tx.query(`drop table ${name}`)
  // What had no partition of its own when it was written.
  await tx.query(
    'delete from audit_events_default e using audit_heads h where e.chain = h.chain and e.seq <= h.first_seq',
  )
  await appendEvents(
    tx,
    { caller: null, request: null },
    chains.map(({ chain, seq }) => ({
      action: 'audit.retain',
      actor: system,
      chain,
      detail: { droppedThrough: seq },
    })),
  )
}

/**
 * Partitions come and go under a lock that every writer and reader of the audit is in the way of, and that they then wait behind: so it
 * is tried briefly, and again an hour later. Until then rows land in the default partition, and old months stay.
 */
async function whenFree(db: Database, log: Logger, work: (tx: Tx) => Promise<void>): Promise<void> {
  await transaction(db, async (tx) => {
    await tx.query("set local lock_timeout = '1s'")
    await tx.query("select pg_advisory_xact_lock(hashtext('1ctl.partitions'))")
    await work(tx)
  }).catch((error: unknown) => {
    const reason = reasons[sqlState(error) ?? '']
    if (!reason) throw error
    log.warn({ reason }, 'an audit partition was not made or dropped')
  })
}

const reasons: Record<string, string> = {
  [lockNotAvailable]: 'the audit is in use',
  [checkViolation]: 'its rows are in the default partition already',
}

async function partitions(db: Database | Tx): Promise<string[]> {
  const { rows } = await db.query<{ name: string }>(
    `select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
     where i.inhparent = 'audit_events'::regclass and c.relname ~ '^audit_events_\\d{6}$' order by 1`,
  )
  return rows.map(({ name }) => name)
}

const month = (ahead: number) => {
  const now = new Date()
  return new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + ahead))
}
const nameOf = (start: Date) => `audit_events_${day(start).slice(0, 7).replace('-', '')}`
const day = (date: Date) => date.toISOString().slice(0, 10)

import type { Logger } from 'pino'
import { checkViolation, type Database, sqlState, transaction, type Tx } from '../store/database.ts'
import { appendEvents, system } from './append.ts'

/** Partitions of this month and the next two, made ahead of time, so that no write ever waits for one. */
export async function ensurePartitions(db: Database, log: Logger): Promise<void> {
  const now = new Date()
  for (let ahead = 0; ahead <= 2; ahead++) {
    const from = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + ahead))
    const to = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + ahead + 1))
    await transaction(db, async (tx) => {
      await onlyOne(tx)
      await tx.query(
        `create table if not exists ${nameOf(from)} partition of audit_events for values from ('${day(from)}') to ('${day(to)}')`,
      )
    }).catch((error: unknown) => {
      if (sqlState(error) !== checkViolation) throw error
      log.warn(
        { month: day(from).slice(0, 7) },
        'rows of this month are in the default partition already and stay there',
      )
    })
  }
}

/**
 * Drops whole months. Each chain remembers the number and hash of the last row it lost, so that the rest still verifies, and says in a
 * row of its own how far back it now reaches.
 */
export async function dropOldPartitions(db: Database, monthsKept: number): Promise<string[]> {
  const now = new Date()
  const oldest = nameOf(new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - monthsKept)))
  return transaction(db, async (tx) => {
    await onlyOne(tx)
    const { rows } = await tx.query<{ name: string }>(
      `select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
       where i.inhparent = 'audit_events'::regclass and c.relname ~ '^audit_events_\\d{6}$' and c.relname < $1 order by 1`,
      [oldest],
    )
    for (const { name } of rows) await dropPartition(tx, name)
    return rows.map(({ name }) => name)
  })
}

async function dropPartition(tx: Tx, name: string): Promise<void> {
  // A chain's times follow its order, so a month is one stretch of it and the last row of the month is the new beginning.
  const { rows: chains } = await tx.query<{ chain: string; seq: number }>(
    `update audit_heads h set first_seq = gone.seq, first_hash = gone.hash
     from (select distinct on (chain) chain, seq, hash from ${name} order by chain, seq desc) gone
     where h.chain = gone.chain returning h.chain, gone.seq`,
  )
  await tx.query(`drop table ${name}`)
  for (const { chain, seq } of chains)
    await appendEvents(
      tx,
      { caller: null, request: null },
      { action: 'audit.retain', actor: system, chain, detail: { droppedThrough: seq } },
    )
}

const onlyOne = (tx: Tx) => tx.query("select pg_advisory_xact_lock(hashtext('1ctl.partitions'))")
const nameOf = (month: Date) => `audit_events_${day(month).slice(0, 7).replace('-', '')}`
const day = (date: Date) => date.toISOString().slice(0, 10)

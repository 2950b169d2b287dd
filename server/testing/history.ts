import type { Database } from '../store/database.ts'

/**
 * Audit rows at times of one's choosing: the chain begins anew with `rows` rows at each time (oldest first), hashed as the server does.
 * Many at once also make a long chain in little time.
 */
export async function writeHistory(db: Database, chain: string, months: { at: string; rows: number }[]): Promise<void> {
  await db.query(`
    create or replace function write_history(chain_ uuid, at_ timestamptz, rows int) returns void language plpgsql as $$
    declare
      head audit_heads;
      event audit_events;
    begin
      select * into head from audit_heads where chain = chain_;
      for n in 1..rows loop
        event := row(chain_, head.seq + 1, at_ + n * interval '1 millisecond', gen_random_uuid(), 'system', null, '1ctl', null, null,
          'test.history', null, null, null, 'done', null, '{}', null, null);
        event.hash := audit_hash(head.hash, event);
        insert into audit_events select event.*;
        head.seq := event.seq;
        head.hash := event.hash;
      end loop;
      update audit_heads set seq = head.seq, hash = head.hash, at = event.at where chain = chain_;
    end $$`)
  await db.query('delete from audit_events where chain = $1', [chain])
  await db.query("update audit_heads set seq = 0, at = '-infinity', hash = '' where chain = $1", [chain])
  for (const { at, rows } of months) await db.query('select write_history($1, $2, $3)', [chain, at, rows])
}

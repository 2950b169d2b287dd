import type { TestServer } from './server.ts'

/** How many connections to this database wait for a lock: poll it to know that a request has come as far as a test wants it. */
export async function waiting({ db, database }: TestServer): Promise<number> {
  const { rowCount } = await db.query("select from pg_stat_activity where datname = $1 and wait_event_type = 'Lock'", [
    database,
  ])
  return rowCount ?? 0
}

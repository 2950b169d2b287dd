import { DatabaseError, Pool, type PoolClient, type PoolConfig, types } from 'pg'

/** A named statement: PostgreSQL parses and plans it once a connection. */
export type Statement<Row> = {
  readonly name: string
  readonly text: string
  readonly timeoutMs?: number
  readonly row?: Row
}

export const statement = <Row = never>(name: string, text: string, timeoutMs?: number): Statement<Row> =>
  timeoutMs === undefined ? { name, text } : { name, text, timeoutMs }

export type Database = Pool

declare const inTransaction: unique symbol
/** A connection inside a transaction. Only `transaction` makes one, so a function that asks for it cannot get the pool. */
export type Tx = PoolClient & { readonly [inTransaction]: true }

type Queryable = Pool | PoolClient

export async function rows<Row>(db: Queryable, what: Statement<Row>, values: unknown[] = []): Promise<Row[]> {
  const { name, text, timeoutMs } = what
  if ('connection' in db) gather(db)
  const result = await db.query({ name, text, values, ...(timeoutMs ? { query_timeout: timeoutMs } : {}) })
  return result.rows as Row[]
}

export async function row<Row>(db: Queryable, what: Statement<Row>, values: unknown[] = []): Promise<Row | undefined> {
  return (await rows(db, what, values))[0]
}

/** How many rows it touched. */
export async function execute(db: Queryable, { name, text }: Statement<unknown>, values: unknown[] = []) {
  if ('connection' in db) gather(db)
  return (await db.query({ name, text, values })).rowCount ?? 0
}

/** Statements of one turn travel in one packet: each packet wakes PostgreSQL, which can cost more than the statement. */
function gather({ connection: { stream } }: PoolClient): void {
  if (stream.writableCorked > 0) return
  stream.cork()
  process.nextTick(() => stream.uncork())
}

/**
 * Runs `work` in one transaction. The connection is pipelined: `begin` travels with the first statement, and statements handed to
 * `last` with the commit, so `work` does not await them. If one fails, nothing is committed.
 */
export async function transaction<Result>(
  db: Database,
  work: (tx: Tx, last: (statement: Promise<unknown>) => void) => Promise<Result>,
): Promise<Result> {
  const client = await db.connect()
  gather(client)
  const sent: Promise<unknown>[] = []
  const send = (statement: Promise<unknown>) => {
    // Awaited below; until then a failure must not count as one that nobody handles.
    statement.catch(() => undefined)
    sent.push(statement)
  }
  let broken: Error | undefined
  // The pool listens only while a connection is idle; a lost one that nobody listens to would end the process.
  const lost = (error: Error) => (broken = error)
  client.on('error', lost)
  try {
    send(client.query('begin'))
    const result = await work(client as Tx, send)
    const committing = client.query('commit')
    await Promise.all([...sent, committing])
    // PostgreSQL answers the commit of a failed transaction with ROLLBACK, not with an error.
    if ((await committing).command !== 'COMMIT') throw new Error('a statement failed and its error was swallowed')
    return result
  } catch (error) {
    const outcomes = await Promise.allSettled(sent)
    await client.query('rollback').catch((failure: unknown) => {
      broken = failure instanceof Error ? failure : new Error('rollback failed')
    })
    // Statements that travelled behind the one that failed say only that the transaction has.
    const cause = outcomes.find(({ status }) => status === 'rejected') as PromiseRejectedResult | undefined
    throw sqlState(error) === inFailedTransaction ? (cause?.reason ?? error) : error
  } finally {
    client.off('error', lost)
    client.release(broken)
  }
}

export type Connection = { connectionString: string } | { host: string; port: number; user: string; database: string }

export function openDatabase(connection: Connection, failed: (error: Error) => void): Database {
  const db = new Pool({
    ...withSettings(connection),
    max: 20,
    // Statements of one transaction need not wait for each other's answer; see `transaction`.
    pipeline: true,
    connectionTimeoutMillis: 5_000,
    idleTimeoutMillis: 60_000,
    application_name: '1ctl',
    // For a database that neither answers nor goes away.
    query_timeout: 25_000,
    keepAlive: true,
    types: { getTypeParser: (oid: number, format?: 'text' | 'binary') => parserOf(oid, format) },
  })
  db.on('error', (error) => {
    // While stopping, it is we who let go.
    if (!db.ending) failed(error)
  })
  return db
}

// PostgreSQL ends a statement before the request's own timeout does, so that no answer is sent for work still going on.
const settings =
  '-c timezone=UTC -c statement_timeout=20s -c lock_timeout=10s -c idle_in_transaction_session_timeout=30s'

/** Ours come after those of a connection string, which would otherwise replace them. */
function withSettings(connection: Connection): PoolConfig {
  if (!('connectionString' in connection)) return { ...connection, options: settings }
  const url = new URL(connection.connectionString)
  url.searchParams.set('options', `${url.searchParams.get('options') ?? ''} ${settings}`.trim())
  // libpq and pg read a space as %20, not as +.
  return { connectionString: url.href.replaceAll('+', '%20') }
}

// Times stay text: making a Date and printing it again costs a quarter of a hot request.
const timestamptz = 1184
const int8 = 20
function parserOf(oid: number, format: 'text' | 'binary' | undefined): unknown {
  if (oid === timestamptz) return rfc3339
  if (oid === int8) return Number
  return types.getTypeParser(oid, format)
}

/** PostgreSQL's `2026-07-26 10:00:00.5+00` (and JSON's `…T…+00:00`) as RFC 3339. The session's time zone is UTC. */
export const rfc3339 = (text: string) => `${text.slice(0, 10)}T${text.slice(11, text.indexOf('+', 11))}Z`

/** PostgreSQL's own code of an error, such as 23505 for a name that is taken. */
export function sqlState(error: unknown): string | undefined {
  return error instanceof DatabaseError ? error.code : undefined
}
/** The constraint that a row has broken, by name. */
export const constraintOf = (error: unknown) => (error instanceof DatabaseError ? error.constraint : undefined)

export const uniqueViolation = '23505'
export const foreignKeyViolation = '23503'
const inFailedTransaction = '25P02'
export const checkViolation = '23514'
export const lockNotAvailable = '55P03'

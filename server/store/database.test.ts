import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { type Database, execute, openDatabase, rfc3339, row, statement, transaction } from './database.ts'

let db: Database
beforeAll(async () => {
  db = openDatabase({ ...inject('postgres'), database: 'postgres' }, () => undefined)
  await db.query('create table if not exists numbers (n int primary key)')
})
afterAll(async () => {
  await db.query('drop table numbers')
  await db.end()
})

const insert = statement('test.insert', 'insert into numbers values ($1)')
const count = async () => Number((await db.query('select count(*) from numbers')).rows[0].count)

describe('a transaction', () => {
  test('commits what it did and what it was handed last, and answers', async () => {
    const before = await count()
    const answer = await transaction(db, async (tx, last) => {
      await execute(tx, insert, [1])
      last(execute(tx, insert, [2]))
      return 'done'
    })
    expect(answer).toBe('done')
    expect(await count()).toBe(before + 2)
  })

  test.each([
    ['a statement fails', (tx: Parameters<Parameters<typeof transaction>[1]>[0]) => execute(tx, insert, [10])],
    ['the work throws', () => Promise.reject(new Error('no'))],
  ])('is taken back when %s, and its connection serves the next', async (_, failing) => {
    await db.query('insert into numbers values (10) on conflict do nothing')
    const before = await count()
    const failed = transaction(db, async (tx) => {
      await execute(tx, insert, [11])
      await failing(tx)
    })
    await expect(failed).rejects.toThrow()
    expect(await count()).toBe(before)
    expect(db.idleCount).toBe(db.totalCount)
  })

  test('is taken back when what it was handed last fails, also long before the end', async () => {
    await db.query('insert into numbers values (10) on conflict do nothing')
    const before = await count()
    const failed = transaction(db, async (tx, last) => {
      last(execute(tx, insert, [10]))
      last(execute(tx, insert, [12]))
      // A failure that nobody has looked at yet must not end the process.
      await new Promise((resolve) => setTimeout(resolve, 50))
    })
    await expect(failed).rejects.toMatchObject({ code: '23505' })
    expect(await count()).toBe(before)
  })

  test('fails with what failed, not with what came behind it', async () => {
    await db.query('insert into numbers values (10) on conflict do nothing')
    const failed = transaction(db, async (tx, last) => {
      last(execute(tx, insert, [10]))
      await execute(tx, insert, [15])
    })
    await expect(failed).rejects.toMatchObject({ code: '23505' })
  })

  test('does not pretend to have committed when an error was swallowed on the way', async () => {
    await db.query('insert into numbers values (10) on conflict do nothing')
    const before = await count()
    const swallowed = transaction(db, async (tx) => {
      await execute(tx, insert, [13])
      await execute(tx, insert, [10]).catch(() => undefined)
    })
    await expect(swallowed).rejects.toThrow('swallowed')
    expect(await count()).toBe(before)
  })

  test('gives a lost connection away and leaves a pool that works', async () => {
    const lost = transaction(db, async (tx) => {
      const { rows } = await tx.query('select pg_backend_pid() as pid')
      await db.query('select pg_terminate_backend($1)', [rows[0].pid])
      await execute(tx, insert, [14])
    })
    await expect(lost).rejects.toThrow()
    expect(await count()).toBeGreaterThan(0)
  })
})

test('times come as RFC 3339 in UTC, whole numbers as numbers', async () => {
  const sql = "select '2026-07-26 12:00:00.5+02'::timestamptz as at, 9007199254740991::bigint as n"
  expect(await row(db, statement<{ at: string; n: number }>('test.types', sql))).toEqual({
    at: '2026-07-26T10:00:00.5Z',
    n: 9007199254740991,
  })
  for (const text of ['2026-07-26 10:00:00.5+00', '2026-07-26T10:00:00.5+00:00', '2026-07-26T10:00:00.5Z'])
    expect(rfc3339(text)).toBe('2026-07-26T10:00:00.5Z')
})

import { decodeId } from '@1ctl/contract/ids'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { newOrganization } from '../testing/actors.ts'
import { writeHistory } from '../testing/history.ts'
import { startTestServer, type TestServer } from '../testing/server.ts'

let server: TestServer
let other: TestServer
beforeAll(async () => {
  server = await startTestServer()
  other = await startTestServer({ database: server.database })
})
afterAll(async () => {
  await other.close()
  await server.close()
})

const verify = (organization: { token: string }) => server.client(organization).auditVerify()
const row = (seq: number) => `where chain = :chain and seq = ${seq}`
const chainOf = ({ id }: { id: string }) => decodeId('organization', id) ?? ''

describe('tampering', () => {
  let organization: Awaited<ReturnType<typeof newOrganization>>
  let neighbour: Awaited<ReturnType<typeof newOrganization>>
  let chain: string
  const sql = (text: string) => server.db.query(text.replaceAll(':chain', `'${chain}'`))

  beforeAll(async () => {
    organization = await newOrganization(server)
    neighbour = await newOrganization(server)
    chain = chainOf(organization)
    for (let index = 0; index < 9; index++) await server.client(organization).tokenCreate({ name: `token-${index}` })
    await sql('create table kept_events as table audit_events')
    await sql('create table kept_heads as table audit_heads')
  })

  /** What is found after the statements; then everything is as it was. */
  async function after(...statements: string[]) {
    for (const statement of statements) await sql(statement)
    const found = await verify(organization)
    await sql('delete from audit_events')
    await sql('insert into audit_events table kept_events')
    await sql('delete from audit_heads')
    await sql('insert into audit_heads table kept_heads')
    return found
  }

  test('without any, the chain is whole', async () => {
    expect(await after('select')).toEqual({ ok: true, rows: 10, through: 10 })
    expect(await verify(neighbour)).toEqual({ ok: true, rows: 1, through: 1 })
    expect(await server.client().adminAuditVerify()).toMatchObject({ ok: true })
  })

  test('an edit of any column shows at its row', async () => {
    const { rows: columns } = await sql(
      `select column_name as name, data_type as type from information_schema.columns where table_name = 'audit_events'`,
    )
    expect(columns.length).toBeGreaterThanOrEqual(18)
    const edits: Record<string, string> = {
      text: "coalesce(%, '') || 'x'",
      uuid: 'gen_random_uuid()',
      bigint: '% + 1000',
      'timestamp with time zone': "% + interval '1 microsecond'",
      jsonb: `% || '{"more": 1}'`,
      bytea: 'sha256(%)',
    }
    for (const { name, type } of columns as { name: string; type: string }[]) {
      const edit = edits[type]?.replaceAll('%', name)
      expect(edit, `how to edit a ${type}`).toBeDefined()
      for (const seq of [1, 5, 10])
        expect(await after(`update audit_events set ${name} = ${edit} ${row(seq)}`), `${name} of row ${seq}`).toEqual({
          ok: false,
          brokenAt: seq,
        })
    }
    // Text that is not there is something else than empty text.
    expect(await after(`update audit_events set code = '' ${row(5)}`)).toEqual({ ok: false, brokenAt: 5 })
    expect(await after(`update audit_events set at = at + interval '1 month' ${row(5)}`)).toEqual({
      ok: false,
      brokenAt: 5,
    })
    expect(await verify(organization)).toMatchObject({ ok: true })
  })

  test.each([1, 2, 5, 9, 10])('a row that is gone shows at its place: %i', async (seq) => {
    expect(await after(`delete from audit_events ${row(seq)}`)).toEqual({ ok: false, brokenAt: seq })
  })

  test('so do several, and all', async () => {
    expect(await after('delete from audit_events where chain = :chain and seq between 4 and 7')).toEqual({
      ok: false,
      brokenAt: 4,
    })
    expect(await after('delete from audit_events where chain = :chain and seq > 7')).toEqual({ ok: false, brokenAt: 8 })
    expect(await after('delete from audit_events where chain = :chain')).toEqual({ ok: false, brokenAt: 1 })
  })

  test('two rows that change places show at the first', async () => {
    expect(
      await after(
        `update audit_events set seq = -4 ${row(4)}`,
        `update audit_events set seq = 4 ${row(7)}`,
        `update audit_events set seq = 7 ${row(-4)}`,
      ),
    ).toEqual({ ok: false, brokenAt: 4 })
  })

  test('a row that was put in shows at its place, before, between and behind', async () => {
    const copy = (seq: string, at: string) =>
      `insert into audit_events select chain, ${seq}, ${at}, gen_random_uuid(), actor_type, actor_id, actor_name, actor_user, address,
         action, object_type, object_id, object_name, outcome, code, detail, request_id, hash from audit_events ${row(5)}`
    expect(await after(copy('5', "at - interval '1 second'"))).toEqual({ ok: false, brokenAt: 5 })
    expect(await after(copy('5', "at + interval '1 second'"))).toEqual({ ok: false, brokenAt: 5 })
    expect(await after(copy('0', 'at'))).toEqual({ ok: false, brokenAt: 0 })
    expect(await after(copy('11', 'at'))).toEqual({ ok: false, brokenAt: 11 })
    // Also one that continues the chain as the server would have, without the head.
    expect(
      await after(
        copy('11', 'at'),
        `update audit_events e set hash = audit_hash((select hash from audit_events ${row(10)}), e) ${row(11)}`,
      ),
    ).toEqual({ ok: false, brokenAt: 11 })
  })

  test("another organization's row does not pass for one of this", async () => {
    expect(
      await after(
        `delete from audit_events ${row(1)}`,
        `update audit_events set chain = :chain where chain = '${chainOf(neighbour)}'`,
      ),
    ).toEqual({ ok: false, brokenAt: 1 })
  })

  test('a head that was changed shows', async () => {
    const head = (change: string) => after(`update audit_heads set ${change} where chain = :chain`)
    expect(await head('hash = sha256(hash)')).toEqual({ ok: false, brokenAt: 10 })
    expect(await head('seq = 12')).toEqual({ ok: false, brokenAt: 11 })
    expect(await head('seq = 7')).toEqual({ ok: false, brokenAt: 8 })
    expect(await head('first_seq = 3')).toEqual({ ok: false, brokenAt: 1 })
    expect(await head("first_hash = 'x'")).toEqual({ ok: false, brokenAt: 1 })
    expect(await after('delete from audit_heads where chain = :chain')).toEqual({ ok: false, brokenAt: 0 })
  })

  test('one that goes on after it still shows where it was', async () => {
    await sql(`update audit_events set actor_name = 'someone else' ${row(3)}`)
    await server.client(organization).tokenCreate({ name: 'afterwards' })
    expect(await verify(organization)).toEqual({ ok: false, brokenAt: 3 })
  })
})

describe('many writers', () => {
  test('30 of one organization at two servers make one chain without gap or fork', async () => {
    const organization = await newOrganization(server)
    await Promise.all(
      Array.from({ length: 30 }, (_, index) =>
        (index % 2 ? server : other).client(organization).tokenCreate({ name: `parallel ${index}` }),
      ),
    )
    expect(await verify(organization)).toEqual({ ok: true, rows: 31, through: 31 })
    const { items } = await server.client(organization).auditList({ limit: 50 })
    expect(items.map(({ seq }) => seq)).toEqual(Array.from({ length: 31 }, (_, index) => 31 - index))
    expect(items.map(({ at }) => at)).toEqual(
      items
        .map(({ at }) => at)
        .sort()
        .reverse(),
    )
  })

  test('of different organizations do not wait for each other', async () => {
    const [held, free] = [await newOrganization(server), await newOrganization(server)]
    const holder = await server.db.connect()
    await holder.query('begin')
    await holder.query('select from audit_heads where chain = $1 for update', [chainOf(held)])
    let isThrough = false
    const waits = server
      .client(held)
      .tokenCreate({ name: 'waits' })
      .then(() => (isThrough = true))
    await server.client(free).tokenCreate({ name: 'passes' })
    await other.client(free).vpcCreate({ name: 'passes' })
    await expect(server.client(free).vpcDelete({ name: 'nope' })).rejects.toMatchObject({ status: 404 })
    expect(
      (await server.client(held).tokenList()).items.map(({ name }) => name),
      'nor do readers',
    ).toEqual(['admin'])
    expect(isThrough).toBe(false)
    await holder.query('rollback')
    holder.release()
    await waits
    expect(await verify(held)).toMatchObject({ ok: true, rows: 2 })
  })
})

test('50,000 rows are verified in seconds', async () => {
  const organization = await newOrganization(server)
  await writeHistory(server.db, chainOf(organization), [{ at: new Date().toISOString(), rows: 50_000 }])
  const started = performance.now()
  expect(await verify(organization)).toEqual({ ok: true, rows: 50_000, through: 50_000 })
  expect(performance.now() - started).toBeLessThan(5_000)
  await server.client(organization).tokenCreate({ name: 'and on' })
  expect(await verify(organization)).toMatchObject({ ok: true, rows: 50_001 })
})

import { decodeId } from '@1ctl/contract/ids'
import pino from 'pino'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { housekeep } from '../housekeeping.ts'
import { newOrganization } from '../testing/actors.ts'
import { writeHistory } from '../testing/history.ts'
import { startTestServer, type TestServer } from '../testing/server.ts'

let server: TestServer
beforeAll(async () => {
  server = await startTestServer()
})
afterAll(() => server.close())

const chainOf = ({ id }: { id: string }) => decodeId('organization', id) ?? ''
const now = new Date()
const month = (ago: number) => new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - ago)).toISOString()
const middleOf = (ago: number) => new Date(Date.parse(month(ago)) + 10 * 86_400_000).toISOString()
const nameOf = (ago: number) => `audit_events_${month(ago).slice(0, 7).replace('-', '')}`
const quiet = pino({ level: 'silent' })

async function addPartition(ago: number) {
  await server.db.query(
    `create table ${nameOf(ago)} partition of audit_events for values from ('${month(ago)}') to ('${month(ago - 1)}')`,
  )
}
async function partitions(): Promise<string[]> {
  const { rows } = await server.db.query<{ name: string }>(
    "select inhrelid::regclass::text as name from pg_inherits where inhparent = 'audit_events'::regclass order by 1",
  )
  return rows.map(({ name }) => name)
}

test('rows land in the partition of their month; two more are ready', async () => {
  await server.client().tokenCreate({ name: 'now' })
  const { rows } = await server.db.query('select distinct tableoid::regclass::text as name from audit_events')
  expect(rows).toEqual([{ name: nameOf(0) }])
  expect(await partitions()).toEqual([...[0, -1, -2].map(nameOf), 'audit_events_default'].sort())
})

test('several processes make the missing ones at once, and a busy audit does not stop them or anyone', async () => {
  for (const ago of [-1, -2]) await server.db.query(`drop table ${nameOf(ago)}`)
  await Promise.all([1, 2, 3, 4].map(() => housekeep(server.db, undefined, quiet)))
  expect(await partitions()).toHaveLength(4)

  await server.db.query(`drop table ${nameOf(-2)}`)
  const reader = await server.db.connect()
  await reader.query('begin; select from audit_events limit 1')
  await housekeep(server.db, undefined, quiet)
  expect(await partitions()).toHaveLength(3)
  await reader.query('commit')
  reader.release()
  await housekeep(server.db, undefined, quiet)
  expect(await partitions()).toHaveLength(4)
})

test('old months are dropped for everyone, what is left verifies, and each chain says how far back it goes', async () => {
  const organizations = {
    // [months ago, rows]; 4 months ago had no partition of its own
    always: [
      [4, 2],
      [3, 5],
      [2, 4],
      [1, 3],
      [0, 2],
    ],
    old: [
      [3, 3],
      [2, 3],
    ],
    young: [
      [1, 2],
      [0, 2],
    ],
    paused: [
      [3, 4],
      [0, 1],
    ],
  } as const
  await addPartition(1)
  await addPartition(2)
  await addPartition(3)
  const made: Awaited<ReturnType<typeof newOrganization>>[] = []
  for (const [name, months] of Object.entries(organizations)) {
    const organization = await newOrganization(server, name)
    const history = months.map(([ago, rows]) => ({ at: ago === 0 ? now.toISOString() : middleOf(ago), rows }))
    await writeHistory(server.db, chainOf(organization), history)
    made.push(organization)
  }
  const verified = () => Promise.all(made.map((organization) => server.client(organization).auditVerify()))
  expect(await verified()).toEqual([16, 6, 4, 5].map((rows) => ({ ok: true, rows, through: rows })))

  await housekeep(server.db, 1, quiet)
  expect(await partitions()).toEqual([...[1, 0, -1, -2].map(nameOf), 'audit_events_default'].sort())
  expect((await server.db.query('select from audit_events_default')).rowCount).toBe(0)
  // Each month that is dropped is a row of its own, in the chains that lose something.
  expect(await verified()).toEqual([
    { ok: true, rows: 5 + 2, through: 18 },
    { ok: true, rows: 0 + 2, through: 8 },
    { ok: true, rows: 4, through: 4 },
    { ok: true, rows: 1 + 1, through: 6 },
  ])
  const retained = await Promise.all(
    made.map(async (organization) => (await server.client(organization).auditList({ action: 'audit.retain' })).items),
  )
  expect(retained.map((items) => items.map(({ detail }) => detail['droppedThrough']))).toEqual([
    [11, 7],
    [6, 3],
    [],
    [4],
  ])
  expect(retained[0]?.[0]).toMatchObject({ actor: { type: 'system', name: '1ctl' }, outcome: 'done' })

  await Promise.all(made.map((organization) => server.client(organization).tokenCreate({ name: 'afterwards' })))
  expect((await verified()).map(({ ok }) => ok)).toEqual([true, true, true, true])
  await housekeep(server.db, 1, quiet)
  expect((await verified()).map((verdict) => verdict.ok && verdict.through)).toEqual([19, 9, 5, 7])

  const [always] = made
  await server.db.query(
    'delete from audit_events where chain = $1 and seq = (select min(seq) from audit_events where chain = $1)',
    [chainOf(always ?? { id: '' })],
  )
  expect((await verified())[0], 'what was removed otherwise still shows').toEqual({ ok: false, brokenAt: 12 })
})

test('dropping waits for no writer for long, and no writer fails because of it', async () => {
  await addPartition(3)
  const organization = await newOrganization(server)
  await writeHistory(server.db, chainOf(organization), [{ at: middleOf(3), rows: 3 }])
  const holder = await server.db.connect()
  await holder.query('begin')
  await holder.query('select from audit_heads where chain = $1 for update', [chainOf(organization)])
  const write = server.client(organization).tokenCreate({ name: 'under way' })
  await housekeep(server.db, 1, quiet)
  expect(await partitions(), 'it is tried again in an hour').toContain(nameOf(3))
  await holder.query('commit')
  holder.release()
  await expect(write).resolves.toMatchObject({ name: 'under way' })

  const writes = Array.from({ length: 10 }, (_, index) => server.client(organization).tokenCreate({ name: `${index}` }))
  await Promise.all([...writes, housekeep(server.db, 1, quiet), housekeep(server.db, 1, quiet)])
  await housekeep(server.db, 1, quiet)
  expect(await partitions()).not.toContain(nameOf(3))
  expect(await server.client(organization).auditVerify()).toEqual({ ok: true, rows: 12, through: 15 })
})

import { decodeId } from '@1ctl/contract/ids'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { newOrganization } from './testing/actors.ts'
import { startTestServer, type TestServer } from './testing/server.ts'

let server: TestServer
beforeAll(async () => {
  server = await startTestServer()
})
afterAll(() => server.close())

const counts = async () =>
  (
    await server.db.query(
      `select (select count(*) from audit_events where outcome = 'done') as events, (select count(*) from api_tokens) as tokens,
         (select count(*) from vpcs) as vpcs, (select count(*) from idempotency_keys) as keys, (select sum(seq) from audit_heads) as seq`,
    )
  ).rows[0] as Record<string, unknown>

describe('rows and their audit', () => {
  test('a change that fails leaves neither', async () => {
    await server.client().vpcCreate({ name: 'taken' })
    const before = await counts()
    const headers = { 'idempotency-key': 'failing' }
    await expect(server.client().vpcCreate({ name: 'taken' }, { headers })).rejects.toMatchObject({ status: 409 })
    const after = await counts()
    // The refusal itself is a row, in the same chain.
    expect(after).toEqual({ ...before, seq: String(Number(before['seq']) + 1) })
    const last = (await server.client().auditList({ limit: 1 })).items[0]
    expect(last).toMatchObject({ action: 'vpc.create', outcome: 'refused', code: 'name_taken' })
  })

  test('an audit row that cannot be written takes the change back', async () => {
    const organization = await newOrganization(server)
    const client = server.client(organization)
    const chain = decodeId('organization', organization.id) ?? ''
    const refuse =
      "alter table audit_events add constraint full_disk check (action not in ('token.create', 'vpc.create')) not valid"
    const lose = `with head as (delete from audit_heads where chain = '${chain}' returning *) insert into lost select * from head`
    await server.db.query('create table lost (like audit_heads)')
    for (const [breakIt, mend] of [
      [refuse, 'alter table audit_events drop constraint full_disk'],
      [lose, 'insert into audit_heads table lost'],
    ] as const) {
      const before = await counts()
      const { rows: heads } = await server.db.query('table audit_heads order by chain')
      await server.db.query(breakIt)
      await expect(client.tokenCreate({ name: 'unaudited' })).rejects.toMatchObject({
        status: 500,
        code: 'internal_error',
      })
      await expect(client.vpcCreate({ name: 'unaudited' })).rejects.toMatchObject({ status: 500 })
      await server.db.query(mend)
      expect(await counts()).toEqual(before)
      expect((await server.db.query('table audit_heads order by chain')).rows).toEqual(heads)
    }
    await client.tokenCreate({ name: 'audited' })
    expect(await client.auditVerify()).toEqual({ ok: true, rows: 2, through: 2 })
  })
})

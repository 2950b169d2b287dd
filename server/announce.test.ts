import { decodeId } from '@1ctl/contract/ids'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { newOrganization } from './testing/actors.ts'
import { startTestServer, type TestServer } from './testing/server.ts'

let server: TestServer
let other: TestServer
const heard: Record<'here' | 'there', string[]> = { here: [], there: [] }
beforeAll(async () => {
  server = await startTestServer()
  other = await startTestServer({ database: server.database })
  for (const [where, { platform }] of [
    ['here', server],
    ['there', other],
  ] as const)
    platform.announcer.listen((one) => heard[where].push(one ? `${one.organization} ${one.noun}` : 'everything'))
})
afterAll(async () => {
  await other.close()
  await server.close()
})

describe('a change is told to who listens, on this server and on others of the same database', () => {
  test('once it is there, with its organization and kind, and nothing else of it', async () => {
    const organization = await newOrganization(server)
    const id = decodeId('organization', organization.id)
    const client = server.client(organization)
    await vi.waitFor(() => expect(heard.there).toContain(`${id} organization`))
    for (const list of Object.values(heard)) list.length = 0

    await client.vpcCreate({ name: 'one' })
    await client.secretPut({ name: 'told', data: { KEY: 'not told' } })
    await client.secretPatch({ ref: 'told', set: { KEY: 'nor this' } })
    const told = [`${id} vpc`, `${id} secret`]
    expect(heard.here).toEqual([...told, `${id} secret`])
    await vi.waitFor(() => expect(new Set(heard.there)).toEqual(new Set(told)))
    await client.organizationDelete({ organization: organization.name, confirm: organization.name })
    await vi.waitFor(() => expect(heard.there).toContain(`${id} organization`))
  })

  test('and not when it was refused or taken back', async () => {
    const client = server.client(await newOrganization(server))
    await client.vpcCreate({ name: 'taken' })
    await vi.waitFor(() => expect(heard.there.at(-1)).toMatch(/vpc$/))
    for (const list of Object.values(heard)) list.length = 0
    await expect(client.vpcCreate({ name: 'taken' })).rejects.toMatchObject({ status: 409 })
    const refuse = "alter table audit_events add constraint full_disk check (action <> 'vpc.create') not valid"
    await server.db.query(refuse)
    await expect(client.vpcCreate({ name: 'two' })).rejects.toMatchObject({ status: 500 })
    await server.db.query('alter table audit_events drop constraint full_disk')
    await client.tokenCreate({ name: 'afterwards' })
    await vi.waitFor(() => expect(heard.there).toHaveLength(1))
    expect(heard).toEqual({ here: heard.there, there: [expect.stringMatching(/ token$/)] })
  })

  test('in their order however many come at once', async () => {
    const client = server.client(await newOrganization(server))
    heard.there.length = 0
    await Promise.all(Array.from({ length: 50 }, (_, at) => client.secretPut({ name: `many-${at}`, data: {} })))
    await client.vpcCreate({ name: 'last' })
    await vi.waitFor(() => expect(heard.there.at(-1)).toMatch(/vpc$/))
    expect(heard.there.length).toBeLessThan(60)
  })
})

test('who lost the connection is told that anything may have changed, and hears again', async () => {
  heard.there.length = 0
  await server.db.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where query = 'listen changes' and datname = $1",
    [server.database],
  )
  await vi.waitFor(() => expect(heard.there).toContain('everything'), 5_000)
  await server.client().vpcCreate({ name: 'heard-again' })
  await vi.waitFor(() => expect(heard.there.at(-1)).toMatch(/vpc$/))
})

import { afterAll, beforeAll, expect, test } from 'vitest'
import { newOrganization, newToken } from '../testing/actors.ts'
import { startTestServer, type TestServer } from '../testing/server.ts'
import { waiting } from '../testing/waiting.ts'

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

const missing = { status: 404, code: 'vpc_not_found' }

test('a VPC is created, found by name and id, listed, and deleted', async () => {
  const organization = await newOrganization(server, 'acme')
  const client = server.client(organization)
  const vpc = await client.vpcCreate({ name: 'staging' })
  expect(vpc).toMatchObject({ name: 'staging', namespace: 'acme--staging', protected: false })
  expect(await other.client(organization).vpcView({ name: 'staging' })).toEqual(vpc)
  expect(await client.vpcView({ name: vpc.id })).toEqual(vpc)
  expect((await client.vpcList()).items.map(({ name }) => name)).toEqual(['staging', 'default'])
  await expect(client.vpcCreate({ name: 'staging' })).rejects.toMatchObject({ status: 409, code: 'name_taken' })
  await expect(server.client().vpcView({ name: vpc.id }), 'to another organization').rejects.toMatchObject(missing)
  await expect(server.client().vpcDelete({ name: vpc.id })).rejects.toMatchObject(missing)
  expect(await client.vpcDelete({ name: 'staging' })).toEqual({})
  await expect(other.client(organization).vpcView({ name: 'staging' })).rejects.toMatchObject(missing)
})

test.each(['', '-a', 'a-', 'a--b', '1a', 'A', 'a_b', 'a.b', 'ä', 'a'.repeat(31), 'a\u0000'])(
  'no VPC is called %j',
  async (name) => {
    await expect(server.client().vpcCreate({ name })).rejects.toMatchObject({ status: 400 })
  },
)

test('the longest names make a namespace that Kubernetes takes, and no two pairs share one', async () => {
  const organization = await newOrganization(server, 'o'.repeat(30))
  const { namespace } = await server.client(organization).vpcCreate({ name: 'v'.repeat(30) })
  // https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-label-names
  expect(namespace).toMatch(/^(?=.{1,63}$)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?$/)
  const [left, right] = [await newOrganization(server, 'a'), await newOrganization(server, 'a-b')]
  const one = await server.client(left).vpcCreate({ name: 'b-c' })
  const two = await server.client(right).vpcCreate({ name: 'c' })
  expect([one.namespace, two.namespace]).toEqual(['a--b-c', 'a-b--c'])
})

test('the last VPC stays, also when two are deleted at the same moment', async () => {
  const last = { status: 409, code: 'last_vpc' }
  for (let round = 0; round < 5; round++) {
    const organization = await newOrganization(server)
    const client = server.client(organization)
    await expect(client.vpcDelete({ name: 'default' })).rejects.toMatchObject(last)
    await client.vpcCreate({ name: 'second' })
    const both = await Promise.allSettled([
      client.vpcDelete({ name: 'default' }),
      other.client(organization).vpcDelete({ name: 'second' }),
    ])
    expect(both.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
    expect(both.find(({ status }) => status === 'rejected')).toMatchObject({ reason: last })
    expect((await client.vpcList()).items).toHaveLength(1)
  }
})

test('a protected VPC is deleted only with its name', async () => {
  const client = server.client(await newOrganization(server))
  await client.vpcCreate({ name: 'prod' })
  expect(await client.vpcPatch({ name: 'prod', protected: true })).toMatchObject({ protected: true })
  const confirmation = { status: 400, code: 'confirmation_needed' }
  await expect(client.vpcDelete({ name: 'prod' })).rejects.toMatchObject(confirmation)
  await expect(client.vpcDelete({ name: 'prod', confirm: 'default' })).rejects.toMatchObject(confirmation)
  expect(await client.vpcDelete({ name: 'prod', confirm: 'prod' })).toEqual({})
  await client.vpcCreate({ name: 'prod' })
  await client.vpcPatch({ name: 'prod', protected: true })
  await client.vpcPatch({ name: 'prod', protected: false })
  expect(await client.vpcDelete({ name: 'prod' })).toEqual({})
})

test('a VPC that was protected a moment ago is not deleted by a request that did not know', async () => {
  const organization = await newOrganization(server)
  const client = server.client(organization)
  await client.vpcCreate({ name: 'prod' })
  const protection = await server.db.connect()
  await protection.query('begin')
  await protection.query('update vpcs set protected = true where namespace = $1', [`${organization.name}--prod`])
  const deletion = expect(client.vpcDelete({ name: 'prod' })).rejects.toMatchObject(missing)
  await expect.poll(() => waiting(server)).toBe(1)
  await protection.query('commit')
  protection.release()
  await deletion
  expect((await client.vpcView({ name: 'prod' })).protected).toBe(true)
})

test('a VPC that something refers to is not empty', async () => {
  const organization = await newOrganization(server)
  const client = server.client(organization)
  await client.vpcCreate({ name: 'used' })
  await server.db.query('create table tenants_of_vpcs (vpc_id uuid not null references vpcs)')
  await server.db.query('insert into tenants_of_vpcs select id from vpcs where namespace = $1', [
    `${organization.name}--used`,
  ])
  await expect(client.vpcDelete({ name: 'used' })).rejects.toMatchObject({ status: 409, code: 'vpc_not_empty' })
  await server.db.query('drop table tenants_of_vpcs')
  expect(await client.vpcDelete({ name: 'used' })).toEqual({})
})

test('a token limited to a VPC sees that one; a new VPC of its name is another', async () => {
  const organization = await newOrganization(server)
  const client = server.client(organization)
  await client.vpcCreate({ name: 'ci' })
  const limited = server.client(await newToken(server, { scopes: ['read'], vpcs: ['ci'] }, organization))
  expect((await limited.vpcList()).items.map(({ name }) => name)).toEqual(['ci'])
  expect((await limited.vpcView({ name: 'ci' })).name).toBe('ci')
  await expect(limited.vpcView({ name: 'default' })).rejects.toMatchObject(missing)
  await client.vpcDelete({ name: 'ci' })
  await client.vpcCreate({ name: 'ci' })
  expect((await limited.vpcList()).items).toEqual([])
  await expect(limited.vpcView({ name: 'ci' })).rejects.toMatchObject(missing)
})

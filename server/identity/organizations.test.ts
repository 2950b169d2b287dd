import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { newMember, newOrganization, signIn } from '../testing/actors.ts'
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

const taken = { status: 409, code: 'name_taken' }
const missing = { status: 404, code: 'organization_not_found' }

describe('founding an organization', () => {
  test('makes the caller its owner, with a VPC and an admin token that is shown once', async () => {
    const viewer = await newMember(server, 'viewer')
    const { token = '', ...founded } = await server.client(viewer).organizationCreate({ name: 'acme' })
    expect(founded).toMatchObject({ name: 'acme', role: 'owner' })
    const client = other.client({ token })
    expect(await client.meView()).toMatchObject({
      user: { email: viewer.email, operator: false },
      organization: { id: founded.id, name: 'acme' },
      role: 'owner',
      token: { name: 'admin', scopes: ['admin'], vpcs: null, apps: null, expiresAt: null },
    })
    expect((await client.vpcList()).items).toMatchObject([{ name: 'default', namespace: 'acme--default' }])
    expect((await client.memberList()).items).toMatchObject([{ email: viewer.email, role: 'owner', status: 'active' }])
    expect((await client.organizationView({ organization: 'acme' })) as object).not.toHaveProperty('token')
    expect((await server.client(viewer).meView()).organization?.name, 'the current one stays').toBe('main')
    expect((await server.client(viewer).organizationList()).items.map(({ name }) => name)).toEqual(['acme', 'main'])
  })

  test.each(['', '-a', 'a-', 'a--b', '1a', 'Acme', 'a_b', 'a.b', 'ä', 'a b', 'a'.repeat(31)])(
    'takes no %j for a name',
    async (name) => {
      await expect(server.client().organizationCreate({ name })).rejects.toMatchObject({ status: 400 })
    },
  )

  test.each(['a', 'a1', 'a-b-c', 'a'.repeat(30)])('takes %j for a name', async (name) => {
    await expect(server.client().organizationCreate({ name })).resolves.toMatchObject({ name })
  })

  test('under a name that is taken is refused, also to the second of two at once', async () => {
    await newOrganization(server, 'first')
    await expect(server.client().organizationCreate({ name: 'first' })).rejects.toMatchObject(taken)
    const both = await Promise.allSettled(
      [server, other].map((on) => on.client(server).organizationCreate({ name: 'race' })),
    )
    expect(both.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
    expect(both.find(({ status }) => status === 'rejected')).toMatchObject({ reason: taken })
  })
})

describe('renaming', () => {
  test('keeps id, token and the namespaces there are; new VPCs are named anew', async () => {
    const organization = await newOrganization(server, 'before')
    const client = server.client(organization)
    expect(await client.organizationPatch({ organization: 'before', name: 'after' })).toMatchObject({
      id: organization.id,
      name: 'after',
      role: 'owner',
    })
    await client.vpcCreate({ name: 'new' })
    expect((await client.vpcList()).items.map(({ namespace }) => namespace)).toEqual(['after--new', 'before--default'])
    await expect(client.organizationView({ organization: 'before' })).rejects.toMatchObject(missing)
    expect((await client.organizationView({ organization: organization.id })).name).toBe('after')
  })

  test('to a taken name is refused; a freed name stays reserved by the namespaces that carry it', async () => {
    await newOrganization(server, 'old')
    const renamed = await newOrganization(server, 'older')
    await expect(
      server.client(renamed).organizationPatch({ organization: 'older', name: 'old' }),
    ).rejects.toMatchObject(taken)
    await server.client(renamed).organizationPatch({ organization: 'older', name: 'newer' })
    await expect(server.client().organizationCreate({ name: 'older' })).rejects.toMatchObject({
      ...taken,
      hint: expect.stringContaining('namespace') as string,
    })
  })

  test('is for owners, of this organization', async () => {
    const admin = await newMember(server, 'admin')
    const rename = { name: 'mine' }
    await expect(server.client(admin).organizationPatch({ organization: 'main', ...rename })).rejects.toMatchObject({
      status: 403,
      code: 'insufficient_role',
    })
    const { name } = await newOrganization(server)
    await expect(server.client(admin).organizationPatch({ organization: name, ...rename })).rejects.toMatchObject(
      missing,
    )
    await expect(server.client().organizationPatch({ organization: name, ...rename })).rejects.toMatchObject(missing)
  })
})

describe('deleting', () => {
  test('needs its name, and an owner', async () => {
    const organization = await newOrganization(server)
    const admin = await newMember(server, 'admin', organization)
    const { name } = organization
    const confirmation = { status: 400, code: 'confirmation_needed' }
    const client = server.client(organization)
    await expect(client.organizationDelete({ organization: name })).rejects.toMatchObject(confirmation)
    await expect(client.organizationDelete({ organization: name, confirm: organization.id })).rejects.toMatchObject(
      confirmation,
    )
    await expect(server.client(admin).organizationDelete({ organization: name, confirm: name })).rejects.toMatchObject({
      status: 403,
    })
    await expect(server.client().organizationDelete({ organization: name, confirm: name })).rejects.toMatchObject(
      missing,
    )
    expect((await client.organizationView({ organization: name })).name).toBe(name)
  })

  test('removes every row of it and leaves the audit; its tokens are unknown at once', async () => {
    const organization = await newOrganization(server)
    const member = await newMember(server, 'admin', organization)
    const invited = await server.client(organization).memberInvite({ email: 'open@example.test', role: 'viewer' })
    await server.client(organization).vpcCreate({ name: 'more' })
    const { id, name, token } = organization
    await server.client(organization).organizationDelete({ organization: name, confirm: name })

    const { rows: columns } = await server.db.query<{ table: string; column: string }>(
      `select table_name as "table", column_name as "column" from information_schema.columns
       where table_schema = 'public' and (column_name = 'organization_id' or table_name = 'organizations' and column_name = 'id')`,
    )
    expect(columns.length).toBeGreaterThanOrEqual(5)
    const uuid = (
      await server.db.query(
        "select object_id from audit_events where object_name = $1 and action = 'organization.delete'",
        [name],
      )
    ).rows[0].object_id as string
    for (const { table, column } of columns)
      expect((await server.db.query(`select from ${table} where ${column} = $1`, [uuid])).rowCount, table).toBe(0)

    expect(await other.call('/auth/me', { as: { token } })).toMatchObject({
      status: 403,
      body: { error: { code: 'invalid_token' } },
    })
    expect(await other.client(member).meView()).toMatchObject({ organization: null, organizations: [] })
    expect(
      (await server.call('/auth/invitation', { body: { invitation: invited.invitation, password: 'x'.repeat(12) } }))
        .status,
    ).toBe(400)
    const { items } = await server.client().adminAuditList({ action: 'organization.delete', object: id })
    expect(items).toMatchObject([
      { outcome: 'done', object: { id, name }, actor: { name: 'admin', user: server.email } },
    ])
    const { rows } = await server.db.query('select action from audit_events where chain = $1 order by seq', [uuid])
    expect(rows.at(0)).toEqual({ action: 'organization.create' })
    expect(rows.at(-1)).toEqual({ action: 'organization.delete' })
  })

  test('by a browser session leaves it without an organization until it switches', async () => {
    const session = await signIn(server, server.email, server.password)
    const client = other.client(session)
    const { name } = await newOrganization(server)
    await client.sessionSwitch({ organization: name })
    await client.organizationDelete({ organization: name, confirm: name })
    expect((await client.meView()).organization).toBeNull()
    expect((await client.sessionSwitch({ organization: 'main' })).role).toBe('owner')
  })

  test('twice at the same moment is done once', async () => {
    const organization = await newOrganization(server)
    const { name } = organization
    const both = await Promise.allSettled(
      [server, other].map((on) => on.client(organization).organizationDelete({ organization: name, confirm: name })),
    )
    expect(both.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
    const { items } = await server.client().adminAuditList({ action: 'organization.delete', object: organization.id })
    expect(items.filter(({ outcome }) => outcome === 'done')).toHaveLength(1)
  })

  test('is refused while something holds on to one of its VPCs', async () => {
    const organization = await newOrganization(server)
    const client = server.client(organization)
    await server.db.query('create table tenants_of_vpcs (vpc_id uuid not null references vpcs)')
    await server.db.query('insert into tenants_of_vpcs select id from vpcs where namespace = $1', [
      `${organization.name}--default`,
    ])
    const { name } = organization
    await expect(client.organizationDelete({ organization: name, confirm: name })).rejects.toMatchObject({
      status: 409,
      code: 'vpc_not_empty',
    })
    expect((await client.meView()).role, 'nothing of it is gone').toBe('owner')
    await server.db.query('drop table tenants_of_vpcs')
    await client.organizationDelete({ organization: name, confirm: name })
  })
})

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { cookieOf, newMember, newOrganization, newToken, password, signIn } from '../testing/actors.ts'
import { dump, formsOf } from '../testing/dump.ts'
import { type Credential, startTestServer, type TestServer } from '../testing/server.ts'
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

let count = 0
const newEmail = () => `guest-${++count}@example.test`
const accept = (invitation: string | undefined, secret = password, on = server) =>
  on.call('/auth/invitation', { body: { invitation, password: secret } })
const invalid = { status: 400, body: { error: { code: 'invalid_invitation' } } }
const membersOf = async (organization: Credential) => (await server.client(organization).memberList()).items

describe('an invitation', () => {
  test('makes an account and a member, signed in, and counts once', async () => {
    const email = newEmail()
    const { invitation, ...shown } = await server.client().memberInvite({ email, role: 'developer' })
    expect(shown).toMatchObject({ email, role: 'developer', status: 'invited' })
    expect(Date.parse(shown.invitationExpiresAt ?? '') - Date.parse(shown.createdAt)).toBe(7 * 86_400_000)

    const answer = await accept(invitation)
    expect(answer).toMatchObject({ status: 200, body: { user: { email }, role: 'developer' } })
    expect((await other.client(cookieOf(answer)).meView()).organization?.name).toBe('main')
    expect((await membersOf(server)).find((member) => member.email === email)).toMatchObject({
      id: shown.id,
      status: 'active',
      invitationExpiresAt: null,
    })
    expect(await accept(invitation)).toMatchObject(invalid)
    await signIn(server, email)
  })

  test('is over after 7 days, and when it was taken back', async () => {
    const late = await server.client().memberInvite({ email: newEmail(), role: 'viewer' })
    await server.db.query('update members set invited_until = now() where email = $1', [late.email])
    expect(await accept(late.invitation)).toMatchObject(invalid)
    const taken = await server.client().memberInvite({ email: newEmail(), role: 'viewer' })
    await server.client().memberDelete({ id: taken.id })
    expect(await accept(taken.invitation)).toMatchObject(invalid)
    expect(await accept('inv_never')).toMatchObject(invalid)
  })

  test('is replaced by a new one for the same address', async () => {
    const email = newEmail()
    const first = await server.client().memberInvite({ email, role: 'viewer' })
    const second = await server.client().memberInvite({ email: email.toUpperCase(), role: 'admin' })
    expect(second.id).toBe(first.id)
    expect(await accept(first.invitation)).toMatchObject(invalid)
    expect(await accept(second.invitation)).toMatchObject({ status: 200, body: { role: 'admin' } })
  })

  test('asks someone who is known for their own password, and leaves it as it is', async () => {
    const known = await newMember(server, 'viewer')
    const second = await newOrganization(server)
    const { invitation } = await server.client(second).memberInvite({ email: known.email, role: 'developer' })
    expect(await accept(invitation, 'a password of mine')).toMatchObject({
      status: 401,
      body: { error: { code: 'invalid_credentials' } },
    })
    const answer = await accept(invitation)
    expect(answer.body).toMatchObject({ user: { email: known.email }, organization: { name: second.name } })
    expect(answer.body.organizations).toHaveLength(2)
    await signIn(server, known.email)
  })

  test('is not guessed at forever: 30 tries an address', async () => {
    const from = '192.0.2.30'
    const guess = () => server.call('/auth/invitation', { body: { invitation: 'inv_guess', password }, from })
    for (let tries = 0; tries < 30; tries++) expect((await guess()).status).toBe(400)
    expect((await guess()).status).toBe(429)
  })

  test('is stored and logged as nothing but a hash', async () => {
    const { invitation = '' } = await server.client().memberInvite({ email: newEmail(), role: 'viewer' })
    const stored = await dump(server.db)
    for (const form of formsOf(invitation)) expect(stored).not.toContain(form)
    await accept(invitation)
    expect(server.log()).not.toContain(invitation)
  })

  test('accepted ten times at once, on two servers, makes one member and one session', async () => {
    const known = await newMember(server, 'viewer')
    const second = await newOrganization(server)
    for (const email of [newEmail(), known.email]) {
      const { invitation } = await server.client(second).memberInvite({ email, role: 'viewer' })
      const sessions = await countOf('sessions')
      const answers = await Promise.all(
        Array.from({ length: 10 }, (_, index) => accept(invitation, password, index % 2 ? server : other)),
      )
      expect(answers.filter(({ status }) => status === 200)).toHaveLength(1)
      for (const answer of answers) if (answer.status !== 200) expect(answer).toMatchObject(invalid)
      expect((await membersOf(second)).filter((member) => member.email === email)).toHaveLength(1)
      expect(await countOf('sessions')).toBe(sessions + 1)
    }
  })

  test.each([
    '',
    'x',
    'a@b',
    'a b@example.test',
    '@example.test',
    'a@example.test, b@example.test',
    `${'a'.repeat(250)}@example.test`,
    'a\u0000@example.test',
  ])('takes no %j for an address', async (email) => {
    await expect(server.client().memberInvite({ email, role: 'viewer' })).rejects.toMatchObject({ status: 400 })
  })

  test('takes an address as people write it, and keeps it in one spelling', async () => {
    const { email } = await server.client().memberInvite({ email: '  Some.One+tag@Example.TEST ', role: 'viewer' })
    expect(email).toBe('some.one+tag@example.test')
  })

  test('is refused for someone who is a member already, whoever asks', async () => {
    const [owner, admin] = [await newMember(server, 'owner'), await newMember(server, 'admin')]
    for (const by of [owner, admin])
      for (const { email } of [owner, admin])
        await expect(server.client(by).memberInvite({ email, role: 'viewer' })).rejects.toMatchObject({
          status: 409,
          code: 'already_member',
        })
    await expect(server.client(admin).memberPatch({ id: admin.id, role: 'developer' })).resolves.toMatchObject({
      role: 'developer',
    })
  })
})

describe('roles', () => {
  const refused = { status: 403, code: 'insufficient_role' }

  test('an admin manages everyone but owners', async () => {
    const admin = server.client(await newMember(server, 'admin'))
    const [owner, viewer] = [await newMember(server, 'owner'), await newMember(server, 'viewer')]
    const invited = await server.client().memberInvite({ email: newEmail(), role: 'owner' })

    await expect(admin.memberInvite({ email: newEmail(), role: 'owner' })).rejects.toMatchObject(refused)
    await expect(admin.memberInvite({ email: invited.email, role: 'viewer' })).rejects.toMatchObject(refused)
    await expect(admin.memberPatch({ id: viewer.id, role: 'owner' })).rejects.toMatchObject(refused)
    for (const { id } of [owner, invited]) {
      await expect(admin.memberPatch({ id, role: 'viewer' })).rejects.toMatchObject(refused)
      await expect(admin.memberDelete({ id })).rejects.toMatchObject(refused)
    }
    expect((await server.client(owner).meView()).role).toBe('owner')
    expect((await accept(invited.invitation)).body.role, 'the invitation is as the owner made it').toBe('owner')

    expect(await admin.memberPatch({ id: viewer.id, role: 'admin' })).toMatchObject({ role: 'admin' })
    expect(await admin.memberDelete({ id: viewer.id })).toEqual({})
  })

  test('an owner manages owners', async () => {
    const [first, second] = [await newMember(server, 'owner'), await newMember(server, 'viewer')]
    const client = server.client(first)
    expect(await client.memberPatch({ id: second.id, role: 'owner' })).toMatchObject({ role: 'owner' })
    expect(await client.memberPatch({ id: second.id, role: 'viewer' })).toMatchObject({ role: 'viewer' })
    const { id } = await client.memberInvite({ email: newEmail(), role: 'owner' })
    expect(await client.memberPatch({ id, role: 'viewer' })).toMatchObject({ role: 'viewer', status: 'invited' })
    await client.memberPatch({ id: second.id, role: 'owner' })
    expect(await client.memberDelete({ id: second.id })).toEqual({})
  })

  test('one who became an owner a moment ago is not demoted by an admin who saw less', async () => {
    const [admin, rising] = [await newMember(server, 'admin'), await newMember(server, 'viewer')]
    for (const attempt of [
      () => server.client(admin).memberPatch({ id: rising.id, role: 'viewer' }),
      () => server.client(admin).memberDelete({ id: rising.id }),
    ]) {
      await server.client().memberPatch({ id: rising.id, role: 'viewer' })
      const promotion = await server.db.connect()
      await promotion.query("begin; select from organizations where name = 'main' for no key update")
      const demotion = expect(attempt()).rejects.toMatchObject(refused)
      await expect.poll(() => waiting(server)).toBe(1)
      await promotion.query("update members set role = 'owner' where email = $1", [rising.email])
      await promotion.query('commit')
      promotion.release()
      await demotion
      expect((await other.client(rising).meView()).role).toBe('owner')
    }
  })

  test('a change counts on the next request at another server', async () => {
    const member = await newMember(server, 'viewer')
    await expect(other.client(member).vpcCreate({ name: 'mine' })).rejects.toMatchObject(refused)
    await server.client().memberPatch({ id: member.id, role: 'admin' })
    await expect(other.client(member).vpcCreate({ name: 'mine' })).resolves.toMatchObject({ name: 'mine' })
    await server.client().memberPatch({ id: member.id, role: 'viewer' })
    await expect(other.client(member).vpcDelete({ name: 'mine' })).rejects.toMatchObject(refused)
  })
})

describe('leaving', () => {
  test('is for everyone, a viewer too, and only for oneself', async () => {
    const [viewer, another] = [await newMember(server, 'viewer'), await newMember(server, 'viewer')]
    await expect(server.client(viewer).memberDelete({ id: another.id })).rejects.toMatchObject({ status: 403 })
    expect(await server.client(viewer).memberDelete({ id: viewer.id })).toEqual({})
    expect((await other.client(viewer).meView()).organization).toBeNull()
    expect((await other.client(another).meView()).role).toBe('viewer')
  })

  test('is refused to the last owner, and so is a smaller role; an invited owner does not count', async () => {
    const organization = await newOrganization(server)
    const client = server.client(organization)
    await client.memberInvite({ email: newEmail(), role: 'owner' })
    const { items } = await client.memberList()
    const id = items.find(({ status }) => status === 'active')?.id ?? ''
    const lastOwner = { status: 409, code: 'last_owner' }
    await expect(client.memberDelete({ id })).rejects.toMatchObject(lastOwner)
    await expect(client.memberPatch({ id, role: 'admin' })).rejects.toMatchObject(lastOwner)
    expect((await client.meView()).role).toBe('owner')
  })

  test('of two owners at the same moment, one stays', async () => {
    const { email } = await newMember(server, 'viewer')
    for (let round = 0; round < 5; round++) {
      const organization = await newOrganization(server)
      const founder = (await membersOf(organization))[0]?.id ?? ''
      const { invitation, id } = await server.client(organization).memberInvite({ email, role: 'owner' })
      const second = other.client(cookieOf(await accept(invitation)))
      const leaving = await Promise.allSettled([
        server.client(organization).memberDelete({ id: founder }),
        round % 2 ? second.memberDelete({ id }) : second.memberPatch({ id, role: 'viewer' }),
      ])
      expect(leaving.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
      const { rowCount } = await server.db.query(
        `select from members m join organizations o on o.id = m.organization_id where o.name = $1 and m.role = 'owner'`,
        [organization.name],
      )
      expect(rowCount).toBe(1)
    }
  })
})

describe('a removed member', () => {
  test('has sessions that reach nothing of the organization, and tokens that are gone for good', async () => {
    const member = await newMember(server, 'admin')
    const { token, id } = await newToken(server, {}, member)
    expect((await other.client({ token }).tokenList()).items.map((item) => item.id)).toContain(id)
    await server.client().memberDelete({ id: member.id })

    const removed = { status: 403, body: { error: { code: 'invalid_token' } } }
    for (const path of ['/auth/me', '/tokens', '/organizations'])
      expect(await other.call(path, { as: { token } })).toMatchObject(removed)
    await expect(other.client(member).tokenList()).rejects.toMatchObject({ status: 403, code: 'insufficient_role' })
    expect((await server.client().tokenList({ limit: 200 })).items.map((item) => item.id)).not.toContain(id)

    const { invitation } = await server.client().memberInvite({ email: member.email, role: 'admin' })
    expect((await accept(invitation)).status).toBe(200)
    expect((await other.client(member).meView()).role, 'a session goes on').toBe('admin')
    expect(await other.call('/auth/me', { as: { token } }), 'a token does not come back').toMatchObject(removed)
  })

  test('cannot make a token with a request that was under way', async () => {
    const member = await newMember(server, 'admin')
    const removal = await server.db.connect()
    await removal.query('begin')
    await removal.query('delete from members where email = $1', [member.email])
    const late = expect(other.client(member).tokenCreate({ name: 'late' })).rejects.toMatchObject({
      status: 403,
      code: 'insufficient_role',
    })
    await expect.poll(() => waiting(server)).toBe(1)
    await removal.query('commit')
    removal.release()
    await late
  })
})

test('a demoted member keeps tokens that can do what the member can', async () => {
  const member = await newMember(server, 'admin')
  const token = await newToken(server, {}, member)
  const client = other.client(token)
  await client.vpcCreate({ name: 'before' })
  await server.client().memberPatch({ id: member.id, role: 'viewer' })
  await expect(client.vpcDelete({ name: 'before' })).rejects.toMatchObject({ status: 403, code: 'insufficient_role' })
  expect((await client.vpcView({ name: 'before' })).name).toBe('before')
})

test('members are listed page by page, each once', async () => {
  const organization = await newOrganization(server)
  const client = server.client(organization)
  for (let index = 0; index < 7; index++) await client.memberInvite({ email: newEmail(), role: 'viewer' })
  const seen: string[] = []
  let cursor: string | null | undefined
  do {
    const page = await client.memberList({ limit: 3, ...(cursor ? { cursor } : {}) })
    expect(page.items.length).toBeLessThanOrEqual(3)
    seen.push(...page.items.map(({ id }) => id))
    cursor = page.nextCursor
  } while (cursor)
  expect(seen).toHaveLength(8)
  expect(new Set(seen).size).toBe(8)
})

const countOf = async (table: string) => Number((await server.db.query(`select count(*) from ${table}`)).rows[0].count)

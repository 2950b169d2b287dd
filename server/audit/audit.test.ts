import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { cookieOf, newMember, newOrganization, newToken, password, signIn } from '../testing/actors.ts'
import { type Answer, type Credential, startTestServer, type TestServer } from '../testing/server.ts'

let server: TestServer
beforeAll(async () => {
  server = await startTestServer()
})
afterAll(() => server.close())

type Row = {
  actor_type: string
  actor_name: string
  actor_user: string | null
  address: string
  action: string
  object_type: string | null
  object_name: string | null
  outcome: string
  code: string | null
}

/** The rows that a request left, in whatever chain. */
async function rowsOf(answer: Answer): Promise<Row[]> {
  const { rows } = await server.db.query<Row>(
    `select actor_type, actor_name, actor_user, address, action, object_type, object_name, outcome, code
     from audit_events where request_id = $1 order by chain, seq`,
    [answer.headers.get('x-request-id')],
  )
  return rows
}

const countOf = async () => Number((await server.db.query('select count(*) from audit_events')).rows[0].count)
const from = '192.0.2.77'
const call = (method: string, path: string, as?: Credential, body?: unknown, headers = {}) =>
  server.call(path, { method, from, headers, ...(as ? { as } : {}), ...(body === undefined ? {} : { body }) })

describe('what is written down', () => {
  test('every change has one row: who, from where, what, on which object', async () => {
    const organization = await newOrganization(server, 'audited')
    const owner = { token: organization.token }
    const byToken = {
      actor_type: 'token',
      actor_name: 'admin',
      actor_user: server.email,
      address: from,
      outcome: 'done',
    }
    const one = async (answer: Answer, expected: Partial<Row>) => {
      expect(answer.status, answer.text).toBeLessThan(300)
      expect(await rowsOf(answer)).toMatchObject([{ code: null, ...expected }])
      expect(await rowsOf(answer)).toHaveLength(1)
      changes++
      return answer
    }
    let changes = 0
    const before = await countOf()

    const ci = { ...byToken, object_type: 'token', object_name: 'ci' }
    const { body: token } = await one(await call('POST', '/tokens', owner, { name: 'ci' }), {
      ...ci,
      action: 'token.create',
    })
    const tokenPath = `/tokens/${token.id}`
    await one(await call('PATCH', tokenPath, owner, { enabled: false }), { ...ci, action: 'token.patch' })
    await one(await call('POST', `${tokenPath}/rotate`, owner, {}), { ...ci, action: 'token.rotate' })
    await one(await call('DELETE', tokenPath, owner), { ...ci, action: 'token.delete' })

    const vpc = { ...byToken, object_type: 'vpc', object_name: 'prod' }
    await one(await call('POST', '/vpcs', owner, { name: 'prod' }), { ...vpc, action: 'vpc.create' })
    await one(await call('PATCH', '/vpcs/prod', owner, { protected: true }), { ...vpc, action: 'vpc.patch' })
    await one(await call('DELETE', '/vpcs/prod?confirm=prod', owner), { ...vpc, action: 'vpc.delete' })

    const email = 'hired@example.test'
    const member = { ...byToken, object_type: 'member', object_name: email }
    const { body: invited } = await one(await call('POST', '/members', owner, { email, role: 'admin' }), {
      ...member,
      action: 'member.invite',
    })
    const byUser = { actor_type: 'user', actor_name: email, actor_user: null, address: from, outcome: 'done' }
    const accepted = await one(
      await call('POST', '/auth/invitation', undefined, { invitation: invited.invitation, password }),
      { ...byUser, object_type: 'member', object_name: email, action: 'invitation.accept' },
    )
    await one(await call('PATCH', `/members/${invited.id}`, owner, { role: 'owner' }), {
      ...member,
      action: 'member.patch',
    })

    const session = { ...byUser, object_type: 'session' }
    const signIn = { email, password }
    const [first, second, third] = [
      cookieOf(
        await one(await call('POST', '/auth/session', undefined, signIn), { ...session, action: 'session.create' }),
      ),
      cookieOf(
        await one(await call('POST', '/auth/session', undefined, signIn), { ...session, action: 'session.create' }),
      ),
      cookieOf(accepted),
    ]
    const { id } = (await server.client(second).meView()).session ?? { id: '' }
    await one(await call('DELETE', `/sessions/${id}`, first), { ...session, action: 'session.revoke' })
    const self = { ...byUser, object_type: 'user', object_name: email }
    await one(await call('POST', '/auth/password', first, { current: password, new: 'another password' }), {
      ...self,
      action: 'password.change',
    })
    await one(await call('PATCH', '/auth/session', first, { organization: 'audited' }), {
      ...byUser,
      object_type: 'organization',
      object_name: 'audited',
      action: 'session.switch',
    })
    expect((await call('GET', '/auth/me', third)).status).toBe(401)
    changes++ // the refusal of this session, which the new password ended
    await one(await call('DELETE', '/sessions?keepCurrent=true', first), { ...self, action: 'session.revokeAll' })
    await one(await call('DELETE', '/auth/session', first), { ...session, action: 'session.end' })

    await one(await call('DELETE', `/members/${invited.id}`, owner), { ...member, action: 'member.delete' })
    await one(await call('PATCH', '/organizations/audited', owner, { name: 'renamed' }), {
      ...byToken,
      object_type: 'organization',
      object_name: 'audited',
      action: 'organization.patch',
    })
    await one(await call('POST', '/organizations', owner, { name: 'another' }), {
      ...byToken,
      object_type: 'organization',
      object_name: 'another',
      action: 'organization.create',
    })
    const deleted = await call('DELETE', '/organizations/renamed?confirm=renamed', owner)
    const gone = { ...byToken, object_name: 'renamed', action: 'organization.delete' }
    expect(await rowsOf(deleted), 'its own chain, and that of the installation').toMatchObject([gone, gone])
    expect(await countOf(), 'and nothing else was written').toBe(before + changes + 2)
  })

  test('every refusal has one row with its code, and takes nobody further', async () => {
    const organization = await newOrganization(server, 'guarded')
    const owner = { token: organization.token }
    const viewer = await newMember(server, 'viewer', organization)
    const reader = await newToken(server, { scopes: ['read'] }, organization)
    const disabled = await newToken(server, {}, organization)
    const expired = await newToken(server, {}, organization)
    const client = (as: Credential) => server.client(as)
    await client(owner).tokenPatch({ id: disabled.id, enabled: false })
    await client(owner).tokenRotate({ id: expired.id, graceHours: 0 })
    const [self] = (await client(owner).memberList()).items.filter(({ role }) => role === 'owner')
    const ended = await signIn(server, viewer.email)
    await client(viewer).sessionRevokeAll({ keepCurrent: true })
    const before = await countOf()

    const nobody = { actor_type: 'anonymous', actor_name: 'anonymous' }
    const named = expect.stringMatching(/^test-/) as string
    // It does not count, but it is known, and its organization's admins should see that it is still in use.
    const ofToken = {
      actor_type: 'token',
      actor_name: named,
      actor_user: server.email,
      object_type: 'token',
      object_name: named,
    }
    const byViewer = { actor_type: 'user', actor_name: viewer.email }
    const byOwner = { actor_type: 'token', actor_name: 'admin', actor_user: server.email }
    const refused: [Promise<Answer>, number, Partial<Row>][] = [
      [call('GET', '/tokens'), 401, { ...nobody, action: 'token.list', code: 'missing_token' }],
      [call('GET', '/auth/me', { token: 'sat_unknown' }), 403, { ...nobody, action: 'me.view', code: 'invalid_token' }],
      [call('GET', '/vpcs', disabled), 401, { ...ofToken, action: 'vpc.list', code: 'token_disabled' }],
      [call('POST', '/vpcs', expired, { name: 'x' }), 401, { ...ofToken, action: 'vpc.create', code: 'token_expired' }],
      [call('GET', '/auth/me', ended), 401, { ...nobody, action: 'me.view', code: 'session_expired' }],
      [
        call('POST', '/auth/session', undefined, { email: 'who@example.test', password: 'x' }),
        401,
        { ...nobody, action: 'session.create', code: 'invalid_credentials', object_name: 'who@example.test' },
      ],
      [
        call('POST', '/vpcs', viewer, { name: 'x' }),
        403,
        { ...byViewer, action: 'vpc.create', code: 'insufficient_role' },
      ],
      [
        call('DELETE', `/members/${self?.id}`, viewer),
        403,
        { ...byViewer, action: 'member.delete', code: 'insufficient_role' },
      ],
      [
        call('POST', '/vpcs', reader, { name: 'x' }),
        403,
        { actor_type: 'token', action: 'vpc.create', code: 'insufficient_scope' },
      ],
      [
        call('POST', '/auth/password', owner, {}),
        403,
        { ...byOwner, action: 'password.change', code: 'session_required' },
      ],
      [
        call('POST', '/auth/password', viewer, { current: 'wrong', new: 'long enough for it' }),
        403,
        { ...byViewer, action: 'password.change', code: 'wrong_password' },
      ],
      [
        call('DELETE', '/sessions', viewer, undefined, { origin: 'https://evil.example' }),
        403,
        { action: 'session.revokeAll', code: 'foreign_origin' },
      ],
      [call('GET', '/admin/audit', viewer), 403, { ...byViewer, action: 'admin.auditList', code: 'insufficient_role' }],
      [
        call('POST', '/vpcs', owner, { name: 'default' }),
        409,
        { ...byOwner, action: 'vpc.create', code: 'name_taken' },
      ],
      [call('DELETE', '/vpcs/default', owner), 409, { ...byOwner, action: 'vpc.delete', code: 'last_vpc' }],
      [call('DELETE', `/members/${self?.id}`, owner), 409, { ...byOwner, action: 'member.delete', code: 'last_owner' }],
    ]
    for (const [answering, status, row] of refused) {
      const answer = await answering
      expect(answer, row.code ?? '').toMatchObject({ status, body: { error: { code: row.code } } })
      expect(await rowsOf(answer), row.code ?? '').toMatchObject([{ outcome: 'refused', address: from, ...row }])
    }
    expect(await countOf()).toBe(before + refused.length)

    await server.db.query("update attempts set failures = 30 where key = 'address ' || $1", [from])
    const limited = await call('POST', '/auth/session', undefined, { email: server.email, password: server.password })
    expect(limited.status).toBe(429)
    expect(await rowsOf(limited)).toMatchObject([{ ...nobody, outcome: 'refused', code: 'too_many_attempts' }])
  })

  test('reads, typing mistakes, what is not there, and a repetition leave none', async () => {
    const owner = { token: server.token }
    const headers = { 'idempotency-key': 'once' }
    const first = await call('POST', '/vpcs', owner, { name: 'once' }, headers)
    const before = await countOf()
    const answers = [
      await call('POST', '/vpcs', owner, { name: 'once' }, headers),
      await call('GET', '/tokens', owner),
      await call('GET', '/audit', owner),
      await call('POST', '/vpcs', owner, { name: '--' }),
      await call('POST', '/vpcs', owner, 'no json'),
      await call('DELETE', '/vpcs/nope', owner),
      await call('GET', '/nowhere', owner),
      await call('DELETE', '/organizations/main', owner),
    ]
    expect(answers.map(({ status }) => status)).toEqual([201, 200, 200, 400, 400, 404, 404, 400])
    expect(answers[0]?.body).toEqual(first.body)
    expect(await countOf()).toBe(before)
  })

  test('names what was touched, never a value', async () => {
    const organization = await newOrganization(server)
    const client = server.client(organization)
    const { id } = await client.memberInvite({ email: 'named@example.test', role: 'viewer' })
    await client.memberPatch({ id, role: 'developer' })
    const made = await client.tokenCreate({ name: 'ci', scopes: ['read'], vpcs: ['default'], expiresInDays: 9 })
    await client.memberDelete({ id })
    const details = (await client.auditList()).items.map(({ action, detail }) => [action, detail])
    expect(details.slice(0, 4)).toEqual([
      ['member.delete', { role: 'developer', tokensEnded: [] }],
      ['token.create', { scopes: ['read'], vpcs: ['default'], apps: null, expiresInDays: 9 }],
      ['member.patch', { before: 'viewer', role: 'developer' }],
      ['member.invite', { role: 'viewer' }],
    ])
    expect(made.token).toBeDefined()
  })
})

describe('reading it', () => {
  let organization: Credential & { name: string }
  const names = async (query: Parameters<ReturnType<TestServer['client']>['auditList']>[0]) =>
    (await server.client(organization).auditList(query)).items.map(({ action, object }) => `${action} ${object?.name}`)
  const count = async (query: { since?: string; until?: string }) => (await names(query)).length
  let tokenId = ''
  let member: Awaited<ReturnType<typeof newMember>>

  beforeAll(async () => {
    organization = await newOrganization(server, 'history')
    member = await newMember(server, 'admin', organization)
    const bot = await server.client(member).tokenCreate({ name: 'bot_1' })
    tokenId = bot.id
    await server.client({ token: bot.token ?? '' }).vpcCreate({ name: 'by-bot' })
    await server.client(member).vpcCreate({ name: 'by-hand' })
    await expect(server.client({ token: bot.token ?? '' }).vpcCreate({ name: 'by-bot' })).rejects.toThrow('taken')
    await server.client(organization).tokenCreate({ name: 'botx1' })
  })

  test('is newest first, from the founding on', async () => {
    const { items, nextCursor } = await server.client(organization).auditList()
    expect(items.map(({ seq }) => seq)).toEqual([8, 7, 6, 5, 4, 3, 2, 1])
    expect(items.at(-1)).toMatchObject({ action: 'organization.create', object: { name: 'history' } })
    expect(items[1]).toMatchObject({
      actor: { type: 'token', id: tokenId, name: 'bot_1', user: member.email },
      action: 'vpc.create',
      outcome: 'refused',
      code: 'name_taken',
      requestId: expect.stringMatching(/^req_/) as string,
      address: '127.0.0.1',
    })
    expect(nextCursor).toBeNull()
  })

  test('by actor: an address, the name or the id of a token', async () => {
    const ofBot = ['vpc.create undefined', 'vpc.create by-bot']
    expect(await names({ actor: 'bot_1' })).toEqual(ofBot)
    expect(await names({ actor: tokenId })).toEqual(ofBot)
    // Both what they did themselves and what their token did.
    expect(await names({ actor: member.email })).toEqual([
      'vpc.create undefined',
      'vpc.create by-hand',
      'vpc.create by-bot',
      'token.create bot_1',
      `invitation.accept ${member.email}`,
    ])
    expect(await names({ actor: (await server.client(member).meView()).user.id })).toHaveLength(3)
    expect(await names({ actor: 'nobody' })).toEqual([])
  })

  test('by action, with * for any of a kind and nothing else that means something', async () => {
    expect(await names({ action: 'token.create' })).toEqual(['token.create botx1', 'token.create bot_1'])
    expect(await names({ action: 'token.*' })).toHaveLength(2)
    expect(await names({ action: '*.create' })).toHaveLength(6)
    expect(await names({ action: '*' })).toHaveLength(8)
    for (const action of ['token', 'token.%', 'token_create', '%', 'TOKEN.CREATE', '\\', '*\\'])
      expect(await names({ action })).toEqual([])
  })

  test('by object: a name or an id', async () => {
    expect(await names({ object: 'bot_1' })).toEqual(['token.create bot_1'])
    expect(await names({ object: tokenId })).toEqual(['token.create bot_1'])
    expect(await names({ object: 'by%' })).toEqual([])
    expect(await names({ object: 'by-hand', action: 'token.*' }), 'together').toEqual([])
  })

  test('by time: since is included, until is not', async () => {
    const { items } = await server.client(organization).auditList()
    const at = items[3]?.at ?? ''
    expect([await count({ since: at }), await count({ until: at })]).toEqual([4, 4])
    expect(await count({ since: at, until: at })).toBe(0)
    const inIndia = `${new Date(Date.parse(at) + 5.5 * 3_600_000).toISOString().slice(0, -1)}+05:30`
    expect(await count({ since: inIndia }), 'to the millisecond, in any zone').toBeGreaterThanOrEqual(4)
    expect(await count({ since: '2999-01-01T00:00:00Z' })).toBe(0)
    for (const since of ['yesterday', '2026-01-01', '1'])
      await expect(names({ since })).rejects.toMatchObject({ status: 400, code: 'invalid_query' })
  })

  test('page by page, each row once, also filtered and while rows are added', async () => {
    for (const filter of [{}, { action: '*.create' }]) {
      const seen: number[] = []
      const all = (await server.client(organization).auditList({ limit: 200, ...filter })).items.map(({ seq }) => seq)
      let cursor: string | undefined
      for (let page = 0; cursor !== undefined || page === 0; page++) {
        const { items, nextCursor } = await server
          .client(organization)
          .auditList({ limit: 3, ...filter, ...(cursor ? { cursor } : {}) })
        seen.push(...items.map(({ seq }) => seq))
        cursor = nextCursor ?? undefined
        await server.client(organization).tokenCreate({ name: `more-${page}` })
      }
      expect(seen).toEqual(all)
    }
    for (const cursor of ['x', '-1', '1.5', '1e3', '9'.repeat(30)])
      await expect(names({ cursor })).rejects.toMatchObject({ status: 400, code: 'invalid_query' })
  })

  test("shows nothing of another organization's, nor of the installation's", async () => {
    const own = await newOrganization(server)
    const stranger = server.client(own)
    expect((await stranger.auditList()).items).toMatchObject([
      { action: 'organization.create', object: { id: own.id } },
    ])
    for (const query of [{ actor: member.email }, { object: tokenId }, { actor: tokenId }, { object: 'by-hand' }])
      expect((await stranger.auditList(query)).items).toEqual([])
    expect((await server.client().adminAuditList({ actor: member.email })).items).toEqual([])
    await expect(stranger.adminAuditList()).rejects.toMatchObject({ status: 403 })
    await expect(server.client(organization).adminAuditVerify()).rejects.toMatchObject({ status: 403 })
    const viewer = await newMember(server, 'viewer', organization)
    expect((await server.client(viewer).auditList()).items.length, 'a viewer reads').toBeGreaterThan(0)
  })
})

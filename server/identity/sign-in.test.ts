import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { cookieOf, newMember, newOrganization, password, signIn } from '../testing/actors.ts'
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

let addresses = 0
const newAddress = () => `203.0.113.${++addresses}`
const guess = (on: TestServer, email: string, secret: string, from = newAddress()) =>
  on.call('/auth/session', { body: { email, password: secret }, from })
const fail = async (times: number, email: string, from?: string) => {
  for (let done = 0; done < times; done++) expect((await guess(server, email, 'wrong', from)).status).toBe(401)
}
/** Failures of an address that cost no password hash: guesses at invitations. */
const failAt = async (times: number, newFrom: (index: number) => string) => {
  for (let done = 0; done < times; done++) {
    const body = { invitation: 'inv_guess', password }
    expect((await server.call('/auth/invitation', { body, from: newFrom(done) })).status).toBe(400)
  }
}

describe('signing in', () => {
  test('with the right password sets a cookie that counts, and says who one is', async () => {
    const answer = await guess(server, server.email, server.password)
    expect(answer.status).toBe(200)
    expect(answer.body).toMatchObject({ user: { email: server.email }, organization: { name: 'main' }, role: 'owner' })
    expect(answer.headers.get('set-cookie')).toMatch(/^1ctl_session=[\w-]{43}; Path=\/; HttpOnly; SameSite=Strict/)
    expect((await server.call('/auth/me', { as: cookieOf(answer) })).body).toEqual(answer.body)
  })

  test('does not care how the address is spelled', async () => {
    expect((await guess(server, ' Owner@Example.TEST ', server.password)).status).toBe(200)
  })

  test('answers a wrong password and an unknown account alike, after the same work', async () => {
    const member = await newMember(server, 'viewer')
    const measured = async (email: string) => {
      const before = process.cpuUsage()
      const { status, body, headers } = await guess(server, email, 'wrong password')
      const { user, system } = process.cpuUsage(before)
      const { requestId, ...error } = body.error as Record<string, unknown>
      expect(requestId).toBe(headers.get('x-request-id'))
      return { work: user + system, answer: { status, error, cookie: headers.get('set-cookie') } }
    }
    const known: number[] = []
    const unknown: number[] = []
    for (let round = 0; round < 5; round++) {
      const [one, two] = [await measured(member.email), await measured('nobody@example.test')]
      expect(one.answer).toEqual(two.answer)
      expect(one.answer).toMatchObject({ status: 401, error: { code: 'invalid_credentials' }, cookie: null })
      known.push(one.work)
      unknown.push(two.work)
    }
    // In time of the processor, which other tests do not stretch. Without a hash to compare with, an unknown account would cost a tenth.
    const ratio = median(unknown) / median(known)
    expect(ratio).toBeGreaterThan(0.6)
    expect(ratio).toBeLessThan(1.6)
  })
})

describe('failures', () => {
  test('after 10 for an account even the right password waits, on every server and from everywhere', async () => {
    const { email } = await newMember(server, 'viewer')
    await fail(10, email)
    for (const on of [server, other]) {
      const answer = await guess(on, email, password)
      expect(answer).toMatchObject({ status: 429, body: { error: { code: 'too_many_attempts' } } })
      expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(14 * 60)
      expect(Number(answer.headers.get('retry-after'))).toBeLessThanOrEqual(15 * 60)
    }
    expect((await guess(server, server.email, server.password)).status, 'another account').toBe(200)
    await server.db.query('update attempts set until = now() where key like $1', [`%${email}`])
    expect((await guess(other, email, password)).status, 'when the time is over').toBe(200)
  })

  test('an account that does not exist is limited like one that does', async () => {
    await fail(10, 'ghost@example.test')
    expect((await guess(server, 'ghost@example.test', 'wrong')).status).toBe(429)
  })

  test('a burst of 50 guesses at two servers gets 10 of them looked at', async () => {
    const { email } = await newMember(server, 'viewer')
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, index) => guess(index % 2 ? server : other, email, 'wrong')),
    )
    const count = (status: number) => answers.filter((answer) => answer.status === status).length
    expect([count(401), count(429)]).toEqual([10, 40])
  })

  test('30 from an address, of whatever account, make everyone there wait; elsewhere nobody', async () => {
    const from = newAddress()
    for (let account = 0; account < 5; account++) await fail(1, `no-${account}@example.test`, from)
    await failAt(25, () => from)
    expect((await guess(other, server.email, server.password, from)).status).toBe(429)
    expect((await guess(other, server.email, server.password)).status).toBe(200)
  })

  test('an IPv6 address counts with its network, which one machine has whole', async () => {
    await failAt(29, (host) => `2001:db8:0:7::${host.toString(16)}`)
    await fail(1, 'six@example.test', '2001:db8:0:7:1:2:3:4')
    expect((await guess(server, server.email, server.password, '2001:db8:0:7:ffff::1')).status).toBe(429)
    expect((await guess(server, server.email, server.password, '2001:db8:0:8::1')).status).toBe(200)
  })

  test('a success takes back the failures of its account, and at its address only its own attempt', async () => {
    const { email } = await newMember(server, 'viewer')
    const from = newAddress()
    for (const failures of [9, 2]) {
      await fail(failures, email, from)
      expect((await guess(server, email, password, from)).status).toBe(200)
    }
    await failAt(18, () => from)
    expect((await guess(server, email, password, from)).status, 'after 29 failures').toBe(200)
    await fail(1, email, from)
    expect((await guess(server, email, password, from)).status, 'after 30 failures').toBe(429)
  })
})

describe('browser sessions', () => {
  test('are listed with time, address, agent and which one asks', async () => {
    const { email } = await newMember(server, 'developer')
    const headers = { 'user-agent': 'Firefox of a test' }
    const answer = await server.call('/auth/session', { body: { email, password }, headers, from: '198.51.100.7' })
    const { items } = await server.client(cookieOf(answer)).sessionList()
    expect(items).toHaveLength(2)
    expect(items[0]).toMatchObject({ current: true, address: '198.51.100.7', agent: 'Firefox of a test' })
    expect(items[1]).toMatchObject({ current: false })
    expect(Math.abs(Date.parse(items[0]?.createdAt ?? '') - Date.now())).toBeLessThan(60_000)
    expect(Date.parse(items[0]?.expiresAt ?? '') - Date.parse(items[0]?.createdAt ?? '')).toBe(30 * 86_400_000)
  })

  test('end one by one, all, or all but the own, on the next request at another server', async () => {
    const { email } = await newMember(server, 'viewer')
    const [a, b, c, d] = [
      await signIn(server, email),
      await signIn(server, email),
      await signIn(server, email),
      await signIn(server, email),
    ] as const
    const isIn = async (session: typeof a) => (await other.call('/auth/me', { as: session })).status
    const own = server.client(a)
    const idOf = async (session: typeof a) => (await server.client(session).meView()).session?.id ?? ''

    await own.sessionRevoke({ id: await idOf(b) })
    expect([await isIn(a), await isIn(b), await isIn(c)]).toEqual([200, 401, 200])
    expect(await own.sessionRevokeAll({ keepCurrent: true })).toEqual({ revoked: 3 })
    expect([await isIn(a), await isIn(c), await isIn(d)]).toEqual([200, 401, 401])
    await signIn(server, email)
    expect(await own.sessionRevokeAll()).toEqual({ revoked: 2 })
    expect(await other.call('/auth/me', { as: a })).toMatchObject({
      status: 401,
      body: { error: { code: 'session_expired' } },
    })
  })

  test("someone else's cannot be ended, and look like none", async () => {
    const [one, two] = [await newMember(server, 'owner'), await newMember(server, 'viewer')]
    const id = (await server.client(two).meView()).session?.id ?? ''
    await expect(server.client(one).sessionRevoke({ id })).rejects.toMatchObject({ code: 'session_not_found' })
    expect((await server.client(two).meView()).user.email).toBe(two.email)
  })

  test('one that is ended twice at the same moment is ended once', async () => {
    const member = await newMember(server, 'viewer')
    const id = (await server.client(await signIn(server, member.email)).meView()).session?.id ?? ''
    const ends = await Promise.allSettled([server, other].map((on) => on.client(member).sessionRevoke({ id })))
    expect(ends.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
  })

  test('end after 30 days, and after 7 without use; neither is listed any more', async () => {
    const { email } = await newMember(server, 'viewer')
    for (const end of ['expires_at = now()', "last_seen_at = now() - interval '7 days'"]) {
      const session = await signIn(server, email)
      const id = (await server.client(session).meView()).session?.id
      await server.db.query(
        `update sessions set ${end} where id = (
           select s.id from sessions s join users u on u.id = s.user_id where u.email = $1 order by s.id desc limit 1)`,
        [email],
      )
      expect(await server.call('/auth/me', { as: session })).toMatchObject({
        status: 401,
        body: { error: { code: 'session_expired' } },
      })
      const { items } = await server.client(await signIn(server, email)).sessionList()
      expect(items.map((item) => item.id)).not.toContain(id)
    }
  })

  test('use puts the idle end off', async () => {
    const session = await signIn(server, server.email, server.password)
    const { session: own } = await server.client(session).meView()
    await server.db.query("update sessions set last_seen_at = now() - interval '6 days'")
    await server.client(session).meView()
    await expect
      .poll(async () => {
        const { items } = await server.client(session).sessionList()
        return Date.now() - Date.parse(items.find(({ id }) => id === own?.id)?.lastSeenAt ?? '')
      })
      .toBeLessThan(60_000)
  })

  test('signing out ends the own session and clears the cookie', async () => {
    const { email } = await newMember(server, 'viewer')
    const [gone, kept] = [await signIn(server, email), await signIn(server, email)]
    const answer = await server.call('/auth/session', { method: 'DELETE', as: gone })
    expect(answer.headers.get('set-cookie')).toMatch(/^1ctl_session=; .*Max-Age=0/)
    expect((await other.call('/auth/me', { as: gone })).status).toBe(401)
    expect((await other.call('/auth/me', { as: kept })).status).toBe(200)
  })
})

describe('several organizations', () => {
  test('a session switches between those of its user, and to no other', async () => {
    const session = await signIn(server, server.email, server.password)
    const client = server.client(session)
    const second = await newOrganization(server)
    expect((await client.meView()).organization?.name).toBe('main')
    expect((await client.sessionSwitch({ organization: second.name })).organization).toEqual({
      id: second.id,
      name: second.name,
    })
    expect((await other.client(session).meView()).organization?.name, 'on another server').toBe(second.name)
    expect((await client.sessionSwitch({ organization: 'main' })).organization?.name).toBe('main')
    expect((await client.sessionSwitch({ organization: second.id })).organization?.name).toBe(second.name)

    const viewer = await newMember(server, 'viewer')
    await expect(server.client(viewer).sessionSwitch({ organization: second.id })).rejects.toMatchObject({
      code: 'organization_not_found',
    })
  })

  test('a session in an organization that is deleted, or that removed the member, may switch and sign out, and no more', async () => {
    const home = await newOrganization(server)
    const lost = await newOrganization(server)
    const left = await newOrganization(server)
    const member = await newMember(server, 'admin', home)
    const membership: Record<string, string> = {}
    for (const organization of [lost, left]) {
      const { invitation, id } = await server.client(organization).memberInvite({ email: member.email, role: 'admin' })
      membership[organization.id] = id
      await server.call('/auth/invitation', { body: { invitation, password } })
    }
    const client = server.client(member)
    const outside = async () => {
      expect(await client.meView()).toMatchObject({ organization: null, role: null, permissions: ['account'] })
      await expect(client.tokenList()).rejects.toMatchObject({ status: 403, code: 'insufficient_role' })
      await expect(client.vpcCreate({ name: 'x' })).rejects.toMatchObject({ status: 403, code: 'insufficient_role' })
    }

    await client.sessionSwitch({ organization: lost.name })
    await server.client(lost).organizationDelete({ organization: lost.name, confirm: lost.name })
    await outside()
    await client.sessionSwitch({ organization: left.name })
    expect((await client.meView()).role).toBe('admin')
    await server.client(left).memberDelete({ id: membership[left.id] ?? '' })
    await outside()
    await expect(client.sessionSwitch({ organization: left.name })).rejects.toMatchObject({ status: 404 })
    expect((await client.sessionSwitch({ organization: home.name })).role).toBe('admin')
  })

  test('signing in returns to the organization one was in last', async () => {
    const second = await newOrganization(server)
    const session = await signIn(server, server.email, server.password)
    await server.client(session).sessionSwitch({ organization: second.name })
    await server.db.query(
      `update sessions set last_seen_at = now() + interval '1 second'
       where organization_id = (select id from organizations where name = $1)`,
      [second.name],
    )
    const answer = await guess(server, server.email, server.password)
    expect(answer.body.organization.name).toBe(second.name)
  })
})

describe('changing the password', () => {
  const next = 'a new horse battery'

  test('needs the current one, ends the other sessions, and makes the old one useless', async () => {
    const member = await newMember(server, 'viewer')
    const elsewhere = await signIn(server, member.email)
    const client = server.client(member)
    await expect(client.passwordChange({ current: 'not this one', new: next })).rejects.toMatchObject({
      status: 403,
      code: 'wrong_password',
    })
    expect((await other.call('/auth/me', { as: elsewhere })).status).toBe(200)
    expect(await client.passwordChange({ current: password, new: next })).toEqual({ sessionsEnded: 1 })
    expect((await other.call('/auth/me', { as: elsewhere })).status).toBe(401)
    expect((await other.call('/auth/me', { as: member })).status).toBe(200)
    expect((await guess(other, member.email, password)).status).toBe(401)
    expect((await guess(other, member.email, next)).status).toBe(200)
  })

  test('counts a wrong current one as a failure to sign in', async () => {
    const member = await newMember(server, 'viewer')
    const wrong = () =>
      server.call('/auth/password', { body: { current: 'wrong', new: next }, as: member, from: newAddress() })
    for (let failure = 0; failure < 10; failure++) expect((await wrong()).status).toBe(403)
    expect((await wrong()).status).toBe(429)
    expect((await guess(server, member.email, password)).status).toBe(429)
  })

  test('refuses short ones and takes long ones', async () => {
    const member = await newMember(server, 'viewer')
    const client = server.client(member)
    await expect(client.passwordChange({ current: password, new: 'x'.repeat(11) })).rejects.toMatchObject({
      status: 400,
    })
    await expect(client.passwordChange({ current: password, new: 'x'.repeat(257) })).rejects.toMatchObject({
      status: 400,
    })
    await client.passwordChange({ current: password, new: 'ü'.repeat(256) })
    expect((await guess(server, member.email, 'ü'.repeat(256))).status).toBe(200)
  })

  test('a sign-in that was checked against the old password does not survive the change', async () => {
    const member = await newMember(server, 'viewer')
    const holder = await server.db.connect()
    try {
      // As a change of the password does, but slower: the sign-in is checked before it commits.
      await holder.query('begin')
      await holder.query("update users set password_hash = 'changed' where email = $1", [member.email])
      const late = guess(other, member.email, password)
      await expect.poll(() => waiting(server)).toBe(1)
      await holder.query('commit')
      expect((await late).status).toBe(401)
    } finally {
      holder.release()
    }
  })
})

const median = (numbers: number[]) => numbers.sort((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0

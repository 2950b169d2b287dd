import type { Output } from '@1ctl/contract'
import { contract } from '@1ctl/contract'
import type { Scope } from '@1ctl/contract/permissions'
import { isTokenWhole } from '@1ctl/contract/token-format'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { newMember, newOrganization, newToken, signIn } from '../testing/actors.ts'
import { dump, formsOf } from '../testing/dump.ts'
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

type Token = Output<typeof contract.tokenCreate>
const day = 86_400_000
const statusOf = async (token: string, on = other) => {
  const { status, body } = await on.call('/auth/me', { as: { token } })
  return status === 200 ? 200 : `${status} ${body.error.code}`
}
/** Moves the clock of one token, instead of everyone's. */
const age = (token: Token, by: string) =>
  server.db.query(
    `update api_tokens set created_at = created_at - $2::interval, expires_at = expires_at - $2::interval where last4 = $1`,
    [token.last4, by],
  )

describe('the value', () => {
  test('has the form that scanners know, with the tag and a checksum', async () => {
    const plain = await server.client().tokenCreate({ name: 'plain' })
    const tagged = await server.client().tokenCreate({ name: 'tagged', tag: 'prod' })
    expect(plain.token).toMatch(/^sat_[0-9A-Za-z]{32}$/)
    expect(tagged.token).toMatch(/^sat_prod_[0-9A-Za-z]{32}$/)
    for (const { token = '', prefix, last4 } of [plain, tagged]) {
      expect(isTokenWhole(token)).toBe(true)
      expect(isTokenWhole(token.replace(/.$/, (last) => (last === 'a' ? 'b' : 'a')))).toBe(false)
      expect(token.startsWith(prefix) && token.endsWith(last4)).toBe(true)
      expect([prefix.replace(/^sat_(prod_)?/, '').length, last4.length]).toEqual([4, 4])
    }
  })

  test('is in the one answer and nowhere else: no answer, row, log line or metric has it in any form', async () => {
    const key = { 'idempotency-key': 'the same' }
    const created = await server.client().tokenCreate({ name: 'secret', tag: 'ci' }, { headers: key })
    const rotated = await server.client().tokenRotate({ id: created.id, graceHours: 1 })
    expect((await server.client().tokenCreate({ name: 'secret', tag: 'ci' }, { headers: key })).id).toBe(created.id)
    const answers = await Promise.all(
      [`/tokens/${created.id}`, '/tokens', '/audit', '/admin/audit', `${server.url}/metrics`].map(
        async (path) => (await server.call(path, { as: { token: server.token } })).text,
      ),
    )
    for (const { token = '' } of [created, rotated]) {
      await server.call(`/tokens/${token}`, { as: { token } })
      await server.call('/vpcs', { as: { token: `${token}x` } })
      const everything = [await dump(server.db), server.log(), ...answers].join('\n')
      for (const form of formsOf(token)) expect(everything).not.toContain(form)
      expect(everything, 'what it was searched in').toContain(created.prefix)
    }
  })
})

describe('the life of a token', () => {
  test('ends with its days; without any it does not', async () => {
    const brief = await server.client().tokenCreate({ name: 'brief', expiresInDays: 90 })
    const lasting = await server.client().tokenCreate({ name: 'lasting' })
    expect(Date.parse(brief.expiresAt ?? '') - Date.parse(brief.createdAt)).toBe(90 * day)
    expect(lasting.expiresAt).toBeNull()
    for (const token of [brief, lasting]) await age(token, '89 days 23 hours')
    expect(await statusOf(brief.token ?? '')).toBe(200)
    for (const token of [brief, lasting]) await age(token, '1 hour')
    expect(await statusOf(brief.token ?? '')).toBe('401 token_expired')
    expect(await statusOf(lasting.token ?? '')).toBe(200)
    expect((await server.client().tokenView({ id: brief.id })).status).toBe('expired')
  })

  test.each([0, -1, 1.5, 3651, '90', null])('takes no %j for days', async (expiresInDays) => {
    const answer = await server.call('/tokens', { body: { name: 'x', expiresInDays }, as: server })
    expect(answer.status).toBe(400)
  })

  test('is suspended, resumed and ended for the very next request on another server', async () => {
    const { id, token } = await newToken(server)
    const client = server.client()
    expect(await statusOf(token)).toBe(200)
    expect((await client.tokenPatch({ id, enabled: false })).status).toBe('disabled')
    expect(await statusOf(token)).toBe('401 token_disabled')
    expect((await client.tokenPatch({ id, enabled: true })).status).toBe('active')
    expect(await statusOf(token)).toBe(200)
    expect(await client.tokenDelete({ id })).toEqual({})
    expect(await statusOf(token)).toBe('403 invalid_token')
    await expect(client.tokenView({ id })).rejects.toMatchObject({ status: 404, code: 'token_not_found' })
    await expect(client.tokenDelete({ id })).rejects.toMatchObject({ status: 404, code: 'token_not_found' })
  })

  test('a token is deleted once, however many do it at the same moment', async () => {
    const { id } = await newToken(server)
    const both = await Promise.allSettled([server, other].map((on) => on.client(server).tokenDelete({ id })))
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
  })

  test('renaming changes nothing else', async () => {
    const { token, ...before } = await server
      .client()
      .tokenCreate({ name: 'old', expiresInDays: 1, scopes: ['deploy'] })
    const after = await server.client().tokenPatch({ id: before.id, name: 'Döner 🥙 「名」' })
    expect(after).toEqual({ ...before, name: 'Döner 🥙 「名」' })
    expect(await statusOf(token ?? '')).toBe(200)
    expect((await other.client({ token: token ?? '' }).meView()).token?.name).toBe('Döner 🥙 「名」')
  })

  test.each(['', ' x', 'x ', 'a\nb', 'a\u202eb', '\u0000', 'x'.repeat(65)])('takes no %j for a name', async (name) => {
    await expect(server.client().tokenCreate({ name })).rejects.toMatchObject({ status: 400 })
  })

  test('use is noted with time and address, once a minute however many servers see it', async () => {
    await server.db.query(`
      create table notes (address text);
      create function note() returns trigger language plpgsql as $$
        begin insert into notes values (new.last_used_address); return new; end $$;
      create trigger note after update of last_used_at on api_tokens for each row when (new.name = 'noted') execute function note()`)
    const { id, token = '' } = await server.client().tokenCreate({ name: 'noted' })
    const notes = async () =>
      (await server.db.query<{ address: string }>('table notes')).rows.map(({ address }) => address)
    const use = (on: TestServer, from: string) => on.call('/auth/me', { as: { token }, from })
    expect(await server.client().tokenView({ id })).toMatchObject({ lastUsedAt: null, lastUsedAddress: null })

    // Held back, so that each of them finds the token unused and wants to note it.
    const holder = await server.db.connect()
    await holder.query("begin; select from api_tokens where name = 'noted' for update")
    await Promise.all([server, other, server, other].map((on) => use(on, '192.0.2.1')))
    await expect.poll(() => waiting(server)).toBe(4)
    await holder.query('commit')
    holder.release()
    await expect.poll(notes).toEqual(['192.0.2.1'])
    const { lastUsedAt, lastUsedAddress } = await server.client().tokenView({ id })
    expect(lastUsedAddress).toBe('192.0.2.1')
    expect(Math.abs(Date.parse(lastUsedAt ?? '') - Date.now())).toBeLessThan(60_000)

    await server.db.query("update api_tokens set last_used_at = now() - interval '59 seconds' where name = 'noted'")
    await use(other, '192.0.2.2')
    await server.db.query("update api_tokens set last_used_at = now() - interval '61 seconds' where name = 'noted'")
    await use(other, '192.0.2.3')
    // The two in between are the test's own.
    await expect.poll(notes).toEqual(['192.0.2.1', '192.0.2.1', '192.0.2.1', '192.0.2.3'])
    await server.db.query('drop trigger note on api_tokens')
  })
})

describe('rotating', () => {
  test('gives no more than the old token had: neither the rights of who rotates, nor a scope that is wider for them', async () => {
    const maker = await newMember(server, 'admin')
    const [whole, scoped] = [await newToken(server, {}, maker), await newToken(server, { scopes: ['admin'] }, maker)]
    await server.client().memberPatch({ id: maker.id, role: 'viewer' })
    const owner = await signIn(server, server.email, server.password)
    const next = await server.client(owner).tokenRotate({ id: whole.id })
    expect(next.scopes).toEqual(['read'])
    expect((await server.client({ token: next.token ?? '' }).meView()).permissions).toEqual(['read'])
    await server.client().memberPatch({ id: maker.id, role: 'admin' })
    expect((await server.client(owner).tokenRotate({ id: scoped.id })).scopes).toEqual([
      'read',
      'deploy',
      'secrets:write',
      'tokens:admin',
    ])
  })

  test('gives a successor of the same name, tag, scopes, limits and lifetime, which belongs to who rotates', async () => {
    const [maker, rotator] = [await newMember(server, 'admin'), await newMember(server, 'admin')]
    const given = { scopes: ['deploy'] as Scope[], vpcs: ['default'], apps: ['api', 'web'] }
    const old = await server.client(maker).tokenCreate({ name: 'ci', tag: 'prod', expiresInDays: 30, ...given })
    await age(old, '10 days')
    const next = await server.client(rotator).tokenRotate({ id: old.id })
    expect(next).toMatchObject({ name: 'ci', ...given, createdBy: rotator.email, replaces: old.id, status: 'active' })
    expect(next.token).toMatch(/^sat_prod_/)
    expect(Date.parse(next.expiresAt ?? '') - Date.parse(next.createdAt)).toBe(30 * day)
    expect(Date.parse(next.replacedEndsAt) - Date.parse(next.createdAt)).toBe(day)
    expect([await statusOf(old.token ?? ''), await statusOf(next.token ?? '')]).toEqual([200, 200])
    await age(old, '24 hours')
    expect([await statusOf(old.token ?? ''), await statusOf(next.token ?? '')]).toEqual(['401 token_expired', 200])
  })

  test('without grace ends the old one at once, also by itself', async () => {
    const { token, id } = await newToken(server)
    const next = await server.client({ token }).tokenRotate({ id, graceHours: 0 })
    expect([await statusOf(token), await statusOf(next.token ?? '')]).toEqual(['401 token_expired', 200])
  })

  test('never makes the old one last longer', async () => {
    const old = await server.client().tokenCreate({ name: 'short', expiresInDays: 1 })
    const { replacedEndsAt } = await server.client().tokenRotate({ id: old.id, graceHours: 720 })
    expect(replacedEndsAt).toBe(old.expiresAt)
  })

  test('twice still gives the lifetime that was asked for first', async () => {
    const lasting = await server.client().tokenCreate({ name: 'lasting' })
    const brief = await server.client().tokenCreate({ name: 'brief', expiresInDays: 30 })
    for (const { id, expiresAt } of [lasting, brief])
      for (let round = 0; round < 2; round++) {
        const next = await server.client().tokenRotate({ id, graceHours: 1 })
        expect(next.expiresAt && Date.parse(next.expiresAt) - Date.parse(next.createdAt)).toBe(expiresAt && 30 * day)
      }
  })

  test('gives nobody what they have not: not a scope, and not an owner', async () => {
    const [admin, owner] = [await newMember(server, 'admin'), await newMember(server, 'owner')]
    const everything = await server.client(owner).tokenCreate({ name: 'all of an owner' })
    const { token = '' } = await server.client(admin).tokenRotate({ id: everything.id })
    expect((await server.client({ token }).meView()).permissions).not.toContain('owner')

    const narrow = await newToken(server, { scopes: ['tokens:admin'] }, owner)
    const wide = await newToken(server, { scopes: ['secrets:write'] }, owner)
    await expect(server.client(narrow).tokenRotate({ id: wide.id })).rejects.toMatchObject({
      code: 'insufficient_scope',
    })
    expect(await statusOf(wide.token)).toBe(200)
    const next = await server.client(narrow).tokenRotate({ id: everything.id })
    expect(next.scopes).toEqual(['tokens:admin'])
  })
})

describe('scopes and limits', () => {
  test('are shown as they were given', async () => {
    const { id } = await newToken(server, { scopes: ['read', 'deploy'], vpcs: ['default', 'default'], apps: ['api'] })
    const shown = { scopes: ['read', 'deploy'], vpcs: ['default'], apps: ['api'] }
    expect(await server.client().tokenView({ id })).toMatchObject(shown)
    expect((await server.client().tokenList()).items.find((item) => item.id === id)).toMatchObject(shown)
  })

  test('of a VPC that is not there are refused by name', async () => {
    const organization = await newOrganization(server)
    await server.client(organization).vpcCreate({ name: 'theirs' })
    await expect(server.client().tokenCreate({ name: 'x', vpcs: ['default', 'theirs', 'nope'] })).rejects.toMatchObject(
      {
        status: 404,
        code: 'vpc_not_found',
        details: { missing: ['theirs', 'nope'] },
      },
    )
  })

  test('do not go together where the scope reaches the whole organization', async () => {
    for (const scope of ['admin', 'tokens:admin', 'operator'] as const)
      await expect(server.client().tokenCreate({ name: 'x', scopes: [scope], apps: ['api'] })).rejects.toMatchObject({
        status: 400,
        code: 'invalid_body',
      })
  })

  test('are never more than the creator has, and the operator of the installation must be named', async () => {
    const admin = server.client(await newMember(server, 'admin'))
    await expect(admin.tokenCreate({ name: 'x', scopes: ['operator'] })).rejects.toMatchObject({ status: 403 })
    const narrow = server.client(await newToken(server, { scopes: ['tokens:admin', 'deploy'] }))
    await expect(narrow.tokenCreate({ name: 'x', scopes: ['secrets:write'] })).rejects.toMatchObject({
      code: 'insufficient_scope',
    })
    const { scopes } = await narrow.tokenCreate({ name: 'x' })
    expect(scopes?.toSorted(), 'what its creator has').toEqual(['deploy', 'tokens:admin'])

    const session = server.client(await signIn(server, server.email, server.password))
    for (const by of [server.client(), session]) {
      const { token = '' } = await by.tokenCreate({ name: 'unasked' })
      expect((await server.client({ token }).meView()).permissions).toContain('owner')
      await expect(server.client({ token }).adminAuditList()).rejects.toMatchObject({ code: 'insufficient_scope' })
      const named = await by.tokenCreate({ name: 'asked', scopes: ['operator'] })
      await expect(server.client({ token: named.token ?? '' }).adminAuditList()).resolves.toHaveProperty('items')
    }
  })
})

test('250 tokens are listed in pages without gap or repetition while more are made', async () => {
  const organization = await newOrganization(server)
  const client = server.client(organization)
  await server.db.query(
    `insert into api_tokens (id, organization_id, created_by, name, hash, prefix, last4)
     select ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, organization_id, created_by, 'bulk ' || n, sha256(n::text::bytea), 'sat_', 'last'
     from api_tokens, generate_series(1, 250) n where hash = sha256($1)`,
    [Buffer.from(organization.token)],
  )
  const seen: string[] = []
  let cursor: string | undefined
  for (let page = 0; cursor !== undefined || page === 0; page++) {
    const on: TestServer = page % 2 ? server : other
    const { items, nextCursor } = await on.client(organization).tokenList({ limit: 30, ...(cursor ? { cursor } : {}) })
    seen.push(...items.map(({ name }) => name))
    cursor = nextCursor ?? undefined
    await client.tokenCreate({ name: 'made meanwhile' })
  }
  // The 250 and the one that its founder was given.
  expect(seen).toHaveLength(251)
  expect(new Set(seen).size).toBe(251)
  await expect(client.tokenList({ cursor: 'nonsense' })).rejects.toMatchObject({ status: 400, code: 'invalid_query' })
  expect((await client.tokenList({ limit: 200 })).items).toHaveLength(200)
  await expect(client.tokenList({ limit: 201 })).rejects.toMatchObject({ status: 400 })
})

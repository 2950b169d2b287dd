import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { newMember, newToken, signIn } from '../testing/actors.ts'
import { type CallInit, type Credential, startTestServer, type TestServer } from '../testing/server.ts'

let server: TestServer
let second: TestServer
let as: Credential
beforeAll(async () => {
  server = await startTestServer()
  second = await startTestServer({ database: server.database })
  as = { token: server.token }
})
afterAll(async () => {
  await second.close()
  await server.close()
})

/** The same request, as often as wanted, by servers that share a database. */
function repeatable(path: string, body: unknown, init: CallInit = {}) {
  const headers = { 'idempotency-key': randomUUID() }
  return (on = server, more: CallInit = {}) => on.call(path, { as, body, headers, ...init, ...more })
}

async function tokensNamed(name: string) {
  return (await server.client().tokenList({ limit: 200 })).items.filter((token) => token.name === name)
}
async function auditedCreations(name: string) {
  const { items } = await server.client().auditList({ object: name, action: 'token.create' })
  return items.length
}

describe('a repeated POST', () => {
  test('by the same person in another organization, or with another query, is another request', async () => {
    const person = await signIn(server, server.email, server.password)
    await server.client(person).organizationCreate({ name: 'elsewhere' })
    const send = repeatable('/vpcs', { name: 'twice' }, { as: person })
    expect((await send()).body.namespace).toBe('main--twice')
    await server.client(person).sessionSwitch({ organization: 'elsewhere' })
    expect((await send()).body.error.code).toBe('idempotency_key_reused')
    const put = { name: 'once', data: { A: 'a value long enough' } }
    const keyed = (path: string) =>
      server.call(path, {
        as,
        body: { value: 'a value long enough', key: 'A' },
        headers: { 'idempotency-key': 'same' },
      })
    await server.call('/secrets', { as, body: put })
    await server.call('/secrets', { as, body: { ...put, appId: 'app' } })
    expect((await keyed('/secrets/once/verify')).body).toHaveProperty('match')
    expect((await keyed('/secrets/once/verify?appId=app')).body.error.code).toBe('idempotency_key_reused')
  })

  test('is answered as the first time, without what is shown once, and nothing is done twice', async () => {
    const send = repeatable('/tokens', { name: 'repeated' })
    const first = await send()
    const { token, ...rest } = first.body
    expect([first.status, token]).toEqual([201, expect.stringMatching(/^sat_/)])
    for (const on of [server, second]) {
      const again = await send(on)
      expect([again.status, again.body]).toEqual([201, rest])
      expect(again.text).not.toContain(token)
      expect(again.headers.get('x-request-id')).not.toBe(first.headers.get('x-request-id'))
    }
    expect(await tokensNamed('repeated')).toHaveLength(1)
    expect(await auditedCreations('repeated')).toBe(1)
  })

  test('leaves out an invitation and the token of an organization too', async () => {
    for (const [path, body, shownOnce] of [
      ['/members', { email: 'twice@example.test', role: 'viewer' }, 'invitation'],
      ['/organizations', { name: 'twice' }, 'token'],
    ] as const) {
      const send = repeatable(path, body)
      const { [shownOnce]: secret, ...rest } = (await send()).body
      expect(secret).toBeTypeOf('string')
      expect((await send()).body).toEqual(rest)
    }
  })

  test('sent many times at once, to two servers, is done once', async () => {
    const send = repeatable('/tokens', { name: 'at-once' })
    const answers = await Promise.all(Array.from({ length: 12 }, (_, index) => send(index % 2 ? second : server)))
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 201))
    expect(new Set(answers.map(({ body }) => body.id)).size).toBe(1)
    expect(answers.filter(({ body }) => 'token' in body)).toHaveLength(1)
    expect(await tokensNamed('at-once')).toHaveLength(1)
    expect(await auditedCreations('at-once')).toBe(1)
  })

  test('without a key, or with another, is another request', async () => {
    const keys: Record<string, string>[] = [
      {},
      {},
      { 'idempotency-key': 'one' },
      { 'idempotency-key': 'two' },
      { 'idempotency-key': '' },
    ]
    for (const headers of keys)
      expect((await server.call('/tokens', { as, body: { name: 'each' }, headers })).status).toBe(201)
    expect(await tokensNamed('each')).toHaveLength(5)
  })

  test('of a password change is answered too, although the old password is no longer the current one', async () => {
    const member = await newMember(server, 'viewer')
    const headers = { 'idempotency-key': randomUUID() }
    const change = (current: string, next: string) =>
      server.call('/auth/password', { as: member, body: { current, new: next }, headers })
    expect((await change('correct horse battery', 'another horse battery')).status).toBe(200)
    expect((await change('correct horse battery', 'another horse battery')).status).toBe(200)
    await signIn(server, member.email, 'another horse battery')
  })

  test('is answered to those alone who may still ask', async () => {
    const member = await newMember(server, 'admin')
    const send = repeatable('/vpcs', { name: 'asked-again' }, { as: member })
    expect((await send()).status).toBe(201)
    expect((await send()).status).toBe(201)
    await server.client().memberPatch({ id: member.id, role: 'viewer' })
    expect((await send()).body.error.code).toBe('insufficient_role')
  })
})

describe('a key belongs to its caller', () => {
  test('so another token or session with the same key does its own', async () => {
    const send = repeatable('/tokens', { name: 'whose' })
    const callers = [as, await newToken(server), await newMember(server, 'admin'), await newMember(server, 'admin')]
    const ids = []
    for (const caller of callers) ids.push((await send(server, { as: caller })).body.id)
    expect(new Set(ids).size).toBe(4)
    for (const [index, caller] of callers.entries())
      expect((await send(server, { as: caller })).body).toMatchObject({ id: ids[index] })
  })

  test('and to one endpoint and object: for another it is refused', async () => {
    const headers = { 'idempotency-key': randomUUID() }
    const [one, two] = [await newToken(server), await newToken(server)]
    const rotate = (id: string) => server.call(`/tokens/${id}/rotate`, { as, body: {}, headers })
    expect((await rotate(one.id)).status).toBe(201)
    for (const answer of [await rotate(two.id), await server.call('/vpcs', { as, body: { name: 'other' }, headers })])
      expect([answer.status, answer.body.error.code]).toEqual([409, 'idempotency_key_reused'])
    expect((await server.call('/vpcs/other', { as })).status).toBe(404)
    expect((await server.client().tokenView({ id: two.id })).expiresAt).toBeNull()
    expect((await rotate(one.id)).status).toBe(201)
  })

  test('and has at most 255 characters: two long ones are not taken for one', async () => {
    for (const [length, status] of [
      [255, 201],
      [256, 400],
    ] as const) {
      const headers = { 'idempotency-key': 'k'.repeat(length) }
      expect((await server.call('/tokens', { as, body: { name: 'long-key' }, headers })).status).toBe(status)
    }
  })
})

const age = (time: string) =>
  server.db.query('update idempotency_keys set created_at = created_at - $1::interval', [time])

describe('a key is free again', () => {
  test('after a failure', async () => {
    const headers = { 'idempotency-key': randomUUID() }
    const create = (name: string) => server.call('/vpcs', { as, body: { name }, headers })
    expect((await create('not a name')).status).toBe(400)
    expect((await create('default')).body.error.code).toBe('name_taken')
    expect((await create('after-failure')).status).toBe(201)
    expect((await create('after-failure')).status).toBe(201)
  })

  test('after a day, and not before', async () => {
    const send = repeatable('/tokens', { name: 'day' })
    const { id } = (await send()).body
    await age('23 hours 59 minutes')
    expect((await send()).body.id).toBe(id)
    await age('1 minute')
    const { id: next, token } = (await send()).body
    expect([next === id, typeof token]).toEqual([false, 'string'])
    expect((await send()).body).toMatchObject({ id: next })
    expect(await tokensNamed('day')).toHaveLength(2)
  })
})

describe('a key means nothing', () => {
  test('to GET, PATCH and DELETE, which may be repeated anyway', async () => {
    const headers = { 'idempotency-key': randomUUID() }
    const { id } = await newToken(server)
    for (const enabled of [false, true, false]) {
      expect((await server.call(`/tokens/${id}`, { method: 'PATCH', as, body: { enabled }, headers })).status).toBe(200)
      const { body } = await server.call(`/tokens/${id}`, { as, headers })
      expect(body.status).toBe(enabled ? 'active' : 'disabled')
    }
    const remove = () => server.call(`/tokens/${id}`, { method: 'DELETE', as, headers })
    expect([(await remove()).status, (await remove()).status]).toEqual([200, 404])
  })

  test('to signing in, where nobody is known yet', async () => {
    const send = repeatable('/auth/session', { email: server.email, password: server.password })
    const cookies = [await send(), await send()].map(({ headers }) => headers.get('set-cookie'))
    expect(new Set(cookies).size).toBe(2)
  })
})

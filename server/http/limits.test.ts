import { connect, type Socket } from 'node:net'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { openDatabase } from '../store/database.ts'
import { newMember, newToken, signIn } from '../testing/actors.ts'
import { codeOf } from '../testing/raw.ts'
import { type Credential, startTestServer, type TestServer } from '../testing/server.ts'

let server: TestServer
let second: TestServer
let good: Credential
beforeAll(async () => {
  server = await startTestServer()
  second = await startTestServer({ database: server.database })
  good = { token: server.token }
})
afterAll(async () => {
  await second.close()
  await server.close()
})

const bad = { token: `sat_${'0'.repeat(32)}` }
const statusOf = async (as: Credential | undefined, from: string, on = server) =>
  (await on.call('/vpcs', { ...(as ? { as } : {}), from })).status

async function times(count: number, work: (index: number) => Promise<number>): Promise<number[]> {
  const statuses: number[] = []
  for (let index = 0; index < count; index++) statuses.push(await work(index))
  return statuses
}
const all = (count: number, status: number) => Array.from({ length: count }, () => status)

describe('failing tokens', () => {
  test('beyond 100 a minute and address are 429, on all servers together, and a good one is never refused for them', async () => {
    const from = '203.0.113.10'
    expect(await times(100, (index) => statusOf(bad, from, index % 2 ? second : server))).toEqual(all(100, 403))
    for (const on of [server, second]) {
      const answer = await on.call('/vpcs', { as: bad, from })
      expect(codeOf(answer)).toBe('too_many_attempts')
      const wait = Number(answer.headers.get('retry-after'))
      expect(wait).toBeGreaterThan(0)
      expect(wait).toBeLessThanOrEqual(60)
      expect(await statusOf(good, from, on)).toBe(200)
    }
    expect(await statusOf(bad, '203.0.113.11')).toBe(403)
    await server.db.query('update attempts set until = now()')
    expect(await statusOf(bad, from)).toBe(403)
  })

  test('count whatever is wrong with them, also as a burst', async () => {
    const from = '203.0.113.12'
    const { id, token } = await newToken(server)
    await server.client().tokenPatch({ id, enabled: false })
    const kinds: [Credential, number][] = [
      [bad, 403],
      [{ token }, 401],
      [{ token: 'not even alike' }, 403],
    ]
    const burst = Array.from({ length: 120 }, (_, index) => statusOf(kinds[index % 3]?.[0], from))
    const statuses = await Promise.all(burst)
    expect(statuses.filter((status) => status === 429)).toHaveLength(20)
    expect(new Set(statuses)).toEqual(new Set([401, 403, 429]))
  })

  test('count for the address that the proxy saw, not for one that the client claims', async () => {
    expect(await times(100, (index) => statusOf(bad, `192.0.2.${index}, 203.0.113.13`))).toEqual(all(100, 403))
    expect(await statusOf(bad, '192.0.2.200, 203.0.113.13')).toBe(429)
    expect(await statusOf(bad, '192.0.2.1')).toBe(403)
  })

  test('do not count where none was sent, nor a role or a scope that is too little', async () => {
    const from = '203.0.113.14'
    expect(await times(101, () => statusOf(undefined, from))).toEqual(all(101, 401))
    const viewer = await newMember(server, 'viewer')
    const weak = await newToken(server, { scopes: ['read'] })
    const tryTo = (as: Credential) => server.call('/vpcs', { as, from, body: { name: 'more' } })
    expect(await times(101, async (index) => (await tryTo(index % 2 ? viewer : weak)).status)).toEqual(all(101, 403))
    expect(await statusOf(bad, from)).toBe(403)
  })
})

test('strangers cannot fill the audit: 200 refusals a minute and address are written, and every one is answered', async () => {
  const from = '203.0.113.20'
  expect(await Promise.all(Array.from({ length: 230 }, () => statusOf(undefined, from)))).toEqual(all(230, 401))
  const { items, nextCursor } = await server.client().adminAuditList({ actor: from, limit: 200 })
  expect([items.length, nextCursor]).toEqual([200, null])
  expect(items[0]).toMatchObject({ action: 'vpc.list', outcome: 'refused', code: 'missing_token' })
  await statusOf(undefined, '203.0.113.21')
  expect((await server.client().adminAuditList({ actor: '203.0.113.21' })).items).toHaveLength(1)
  // A caller who is known is not a stranger: what they are refused is always written.
  const viewer = await newMember(server, 'viewer')
  expect((await server.call('/tokens', { as: viewer, from, body: { name: 'x' } })).status).toBe(403)
  expect((await server.client().auditList({ actor: viewer.email, action: 'token.create' })).items).toHaveLength(1)
})

const at = (path: string) => `${server.url}${path}`

describe('what operators ask', () => {
  test('alive, and able to work', async () => {
    expect((await server.call(at('/healthz'))).body).toEqual({ status: 'ok', version: expect.any(String) as string })
    expect((await server.call(at('/readyz'))).body).toMatchObject({ status: 'ready' })
  })

  test('without the database: alive, not ready, and 503 to everyone until it is back', async () => {
    const lonely = await startTestServer()
    const admin = openDatabase({ ...inject('postgres'), database: 'postgres' }, () => undefined)
    try {
      await admin.query(`alter database ${lonely.database} allow_connections false`)
      await admin.query('select pg_terminate_backend(pid) from pg_stat_activity where datname = $1', [lonely.database])
      expect((await lonely.call(`${lonely.url}/healthz`)).status).toBe(200)
      for (const path of [`${lonely.url}/readyz`, '/vpcs'])
        expect(codeOf(await lonely.call(path, { as: { token: lonely.token } }))).toBe('unavailable')
      const body = { email: lonely.email, password: lonely.password }
      expect(codeOf(await lonely.call('/auth/session', { body }))).toBe('unavailable')
      await admin.query(`alter database ${lonely.database} allow_connections true`)
      expect((await lonely.call(`${lonely.url}/readyz`)).status).toBe(200)
      expect((await lonely.call('/vpcs', { as: { token: lonely.token } })).status).toBe(200)
    } finally {
      await admin.end()
      await lonely.close()
    }
  })

  test('metrics: the machine itself, and an operator’s token from anywhere', async () => {
    expect((await server.call(at('/metrics'))).status).toBe(200)
    const from = '203.0.113.30'
    expect(codeOf(await server.call(at('/metrics'), { from }))).toBe('missing_token')
    // What a proxy forwards is not from the machine, whatever address it names.
    expect(codeOf(await server.call(at('/metrics'), { from: '127.0.0.1' }))).toBe('missing_token')
    const owner = await signIn(server, server.email, server.password)
    expect(codeOf(await server.call(at('/metrics'), { from, as: owner }))).toBe('missing_token')
    expect(codeOf(await server.call(at('/metrics'), { from, as: bad }))).toBe('invalid_token')
    const admin = await newToken(server, { scopes: ['admin'] })
    expect(codeOf(await server.call(at('/metrics'), { from, as: admin }))).toBe('insufficient_scope')
    const operator = await newToken(server, { scopes: ['operator'] })
    expect((await server.call(at('/metrics'), { from, as: operator })).status).toBe(200)
  })

  test('metrics name endpoints, never what was asked for; and nobody’s secret is in them or in the log', async () => {
    const cookie = await signIn(server, server.email, server.password)
    await server.call('/vpcs/default', { as: good })
    await server.call('/vpcs/no-such-vpc', { as: good })
    await server.call('/no-such-path', { as: good })
    await server.call('/audit?actor=no-such-actor', { as: cookie })
    await server.call('/vpcs?no-such-query=1', { as: cookie })
    const { token } = await newToken(server)
    const { text } = await server.call(at('/metrics'))
    const counted = (labels: string) => text.includes(`satusky_http_request_seconds_count{${labels}}`)
    expect(counted('route="vpcView",method="GET",status="200"')).toBe(true)
    expect(counted('route="vpcView",method="GET",status="404"')).toBe(true)
    expect(counted('route="tokenCreate",method="POST",status="201"')).toBe(true)
    expect(counted('route="other",method="GET",status="404"')).toBe(true)
    for (const name of ['satusky_event_loop_lag_seconds', 'satusky_memory_bytes', 'satusky_database_connections'])
      expect(text).toMatch(new RegExp(`^${name}(\\{.*\\})? [\\d.]+`, 'm'))
    expect(text).not.toContain('no-such')
    const session = 'cookie' in cookie ? (cookie.cookie.split('=')[1] ?? '') : ''
    for (const secret of [server.token, token, server.password, session]) {
      expect(text).not.toContain(secret)
      expect(server.log().includes(secret)).toBe(false)
    }
    expect(server.log()).toContain('/v1/cli/vpcs/no-such-vpc')
    expect(server.log()).not.toContain('no-such-query')
  })
})

/** A connection on which `text` was sent, and answered if it is something. */
const openTo = (on: TestServer, text = '') =>
  new Promise<Socket>((resolve) => {
    const options = { port: Number(new URL(on.url).port), host: '127.0.0.1', allowHalfOpen: true }
    const socket = connect(options, () => {
      if (text) socket.write(text)
      else resolve(socket)
    })
    socket.once('data', () => resolve(socket))
    socket.on('error', () => undefined)
  })

const msOf = async (work: Promise<unknown>) => {
  const started = performance.now()
  await work
  return performance.now() - started
}

describe('closing', () => {
  test('does not wait for connections on which nothing is asked', async () => {
    const idle = await startTestServer()
    const sockets = [
      await openTo(idle),
      await openTo(idle, 'GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n'),
      await openTo(idle, 'garbage\r\n\r\n'),
    ]
    expect(await msOf(idle.close())).toBeLessThan(3_000)
    for (const socket of sockets) socket.destroy()
  })

  test('finishes a request in flight first, and the connection it came on is not waited for', async () => {
    const busy = await startTestServer()
    const elsewhere = openDatabase({ ...inject('postgres'), database: busy.database }, () => undefined)
    const lock = await elsewhere.connect()
    try {
      // Every change waits for the end of its chain.
      await lock.query('begin')
      await lock.query('lock table audit_heads')
      const answer = busy.call('/vpcs', { as: { token: busy.token }, body: { name: 'in-flight' } })
      const waits = "select from pg_stat_activity where wait_event_type = 'Lock' and datname = $1"
      while ((await elsewhere.query(waits, [busy.database])).rowCount === 0) await new Promise((r) => setTimeout(r, 5))
      const closed = busy.close()
      const closing = await Promise.race([closed.then(() => 'closed'), new Promise((r) => setTimeout(r, 300, 'waits'))])
      expect(closing).toBe('waits')
      await expect(busy.call(`${busy.url}/healthz`)).rejects.toThrow('fetch failed')
      await lock.query('commit')
      expect((await answer).status).toBe(201)
      expect(await msOf(closed)).toBeLessThan(3_000)
    } finally {
      lock.release()
      await elsewhere.end()
    }
  })
})

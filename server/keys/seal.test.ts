import { contract, type Route } from '@1ctl/contract'
import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { dump } from '../testing/dump.ts'
import { type Answer, type CallInit, startTestServer, type TestServer } from '../testing/server.ts'
import { startAgain, startSealed, unseal } from '../testing/shares.ts'
import { waiting } from '../testing/waiting.ts'
import { newKey } from './envelope.ts'
import { splitKey } from './shares.ts'

type Sealed = Awaited<ReturnType<typeof startSealed>>
const undo: (() => unknown)[] = []
afterAll(async () => {
  for (const step of undo.reverse()) await step()
})
async function started<S extends TestServer>(starting: Promise<S>): Promise<S> {
  const server = await starting
  undo.push(() => server.close())
  return server
}

const call = (server: TestServer, path: string, init: CallInit = {}) =>
  server.call(path, { as: { token: server.token }, ...init })
const enter = (server: TestServer, share: string, from = '203.0.113.1') =>
  call(server, '/admin/unseal', { body: { share }, from })
const codeOf = (answer: Answer) => `${answer.status} ${answer.body?.error?.code}`
const put = (server: TestServer, name: string, value = 'a value to keep') =>
  call(server, '/secrets', { body: { name, data: { KEY: value } } })
const isKept = async (server: TestServer, name: string, value = 'a value to keep') =>
  (await call(server, `/secrets/${name}/verify`, { body: { key: 'KEY', value } })).body.match

describe('a server that starts sealed', () => {
  let server: Sealed
  beforeAll(async () => {
    server = await started(startSealed())
  })

  test('answers 503 to whatever needs keys, lists too, and everything else as ever', async () => {
    const routes = Object.entries<Route>(contract).filter(([, { needsKeys }]) => needsKeys)
    expect(routes.map(([name]) => name)).toEqual(
      expect.arrayContaining(['secretList', 'secretPut', 'secretView', 'keysRotate']),
    )
    for (const [name, { method, path }] of routes) {
      const body = method === 'GET' || method === 'DELETE' ? {} : { body: {} }
      const answer = await call(server, path.replaceAll(/\{\w+\}/g, 'x'), { method, ...body })
      expect(codeOf(answer), name).toBe('503 sealed')
      expect(answer.body.error.hint).toContain('1ctl admin unseal')
    }
    await server.client().tokenCreate({ name: 'made while sealed' })
    await server.client().vpcCreate({ name: 'made-while-sealed' })
    expect(await server.client().auditVerify()).toMatchObject({ ok: true })
    expect(await server.client().keysView({})).toEqual({ running: false, total: 0, done: 0, since: null })
  })

  test('says so to who asks whether it is ready, and lives', async () => {
    expect((await server.call(`${server.url}/healthz`)).status).toBe(200)
    const ready = await server.call(`${server.url}/readyz`)
    expect(codeOf(ready)).toBe('503 sealed')
  })

  test('tells who may not come in first', async () => {
    expect(codeOf(await server.call('/secrets'))).toBe('401 missing_token')
    expect(codeOf(await server.call('/admin/unseal', { body: { share: 'x' } }))).toBe('401 missing_token')
    const { token = '' } = await server.client().tokenCreate({ name: 'viewer', scopes: ['read'] })
    expect(codeOf(await server.call('/secrets', { as: { token }, body: { name: 'x', data: {} } }))).toBe(
      '403 insufficient_scope',
    )
    expect(codeOf(await server.call('/admin/seal', { as: { token } }))).toBe('403 insufficient_scope')
  })
})

describe('shares', () => {
  test('open it one by one, and only different ones count', async () => {
    const server = await started(startSealed())
    const [one = '', two = '', three = ''] = server.shares
    const told: unknown[] = []
    server.platform.announcer.listen((announcement) => told.push(announcement))

    const before = (await call(server, '/admin/seal')).body
    expect(before).toEqual({
      sealed: true,
      source: 'manual',
      masterKey: expect.stringMatching(/^[0-9a-f]{16}$/),
      shares: 5,
      threshold: 3,
      entered: 0,
      next: null,
    })
    expect((await enter(server, one)).body).toEqual({ ...before, entered: 1 })
    expect((await enter(server, one)).body).toEqual({ ...before, entered: 1 })
    expect((await enter(server, ` ${two.toUpperCase()}\n`)).body).toEqual({ ...before, entered: 2 })
    expect((await call(server, '/admin/seal')).body).toEqual({ ...before, entered: 2 })
    expect(codeOf(await call(server, '/secrets'))).toBe('503 sealed')
    expect((await enter(server, three)).body).toEqual({ ...before, sealed: false })
    expect(told).toContain(null)
    expect((await server.call(`${server.url}/readyz`)).status).toBe(200)
    expect((await put(server, 'kept')).status).toBe(201)
    // One more does no harm.
    expect((await enter(server, one)).body).toEqual({ ...before, sealed: false })
  })

  test('are asked for again after a restart, any of them, and what was stored is there', async () => {
    const server = await started(startSealed({ shares: 4, threshold: 2 }))
    const [one = '', two = '', three = '', four = ''] = server.shares
    await unseal(server, [one, two])
    await put(server, 'kept')
    const again = await started(startAgain(server))
    expect(codeOf(await call(again, '/secrets'))).toBe('503 sealed')
    await unseal(again, [four, three])
    expect(await isKept(again, 'kept')).toBe(true)
  })

  test('may be a single one', async () => {
    const server = await started(startSealed({ shares: 1, threshold: 1 }))
    await unseal(server, server.shares)
    expect((await put(server, 'kept')).status).toBe(201)
  })

  test('open the one server they are given to', async () => {
    const server = await started(startSealed({ shares: 2, threshold: 2 }))
    const other = await started(startAgain(server))
    await enter(server, server.shares[0] ?? '')
    await enter(other, server.shares[1] ?? '')
    expect((await call(server, '/admin/seal')).body).toMatchObject({ sealed: true, entered: 1 })
    await unseal(server, server.shares)
    expect((await call(other, '/admin/seal')).body).toMatchObject({ sealed: true, entered: 1 })
    expect(codeOf(await call(other, '/secrets'))).toBe('503 sealed')
  })

  test('that are mistyped, cut or of another key are told at once, and the others stay', async () => {
    const server = await started(startSealed())
    const [one = '', two = '', three = ''] = server.shares
    const [foreign = ''] = await splitKey(newKey(), 5, 3)
    await enter(server, one)
    for (const wrong of [two.slice(0, -1), two.replace(/.$/, two.endsWith('0') ? '1' : '0'), 'x', '']) {
      const answer = await enter(server, wrong)
      expect(codeOf(answer)).toBe('400 invalid_share')
      expect(answer.body.error.message).toBe('This is no share, or one that was mistyped or cut.')
    }
    const answer = await enter(server, foreign)
    expect(codeOf(answer)).toBe('400 invalid_share')
    expect(answer.body.error.message).toMatch(/^This share is of the set [0-9a-f]{8}, which another master key had/)
    expect((await call(server, '/admin/seal')).body).toMatchObject({ entered: 1 })
    await enter(server, two)
    expect((await enter(server, three)).body).toMatchObject({ sealed: false })
  })

  test('that do not give the key are all forgotten, and it says so', async () => {
    const server = await started(startSealed())
    const [one = '', two = '', three = ''] = server.shares
    const forged = await forge(server, three)
    for (const share of [one, two]) await enter(server, share)
    const answer = await enter(server, forged)
    expect(codeOf(answer)).toBe('400 invalid_share')
    expect(answer.body.error.message).toContain('All that were entered are forgotten; begin again.')
    expect((await call(server, '/admin/seal')).body).toMatchObject({ sealed: true, entered: 0 })
    await unseal(server, [one, two, three])
  })

  test('that fail ten times from one address make it wait, with a good one too; elsewhere nobody', async () => {
    const server = await started(startSealed())
    for (let n = 0; n < 10; n++) expect(codeOf(await enter(server, 'x', '198.51.100.7'))).toBe('400 invalid_share')
    const limited = await enter(server, server.shares[0] ?? '', '198.51.100.7')
    expect(codeOf(limited)).toBe('429 too_many_attempts')
    expect(limited.headers.get('retry-after')).toMatch(/^\d+$/)
    expect((await enter(server, server.shares[0] ?? '', '198.51.100.8')).body).toMatchObject({ entered: 1 })
    // Good ones are no failures.
    for (let n = 0; n < 15; n++) expect((await enter(server, server.shares[0] ?? '', '198.51.100.9')).status).toBe(200)
  })

  test('entered at once by many are counted once each', async () => {
    const server = await started(startSealed({ shares: 20, threshold: 20 }))
    const all = server.shares.flatMap((share) => [share, share])
    await Promise.all(all.map((share, n) => enter(server, share, `203.0.113.${n}`)))
    expect((await call(server, '/admin/seal')).body).toMatchObject({ sealed: false })
  })

  test('a request repeated with its idempotency key is answered as before', async () => {
    const server = await started(startSealed())
    const init = { body: { share: server.shares[0] }, headers: { 'idempotency-key': 'first' } }
    const [first, second] = [await call(server, '/admin/unseal', init), await call(server, '/admin/unseal', init)]
    expect(second.body).toEqual(first.body)
  })
})

describe('sealing', () => {
  test('wipes the keys of every server, and needs the shares again', async () => {
    const server = await started(startSealed({ shares: 3, threshold: 2 }))
    const other = await started(startAgain(server))
    await unseal(server, server.shares.slice(1))
    await unseal(other, server.shares.slice(0, 2))
    await put(server, 'kept')
    expect(await isKept(other, 'kept')).toBe(true)
    const master = server.platform.keys.master()
    const organization = (await call(server, '/auth/me')).body.organization.id
    const { rows } = await server.db.query('select id from organizations')
    const keys = await server.platform.keys.organization(rows[0].id)
    expect(organization).toMatch(/^org_/)

    expect((await call(server, '/admin/seal', { body: {} })).body).toMatchObject({ sealed: true, entered: 0 })
    const zeros = Buffer.alloc(32)
    expect([master.key, keys.current.key, keys.fingerprintKey]).toEqual([zeros, zeros, zeros])
    expect(codeOf(await call(server, '/secrets'))).toBe('503 sealed')
    await expect.poll(async () => codeOf(await call(other, '/secrets')), { timeout: 5000 }).toBe('503 sealed')

    await unseal(server, server.shares.slice(1))
    expect(await isKept(server, 'kept')).toBe(true)
    expect(codeOf(await call(other, '/secrets'))).toBe('503 sealed')
    await unseal(other, server.shares.slice(1))
    expect(await isKept(other, 'kept')).toBe(true)
  })

  test('stops a write that has the keys at hand: nothing is stored with a wiped key', async () => {
    const server = await started(startSealed({ shares: 1, threshold: 1 }))
    await unseal(server, server.shares)
    await put(server, 'bag')
    const lock = new Client({ ...inject('postgres'), database: server.database })
    await lock.connect()
    undo.push(() => lock.end())
    await lock.query('begin; select from secrets for update')
    const writing = call(server, '/secrets', { body: { name: 'bag', data: { OTHER: 'not to be stored in the open' } } })
    await expect.poll(() => waiting(server)).toBe(1)
    await call(server, '/admin/seal', { body: {} })
    await lock.query('commit')
    expect(codeOf(await writing)).toBe('503 sealed')
    expect((await server.db.query('select key from secret_values')).rows).toEqual([{ key: 'KEY' }])
  })

  test('is refused where a restart would open it again', async () => {
    const server = await started(startTestServer())
    const answer = await call(server, '/admin/seal', { body: {} })
    expect(codeOf(answer)).toBe('409 wrong_key_source')
    expect(answer.body.error.message).toContain('in the environment')
    expect(codeOf(await enter(server, 'x'))).toBe('409 wrong_key_source')
    expect((await call(server, '/secrets')).status).toBe(200)
  })
})

test('every share, opening and sealing is audited, and no share or key is written down anywhere', async () => {
  const server = await started(startSealed({ shares: 3, threshold: 2 }))
  const [one = '', two = ''] = server.shares
  const answers = [await enter(server, one), await enter(server, 'no share'), await enter(server, two)]
  const master = server.platform.keys.master().key
  await put(server, 'kept')
  const { rows } = await server.db.query('select id from organizations')
  const { current, fingerprintKey } = await server.platform.keys.organization(rows[0].id)
  const secrets = [one, two, ...[one, two].map((share) => share.split('-')[4] ?? '')].concat(
    [master, current.key, fingerprintKey].flatMap((key) => [key.toString('hex'), key.toString('base64').slice(0, 40)]),
  )
  answers.push(await call(server, '/admin/seal', { body: {} }), await call(server, '/admin/audit?limit=200'))

  const events = answers.at(-1)?.body.items.filter(({ action }: { action: string }) => /seal/.test(action))
  expect(
    events.map(({ action, outcome, code, detail }: Record<string, unknown>) => ({ action, outcome, code, detail })),
  ).toEqual([
    { action: 'seal', outcome: 'done', code: null, detail: { masterKey: expect.any(String) } },
    { action: 'unseal', outcome: 'done', code: null, detail: { masterKey: expect.any(String) } },
    { action: 'unseal', outcome: 'refused', code: 'invalid_share', detail: {} },
    { action: 'unseal', outcome: 'done', code: null, detail: { entered: 1, threshold: 2 } },
  ])
  const everywhere = [server.log(), await dump(server.db), ...answers.map(({ text }) => text)].join('\n').toLowerCase()
  expect(secrets.every((secret) => secret.length >= 40)).toBe(true)
  expect(secrets.filter((secret) => everywhere.includes(secret.toLowerCase()))).toEqual([])
})

/** A share whose text is in order and whose content is not. */
async function forge(server: Sealed, share: string): Promise<string> {
  const { masterKey } = (await call(server, '/admin/seal')).body
  const { createHash } = await import('node:crypto')
  const [, , , threshold, hex = ''] = share.split('-')
  const text = `1ctl-share-${masterKey.slice(0, 8)}-${threshold}-${hex.startsWith('0') ? '1' : '0'}${hex.slice(1)}`
  return `${text}-${createHash('sha256').update(text).digest('hex').slice(0, 8)}`
}

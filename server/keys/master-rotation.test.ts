import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import type { Seal } from '../config.ts'
import { newOrganization } from '../testing/actors.ts'
import { dump } from '../testing/dump.ts'
import { type Answer, type CallInit, startTestServer, type TestServer, testSeal } from '../testing/server.ts'
import { startAgain, startSealed, unseal } from '../testing/shares.ts'
import { openKeyring } from './boot.ts'
import { fingerprintOfKey, newKey } from './envelope.ts'
import { parseKey } from './key-text.ts'

const undo: (() => unknown)[] = []
afterAll(async () => {
  for (const step of undo.reverse()) await step()
})
async function started<S extends TestServer>(starting: Promise<S>): Promise<S> {
  const server = await starting
  undo.push(() => server.close())
  return server
}

async function startWithFile(path = join(newFolder(), 'master.key'), database?: { database: string; token: string }) {
  const seal: Seal = { source: 'file', path }
  const server = await started(startTestServer({ seal, ...(database ? { database: database.database } : {}) }))
  return { ...server, ...(database ? { token: database.token } : {}), seal, path }
}

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), '1ctl-test-'))
  undo.push(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

const call = (server: TestServer, path: string, init: CallInit = {}) =>
  server.call(path, { as: { token: server.token }, ...init })
const codeOf = (answer: Answer) => `${answer.status} ${answer.body?.error?.code}`
const rotate = (server: TestServer, body: object = {}) => call(server, '/admin/keys/master/rotate', { body })
const prove = (server: TestServer, share: string) => call(server, '/admin/keys/master/prove', { body: { share } })
const state = async (server: TestServer) => (await call(server, '/admin/seal')).body
const put = (server: TestServer, name: string, token = server.token) =>
  server.call('/secrets', { as: { token }, body: { name, data: { KEY: `the value of ${name}` } } })
const isKept = async (server: TestServer, name: string, token = server.token) =>
  (await server.call(`/secrets/${name}/verify`, { as: { token }, body: { key: 'KEY', value: `the value of ${name}` } }))
    .body.match
const keyIn = (path: string) => parseKey(readFileSync(path, 'utf8')) ?? Buffer.alloc(32)
const masters = async (server: TestServer) =>
  (await server.db.query('select fingerprint, state, source, threshold from master_keys order by created_at')).rows
/** How many keys of organizations each master key wraps. */
const wrapped = async (server: TestServer) =>
  (
    await server.db.query(
      'select m.fingerprint, count(*)::int from organization_keys k join master_keys m on m.id = master_key_id group by 1',
    )
  ).rows

describe('a master key in a file', () => {
  test('is replaced: all keys are wrapped anew, values stay, also after a restart', async () => {
    const server = await startWithFile()
    const other = await newOrganization(server)
    await put(server, 'kept')
    await put(server, 'theirs', other.token)
    const before = keyIn(server.path)

    const answer = await rotate(server)
    expect(answer.status, answer.text).toBe(200)
    const after = keyIn(server.path)
    expect(answer.body).toEqual({ masterKey: fingerprintOfKey(after), inUse: true, rewrapped: 4 })
    expect(after).not.toEqual(before)
    expect(readdirSync(join(server.path, '..'))).toEqual(['master.key'])
    expect(await wrapped(server)).toEqual([{ fingerprint: fingerprintOfKey(after), count: 4 }])
    expect(await masters(server)).toMatchObject([
      { fingerprint: fingerprintOfKey(before), state: 'retired' },
      { fingerprint: fingerprintOfKey(after), state: 'active' },
    ])
    const [event] = (await server.client().adminAuditList({ limit: 1 })).items
    expect(event).toMatchObject({
      action: 'master.rotate',
      detail: { masterKey: fingerprintOfKey(after), before: fingerprintOfKey(before), rewrapped: 4 },
    })

    expect(await isKept(server, 'kept')).toBe(true)
    const again = await startWithFile(server.path, server)
    expect(await isKept(again, 'kept')).toBe(true)
    expect(await isKept(again, 'theirs', other.token)).toBe(true)
    expect((await rotate(again)).body).toMatchObject({ rewrapped: 4 })
    expect(await isKept(again, 'theirs', other.token)).toBe(true)
  })

  test('is followed by a server that reads the same file, and seals one whose file is another until it is given', async () => {
    const server = await startWithFile()
    await put(server, 'kept')
    const shared = await startWithFile(server.path, server)
    const elsewhere = join(newFolder(), 'master.key')
    writeFileSync(elsewhere, readFileSync(server.path), { mode: 0o600 })
    const apart = await startWithFile(elsewhere, server)
    await rotate(server)

    // Organizations whose keys they have not met yet.
    const organizations = [await newOrganization(server), await newOrganization(server)]
    expect((await put(shared, 'mine', organizations[0]?.token)).status).toBe(201)
    const refused = await put(apart, 'theirs', organizations[1]?.token)
    expect(codeOf(refused)).toBe('503 sealed')
    expect(refused.body.error.message).toBe(
      'The master key was changed elsewhere, and this server does not have the one in use now.',
    )
    expect(codeOf(await call(apart, `${apart.url}/readyz`))).toBe('503 sealed')
    writeFileSync(elsewhere, readFileSync(server.path))
    await expect
      .poll(() => put(apart, 'theirs', organizations[1]?.token), { timeout: 5000 })
      .toMatchObject({ status: 201 })
    expect(await isKept(server, 'theirs', organizations[1]?.token)).toBe(true)
    expect(await wrapped(server)).toHaveLength(1)
  })

  test('leaves no key behind with the old one, however many are made meanwhile by several servers', async () => {
    const server = await startWithFile()
    const other = await startWithFile(server.path, server)
    const organizations = await Promise.all(Array.from({ length: 30 }, () => newOrganization(server)))
    const puts = organizations.map(({ token }, n) => put(n % 2 ? server : other, 'mine', token))
    const rotations = [rotate(server), rotate(server), rotate(server)]
    const answers = await Promise.all([...puts, ...rotations])
    // A second rotation at the same moment may lose; a write does not.
    expect(answers.slice(0, 30).map(({ status }) => status)).toEqual(Array.from({ length: 30 }, () => 201))
    expect(answers.slice(30).map(codeOf)).toContain('200 undefined')
    expect(await wrapped(server)).toEqual([{ fingerprint: fingerprintOfKey(keyIn(server.path)), count: 60 }])
    const again = await startWithFile(server.path, server)
    for (const { token } of organizations) expect(await isKept(again, 'mine', token)).toBe(true)
  })

  test.each(['has heard of it', 'has not'])(
    'that another server has put in use, and not in its place yet, survives a rotation by one that %s',
    async (heard) => {
      const server = await startWithFile()
      await put(server, 'kept')
      const [before, next] = [keyIn(server.path), newKey()]
      // What the other one does until it is killed after its commit.
      writeFileSync(`${server.path}.next`, next.toString('base64'), { mode: 0o600 })
      const env: Seal = { source: 'env', key: next, previous: before }
      await openKeyring({ db: server.db, log: server.platform.log, seal: env, say: () => undefined })
      if (heard === 'has heard of it') await server.platform.keys.refresh()
      const answer = await rotate(server)
      // It may have looked just before.
      expect(['200 undefined', '409 rotation_running']).toContain(codeOf(answer))
      if (heard === 'has heard of it') expect(answer.status).toBe(200)
      const again = await startWithFile(server.path, server)
      expect(await isKept(again, 'kept')).toBe(true)
      expect(readdirSync(join(server.path, '..'))).toEqual(['master.key'])
    },
  )

  test('is replaced while data keys are: neither waits for the other forever', async () => {
    const server = await startWithFile()
    const organizations = await Promise.all(Array.from({ length: 20 }, () => newOrganization(server)))
    for (const { token } of organizations) await put(server, 'mine', token)
    const rotations = organizations.map(({ token }) => server.call('/keys/rotate', { as: { token }, body: {} }))
    const answers = await Promise.all([rotate(server), ...rotations, rotate(server)])
    // Of the two, the one that comes while the other works is told so; which that is depends on who reads its body first.
    const [one = 0, other = 0] = [answers[0]?.status ?? 0, answers.at(-1)?.status ?? 0].sort((a, b) => a - b)
    expect(one).toBe(200)
    expect([200, 409]).toContain(other)
    expect(answers.slice(1, -1).map(({ status }) => status)).not.toContain(500)
    await expect.poll(async () => (await wrapped(server))[0].count, { timeout: 10_000 }).toBe(40)
    const again = await startWithFile(server.path, server)
    for (const { token } of organizations) expect(await isKept(again, 'mine', token)).toBe(true)
  })

  test('stays as it is where the new one cannot be written', async () => {
    const server = await startWithFile()
    await put(server, 'kept')
    const before = keyIn(server.path)
    rmSync(join(server.path, '..'), { recursive: true })
    const answer = await rotate(server)
    expect(codeOf(answer)).toBe('409 wrong_key_source')
    expect(answer.body.error.message).toMatch(/^The new key cannot be written beside \S+ \(ENOENT\)\.$/)
    expect(await masters(server)).toMatchObject([{ state: 'active', fingerprint: fingerprintOfKey(before) }])
    expect(await isKept(server, 'kept')).toBe(true)
  })

  test('stays as it is while a key of an organization does not open, and the answer names the organization', async () => {
    const server = await startWithFile()
    const damaged = await newOrganization(server)
    await put(server, 'kept')
    await put(server, 'mine', damaged.token)
    await server.db.query(
      `update organization_keys set wrapped = set_byte(wrapped, 20, 255 - get_byte(wrapped, 20))
       where purpose = 'data' and organization_id = (select id from organizations where name = $1)`,
      [damaged.name],
    )
    const answer = await rotate(server)
    expect(codeOf(answer)).toBe('500 value_damaged')
    expect(answer.body.error.message).toContain(damaged.id)
    const again = await startWithFile(server.path, server)
    expect(await isKept(again, 'kept')).toBe(true)
    expect(codeOf(await put(again, 'mine', damaged.token))).toBe('500 value_damaged')
  })

  test('may be handed out in shares: in use, and out of the file, once they have come back', async () => {
    const server = await startWithFile()
    await put(server, 'kept')
    const { shares } = (await rotate(server, { shares: 3, threshold: 2 })).body
    expect(existsSync(server.path)).toBe(true)
    for (const share of shares.slice(0, 2)) await prove(server, share)
    expect(await state(server)).toMatchObject({ sealed: false, source: 'manual', shares: 3, threshold: 2, next: null })
    expect(existsSync(server.path)).toBe(false)
    expect(await isKept(server, 'kept')).toBe(true)

    const seal: Seal = { source: 'manual', shares: 5, threshold: 3, sharesFile: undefined }
    const again = await started(startTestServer({ seal, database: server.database }))
    await unseal(again, shares.slice(1), server)
    expect(await isKept(again, 'kept', server.token)).toBe(true)
    // Also the server that still runs with --seal file.
    expect((await call(server, '/admin/seal', { body: {} })).body).toMatchObject({ sealed: true })
    expect((await put(server, 'x')).body.error.hint).toContain('1ctl admin unseal')
    await unseal(server, shares.slice(0, 2))
  })
})

describe('a master key in shares', () => {
  test('is replaced once enough of the new ones have come back; until then the old ones open', async () => {
    const server = await started(startSealed({ shares: 3, threshold: 2 }))
    await unseal(server, server.shares.slice(0, 2))
    await put(server, 'kept')
    const before = await state(server)
    const answer = await rotate(server)
    expect(answer.body).toEqual({
      masterKey: expect.any(String),
      inUse: false,
      rewrapped: 0,
      shares: expect.any(Array),
    })
    const { masterKey, shares } = answer.body
    expect(shares).toHaveLength(3)
    const next = { masterKey, shares: 3, threshold: 2, entered: 0 }
    expect(await state(server)).toEqual({ ...before, next })

    // Killed here: the old shares open, and the new ones can still be proven.
    const again = await started(startAgain(server))
    const early = await call(again, '/admin/unseal', { body: { share: shares[0] } })
    expect(codeOf(early)).toBe('400 invalid_share')
    expect(early.body.error.message).toContain('another master key had or will have')
    await unseal(again, server.shares.slice(1))
    expect((await prove(again, shares[2])).body).toEqual({ ...before, next: { ...next, entered: 1 } })
    expect((await prove(again, shares[2])).body.next.entered).toBe(1)
    expect(codeOf(await prove(again, server.shares[0] ?? ''))).toBe('400 invalid_share')
    const done = (await prove(again, shares[0])).body
    expect(done).toEqual({ ...before, masterKey, next: null })
    expect(await state(again)).toEqual(done)
    expect(await isKept(again, 'kept')).toBe(true)
    expect(await wrapped(again)).toEqual([{ fingerprint: masterKey, count: 2 }])

    // The other server has the old key: it seals itself, and opens with the new shares.
    await expect.poll(async () => codeOf(await call(server, '/secrets')), { timeout: 5000 }).toBe('503 sealed')
    expect(codeOf(await call(server, '/admin/unseal', { body: { share: server.shares[0] } }))).toBe('400 invalid_share')
    await unseal(server, shares.slice(0, 2))
    expect(await isKept(server, 'kept')).toBe(true)
  })

  test('gets more or fewer shares by a new one; a lost answer is made good by another', async () => {
    const server = await started(startSealed({ shares: 3, threshold: 2 }))
    await unseal(server, server.shares.slice(0, 2))
    // Sealed and opened again before: a count that begins anew with the new key.
    await call(server, '/admin/seal', { body: {} })
    await unseal(server, server.shares.slice(0, 2))
    const lost = (await rotate(server, { shares: 5, threshold: 5 })).body
    const kept = (await rotate(server, { shares: 4, threshold: 3 })).body
    expect(await state(server)).toMatchObject({
      next: { masterKey: kept.masterKey, shares: 4, threshold: 3, entered: 0 },
    })
    expect(codeOf(await prove(server, lost.shares[0]))).toBe('400 invalid_share')
    for (const share of kept.shares.slice(0, 3)) await prove(server, share)
    expect(await state(server)).toMatchObject({ masterKey: kept.masterKey, shares: 4, threshold: 3, next: null })
    const again = await started(startAgain(server))
    await unseal(again, kept.shares.slice(1))
    await server.platform.keys.refresh()
    expect((await put(server, 'kept')).status).toBe(201)
    expect(await isKept(again, 'kept')).toBe(true)
  })

  test('shows the new shares in the first answer only', async () => {
    const server = await started(startSealed({ shares: 1, threshold: 1 }))
    await unseal(server, server.shares)
    const init = { body: {}, headers: { 'idempotency-key': 'once' } }
    const first = await call(server, '/admin/keys/master/rotate', init)
    const second = await call(server, '/admin/keys/master/rotate', init)
    expect(first.body.shares).toHaveLength(1)
    const { shares: _, ...rest } = first.body
    expect(second.body).toEqual(rest)
  })

  test('that are wrong are told, counted and audited like those that open', async () => {
    const server = await started(startSealed({ shares: 1, threshold: 1 }))
    await unseal(server, server.shares)
    expect((await prove(server, 'x')).body.error.message).toBe('No new master key waits for its shares.')
    await rotate(server, { shares: 2, threshold: 2 })
    for (let n = 0; n < 10; n++) expect(codeOf(await prove(server, 'x'))).toBe('400 invalid_share')
    expect(codeOf(await prove(server, 'x'))).toBe('429 too_many_attempts')
    const events = await server.client().adminAuditList({ action: 'master.prove', limit: 100 })
    expect(events.items.filter(({ code }) => code === 'invalid_share')).toHaveLength(10)
  })

  test('cannot need more shares than there are', async () => {
    const server = await started(startSealed({ shares: 1, threshold: 1 }))
    await unseal(server, server.shares)
    for (const body of [
      { shares: 2, threshold: 3 },
      { shares: 2 },
      { threshold: 2 },
      { shares: 0, threshold: 0 },
      { shares: 21, threshold: 2 },
    ])
      expect(codeOf(await rotate(server, body)), JSON.stringify(body)).toBe('400 invalid_body')
  })
})

test('a master key in the environment cannot be replaced by the server, which says how it is done', async () => {
  const server = await started(startTestServer())
  const answer = await rotate(server)
  expect(codeOf(answer)).toBe('409 wrong_key_source')
  expect(answer.body.error.hint).toContain('SATUSKY_MASTER_KEY_PREVIOUS')
})

test('a server that has the old key from the environment does not use it when another has changed it', async () => {
  const server = await started(startTestServer())
  await put(server, 'kept')
  const key = Buffer.alloc(32, 'another')
  const previous = testSeal.source === 'env' ? testSeal.key : undefined
  const next = await started(startTestServer({ seal: { source: 'env', key, previous }, database: server.database }))
  const organization = await newOrganization(server)
  expect(codeOf(await put(server, 'mine', organization.token))).toBe('503 sealed')
  expect((await put(next, 'mine', organization.token)).status).toBe(201)
  expect(await isKept(next, 'kept', server.token)).toBe(true)
  expect(await wrapped(server)).toEqual([{ fingerprint: fingerprintOfKey(key), count: 4 }])
})

test('no rotation writes a key or a share anywhere but into its answer or file', async () => {
  const server = await startWithFile()
  await put(server, 'kept')
  const keys = [keyIn(server.path)]
  const answers = [await rotate(server)]
  keys.push(keyIn(server.path))
  const { body: handedOut } = await rotate(server, { shares: 2, threshold: 2 })
  for (const share of handedOut.shares) answers.push(await prove(server, share))
  keys.push(server.platform.keys.master().key)
  answers.push(await call(server, '/admin/seal'), await call(server, '/admin/audit?limit=200'))
  const everywhere = [server.log(), await dump(server.db), ...answers.map(({ text }) => text)].join('\n')
  const secrets = keys
    .flatMap((key) => [key.toString('hex'), key.toString('base64').slice(0, 40)])
    .concat(handedOut.shares.flatMap((share: string) => [share, share.split('-')[4]]))
  expect(secrets.every((secret) => secret.length >= 40)).toBe(true)
  expect(secrets.filter((secret) => everywhere.includes(secret))).toEqual([])
  chmodSync(join(server.path, '..'), 0o700)
})

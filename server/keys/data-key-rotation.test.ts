import { decodeId } from '@1ctl/contract/ids'
import { Client } from 'pg'
import { afterEach, beforeAll, describe, expect, inject, test } from 'vitest'
import { newOrganization } from '../testing/actors.ts'
import { type Answer, type CallInit, startTestServer, type TestServer } from '../testing/server.ts'
import { insertKeys } from './organization-keys.ts'

type Tenant = { id: string; uuid: string; token: string }

let server: TestServer
let other: TestServer
let tenant: Tenant
beforeAll(async () => {
  server = await startTestServer()
  other = await startTestServer({ database: server.database })
  return async () => {
    await other.close()
    await server.close()
  }
})
const undo: (() => unknown)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

async function newTenant(): Promise<Tenant> {
  const { id, token } = await newOrganization(server)
  return { id, token, uuid: decodeId('organization', id) ?? '' }
}
const call = (on: TestServer, path: string, init: CallInit = {}) => on.call(path, { as: tenant, ...init })
const put = (name: string, data: Record<string, string>, on = server) => call(on, '/secrets', { body: { name, data } })
const patch = (name: string, set: Record<string, string>, on = server) =>
  call(on, `/secrets/${name}`, { method: 'PATCH', body: { set } })
const rotate = (on = server) => call(on, '/keys/rotate', { body: {} })
const progress = async (on = server) => (await call(on, '/keys')).body
const ended = () => expect.poll(async () => (await progress()).running, { timeout: 15_000 }).toBe(false)
const codeOf = (answer: Answer) => `${answer.status} ${answer.body?.error?.code}`
const dataKeys = async () =>
  (
    await server.db.query(
      "select id, active from organization_keys where organization_id = $1 and purpose = 'data' order by created_at",
      [tenant.uuid],
    )
  ).rows
const valuesByKey = async () =>
  (
    await server.db.query(
      `select v.key_id as id, count(*)::int from secret_values v join secrets s on s.id = v.secret_id
       where s.organization_id = $1 group by 1`,
      [tenant.uuid],
    )
  ).rows

/** Opens every value of a version, without showing any: restoring it to a bag that was emptied. */
async function openAll(name: string, wanted?: number, on = server): Promise<Answer> {
  const version = wanted ?? (await call(on, `/secrets/${name}`)).body.version
  await put(name, {}, on)
  return call(on, `/secrets/${name}/restore`, { body: { version } })
}

/** Another session that holds rows locked. */
async function locking(sql: string, values: unknown[]) {
  const client = new Client({ ...inject('postgres'), database: server.database })
  await client.connect()
  undo.push(() => client.end())
  await client.query('begin')
  await client.query(sql, values)
  return client
}

test('an organization has a data key from its first value on', async () => {
  tenant = await newTenant()
  expect(await progress()).toEqual({ running: false, total: 0, done: 0, since: null })
  await put('bag', { A: 'one', B: 'two' })
  expect(await progress()).toEqual({ running: false, total: 2, done: 2, since: expect.stringMatching(/^20.*Z$/) })
  const elsewhere = await newTenant()
  expect((await server.call('/keys', { as: elsewhere })).body.since).toBeNull()
})

test('a new one is asked for by admins', async () => {
  tenant = await newTenant()
  const { token = '' } = await server.client(tenant).tokenCreate({ name: 'developer', scopes: ['secrets:write'] })
  expect(codeOf(await server.call('/keys/rotate', { as: { token }, body: {} }))).toBe('403 insufficient_scope')
})

describe('a new data key', () => {
  test('seals all values anew, those of old versions too, and the old key goes', async () => {
    tenant = await newTenant()
    const many = Object.fromEntries(Array.from({ length: 250 }, (_, n) => [`KEY_${n}`, `the value number ${n}`]))
    await put('many', many)
    await put('bag', { A: 'the first one', B: 'the second one' })
    await patch('bag', { A: 'the third one' })
    const [before] = await dataKeys()
    const started = await rotate()
    expect(started.status).toBe(202)
    expect(started.body).toMatchObject({ running: true, total: 253, done: 0 })
    await ended()
    expect(await progress()).toMatchObject({ total: 253, done: 253, since: started.body.since })
    const keys = await dataKeys()
    expect(keys).toHaveLength(1)
    expect(keys[0].id).not.toBe(before.id)
    expect(await valuesByKey()).toEqual([{ id: keys[0].id, count: 253 }])

    for (const on of [server, other]) {
      expect((await openAll('many', 1, on)).status).toBe(200)
      expect((await openAll('bag', 1, on)).status).toBe(200)
    }
    expect((await call(other, '/secrets/bag/verify', { body: { key: 'A', value: 'the first one' } })).body.match).toBe(
      true,
    )
    const { items } = await server.client(tenant).auditList({ action: 'keys.*' })
    expect(items.map(({ action, actor }) => [action, actor.type])).toEqual([
      ['keys.rotated', 'system'],
      ['keys.rotate', 'token'],
    ])
  })

  test('leaves equal values equal', async () => {
    tenant = await newTenant()
    await put('bag', { A: 'the same value' })
    await rotate()
    await ended()
    expect((await put('bag', { A: 'the same value' })).body).toMatchObject({ unchanged: true })
  })

  test('of an organization without values is there at once', async () => {
    tenant = await newTenant()
    await rotate()
    await ended()
    expect(await dataKeys()).toHaveLength(1)
    expect((await put('bag', { A: 'one' })).status).toBe(201)
  })

  test('comes while two servers write and read without a pause, and nothing is lost', async () => {
    tenant = await newTenant()
    const bags = Array.from({ length: 10 }, (_, n) => `bag-${n}`)
    for (const name of bags)
      await put(name, Object.fromEntries(Array.from({ length: 30 }, (_, n) => [`KEY_${n}`, `start ${n} value`])))
    await patch(bags[0] ?? '', { KEY_0: 'both know the old key' }, other)
    const stored = new Map<string, string>()
    const over = new AbortController()
    const failures: string[] = []
    const writers = bags.flatMap((name) =>
      [server, other].map(async (on, side) => {
        for (let round = 0; !over.signal.aborted; round++) {
          const [key, value] = [`SIDE_${side}`, `value ${name} ${round} of side ${side}`]
          const answer = await patch(name, { [key]: value }, on)
          if (answer.status === 200) stored.set(`${name} ${key}`, value)
          else failures.push(answer.text)
          // Opens a value, changes nothing.
          const read = await call(on, `/secrets/${name}/restore`, {
            body: { version: answer.body.version, keys: ['KEY_5'] },
          })
          if (read.status !== 200) failures.push(read.text)
        }
      }),
    )
    for (const on of [server, other]) {
      expect((await rotate(on)).status).toBe(202)
      await ended()
    }
    over.abort()
    await Promise.all(writers)
    expect(failures).toEqual([])
    expect(stored.size).toBe(20)
    const fresh = await startTestServer({ database: server.database })
    undo.push(() => fresh.close())
    const matches = await Promise.all(
      [...stored].map(async ([place, value]) => {
        const [name, key] = place.split(' ')
        return (await call(fresh, `/secrets/${name}/verify`, { body: { key, value } })).body.match
      }),
    )
    expect(matches).toEqual(matches.map(() => true))
    for (const name of bags) expect((await openAll(name, undefined, fresh)).status).toBe(200)
  })

  test('is one at a time, and goes on where it was when another server comes to it', async () => {
    tenant = await newTenant()
    await put('bag', { A: 'the first one', B: 'the second one' })
    const busy = await locking(
      "select from secret_values where key = 'A' and secret_id = (select id from secrets where organization_id = $1) for update",
      [tenant.uuid],
    )
    await rotate()
    await expect.poll(progress).toMatchObject({ running: true, total: 2, done: 1 })
    const refused = await rotate(other)
    expect(codeOf(refused)).toBe('409 rotation_running')
    expect(refused.body.error.message).toBe('A rotation is running: 1 of 2 values are done.')
    expect((await patch('bag', { C: 'written meanwhile' }, other)).status).toBe(200)
    await busy.query('rollback')
    await ended()
    expect(await progress()).toMatchObject({ total: 3, done: 3 })
  })

  test('goes on after a start, when the server that began it was killed', async () => {
    tenant = await newTenant()
    await put('bag', { A: 'the first one', B: 'the second one' })
    // What the request leaves in the database when nobody goes on with it.
    await server.db.query(
      "update organization_keys set active = false where organization_id = $1 and purpose = 'data'",
      [tenant.uuid],
    )
    await insertKeys(server.db, server.platform.keys.master(), tenant.uuid, ['data'])
    const next = await startTestServer({ database: server.database })
    undo.push(() => next.close())
    await ended()
    expect((await openAll('bag', 1, next)).status).toBe(200)
  })

  test('leaves alone what does not open, and stays unfinished for it; the rest is done', async () => {
    tenant = await newTenant()
    await put('bag', { A: 'the first one', B: 'the second one', C: 'the third one' })
    await server.db.query(
      `update secret_values set sealed = set_byte(sealed, 15, 255 - get_byte(sealed, 15))
       where key = 'B' and secret_id = (select id from secrets where organization_id = $1)`,
      [tenant.uuid],
    )
    await rotate()
    await expect.poll(progress).toMatchObject({ running: true, total: 3, done: 2 })
    await expect.poll(() => server.log() + other.log()).toContain('values do not open')
    expect((await call(server, '/secrets/bag/verify', { body: { key: 'A', value: 'the first one' } })).body.match).toBe(
      true,
    )
    expect((await openAll('bag', 1)).body.error.code).toBe('value_damaged')
    // Once the bag with it is gone, it ends.
    await call(server, '/secrets/bag', { method: 'DELETE' })
    await ended()
  })
})

describe('values that were moved by hand do not open', () => {
  const moves: [string, string][] = [
    [
      'swapped between keys',
      'update secret_values v set sealed = (select o.sealed from secret_values o where o.secret_id = v.secret_id and o.key <> v.key and o.version = 1) where version = 1 and secret_id = $1',
    ],
    [
      'rolled back to an older version of the same key',
      "update secret_values v set sealed = (select o.sealed from secret_values o where o.secret_id = v.secret_id and o.key = v.key and o.version = 1) where version = 2 and key = 'A' and secret_id = $1",
    ],
    ['truncated', 'update secret_values set sealed = substr(sealed, 1, 20) where secret_id = $1'],
    ['of another format', 'update secret_values set sealed = set_byte(sealed, 0, 2) where secret_id = $1'],
  ]
  test.each(moves)('%s', async (_, sql) => {
    tenant = await newTenant()
    await put('bag', { A: 'the first one', B: 'the second one' })
    await patch('bag', { A: 'the third one' })
    const { rows } = await server.db.query('select id from secrets where organization_id = $1', [tenant.uuid])
    expect((await openAll('bag', 2)).status).toBe(200)
    await server.db.query(sql, [rows[0].id])
    expect(codeOf(await openAll('bag', 2))).toBe('500 value_damaged')
  })

  test('given to another bag or organization', async () => {
    tenant = await newTenant()
    await put('bag', { A: 'the first one' })
    await put('another', { A: 'the second one' })
    await server.db.query(
      `update secret_values v set sealed = (select o.sealed from secret_values o join secrets s on s.id = o.secret_id where s.organization_id = $1 and s.name = 'bag')
       where secret_id = (select id from secrets where organization_id = $1 and name = 'another')`,
      [tenant.uuid],
    )
    expect(codeOf(await openAll('another', 1))).toBe('500 value_damaged')
  })
})

test('an organization that is deleted takes its keys with it, and the audit says so', async () => {
  tenant = await newTenant()
  await put('bag', { A: 'one' })
  const keys = await server.platform.keys.organization(tenant.uuid)
  const { name } = await server.client(tenant).organizationView({ organization: tenant.id })
  await server.client(tenant).organizationDelete({ organization: tenant.id, confirm: name })
  expect(await dataKeys()).toEqual([])
  expect(keys.current.key).toEqual(Buffer.alloc(32))
  await expect(other.platform.keys.organization(tenant.uuid).then((found) => found.current.id)).rejects.toMatchObject({
    code: 'organization_not_found',
  })
  const { items } = await server.client().adminAuditList({ action: 'organization.delete', limit: 1 })
  expect(items[0]).toMatchObject({ detail: { keys: 'destroyed' }, object: { name } })
})

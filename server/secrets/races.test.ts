import { decodeId } from '@1ctl/contract/ids'
import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, inject, onTestFinished, test, vi } from 'vitest'
import { newOrganization } from '../testing/actors.ts'
import { newApp } from '../testing/apps.ts'
import { type Credential, startTestServer, type TestServer } from '../testing/server.ts'
import { waiting } from '../testing/waiting.ts'

/** What happens at once: two servers on one database, and transactions of others held open between the steps of ours. */
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

let counter = 0
const fresh = (stem = 'bag') => `${stem}-${++counter}`

const put = (at: TestServer, body: object) => at.call('/secrets', { as, body })
const patch = (at: TestServer, name: string, body: object) => at.call(`/secrets/${name}`, { as, method: 'PATCH', body })
const remove = (at: TestServer, name: string) => at.call(`/secrets/${name}`, { as, method: 'DELETE' })

/** A transaction of someone else, from its first statement on. */
async function begin(text: string, values: unknown[]): Promise<Client> {
  const client = new Client({ ...inject('postgres'), database: server.database })
  await client.connect()
  onTestFinished(() => client.end())
  await client.query('begin')
  await client.query(text, values)
  return client
}
const lockBag = (name: string) => begin('select from secrets where name = $1 for update', [name])
const untilWaiting = (count: number) => vi.waitUntil(async () => (await waiting(server)) === count, { timeout: 10_000 })

describe('two servers', () => {
  test('that create the same bag at once make one of it, and each write is a version', async () => {
    const name = fresh()
    const answers = await Promise.all(
      Array.from({ length: 12 }, (_, n) => put(n % 2 ? server : second, { name, data: { [`K${n}`]: `value ${n}` } })),
    )
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(1)
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(11)
    const versions = answers.map(({ body }) => body.version as number)
    expect(versions.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 12 }, (_, n) => n + 1))
    const last = answers.find(({ body }) => body.version === 12)
    expect((await server.client().secretView({ ref: name })).keys).toEqual(last?.body.keys)
  })

  test('one deletes, the other does not write into what is gone', async () => {
    const name = fresh()
    await put(server, { name, data: { A: '1' } })
    const held = await lockBag(name)
    const gone = remove(server, name)
    await untilWaiting(1)
    const others = [patch(second, name, { set: { A: '2' } }), remove(second, name)]
    await untilWaiting(3)
    await held.query('commit')
    expect((await gone).status).toBe(200)
    for (const answer of await Promise.all(others))
      expect([answer.status, answer.body.error.code]).toEqual([404, 'secret_not_found'])
    const { items } = await server.client().auditList({ object: name, action: 'secret.delete' })
    expect(items.map(({ outcome }) => outcome)).toEqual(['done'])
  })

  test('one writes, the other deletes afterwards, with the version it has seen only if that is still the one', async () => {
    const name = fresh()
    await put(server, { name, data: { A: '1' } })
    const held = await lockBag(name)
    const written = patch(server, name, { set: { A: '2' } })
    await untilWaiting(1)
    const gone = second.call(`/secrets/${name}`, { as, method: 'DELETE', headers: { 'if-match': '"1"' } })
    await untilWaiting(2)
    await held.query('commit')
    expect((await written).status).toBe(200)
    expect((await gone).body.error).toMatchObject({ code: 'version_conflict', details: { version: 2 } })
    const now = { as, method: 'DELETE', headers: { 'if-match': '"2"' } }
    expect((await second.call(`/secrets/${name}`, now)).status).toBe(200)
  })
})

describe('a reference that is just being made', () => {
  const link = 'insert into secret_links (app_id, variable, secret_id, key) values ($1, $2, $3, $4)'

  async function unlinked() {
    const [app, name] = [await newApp(server, fresh('app')), fresh()]
    const { id } = await server.client().secretPut({ name, data: { KEY: 'linked', OTHER: 'free' } })
    return { name, start: () => begin(link, [decodeId('app', app.id), 'VARIABLE', decodeId('secret', id), 'KEY']) }
  }

  test.each([
    ['a bag', remove],
    ['a key', (at: TestServer, name: string) => patch(at, name, { unset: ['KEY'] })],
    ['a key, by replacing the bag,', (at: TestServer, name: string) => put(at, { name, data: { OTHER: 'free' } })],
  ])('to %s that goes first is refused; that comes first, it keeps it', async (_, takeAway) => {
    const late = await unlinked()
    expect((await takeAway(server, late.name)).status).toBe(200)
    await expect((await late.start()).query('commit')).rejects.toMatchObject({ code: '23503' })

    const early = await unlinked()
    const linking = await early.start()
    const taking = takeAway(server, early.name)
    await untilWaiting(1)
    await linking.query('commit')
    const refused = await taking
    expect(refused.body.error).toMatchObject({ code: 'secret_in_use', details: { usedBy: [{ variable: 'VARIABLE' }] } })
    expect((await server.client().secretView({ ref: early.name })).keys).toEqual(['KEY', 'OTHER'])
  })

  test('at the very moment leaves one of both, never a link to nothing', async () => {
    for (let n = 0; n < 15; n++) {
      const { name, start } = await unlinked()
      const [made, taken] = await Promise.all([
        start()
          .then((linking) => linking.query('commit'))
          .then(
            () => true,
            () => false,
          ),
        n % 2 ? remove(server, name) : patch(second, name, { unset: ['KEY'] }),
      ])
      expect([200, 409]).toContain(taken.status)
      expect(made).toBe(taken.status === 409)
    }
  })
})

test('a VPC that is deleted while a bag is made in it: the bag is refused, not half made', async () => {
  const [vpc, name] = [fresh('vpc'), fresh()]
  await server.client().vpcCreate({ name: vpc })
  const deleting = await begin('delete from vpcs where name = $1', [vpc])
  const made = put(server, { name, data: { A: '1' }, vpc })
  await untilWaiting(1)
  await deleting.query('commit')
  expect((await made).body.error.code).toBe('vpc_not_found')
  expect((await server.client().secretList({ q: name })).items).toEqual([])
})

const isRotated = async (client: ReturnType<TestServer['client']>) => !(await client.keysView()).running

describe('a rotation of the data key', () => {
  test('meets writers on two servers: nobody is refused, and every value is what was written last', async () => {
    const client = server.client()
    const name = fresh()
    await client.secretPut({ name, data: { START: 'the first value' } })
    const over = new AbortController()
    const last = new Map<string, string>()
    const writers = [server, second, server, second].map(async (at, writer) => {
      for (let n = 0; !over.signal.aborted || n < 10; n++) {
        const [key, value] = [`W${writer}`, `value ${writer} number ${n}`]
        const answer = await patch(at, name, { set: { [key]: value } })
        expect(answer.status, answer.text).toBe(200)
        last.set(key, value)
      }
    })
    for (let n = 0; n < 3; n++) {
      await client.keysRotate()
      await vi.waitUntil(() => isRotated(client), { timeout: 20_000, interval: 100 })
    }
    over.abort()
    await Promise.all(writers)
    for (const [key, value] of last)
      expect(await client.secretVerify({ ref: name, key, value })).toEqual({ match: true })
    const { version } = await client.secretView({ ref: name })
    // Opens what was sealed with whichever key.
    for (const at of [server, second])
      expect((await at.call(`/secrets/${name}/restore`, { as, body: { version: version - 5 } })).status).toBe(200)
  })

  test('that one server has ended is no damage to another, which still has the old key at hand', async () => {
    const { token } = await newOrganization(server)
    const [client, other] = [server.client({ token }), second.client({ token })]
    await client.secretPut({ name: 'bag', data: { A: 'the first value' } })
    await other.secretPatch({ ref: 'bag', set: { A: 'the second value' } })
    await client.keysRotate()
    await vi.waitUntil(() => isRotated(client), { timeout: 20_000, interval: 50 })
    expect(await other.secretRestore({ ref: 'bag', version: 1 })).toMatchObject({ version: 3 })
    expect(await other.secretVerify({ ref: 'bag', key: 'A', value: 'the first value' })).toEqual({ match: true })
  })
})

const dataOf = (count: number, value: string) =>
  Object.fromEntries(Array.from({ length: count }, (_, n) => [`KEY_${n}`, `${value} of number ${n}`]))

const stepsWith = (name: string, count: number) => [
  () => put(server, { name, data: dataOf(count, 'a value') }),
  () => patch(server, name, { set: dataOf(count, 'another') }),
  () => server.call(`/secrets/${name}/restore`, { as, body: { version: 1 } }),
  () => server.call(`/secrets/${name}/diff`, { as, body: { data: dataOf(count, 'a value') } }),
  () => server.call(`/secrets/${name}`, { as }),
  () => patch(server, name, { unset: Object.keys(dataOf(count, '')) }),
  () => remove(server, name),
]

test('500 keys cost as many round trips as one', async () => {
  const query = vi.spyOn(Client.prototype, 'query')
  onTestFinished(() => query.mockRestore())
  const statementsOf = async (work: () => Promise<unknown>) => {
    query.mockClear()
    await work()
    const names = query.mock.calls.map(([statement]) =>
      typeof statement === 'string' ? statement : (statement as { name: string }).name,
    )
    // What servers do in the background, and the use of a token that is noted once a minute.
    return names.filter((name) => !/^(?:master|rotation|sweep|callers\.note|announce)/.test(name)).toSorted()
  }
  const [small, large] = [stepsWith(fresh(), 1), stepsWith(fresh(), 500)]
  for (const [index, step] of small.entries()) {
    const few = await statementsOf(step)
    expect(await statementsOf(large[index] ?? step)).toEqual(few)
    expect(few.length).toBeLessThan(16)
  }
})

import { decodeId } from '@1ctl/contract/ids'
import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, inject, onTestFinished, test, vi } from 'vitest'
import { newOrganization } from '../testing/actors.ts'
import { newApp } from '../testing/apps.ts'
import { codeOf } from '../testing/raw.ts'
import { type Answer, type Credential, startTestServer, type TestServer } from '../testing/server.ts'
import { waiting } from '../testing/waiting.ts'

/** What is written while that which it belongs to is deleted: it is refused in words, and nothing of it stays. */
let server: TestServer
let second: TestServer
beforeAll(async () => {
  server = await startTestServer()
  second = await startTestServer({ database: server.database })
})
afterAll(async () => {
  await second.close()
  await server.close()
})

let counter = 0
const fresh = (stem: string) => `${stem}-${++counter}`

type Write = (at: TestServer, as: Credential) => Promise<Answer>
const put =
  (body: object): Write =>
  (at, as) =>
    at.call('/secrets', { as, body })
const patch =
  (name: string, set: object): Write =>
  (at, as) =>
    at.call(`/secrets/${name}`, { as, method: 'PATCH', body: { set } })
const restore =
  (name: string): Write =>
  (at, as) =>
    at.call(`/secrets/${name}/restore`, { as, body: { version: 1 } })
const remove =
  (name: string): Write =>
  (at, as) =>
    at.call(`/secrets/${name}`, { as, method: 'DELETE' })
const diff =
  (name: string): Write =>
  (at, as) =>
    at.call(`/secrets/${name}/diff`, { as, body: { data: { A: 'a value' } } })

/** A transaction of someone else, held open after this statement. */
async function begin(text: string, values: unknown[]): Promise<Client> {
  const client = new Client({ ...inject('postgres'), database: server.database })
  await client.connect()
  onTestFinished(() => client.end())
  await client.query('begin')
  await client.query(text, values)
  return client
}
const untilWaiting = (count: number) => vi.waitUntil(async () => (await waiting(server)) === count, { timeout: 10_000 })

/** Rows that belong to nothing. */
async function orphans(): Promise<number> {
  const { rows } = await server.db.query<{ count: number }>(`
    select (select count(*) from secrets s where not exists (select from organizations o where o.id = s.organization_id))
      + (select count(*) from organization_keys k where not exists (select from organizations o where o.id = k.organization_id))
      + (select count(*) from secrets s where s.vpc_id is not null and not exists (select from vpcs v where v.id = s.vpc_id))
      + (select count(*) from secret_versions x where not exists (select from secrets s where s.id = x.secret_id))
      + (select count(*) from secret_values x where not exists (select from secrets s where s.id = x.secret_id))
      + (select count(*) from secret_keys x where not exists (select from secrets s where s.id = x.secret_id))::int as count`)
  return Number(rows[0]?.count)
}

/** The codes of those that were refused; whoever is refused is told why. */
const refusals = (answers: Answer[]) => answers.filter(({ status }) => status >= 400).map((answer) => codeOf(answer))

async function newOrganizationWith(bags: string[]) {
  const { id, name, token } = await newOrganization(server)
  const as = { token }
  for (const bag of bags)
    for (const text of ['a value', 'another value']) await server.client(as).secretPut({ name: bag, data: { A: text } })
  return { id: decodeId('organization', id) ?? '', name, as }
}

describe('an organization that is being deleted', () => {
  test.each<[string, Write]>([
    ['a new bag', put({ name: 'new', data: { A: 'a value' } })],
    ['a new bag of its VPC', put({ name: 'new', data: { A: 'a value' }, vpc: 'default' })],
    ['a new bag of an app', put({ name: 'new', data: { A: 'a value' }, appId: 'later' })],
    ['a bag that is replaced', put({ name: 'bag', data: { B: 'a value' } })],
    ['a changed value', patch('bag', { A: 'a new value' })],
    ['an old version', restore('bag')],
    ['a deletion of a bag', remove('bag')],
  ])('takes %s no more', async (_, write) => expect(await whileDeleting(write)).toBe('organization_not_found'))

  async function whileDeleting(write: Write) {
    const { id, as } = await newOrganizationWith(['bag'])
    const deleting = await begin('delete from organizations where id = $1', [id])
    const written = write(server, as)
    await untilWaiting(1)
    await deleting.query('commit')
    const code = codeOf(await written)
    expect(await orphans()).toBe(0)
    return code
  }

  test('gets no keys any more, if it had none', async () => {
    const { id, as } = await newOrganizationWith([])
    const deleting = await begin('delete from organizations where id = $1', [id])
    const written = put({ name: 'first', data: { A: 'a value' } })(server, as)
    // The other is the note that the token was used.
    await untilWaiting(2)
    await deleting.query('commit')
    expect(refusals([await written])).toEqual(['organization_not_found'])
    expect(await orphans()).toBe(0)
  })

  test('refuses writers on two servers in words, and leaves neither rows nor keys', async () => {
    for (let n = 0; n < 5; n++) {
      const { id, name, as } = await newOrganizationWith(['bag', 'another'])
      const over = new AbortController()
      const answers: Answer[] = []
      const writers = [server, second].flatMap((at, side) =>
        [0, 1, 2].map(async (writer) => {
          for (let m = 0; !over.signal.aborted; m++) {
            const text = `value ${side} ${writer} ${m}`
            const writes = [
              patch('bag', { [`W${writer}`]: text }),
              put({ name: `new-${side}-${writer}-${m}`, data: { A: text } }),
              put({ name: 'another', data: { A: text } }),
              restore('bag'),
              diff('bag'),
            ]
            answers.push(await (writes[m % writes.length] ?? diff('bag'))(at, as))
          }
        }),
      )
      await vi.waitUntil(() => answers.length > 20 + n * 7)
      const deleted = await server.call(`/organizations/${name}?confirm=${name}`, { as, method: 'DELETE' })
      expect(deleted.status, deleted.text).toBe(200)
      const done = answers.length
      await vi.waitUntil(() => answers.length > done + 20)
      over.abort()
      await Promise.all(writers)

      expect(refusals(answers).filter((code) => !refused.includes(code))).toEqual([])
      expect(await orphans()).toBe(0)
      expect(await server.platform.keys.organization(id).catch(({ code }: { code: string }) => code)).toBe(
        'organization_not_found',
      )
    }
    expect(await server.client().auditVerify()).toMatchObject({ ok: true })
  })
  const refused: string[] = [
    'version_not_found',
    'invalid_token',
    'organization_not_found',
    'secret_not_found',
    'too_many_attempts',
  ]
})

describe('a VPC that is being deleted', () => {
  test('takes no bags, or stays: of writers and its deletion one has its way', async () => {
    const as = { token: server.token }
    const outcomes = new Set<string>()
    for (let n = 0; n < 20; n++) {
      const [vpc, name] = [fresh('vpc'), fresh('bag')]
      await server.client().vpcCreate({ name: vpc })
      const deletion = () => second.call(`/vpcs/${vpc}?confirm=${vpc}`, { as, method: 'DELETE' })
      const body = { name, data: { A: 'a value' }, vpc, ...(n % 3 === 0 ? { appId: 'later' } : {}) }
      const [written, deleted] =
        n % 2 ? [put(body)(server, as), deletion()] : [deletion(), put(body)(server, as)].reverse()
      const answers = [await written, await deleted] as Answer[]
      outcomes.add(answers.map(({ status, body }) => body.error?.code ?? status).join(', '))
      expect(await orphans()).toBe(0)
    }
    for (const outcome of outcomes) expect(['201, vpc_not_empty', 'vpc_not_found, 200']).toContain(outcome)
  })

  // Likewise: secret_uses_app_id_fkey.
  test('an app that goes with it takes no bag either', async () => {
    const as = { token: server.token }
    const app = await newApp(server, fresh('app'))
    const deleting = await begin('delete from apps where id = $1', [decodeId('app', app.id)])
    const written = put({ deploymentId: app.id, keyValues: [{ key: 'A', value: 'a value' }] })(server, as)
    await untilWaiting(1)
    await deleting.query('commit')
    expect(refusals([await written])).toEqual(['app_not_found'])
    expect(await orphans()).toBe(0)
  })
})

const as = () => ({ token: server.token })
async function newBag() {
  const name = fresh('bag')
  for (const text of ['a value', 'another value']) await server.client().secretPut({ name, data: { A: text } })
  return name
}
const lockBag = (name: string) => begin('select from secrets where name = $1 for update', [name])

describe('a bag that is being deleted', () => {
  test('is not restored: the restore is told that it is gone', async () => {
    const name = await newBag()
    const held = await lockBag(name)
    const gone = remove(name)(server, as())
    await untilWaiting(1)
    const restored = restore(name)(second, as())
    await untilWaiting(2)
    await held.query('commit')
    expect((await gone).status).toBe(200)
    expect(refusals([await restored])).toEqual(['secret_not_found'])
    expect(await orphans()).toBe(0)
  })

  test('goes with what was restored before', async () => {
    const name = await newBag()
    const held = await lockBag(name)
    const restored = restore(name)(server, as())
    await untilWaiting(1)
    const gone = remove(name)(second, as())
    await untilWaiting(2)
    await held.query('commit')
    expect([(await restored).status, (await gone).status]).toEqual([200, 200])
    expect(await orphans()).toBe(0)
  })

  test('at the very moment: whichever is first, and nothing in between', async () => {
    for (let n = 0; n < 20; n++) {
      const name = await newBag()
      const [restored, gone] = await Promise.all([restore(name)(server, as()), remove(name)(second, as())])
      expect(gone.status, gone.text).toBe(200)
      if (restored.status !== 200) expect(['secret_not_found', 'version_not_found']).toContain(codeOf(restored))
    }
    expect(await orphans()).toBe(0)
  })
})

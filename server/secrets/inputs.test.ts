import { execFileSync } from 'node:child_process'
import { contract, type Route } from '@1ctl/contract'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { newMember, newOrganization, newToken, signIn } from '../testing/actors.ts'
import { newApp } from '../testing/apps.ts'
import { needs } from '../testing/needs.ts'
import { codeOf } from '../testing/raw.ts'
import { type CallInit, type Credential, startTestServer, type TestServer } from '../testing/server.ts'

/** What may be sent to the routes of secrets, by whom, and what comes of it at the limits and beyond. */
let server: TestServer
let as: Credential
beforeAll(async () => {
  server = await startTestServer()
  as = { token: server.token }
})
afterAll(() => server.close())

let counter = 0
const fresh = (stem = 'bag') => `${stem}-${++counter}`
const put = (body: unknown, init: CallInit = {}) => server.call('/secrets', { as, body, ...init })
const patch = (name: string, body: unknown, init: CallInit = {}) =>
  server.call(`/secrets/${name}`, { as, method: 'PATCH', body, ...init })

// As text, because an object literal makes something else of `__proto__`.
const raw = (text: string) => `{"__proto__":"${text}","constructor":"${text}"}`

/** Every route that names a bag, with what it takes. */
const requests: Record<string, CallInit & { path: string }> = {
  secretView: { path: '' },
  secretVersionList: { path: '/versions' },
  secretUsage: { path: '/usage' },
  secretVerify: { path: '/verify', body: { key: 'KEY', value: 'a guess of it' } },
  secretDiff: { path: '/diff', body: { data: {} } },
  secretPatch: { path: '', method: 'PATCH', body: { set: { KEY: 'another value' } } },
  secretRestore: { path: '/restore', body: { version: 1 } },
  secretDelete: { path: '', method: 'DELETE' },
  secretDeploy: { path: '/deploy', body: {} },
}
const writing = ['secretPatch', 'secretRestore', 'secretDeploy', 'secretDelete']
const request = (name: string, ref: string, caller: Credential, query = '') => {
  const { path = '', ...init } = requests[name] ?? {}
  return server.call(`/secrets/${ref}${path}${query}`, { ...init, as: caller })
}

test('all routes that name a bag are tried below', () => {
  const routes = Object.entries<Route>(contract).filter(([, { path }]) => path.startsWith('/secrets/'))
  expect(Object.keys(requests).toSorted()).toEqual(routes.map(([name]) => name).toSorted())
})

describe('names and limits', () => {
  test.each<[string, (text: string) => object, { good: string[]; bad: string[] }]>([
    [
      'of a bag',
      (name) => ({ name, data: {} }),
      {
        good: ['a', 'db-creds', 'a1', 'x'.repeat(63)],
        bad: ['', '-a', 'a-', 'a--b', 'A', '1a', 'a_b', 'a.b', 'ä', 'a b', 'a/b', 'a\0', 'a\n', '..', 'x'.repeat(64)],
      },
    ],
    [
      'of a key',
      (key) => ({ name: 'keys', data: { [key]: 'value' } }),
      {
        good: ['a', 'A_B', 'tls.crt', '.env', '-x', '0', 'constructor', 'hasOwnProperty', 'k'.repeat(128)],
        bad: ['', '.', '..', '..x', 'a b', 'a/b', 'a=b', 'ä', 'a\0', 'a\n', '$(X)', 'k'.repeat(129)],
      },
    ],
    [
      'of an app',
      (appId) => ({ name: 'bag', data: {}, appId }),
      {
        good: ['a', 'web-2', 'x'.repeat(40)],
        bad: ['', 'Web', 'web 2', 'dep_typo', 'a--b', 'a\0', 'x'.repeat(41), 'x'.repeat(101)],
      },
    ],
    ['a note', (note) => ({ name: 'noted', data: {}, note }), { good: ['', 'ü'.repeat(140)], bad: ['x'.repeat(141)] }],
  ])('%s', async (_, body, { good, bad }) => {
    for (const text of good) expect((await put(body(text))).status, text).toBeLessThan(300)
    for (const text of bad) expect(codeOf(await put(body(text))), text).toBe('invalid_body')
  })

  test('a value has 256 KiB in UTF-8, whatever its letters are', async () => {
    for (const letter of ['x', 'ü', '€', '🔑']) {
      const fitting = letter.repeat((256 * 1024) / Buffer.byteLength(letter))
      const name = fresh()
      // 256 KiB are no multiple of the three bytes of a euro sign.
      expect((await put({ name, data: { A: fitting } })).status, letter).toBe(201)
      expect(codeOf(await put({ name, data: { A: `${fitting}xx` } }))).toBe('invalid_body')
      expect(
        codeOf(await server.call(`/secrets/${name}/verify`, { as, body: { key: 'A', value: `${fitting}xx` } })),
      ).toBe('invalid_body')
    }
  })

  test('a bag has a million bytes, names included, and not one more', async () => {
    const name = fresh()
    const quarter = 'x'.repeat(249_999)
    expect((await put({ name, data: { A: quarter, B: quarter, C: quarter, D: quarter } })).body.version).toBe(1)
    expect(codeOf(await patch(name, { set: { A: `${quarter}x` } }))).toBe('bag_too_large')
    expect(codeOf(await patch(name, { set: { E: '' } }))).toBe('bag_too_large')
    expect((await patch(name, { set: { E: '' }, unset: ['A'] })).body.version).toBe(2)
    expect(codeOf(await server.call(`/secrets/${name}/restore`, { as, body: { version: 1, keys: ['A'] } }))).toBe(
      'bag_too_large',
    )
  })

  test('a bag has 500 keys, also when they come one by one', async () => {
    const name = fresh()
    const data = Object.fromEntries(Array.from({ length: 500 }, (_, n) => [`K${n}`, `value ${n}`]))
    expect((await put({ name, data })).body.keys).toHaveLength(500)
    expect(codeOf(await patch(name, { set: { ONE_MORE: 'x' } }))).toBe('bag_too_large')
    expect((await patch(name, { set: { ONE_MORE: 'x' }, unset: ['K0'] })).body.keys).toHaveLength(500)
  })

  test('a version that no bag can have is no such version, or no number', async () => {
    const { id } = await server.client().secretPut({ name: fresh(), data: {} })
    const restore = async (version: unknown) =>
      codeOf(await server.call(`/secrets/${id}/restore`, { as, body: { version } }))
    for (const version of [2, 2_147_483_647]) expect(await restore(version)).toBe('version_not_found')
    for (const version of [0, -1, 1.5, '1', null, 2_147_483_648, 1e300])
      expect(await restore(version), `${version}`).toBe('invalid_body')
  })

  test.each([
    'cafe\u0301',
    '\ufeffwith a mark',
    'a\u2028b\u2029c',
    'שלום \u202e',
    'a\0b\u0001c',
    '👩‍👩‍👧',
    ' tabs\tand\r\nlines \n',
  ])('the value %j is kept to the byte', async (text) => {
    const [name, value] = [fresh(), `${text} and more`]
    await put({ name, data: { A: value } })
    await patch(name, { set: { A: 'replaced meanwhile' } })
    await server.client().secretRestore({ ref: name, version: 1 })
    const matches = async (guess: string) =>
      (await server.client().secretVerify({ ref: name, key: 'A', value: guess })).match
    expect(await matches(value)).toBe(true)
    for (const other of [value.normalize('NFC'), value.trim(), value.replace('\0', ''), `${value}\n`])
      expect(await matches(other)).toBe(other === value)
  })

  test('names of JavaScript’s own are plain names on every route', async () => {
    const name = fresh()
    await put(`{"name":"${name}","data":${raw('the first value')}}`)
    await patch(name, `{"set":${raw('the second value')}}`)
    const restored = await server.call(`/secrets/${name}/restore`, { as, body: '{"version":1,"keys":["__proto__"]}' })
    expect(restored.body.changes).toMatchObject({ changed: ['__proto__'], kept: ['constructor'] })
    const diff = await server.call(`/secrets/${name}/diff`, { as, body: `{"data":${raw('the first value')}}` })
    expect(diff.body).toMatchObject({ unchanged: ['__proto__'], changed: ['constructor'] })
    expect((await patch(name, '{"unset":["__proto__"]}')).body.keys).toEqual(['constructor'])
  })

  test('thousands of beginnings of a certificate hold nobody up', async () => {
    const value = '-----BEGIN CERTIFICATE-----'.repeat(9_700)
    const began = performance.now()
    expect((await put({ name: fresh(), data: { A: value, B: value, C: value } })).status).toBe(201)
    expect(performance.now() - began).toBeLessThan(1_500)
  })

  test('of a certificate its end is known', needs('openssl'), async () => {
    const pem = execFileSync('openssl', 'req -x509 -newkey ed25519 -nodes -keyout - -subj /CN=x -days 30'.split(' '), {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    const { id } = await server.client().secretPut({ name: fresh(), data: { PEM: pem.toString() } })
    const { keyDetails } = await server.client().secretView({ ref: id })
    const days = (Date.parse(keyDetails[0]?.expiresAt ?? '') - Date.now()) / 86_400_000
    expect(Math.round(days)).toBe(30)
  })
})

describe('If-Match', () => {
  test.each(['"1"', 'W/"1"', '1', '*', '"0", "1"', '"9" , W/"1"'])('%s lets a write of version 1 pass', async (tag) => {
    const name = fresh()
    await put({ name, data: { A: 'x' } })
    const headers = { 'if-match': tag }
    expect((await put({ name, data: { A: 'x' } }, { headers })).body.unchanged).toBe(true)
    expect((await patch(name, { set: { A: 'y' } }, { headers })).body.version).toBe(2)
  })

  test.each(['"2"', 'W/"0"', '"11"', '"1', 'x', '', '"2", "3"'])('%j does not', async (tag) => {
    const name = fresh()
    await put({ name, data: { A: 'x' } })
    const headers = { 'if-match': tag }
    const tries = [
      put({ name, data: { A: 'x' } }, { headers }),
      patch(name, { set: { A: 'y' } }, { headers }),
      server.call(`/secrets/${name}/restore`, { as, body: { version: 1 }, headers }),
      server.call(`/secrets/${name}`, { as, method: 'DELETE', headers }),
    ]
    for (const answer of await Promise.all(tries)) expect(codeOf(answer)).toBe('version_conflict')
    expect((await server.client().secretView({ ref: name })).version).toBe(1)
  })
})

describe('a POST that is repeated', () => {
  test('is answered as the first time, with its status, and nothing is done', async () => {
    const name = fresh()
    const headers = { 'idempotency-key': fresh('key') }
    const body = { name, data: { A: 'the first value' } }
    const first = await put(body, { headers })
    await patch(name, { set: { A: 'another value' } })
    const again = await put(body, { headers })
    expect([again.status, again.body]).toEqual([201, first.body])
    expect((await server.client().secretView({ ref: name })).version).toBe(2)
    const restore = { as, body: { version: 1 }, headers: { 'idempotency-key': fresh('key') } }
    const restored = await server.call(`/secrets/${name}/restore`, restore)
    await patch(name, { set: { A: 'another value' } })
    expect((await server.call(`/secrets/${name}/restore`, restore)).body).toEqual(restored.body)
    expect((await server.client().secretView({ ref: name })).version).toBe(4)
    expect(codeOf(await server.call(`/secrets/${fresh()}/restore`, restore))).toBe('idempotency_key_reused')
  })

  test('at once, ten times, makes one bag', async () => {
    const headers = { 'idempotency-key': fresh('key') }
    const body = { name: fresh(), data: { A: 'x' } }
    const answers = await Promise.all(Array.from({ length: 10 }, () => put(body, { headers })))
    for (const { status, text } of answers) expect([status, text]).toEqual([201, answers[0]?.text])
  })
})

describe('the list', () => {
  let bags: { id: string }[]
  let app: Awaited<ReturnType<typeof newApp>>
  let vpc: { id: string }
  beforeAll(async () => {
    app = await newApp(server, 'listed')
    vpc = await server.client().vpcCreate({ name: 'listing' })
    bags = []
    for (let n = 0; n < 7; n++)
      bags.push(await server.client().secretPut({ name: `listed-${n}`, data: { [`Key_${n}`]: 'x' }, appId: 'listed' }))
    await server.client().secretPut({ name: 'listed-vpc', data: { OTHER: 'x' }, vpc: 'listing' })
    await server.client().secretPut({ name: 'listed-shared', data: { OTHER: 'x' } })
  })

  test.each([1, 3, 7, 200])('comes whole in pages of %i, newest first, with its filters', async (limit) => {
    const seen: string[] = []
    let cursor: string | undefined
    do {
      const query = { scope: 'app' as const, app: 'listed', vpc: 'default', q: 'LISTED', limit }
      const page = await server.client().secretList({ ...query, ...(cursor ? { cursor } : {}) })
      expect(page.items.length).toBeLessThanOrEqual(limit)
      seen.push(...page.items.map(({ id }) => id))
      cursor = page.nextCursor ?? undefined
    } while (cursor)
    expect(seen).toEqual(bags.map(({ id }) => id).toReversed())
  })

  test('is narrowed by each filter', async () => {
    const list = async (query: Parameters<ReturnType<TestServer['client']>['secretList']>[0]) =>
      (await server.client().secretList({ limit: 200, ...query })).items
        .map(({ name }) => name)
        .filter((name) => name.startsWith('listed'))
        .toSorted()
    const all = Array.from({ length: 7 }, (_, n) => `listed-${n}`)
    expect(await list({ app: app.id })).toEqual(all)
    expect(await list({ app: 'listed' })).toEqual(all)
    expect(await list({ vpc: 'listing' })).toEqual(['listed-vpc'])
    expect(await list({ vpc: vpc.id })).toEqual(['listed-vpc'])
    expect(await list({ scope: 'org' })).toEqual(['listed-shared'])
    expect(await list({ q: 'kEy_3' })).toEqual(['listed-3'])
    expect(await list({ q: '%' })).toEqual([])
    expect(await list({ type: 'registry' })).toEqual([])
    expect(await list({ app: 'listed', scope: 'org' })).toEqual([])
    for (const query of ['cursor=x', 'cursor=', 'limit=0', 'limit=201', 'scope=all', 'type=x', 'more=1'])
      expect(codeOf(await server.call(`/secrets?${query}`, { as })), query).toBe('invalid_query')
    expect((await server.call('/secrets?q=%00', { as })).body.items).toEqual([])
  })
})

describe('who may', () => {
  type Place = { appId?: string; vpc?: string }
  const places: Record<string, Place> = {
    shared: {},
    default: { vpc: 'default' },
    staging: { vpc: 'staging' },
    mine: { appId: 'mine' },
    yours: { appId: 'yours' },
    'mine in staging': { appId: 'mine', vpc: 'staging' },
  }
  const queryOf = (place: Place) => `?${new URLSearchParams(place as Record<string, string>).toString()}`
  beforeAll(async () => {
    await server.client().vpcCreate({ name: 'staging' })
  })

  test.each([
    [{ vpcs: ['default'] }, ['default', 'mine', 'yours']],
    [{ apps: ['mine'] }, ['mine', 'mine in staging']],
    [{ vpcs: ['staging'], apps: ['mine'] }, ['mine in staging']],
  ])('a token limited to %o reaches %j, by name and by id, on every route', async (limits, reach) => {
    const name = fresh()
    const limited = await newToken(server, { ...limits, scopes: ['secrets:write'] })
    for (const [where, place] of Object.entries(places)) {
      const isWithin = reach.includes(where)
      const { id } = await server.client().secretPut({ name, data: { KEY: 'a value of ours' }, ...place })
      for (const route of Object.keys(requests).filter((route) => route !== 'secretDelete')) {
        const byId = await request(route, id, limited)
        const byName = await request(route, name, limited, queryOf(place))
        for (const answer of [byId, byName]) {
          expect(answer.status, `${route} ${where}: ${answer.text}`).toBe(isWithin ? 200 : 404)
          if (!isWithin) expect(codeOf(answer)).toBe('secret_not_found')
        }
      }
      const made = await put({ name: fresh(), data: {}, ...place }, { as: limited })
      if (isWithin) expect(made.status, `${where}: ${made.text}`).toBe(201)
      else expect(['insufficient_scope', 'vpc_not_found']).toContain(codeOf(made))
      expect((await request('secretDelete', id, limited)).status).toBe(isWithin ? 200 : 404)
    }
    const seen = (await server.client(limited).secretList({ limit: 200 })).items
    const outside = (vpc: string | null, app: string | null) =>
      ('vpcs' in limits && !limits.vpcs.includes(vpc ?? '')) || ('apps' in limits && !limits.apps.includes(app ?? ''))
    expect(seen.length).toBeGreaterThan(0)
    expect(seen.filter(({ vpc, app }) => outside(vpc, app))).toEqual([])
  })

  test('what is in a protected VPC is changed by admins alone, on every route that writes', async () => {
    await server.client().vpcCreate({ name: 'guarded' })
    const developer = await newMember(server, 'developer')
    const narrow = await newToken(server, { scopes: ['secrets:write'] })
    const app = await newApp(server, fresh('app'))
    for (const place of [{ vpc: 'guarded' }, { vpc: 'guarded', appId: 'web' }]) {
      const name = fresh()
      const { id } = await server.client().secretPut({ name, data: { KEY: 'a value of ours' }, ...place })
      await server.client().vpcPatch({ name: 'guarded', protected: true })
      const before = await server.client().secretView({ ref: id })
      for (const [caller, code] of [
        [developer, 'insufficient_role'],
        [narrow, 'insufficient_scope'],
      ] as const) {
        expect(codeOf(await put({ name, data: {}, ...place }, { as: caller }))).toBe(code)
        expect(codeOf(await put({ name: fresh(), data: {}, ...place }, { as: caller }))).toBe(code)
        for (const route of Object.keys(requests)) {
          const answer = await request(route, id, caller)
          expect(answer.status, route).toBe(writing.includes(route) ? 403 : 200)
        }
      }
      expect(await server.client().secretView({ ref: id })).toEqual(before)
      for (const route of writing) expect((await request(route, id, as)).status).toBe(200)
      await server.client().vpcPatch({ name: 'guarded', protected: false })
    }
    // The other form of POST, to an app there.
    await server.client().vpcPatch({ name: 'default', protected: true })
    const attach = { deploymentId: app.id, keyValues: [{ key: 'A', value: 'x' }] }
    expect(codeOf(await put(attach, { as: developer }))).toBe('insufficient_role')
    await server.client().vpcPatch({ name: 'default', protected: false })
    expect((await put(attach, { as: developer })).status).toBe(201)
  })

  test('a bag of a database or a registry is read like any other and changed by nobody', async () => {
    const name = fresh()
    const { id } = await server.client().secretPut({ name, data: { KEY: 'a value of ours' } })
    for (const type of ['database', 'registry']) {
      await server.db.query('update secrets set type = $1 where name = $2', [type, name])
      for (const route of Object.keys(requests)) {
        const answer = await request(route, id, as)
        if (writing.includes(route) && route !== 'secretDeploy') expect(codeOf(answer)).toBe('secret_managed')
        else expect(answer.status).toBe(200)
      }
      expect(codeOf(await put({ name, data: {} }))).toBe('secret_managed')
    }
  })

  test('apps and VPCs of another tenant are not there', async () => {
    const app = await newApp(server, fresh('app'))
    const { id: vpc } = await server.client().vpcView({ name: 'default' })
    const name = fresh()
    await server.client().secretPut({ name, data: { KEY: 'x' }, appId: app.id })
    const other = await newOrganization(server)
    expect(codeOf(await put({ name, data: {}, appId: app.id }, { as: other }))).toBe('app_not_found')
    expect(codeOf(await put({ name, data: {}, vpc }, { as: other }))).toBe('vpc_not_found')
    const attach = { deploymentId: app.id, keyValues: [{ key: 'A', value: 'x' }] }
    expect(codeOf(await put(attach, { as: other }))).toBe('app_not_found')
    for (const query of [`?appId=${app.id}`, `?vpc=${vpc}`, `?appId=${app.name}&vpc=${vpc}`])
      for (const route of Object.keys(requests))
        expect(codeOf(await request(route, name, other, query)), route).toBe('secret_not_found')
    for (const query of ['?vpc=', '?appId=', '?appId=&vpc=', '?vpc=%00', '?appId=dep_x'])
      expect(codeOf(await request('secretView', name, as, query)), query).toBe('secret_not_found')
    for (const query of [`?app=${app.id}`, `?vpc=${vpc}`])
      expect((await server.call(`/secrets${query}`, { as: other })).body.items).toEqual([])
  })

  test('an organization that is renamed keeps its values', async () => {
    const { name, token } = await newOrganization(server)
    const client = server.client({ token })
    await client.secretPut({ name: 'kept', data: { KEY: 'the value of before' } })
    await client.organizationPatch({ organization: name, name: fresh('renamed') })
    await client.secretPatch({ ref: 'kept', set: { KEY: 'the value of after' } })
    await client.secretRestore({ ref: 'kept', version: 1 })
    expect(await client.secretVerify({ ref: 'kept', key: 'KEY', value: 'the value of before' })).toEqual({
      match: true,
    })
  })

  test('sealed, every route that needs keys says so, lists too, and no other', async () => {
    const sealed = await startTestServer({ seal: { source: 'manual', shares: 3, threshold: 2, sharesFile: undefined } })
    try {
      const owner = await signIn(sealed, sealed.email, sealed.password)
      for (const [name, { method, path, needsKeys }] of Object.entries<Route>(contract)) {
        if (path.startsWith('/auth/')) continue
        const filled = path.replace('{organization}', 'main').replaceAll(/\{\w+\}/g, 'nothing')
        const answer = await sealed.call(filled, { method, as: owner, ...(method === 'GET' ? {} : { body: { x: 1 } }) })
        expect(answer.body?.error?.code === 'sealed', `${name}: ${answer.text}`).toBe(needsKeys === true)
        expect(/^\/(?:secrets|deploy)/.test(path) ? needsKeys : true, name).toBe(true)
      }
    } finally {
      await sealed.close()
    }
  })
})

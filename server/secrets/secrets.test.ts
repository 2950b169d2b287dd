import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { newMember, newToken } from '../testing/actors.ts'
import { newApp } from '../testing/apps.ts'
import { startTestServer, type TestServer } from '../testing/server.ts'

let server: TestServer
beforeAll(async () => {
  server = await startTestServer()
})
afterAll(() => server.close())

const as = () => ({ as: { token: server.token } })
let counter = 0
const fresh = (stem = 'bag') => `${stem}-${++counter}`

describe('POST /secrets as its users write it', () => {
  test('creates with 201, replaces with 200, and lists names and key names only', async () => {
    const name = fresh('db-creds')
    const first = await server.call('/secrets', {
      ...as(),
      body: { name, data: { DATABASE_URL: 'postgres://u:p@host/db' } },
    })
    expect(first.status, first.text).toBe(201)
    expect(first.body).toMatchObject({
      name,
      scope: 'org',
      version: 1,
      keys: ['DATABASE_URL'],
      changes: { added: ['DATABASE_URL'] },
    })
    const second = await server.call('/secrets', { ...as(), body: { name, data: { OTHER: 'x' } } })
    expect(second.status).toBe(200)
    expect(second.body).toMatchObject({
      version: 2,
      keys: ['OTHER'],
      changes: { added: ['OTHER'], removed: ['DATABASE_URL'] },
    })
    const list = await server.call('/secrets', as())
    expect(list.body.items.find((bag: { name: string }) => bag.name === name)).toMatchObject({
      keys: ['OTHER'],
      version: 2,
    })
    expect(list.text).not.toContain('postgres://')
  })

  test('the same data again makes no version', async () => {
    const name = fresh()
    const body = { name, data: { A: 'one', B: 'two' } }
    await server.call('/secrets', { ...as(), body })
    const again = await server.call('/secrets', { ...as(), body })
    expect(again.status).toBe(200)
    expect(again.body).toMatchObject({
      version: 1,
      unchanged: true,
      changes: { added: [], changed: [], removed: [], kept: ['A', 'B'] },
    })
  })

  test('the app of a bag, the VPC of a bag and the organization each have their own bag of a name', async () => {
    const name = fresh()
    for (const place of [{}, { vpc: 'default' }, { appId: 'app1' }])
      expect((await server.call('/secrets', { ...as(), body: { name, data: { A: '1' }, ...place } })).status).toBe(201)
    const list = await server.client().secretList({ q: name })
    expect(list.items.map(({ scope }) => scope).sort()).toEqual(['app', 'org', 'vpc'])
    expect((await server.call(`/secrets/${name}?appId=app1`, { ...as(), method: 'DELETE' })).status).toBe(200)
    expect((await server.call(`/secrets/${name}?appId=app1`, as())).body.error.code).toBe('secret_not_found')
    expect((await server.call(`/secrets/${name}`, as())).body).toMatchObject({ scope: 'org' })
    expect((await server.call(`/secrets/${name}?vpc=default`, as())).body).toMatchObject({ scope: 'vpc' })
  })

  test('with a deployment id merges keys into a bag named after the app, and attaches it once', async () => {
    const app = await newApp(server, fresh('web'))
    const call = (keyValues: object) => server.call('/secrets', { ...as(), body: { deploymentId: app.id, keyValues } })
    const first = await call([{ key: 'DB_PASS', value: 's3cr3t-value' }])
    expect(first.status, first.text).toBe(201)
    expect(first.body).toMatchObject({
      name: `${app.name}-secrets`,
      scope: 'app',
      app: app.name,
      appId: app.id,
      usedBy: 1,
    })
    const second = await call([{ key: 'DB_USER', value: 'app' }])
    expect(second.status).toBe(200)
    expect(second.body).toMatchObject({ version: 2, keys: ['DB_PASS', 'DB_USER'] })
    const usage = await server.call(`/secrets/${first.body.id}/usage`, as())
    expect(usage.body.items).toEqual([
      {
        runningVersion: null,
        currentVersion: 2,
        app: app.name,
        appId: app.id,
        vpc: 'default',
        service: null,
        mode: 'envFrom',
        key: null,
        variable: null,
      },
    ])
    expect(
      (
        await server.call('/secrets', {
          ...as(),
          body: { deploymentId: 'dep_00000000000000000000000000', keyValues: [{ key: 'A', value: '1' }] },
        })
      ).body.error.code,
    ).toBe('app_not_found')
  })

  test('keys such as __proto__ and constructor are plain names', async () => {
    const name = fresh()
    const body = `{"name":"${name}","data":{"__proto__":"a-long-value","constructor":"b-long-value","toString":"c-long-value"}}`
    const made = await server.call('/secrets', { ...as(), body })
    expect(made.status, made.text).toBe(201)
    expect(made.body.keys).toEqual(['__proto__', 'constructor', 'toString'])
    const verify = await server.call(`/secrets/${name}/verify`, {
      ...as(),
      body: { key: '__proto__', value: 'a-long-value' },
    })
    expect(verify.body).toEqual({ match: true })
  })

  test.each([
    ['a name', { name: 'Not A Name', data: {} }, 'name'],
    ['a key', { name: 'ok', data: { 'not a key': 'x' } }, 'data.not a key'],
    ['a key of dots', { name: 'ok', data: { '..': 'x' } }, 'data...'],
    ['a value that is no text', { name: 'ok', data: { A: 1 } }, 'data.A'],
    ['a value too long', { name: 'ok', data: { A: 'x'.repeat(256 * 1024 + 1) } }, 'data.A'],
    ['no data', { name: 'ok' }, 'data'],
    ['both forms', { deploymentId: 'x', keyValues: [{ key: 'A', value: '1' }], data: {} }, 'data'],
    [
      'too many keys',
      { name: 'ok', data: Object.fromEntries(Array.from({ length: 501 }, (_, n) => [`K${n}`, 'x'])) },
      'data',
    ],
  ])('%s is refused with its path, and nothing is stored', async (_, body, path) => {
    const answer = await server.call('/secrets', { ...as(), body })
    expect(answer.status).toBe(400)
    expect(answer.body.error.code).toBe('invalid_body')
    expect(answer.body.error.details.problems.map((problem: { path: string }) => problem.path)).toContain(path)
    expect((await server.client().secretList({ q: 'ok' })).items).toEqual([])
  })

  test('a bag larger than Kubernetes takes is refused, also when it grows key by key', async () => {
    const name = fresh()
    const big = 'x'.repeat(200_000)
    await server.call('/secrets', { ...as(), body: { name, data: { A: big, B: big, C: big } } })
    const grown = await server.call(`/secrets/${name}`, { ...as(), method: 'PATCH', body: { set: { D: big, E: big } } })
    expect(grown.body.error.code).toBe('bag_too_large')
    expect((await server.client().secretView({ ref: name })).keys).toEqual(['A', 'B', 'C'])
  })
})

describe('PATCH /secrets/{ref}', () => {
  test('merges: sets some, unsets others, keeps the rest', async () => {
    const name = fresh()
    await server.client().secretPut({ name, data: { A: '1', B: '2', C: '3' } })
    const patched = await server.client().secretPatch({ ref: name, set: { B: '22', D: '4' }, unset: ['C'] })
    expect(patched).toMatchObject({
      version: 2,
      keys: ['A', 'B', 'D'],
      changes: { added: ['D'], changed: ['B'], removed: ['C'], kept: ['A'] },
    })
  })

  test('a key that is not there cannot be unset, nor one be set and unset', async () => {
    const name = fresh()
    await server.client().secretPut({ name, data: { A: '1' } })
    await expect(server.client().secretPatch({ ref: name, unset: ['NOPE', 'A'] })).rejects.toMatchObject({
      code: 'key_not_found',
    })
    await expect(server.client().secretPatch({ ref: name, set: { A: '2' }, unset: ['A'] })).rejects.toMatchObject({
      code: 'invalid_body',
    })
    expect((await server.client().secretView({ ref: name })).version).toBe(1)
  })

  test('If-Match of an older version is 412 and says who was quicker; the current one passes', async () => {
    const name = fresh()
    await server.client().secretPut({ name, data: { A: '1' } })
    const view = await server.call(`/secrets/${name}`, as())
    const etag = view.headers.get('etag') ?? ''
    const patch = (value: string) =>
      server.call(`/secrets/${name}`, {
        ...as(),
        method: 'PATCH',
        body: { set: { A: value } },
        headers: { 'if-match': etag },
      })
    expect((await patch('2')).status).toBe(200)
    const late = await patch('3')
    expect(late.status).toBe(412)
    expect(late.body.error).toMatchObject({ code: 'version_conflict', details: { version: 2, updatedBy: 'admin' } })
  })

  test('ten writers on one bag lose no update and leave dense, ordered versions', async () => {
    const name = fresh()
    await server.client().secretPut({ name, data: { START: 'x' } })
    await Promise.all(
      Array.from({ length: 10 }, async (_, writer) => {
        for (let n = 0; n < 5; n++)
          await server.client().secretPatch({ ref: name, set: { [`W${writer}_${n}`]: `value ${writer} ${n}` } })
      }),
    )
    const view = await server.client().secretView({ ref: name })
    expect(view.version).toBe(51)
    expect(view.keys).toHaveLength(51)
    const { items } = await server.client().secretVersionList({ ref: name, limit: 200 })
    expect(items.map(({ version }) => version)).toEqual(Array.from({ length: 20 }, (_, n) => 51 - n))
    expect((await server.client().secretVerify({ ref: name, key: 'W3_4', value: 'value 3 4' })).match).toBe(true)
  })
})

describe('history', () => {
  test('a version, or one key of it, becomes the new version without being seen', async () => {
    const name = fresh()
    await server.client().secretPut({ name, data: { A: 'first-value-a', B: 'first-value-b' }, note: 'start' })
    await server.client().secretPatch({ ref: name, set: { A: 'second-value-a', C: 'second-value-c' }, unset: ['B'] })
    const one = await server.client().secretRestore({ ref: name, version: 1, keys: ['A'] })
    expect(one).toMatchObject({ version: 3, changes: { changed: ['A'], kept: ['C'] } })
    expect((await server.client().secretVerify({ ref: name, key: 'A', value: 'first-value-a' })).match).toBe(true)
    const whole = await server.client().secretRestore({ ref: name, version: 1 })
    expect(whole).toMatchObject({
      version: 4,
      keys: ['A', 'B'],
      changes: { added: ['B'], removed: ['C'], kept: ['A'] },
    })
    const { items } = await server.client().secretVersionList({ ref: name })
    expect(items.map(({ version, note, current }) => [version, note, current])).toEqual([
      [4, 'restored from v1', true],
      [3, 'restored from v1', false],
      [2, null, false],
      [1, 'start', false],
    ])
    await expect(server.client().secretRestore({ ref: name, version: 9 })).rejects.toMatchObject({
      code: 'version_not_found',
    })
    await expect(server.client().secretRestore({ ref: name, version: 2, keys: ['B'] })).rejects.toMatchObject({
      code: 'key_not_found',
    })
  })

  test('only the last 20 versions are kept, and the values only they had', async () => {
    const name = fresh()
    const { id } = await server
      .client()
      .secretPut({ name, data: { KEPT: 'kept-from-the-start', A: 'a longer value 0' } })
    for (let n = 1; n < 25; n++) await server.client().secretPatch({ ref: name, set: { A: `a longer value ${n}` } })
    await expect(server.client().secretRestore({ ref: name, version: 5 })).rejects.toMatchObject({
      code: 'version_not_found',
    })
    await server.client().secretRestore({ ref: name, version: 6 })
    expect((await server.client().secretVerify({ ref: name, key: 'A', value: 'a longer value 5' })).match).toBe(true)
    expect((await server.client().secretVerify({ ref: name, key: 'KEPT', value: 'kept-from-the-start' })).match).toBe(
      true,
    )
    const { rows } = await server.db.query(
      'select count(*) as n from secret_values v join secrets s on s.id = v.secret_id where s.name = $1',
      [name],
    )
    expect(rows[0].n).toBeLessThanOrEqual(22)
    expect(id).toMatch(/^sec_/)
  })
})

describe('what is known of a value without showing it', () => {
  test('a digest is that of the value in its place, of short ones not shown; lengths are buckets; mistakes and ends are noted', async () => {
    const name = fresh()
    const jwt = `eyJhbGciOiJub25lIn0.${Buffer.from(JSON.stringify({ exp: 1_900_000_000 })).toString('base64url')}.`
    await server.client().secretPut({
      name,
      data: {
        A: 'the same value',
        B: 'the same value',
        SHORT: 'abc',
        TODO: 'changeme',
        NL: 'with newline\n',
        JWT: jwt,
        EMPTY: '',
      },
    })
    const { keyDetails } = await server.client().secretView({ ref: name })
    const of = (key: string) => keyDetails.find((detail) => detail.name === key)
    expect(of('A')?.digest).toMatch(/^[0-9a-f]{8}$/)
    // Whoever may write could otherwise store guesses under other keys, and compare.
    expect(of('A')?.digest).not.toBe(of('B')?.digest)
    await server.client().secretPatch({ ref: name, set: { A: 'another value' } })
    await server.client().secretPatch({ ref: name, set: { A: 'the same value' } })
    const again = (await server.client().secretView({ ref: name })).keyDetails.find((detail) => detail.name === 'A')
    expect(again).toMatchObject({ digest: of('A')?.digest, version: 3 })
    expect(of('SHORT')).toMatchObject({ digest: null, length: '1-7' })
    expect(of('EMPTY')).toMatchObject({ digest: null, length: '0' })
    expect(of('TODO')?.hints).toEqual(['looks like a placeholder'])
    expect(of('NL')?.hints).toEqual(['ends with a newline'])
    expect(of('JWT')?.expiresAt).toBe('2030-03-17T17:46:40Z')
  })

  test('verify and diff compare on the server, are audited, limited, and silent about short values', async () => {
    const name = fresh()
    await server
      .client()
      .secretPut({ name, data: { LONG: 'a value long enough', SHORT: '1234', GONE: 'long enough too' } })
    expect((await server.client().secretVerify({ ref: name, key: 'LONG', value: 'a value long enough' })).match).toBe(
      true,
    )
    expect((await server.client().secretVerify({ ref: name, key: 'LONG', value: 'another' })).match).toBe(false)
    await expect(server.client().secretVerify({ ref: name, key: 'SHORT', value: '1234' })).rejects.toMatchObject({
      code: 'not_comparable',
    })
    expect(
      await server.client().secretDiff({ ref: name, data: { LONG: 'a value long enough', SHORT: '1234', NEW: 'x' } }),
    ).toEqual({
      added: ['NEW'],
      changed: [],
      unchanged: ['LONG'],
      removed: ['GONE'],
      notCompared: ['SHORT'],
    })
    const { items } = await server.client().auditList({ object: name, action: 'secret.verify' })
    expect(items.map(({ detail }) => detail)).toContainEqual({ key: 'LONG', match: true })
    for (let n = 0; n < 26; n++) await server.client().secretVerify({ ref: name, key: 'LONG', value: `guess ${n}` })
    await expect(server.client().secretVerify({ ref: name, key: 'LONG', value: 'one too many' })).rejects.toMatchObject(
      { code: 'too_many_attempts' },
    )
  })
})

describe('references', () => {
  test('a bag in use and a linked key stay, by the word of the database, with the list of users', async () => {
    const app = await newApp(server, fresh('api'))
    const name = fresh()
    const { id } = await server.client().secretPut({ name, data: { URL: 'a-long-value', OTHER: 'x' } })
    await app.link('DATABASE_URL', id, 'URL')
    const users = [
      {
        app: app.name,
        appId: app.id,
        vpc: 'default',
        service: null,
        mode: 'link',
        key: 'URL',
        variable: 'DATABASE_URL',
      },
    ]
    await expect(server.client().secretPatch({ ref: name, unset: ['URL'] })).rejects.toMatchObject({
      code: 'secret_in_use',
      details: { usedBy: users },
    })
    await expect(server.client().secretDelete({ ref: name })).rejects.toMatchObject({
      code: 'secret_in_use',
      details: { usedBy: users },
    })
    // Another value, and the removal of another key, do not touch the link.
    await server.client().secretPatch({ ref: name, set: { URL: 'another-value' }, unset: ['OTHER'] })
    await app.unlink('DATABASE_URL')
    await server.client().secretDelete({ ref: name })
    await expect(server.client().secretView({ ref: name })).rejects.toMatchObject({ code: 'secret_not_found' })
  })

  test('a VPC with secrets is not empty; an organization goes with everything', async () => {
    await server.client().vpcCreate({ name: 'full' })
    await server.client().secretPut({ name: fresh(), data: {}, vpc: 'full' })
    await expect(server.client().vpcDelete({ name: 'full' })).rejects.toMatchObject({ code: 'vpc_not_empty' })
    const { name, token } = await server.client().organizationCreate({ name: fresh('org') })
    const other = server.client({ token: token ?? '' })
    await other.secretPut({ name: 'x', data: { A: '1' }, appId: 'web' })
    await other.organizationDelete({ organization: name, confirm: name })
  })
})

describe('who may', () => {
  test('a viewer lists and cannot write; in a protected VPC a developer cannot either', async () => {
    const viewer = await newMember(server, 'viewer')
    const developer = await newMember(server, 'developer')
    await server.client().vpcCreate({ name: 'prod' })
    await server.client().vpcPatch({ name: 'prod', protected: true })
    await expect(server.client(viewer).secretList()).resolves.toHaveProperty('items')
    await expect(server.client(viewer).secretPut({ name: fresh(), data: {} })).rejects.toMatchObject({
      code: 'insufficient_role',
    })
    await expect(
      server.client(developer).secretPut({ name: fresh(), data: {}, vpc: 'default' }),
    ).resolves.toHaveProperty('id')
    await expect(server.client(developer).secretPut({ name: fresh(), data: {}, vpc: 'prod' })).rejects.toMatchObject({
      code: 'insufficient_role',
    })
    await expect(server.client().secretPut({ name: fresh(), data: {}, vpc: 'prod' })).resolves.toHaveProperty('id')
  })

  test('a token limited to an app sees and writes that app only', async () => {
    const own = fresh()
    await server.client().secretPut({ name: own, data: { A: '1' }, appId: 'mine' })
    await server.client().secretPut({ name: fresh(), data: { A: '1' }, appId: 'yours' })
    const limited = server.client(await newToken(server, { apps: ['mine'], scopes: ['secrets:write'] }))
    expect((await limited.secretList()).items.map(({ app }) => app)).toEqual(['mine'])
    await expect(limited.secretPatch({ ref: own, appId: 'mine', set: { A: '2' } })).resolves.toHaveProperty(
      'version',
      2,
    )
    await expect(limited.secretPut({ name: fresh(), data: {}, appId: 'yours' })).rejects.toMatchObject({
      code: 'insufficient_scope',
    })
    await expect(limited.secretPut({ name: fresh(), data: {} })).rejects.toMatchObject({ code: 'insufficient_scope' })
  })
})

import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startTestServer, type TestServer } from '../testing/server.ts'
import { type Bootstrap, bootstrap, followAddress } from './bootstrap.ts'

let server: TestServer
const folder = mkdtempSync(join(tmpdir(), '1ctl-test-'))
beforeAll(async () => {
  server = await startTestServer()
})
afterAll(async () => {
  await server.close()
  rmSync(folder, { recursive: true })
})

const read = (dataDir: string) => JSON.parse(readFileSync(join(dataDir, 'bootstrap.json'), 'utf8')) as Bootstrap

test('three processes that start at once make one owner, and one of them writes down how to sign in', async () => {
  await server.db.query('truncate organizations, users cascade')
  const folders = [1, 2, 3].map(() => mkdtempSync(join(folder, 'data-')))
  const started = await Promise.all(folders.map((dataDir) => bootstrap(server.db, dataDir, server.url)))
  const written = folders.filter((dataDir) => readdirSync(dataDir).includes('bootstrap.json'))
  expect(written).toHaveLength(1)
  expect(started.map(({ email }) => email).filter(Boolean)).toEqual(['owner@example.test'])

  const [dataDir = ''] = written
  expect(readdirSync(dataDir)).toEqual(['bootstrap.json'])
  expect(statSync(join(dataDir, 'bootstrap.json')).mode & 0o777).toBe(0o600)
  const { url, apiUrl, email, password, token } = read(dataDir)
  expect([url, apiUrl]).toEqual([server.url, `${server.url}/v1/cli`])
  expect((await server.call('/auth/session', { body: { email, password } })).body).toMatchObject({
    user: { email, operator: true },
    organization: { name: 'main' },
    role: 'owner',
  })
  const client = server.client({ token })
  expect(await client.meView()).toMatchObject({
    role: 'owner',
    token: { name: 'admin', scopes: ['admin', 'operator'] },
  })
  expect((await client.vpcList()).items).toMatchObject([{ name: 'default', namespace: 'main--default' }])
  expect(await client.auditVerify()).toEqual({ ok: true, rows: 2, through: 2 }) // founded, signed in
  expect(await client.adminAuditVerify()).toMatchObject({ ok: true })

  await bootstrap(server.db, dataDir, 'http://elsewhere.test')
  expect(read(dataDir), 'another start changes nothing').toEqual({ url, apiUrl, email, password, token })
  followAddress(join(dataDir, 'bootstrap.json'), 'http://127.0.0.1:1')
  expect(read(dataDir), 'but a new address').toEqual({
    url: 'http://127.0.0.1:1',
    apiUrl: 'http://127.0.0.1:1/v1/cli',
    email,
    password,
    token,
  })
})

test('where the file cannot be written, nothing is made', async () => {
  await server.db.query('truncate organizations, users cascade')
  await expect(bootstrap(server.db, join(folder, 'missing'), server.url)).rejects.toThrow('ENOENT')
  expect((await server.db.query('select from users')).rowCount).toBe(0)
  expect((await server.db.query('select from organizations')).rowCount).toBe(0)
})

import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from 'node:tls'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { signIn } from '../testing/actors.ts'
import { needs } from '../testing/needs.ts'
import { sendRaw } from '../testing/raw.ts'
import { startTestServer, type TestServer } from '../testing/server.ts'

let server: TestServer
let cookie: string
beforeAll(async () => {
  server = await startTestServer()
  cookie = await cookieOn(server)
})
afterAll(() => server.close())

const cookieOn = async (on: TestServer) =>
  ((await signIn(on, server.email, server.password)) as { cookie: string }).cookie
const hostOf = (on: TestServer) => new URL(on.url).host

/** A request with exactly these headers: `fetch` would add some of its own. */
async function send(on: TestServer, [method, path, body = '']: string[], headers: Record<string, string>) {
  const all = { host: hostOf(on), 'content-type': 'application/json', 'content-length': body.length, ...headers }
  const fields = Object.entries(all).map(([name, value]) => `${name}: ${value}`)
  const answer = await sendRaw(on.url, [`${method} /v1/cli${path} HTTP/1.1`, ...fields, '', body].join('\r\n'))
  return { status: answer.status, code: answer.body.error?.code as string | undefined, body: answer.body }
}
const change = ['PATCH', '/auth/session', '{"organization":"main"}']
const refused = { status: 403, code: 'foreign_origin' }
const done = { status: 200 }

const changing = (headers: Record<string, string>) => send(server, change, { cookie, ...headers })

describe('a cookie request that changes something comes from our own page', () => {
  test('with our own Origin it is done', async () => {
    expect(await changing({ origin: server.url })).toMatchObject(done)
  })

  test('with another Origin it is refused, however alike', async () => {
    const { port } = new URL(server.url)
    for (const origin of [
      'http://evil.example.test',
      'null',
      '',
      'http://127.0.0.1',
      `http://127.0.0.1:${Number(port) + 1}`,
      `https://127.0.0.1:${port}`,
      `http://127.0.0.1:${port}.evil.example.test`,
      `http://evil.127.0.0.1:${port}`,
      `${server.url}/`,
      `${server.url}, http://evil.example.test`,
    ])
      expect(await changing({ origin }), origin).toMatchObject(refused)
  })

  test('without Origin it is done only where the browser itself says "same-origin"', async () => {
    expect(await changing({ 'sec-fetch-site': 'same-origin' })).toMatchObject(done)
    for (const site of ['same-site', 'cross-site', 'none', 'same-origin, cross-site'])
      expect(await changing({ 'sec-fetch-site': site }), site).toMatchObject(refused)
    expect(await changing({})).toMatchObject(refused)
  })

  test('what the browser says of the site does not make up for a foreign Origin', async () => {
    for (const origin of ['http://evil.example.test', 'null'])
      expect(await changing({ origin, 'sec-fetch-site': 'same-origin' }), origin).toMatchObject(refused)
  })

  test.each(['POST', 'PATCH', 'DELETE'])('for %s, before anything is done', async (method) => {
    const path = { POST: '/vpcs', PATCH: '/vpcs/default', DELETE: '/sessions' }[method] ?? ''
    const body = { POST: '{"name":"forged"}', PATCH: '{"protected":true}', DELETE: '{}' }[method] ?? ''
    expect(await send(server, [method, path, body], { cookie, origin: 'http://evil.example.test' })).toMatchObject(
      refused,
    )
    const { items } = await server.client().vpcList()
    expect(items).toMatchObject([{ name: 'default', protected: false }])
    expect(await send(server, ['GET', '/auth/me'], { cookie })).toMatchObject(done)
  })

  test('reading needs no Origin, and tells no other page', async () => {
    expect(await send(server, ['GET', '/vpcs'], { cookie, origin: 'http://evil.example.test' })).toMatchObject(done)
    const { headers } = await server.call('/vpcs', { as: { cookie }, headers: { origin: 'http://evil.example.test' } })
    expect([...headers.keys()].filter((name) => name.startsWith('access-control-'))).toEqual([])
  })

  test('a form cannot sign anyone in: what it can send is no JSON', async () => {
    const body = JSON.stringify({ email: server.email, password: server.password })
    for (const type of ['text/plain', 'application/x-www-form-urlencoded'])
      expect((await send(server, ['POST', '/auth/session', body], { 'content-type': type })).status).toBe(415)
  })
})

const post = (name: string) => ['POST', '/vpcs', JSON.stringify({ name })]

describe('a token is sent by nobody but its holder', () => {
  test('so its requests may come from anywhere', async () => {
    const elsewhere = { origin: 'http://evil.example.test', 'sec-fetch-site': 'cross-site' }
    expect((await send(server, post('by-key'), { ...elsewhere, 'x-satusky-api-key': server.token })).status).toBe(201)
    expect(
      (await send(server, post('by-bearer'), { ...elsewhere, authorization: `Bearer ${server.token}` })).status,
    ).toBe(201)
    expect(
      (await send(server, post('lower-case'), { ...elsewhere, authorization: `bearer ${server.token}` })).status,
    ).toBe(201)
  })

  test('and it counts before a cookie, for better or worse', async () => {
    const both = { cookie, origin: 'http://evil.example.test', 'x-satusky-api-key': server.token }
    expect((await send(server, ['GET', '/auth/me'], both)).body).toMatchObject({
      session: null,
      token: { name: 'admin' },
    })
    expect((await send(server, ['POST', '/vpcs', '{"name":"both"}'], both)).status).toBe(201)
    const bad = { cookie, origin: server.url, 'x-satusky-api-key': 'sat_wrong' }
    expect(await send(server, ['GET', '/auth/me'], bad)).toMatchObject({ status: 403, code: 'invalid_token' })
    expect(await send(server, ['GET', '/auth/me'], { authorization: 'Basic b3duZXI6eA==' })).toMatchObject({
      status: 401,
    })
  })
})

describe('where the server is reached under another name', () => {
  test('with --public-url that is its origin, and its Host no longer is', async () => {
    const behind = await startTestServer({ database: server.database, publicUrl: 'https://1ctl.example.test' })
    try {
      const own = await cookieOn(behind)
      expect(await send(behind, change, { cookie: own, origin: 'https://1ctl.example.test' })).toMatchObject(done)
      expect(await send(behind, change, { cookie: own, origin: behind.url })).toMatchObject(refused)
      expect(await send(behind, change, { cookie: own, origin: 'http://1ctl.example.test' })).toMatchObject(refused)
      const answer = await behind.call('/auth/me', { as: { cookie: own } })
      expect(answer.headers.get('strict-transport-security')).toBe('max-age=31536000')
    } finally {
      await behind.close()
    }
  })

  const front = { 'x-forwarded-host': '1ctl.example.test', 'x-forwarded-proto': 'https' }

  test('with --trust-proxy the proxy says what it is', async () => {
    const secure = { cookie: cookie.replace('1ctl_session', '__Host-1ctl_session'), ...front }
    expect(await send(server, change, { ...secure, origin: 'https://1ctl.example.test' })).toMatchObject(done)
    expect(await send(server, change, { ...secure, origin: server.url })).toMatchObject(refused)
  })

  test('without it, nobody does', async () => {
    const direct = await startTestServer({ database: server.database, trustProxy: false })
    try {
      expect(await send(direct, change, { cookie, ...front, origin: direct.url })).toMatchObject(done)
      expect(await send(direct, change, { cookie, ...front, origin: 'https://1ctl.example.test' })).toMatchObject(
        refused,
      )
    } finally {
      await direct.close()
    }
  })
})

const signInTo = async (on: TestServer, headers = {}) => {
  const body = { email: server.email, password: server.password }
  return (await on.call('/auth/session', { body, headers })).headers.get('set-cookie') ?? ''
}

describe('the session cookie', () => {
  test('is for the server alone, for thirty days', async () => {
    expect(await signInTo(server)).toMatch(
      /^1ctl_session=[\w-]{43}; Path=\/; HttpOnly; SameSite=Strict; Max-Age=2592000$/,
    )
  })

  test('is bound to https where there is https', async () => {
    const secure = /^__Host-1ctl_session=[\w-]{43}; Path=\/; HttpOnly; SameSite=Strict; Max-Age=2592000; Secure$/
    expect(await signInTo(server, { 'x-forwarded-proto': 'https' })).toMatch(secure)
    const behind = await startTestServer({ database: server.database, publicUrl: 'https://1ctl.example.test' })
    expect(await signInTo(behind)).toMatch(secure)
    await behind.close()
  })

  test('of http does not count on https, where a neighbour could have set it', async () => {
    expect((await server.call('/auth/me', { as: { cookie } })).status).toBe(200)
    const answer = await server.call('/auth/me', { as: { cookie }, headers: { 'x-forwarded-proto': 'https' } })
    expect([answer.status, answer.body.error.code]).toEqual([401, 'missing_token'])
  })

  test('goes when signing out', async () => {
    const leaving = (await signInTo(server)).split(';', 1)[0] ?? ''
    const answer = await server.call('/auth/session', { method: 'DELETE', as: { cookie: leaving } })
    expect(answer.headers.get('set-cookie')).toBe('1ctl_session=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0')
  })
})

describe('with a certificate', needs('openssl'), () => {
  let folder: string
  let cert: Buffer
  let secure: TestServer
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), '1ctl-tls-'))
    const [keyFile, certFile] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
    const made = [
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-keyout',
      keyFile,
      '-out',
      certFile,
    ]
    const named = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1', '-days', '2']
    execFileSync('openssl', ['req', '-x509', ...made, ...named], { stdio: 'ignore' })
    cert = readFileSync(certFile)
    secure = await startTestServer({
      database: server.database,
      tls: { cert, key: readFileSync(keyFile) },
      trustProxy: false,
    })
  })
  afterAll(async () => {
    await secure.close()
    rmSync(folder, { recursive: true })
  })

  const call = (method: string, path: string, headers: Record<string, string>, body = '') =>
    new Promise<{ status: number | undefined; headers: Record<string, string | string[] | undefined> }>(
      (resolve, reject) => {
        const sent = request(`${secure.apiUrl}${path}`, { method, headers, ca: cert, agent: false }, (answer) => {
          answer.resume()
          resolve({ status: answer.statusCode, headers: answer.headers })
        })
        sent.on('error', reject)
        sent.end(body)
      },
    )

  test('the server speaks TLS 1.2 or newer, and nothing else', async () => {
    const { hostname, port } = new URL(secure.url)
    // Without this the client itself would refuse what is old.
    const ciphers = 'DEFAULT@SECLEVEL=0'
    const shake = (maxVersion: 'TLSv1.1' | 'TLSv1.2' | 'TLSv1.3') =>
      new Promise<string | null>((resolve) => {
        const options = {
          host: hostname,
          port: Number(port),
          ca: cert,
          maxVersion,
          minVersion: 'TLSv1.1' as const,
          ciphers,
        }
        const socket = connect(options, () => {
          resolve(socket.getProtocol())
          socket.destroy()
        })
        socket.on('error', () => resolve(null))
      })
    expect(await shake('TLSv1.3')).toBe('TLSv1.3')
    expect(await shake('TLSv1.2')).toBe('TLSv1.2')
    expect(await shake('TLSv1.1')).toBeNull()
    await expect(sendRaw(secure.url, 'GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n')).rejects.toThrow('no whole answer')
  })

  test('signs in with a cookie for https, changes something with it, and asks for https from then on', async () => {
    const json = { 'content-type': 'application/json' }
    const body = JSON.stringify({ email: server.email, password: server.password })
    const signedIn = await call('POST', '/auth/session', json, body)
    const [given = ''] = signedIn.headers['set-cookie'] ?? []
    expect(given).toMatch(/^__Host-1ctl_session=.*; Path=\/; .*; Secure$/)
    expect(signedIn.headers['strict-transport-security']).toBe('max-age=31536000')
    const own = { ...json, cookie: given.split(';', 1)[0] ?? '' }
    const patch = '{"organization":"main"}'
    expect((await call('PATCH', '/auth/session', { ...own, origin: secure.url }, patch)).status).toBe(200)
    const plain = secure.url.replace('https:', 'http:')
    expect((await call('PATCH', '/auth/session', { ...own, origin: plain }, patch)).status).toBe(403)
  })
})

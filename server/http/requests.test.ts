import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createMetrics } from '../observe/metrics.ts'
import { newMember, newToken } from '../testing/actors.ts'
import { codeOf, sendRaw } from '../testing/raw.ts'
import { type CallInit, startTestServer, type TestServer } from '../testing/server.ts'
import { createHttp } from './server.ts'

let server: TestServer
let as: { token: string }
beforeAll(async () => {
  server = await startTestServer()
  as = { token: server.token }
})
afterAll(() => server.close())

const refusal = async (path: string, init: CallInit = {}) => codeOf(await server.call(path, { as, ...init }))
const problems = async (path: string, init: CallInit = {}) => {
  const answer = await server.call(path, { as, ...init })
  codeOf(answer)
  return answer.body.error.details?.problems as { path: string; message: string }[]
}

const raw = (bytes: string | Buffer, url = server.url) => sendRaw(url, bytes)
const lines = (...head: string[]) => `${head.join('\r\n')}\r\n\r\n`
const apiKey = () => `x-satusky-api-key: ${server.token}`

describe('what is not there', () => {
  test('an unknown path is 404 and names what was asked for', async () => {
    const answer = await server.call('/nothing', { as })
    expect(codeOf(answer)).toBe('endpoint_not_found')
    expect(answer.body.error.message).toBe('There is nothing at GET /v1/cli/nothing.')
  })

  test('another method is 405 and says which are possible', async () => {
    for (const [method, path, allow] of [
      ['PUT', '/vpcs/default', 'GET, PATCH, DELETE'],
      ['DELETE', '/vpcs', 'GET, POST'],
      ['OPTIONS', '/auth/me', 'GET'],
      ['POST', '/openapi.json', 'GET'],
    ]) {
      const answer = await server.call(path ?? '', { method: method ?? '', as })
      expect(codeOf(answer)).toBe('method_not_allowed')
      expect(answer.headers.get('allow')).toBe(allow)
    }
  })

  test.each([
    '/../../../etc/passwd',
    '/..%2f..%2fetc/passwd',
    '/assets/../../package.json',
    '//etc/passwd',
    '/%2e%2e/tokens',
  ])('a path does not leave its place: %s', async (path) => {
    for (const base of ['', '/v1/cli/vpcs'])
      expect(codeOf(await raw(lines(`GET ${base}${path} HTTP/1.1`, 'host: x', apiKey())))).toMatch(/_not_found$/)
  })

  test('a name that is none is not found, whatever is in it', async () => {
    for (const name of [
      '%00',
      'a%00b',
      '%F0%9F%94%91',
      '..',
      '%2e%2e',
      "'%3b--",
      '__proto__',
      'constructor',
      ':a(',
      '*',
    ])
      expect(codeOf(await raw(lines(`GET /v1/cli/vpcs/${name} HTTP/1.1`, 'host: x', apiKey()))), name).toBe(
        'vpc_not_found',
      )
    for (const name of ['a/b', '...', '', 'ü', '%41'])
      await expect(server.client().vpcView({ name })).rejects.toMatchObject({
        code: 'vpc_not_found',
        message: `No VPC "${name}" in this organization.`,
      })
    expect(await refusal('/organizations/%00', { as: await newMember(server, 'viewer') })).toBe(
      'organization_not_found',
    )
  })
})

const post = (body: unknown, headers = {}) => refusal('/vpcs', { body, headers })

/** Creates a token whose name is these bytes. */
async function postName(name: Buffer) {
  const body = Buffer.concat([Buffer.from('{"name":"'), name, Buffer.from('"}')])
  const head = ['POST /v1/cli/tokens HTTP/1.1', 'host: x', apiKey(), 'content-type: application/json']
  return raw(Buffer.concat([Buffer.from(lines(...head, `content-length: ${body.length}`)), body]))
}

describe('a body', () => {
  test('is JSON, or it is refused', async () => {
    for (const body of ['{', '{"name":', 'name=x', '{"name":"x",}', "{'name':'x'}", '[[[[', '{"name":"\u0001"}'])
      expect(await post(body), body).toBe('malformed_json')
    for (const body of ['[]', '"x"', 'null', '1', 'true', '[{"name":"x"}]', '{"name":[[[[[]]]]]}'])
      expect(await post(body), body).toBe('invalid_body')
  })

  test('says that it is JSON', async () => {
    const body = { name: 'typed' }
    for (const type of [
      'text/plain',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
      'application/jsonp',
      'nonsense',
    ])
      expect(await post(body, { 'content-type': type }), type).toBe('unsupported_media_type')
    const typed = { body, headers: { 'content-type': 'application/json; charset=utf-8' }, as }
    expect((await server.call('/vpcs', typed)).status).toBe(201)
  })

  test('may be missing where none is needed, and only there', async () => {
    expect(await problems('/vpcs', { method: 'POST' })).toEqual([{ path: '', message: 'a JSON object is needed' }])
    expect(await refusal('/vpcs', { method: 'POST', headers: { 'content-type': 'application/json' } })).toBe(
      'invalid_body',
    )
    const { id } = await newToken(server)
    const nothing = { method: 'DELETE', headers: { 'content-type': 'application/json' }, as }
    expect((await server.call(`/tokens/${id}`, nothing)).status).toBe(200)
    expect(await problems('/tokens/x', { method: 'DELETE', body: { name: 'x' } })).toEqual([
      { path: 'name', message: 'is not known here' },
    ])
  })

  test('is UTF-8: what is not would be stored as something else', async () => {
    expect(codeOf(await postName(Buffer.from([0x63, 0xe9])))).toBe('malformed_json')
    expect((await postName(Buffer.from('cé'))).body).toMatchObject({ name: 'cé' })
  })

  test('has every problem listed with its path', async () => {
    const body = {
      name: ' x',
      expiresInDays: 0,
      scopes: ['read', 'write'],
      apps: ['ok', 'No'],
      tag: '_',
      more: 1,
      __proto: 2,
    }
    expect((await problems('/tokens', { body })).map(({ path }) => path).toSorted()).toEqual([
      '__proto',
      'apps.1',
      'expiresInDays',
      'more',
      'name',
      'scopes.1',
      'tag',
    ])
  })

  test('may name keys that objects have anyway, and they are unknown like any other', async () => {
    const body =
      '{"name":"x","__proto__":{"admin":true},"constructor":{"prototype":{}},"toString":1,"hasOwnProperty":1}'
    expect((await problems('/vpcs', { body })).map(({ path }) => path)).toEqual([
      '__proto__',
      'constructor',
      'toString',
      'hasOwnProperty',
    ])
    expect(({} as { admin?: boolean }).admin).toBeUndefined()
  })

  test('with a flood of mistakes is answered in few words', async () => {
    const body = Object.fromEntries(Array.from({ length: 50_000 }, (_, index) => [`key${index}`, index]))
    const answer = await server.call('/auth/session', { body })
    expect(codeOf(answer)).toBe('invalid_body')
    expect(answer.body.error.details.problems.at(-1)).toEqual({ path: '', message: 'and 49902 more' })
    expect(answer.text.length).toBeLessThan(20_000)
  })

  test('nested without end is refused like any other', async () => {
    const deep = `{"name":${'['.repeat(200_000)}${']'.repeat(200_000)}}`
    expect(await post(deep)).toBe('invalid_body')
    expect(await post('['.repeat(1_000_000))).toBe('malformed_json')
  })

  test('with numbers beyond all bounds is refused', async () => {
    for (const number of ['1e999', '-1', '0', '1.5', '99999999999999999999', '"7"', 'true'])
      expect(await refusal('/tokens', { body: `{"name":"x","expiresInDays":${number}}` }), number).toBe('invalid_body')
    const { id } = await newToken(server)
    for (const number of ['1e999', '-1', '721'])
      expect(await refusal(`/tokens/${id}/rotate`, { body: `{"graceHours":${number}}` }), number).toBe('invalid_body')
  })

  test('with NUL or half a character in any text is refused, or finds nothing', async () => {
    for (const text of ['\u0000', 'a\u0000b', '\ud800', 'a\udc00'])
      for (const [path, body] of [
        ['/vpcs', { name: text }],
        ['/tokens', { name: text }],
        ['/tokens', { name: 'x', vpcs: [text], apps: [text], tag: text }],
        ['/organizations', { name: text }],
        ['/members', { email: `${text}@example.test`, role: 'viewer' }],
        ['/members', { email: 'x@example.test', role: text }],
        ['/auth/session', { email: `${text}@example.test`, password: text }],
        ['/auth/invitation', { invitation: text, password: `${text}-twelve-at-least` }],
      ] as const)
        expect((await server.call(path, { as, body })).status, JSON.stringify([path, body])).toBe(400)
    const member = await newMember(server, 'viewer')
    for (const organization of ['\u0000', '\ud800'])
      expect(await refusal('/auth/session', { method: 'PATCH', body: { organization }, as: member })).toMatch(
        /^(organization_not_found|invalid_request)$/,
      )
  })

  test('that has too much of something is told what of', async () => {
    const long = { name: 'bag', data: {}, note: 'x'.repeat(141) }
    expect(await problems('/secrets', { body: long })).toEqual([
      { path: 'note', message: 'must be at most 140 characters long' },
    ])
  })

  test('of more than 1 MiB is refused, with its length or in chunks, and a MiB is not', async () => {
    const head = ['POST /v1/cli/vpcs HTTP/1.1', 'host: x', apiKey(), 'content-type: application/json']
    const long = ' '.repeat(1024 * 1024 + 1)
    expect(codeOf(await raw(lines(...head, `content-length: ${long.length}`) + long))).toBe('body_too_large')
    const chunk = `${long.length.toString(16)}\r\n${long}\r\n0\r\n\r\n`
    expect(codeOf(await raw(lines(...head, 'transfer-encoding: chunked') + chunk))).toBe('body_too_large')
    const name = '{"name":"mebibyte"}'
    expect((await server.call('/vpcs', { as, body: name.padEnd(1024 * 1024) })).status).toBe(201)
  })
})

describe('a query', () => {
  test('is known, or it is refused with every problem', async () => {
    expect(await problems('/vpcs?limit=0&sort=name&__proto__=1')).toEqual([
      { path: 'limit', message: 'must be at least 1' },
      { path: 'sort', message: 'is not known here' },
      { path: '__proto__', message: 'is not known here' },
    ])
    expect(await refusal('/auth/me?verbose=1')).toBe('invalid_query')
  })

  test('names a thing once', async () => {
    for (const twice of ['/vpcs?limit=1&limit=2', '/vpcs?cursor=a&cursor=b', '/audit?actor=a&actor=b'])
      expect(await refusal(twice), twice).toBe('invalid_query')
  })

  test('has a limit from 1 to 200', async () => {
    for (const limit of ['0', '-1', '201', '1e9', '1.5', 'NaN', 'Infinity', 'x', '', '%00', '9'.repeat(400)])
      expect(await refusal(`/vpcs?limit=${limit}`), limit).toBe('invalid_query')
    expect((await server.call('/vpcs?limit=200', { as })).status).toBe(200)
  })

  test('has a cursor that the list has answered', async () => {
    for (const list of ['/vpcs', '/tokens', '/members', '/sessions', '/organizations', '/audit', '/admin/audit'])
      for (const cursor of ['x', 'usr_01h455vb4pex5vsknk084sn02q', '-1', "1'--", '%00', '1e400', '9'.repeat(200)])
        expect((await problems(`${list}?cursor=${cursor}`))?.[0]?.path, `${list} ${cursor}`).toBe('cursor')
  })

  test('has times that the database has', async () => {
    for (const time of [
      'yesterday',
      '2026-02-30T00:00:00Z',
      '0000-01-01T00:00:00Z',
      '0001-01-01T00:00:00%2B23:59',
      '9999-12-31T23:59:59-23:59',
    ])
      expect(
        (await problems(`/audit?since=${time}`)).map(({ path }) => path),
        time,
      ).toEqual(['since'])
    for (const time of [
      '2026-01-01T00:00:00Z',
      '0001-01-01T00:00:00Z',
      '2026-01-01T00:00:00%2B23:59',
      '9999-12-31T23:59:59Z',
    ])
      expect((await server.call(`/audit?since=${time}&until=${time}`, { as })).status, time).toBe(200)
  })

  test('may look for anything, and finds nothing; for nothing it does not look', async () => {
    for (const field of ['actor', 'action', 'object', 'since'])
      expect((await problems(`/audit?${field}=`)).map(({ path }) => path)).toEqual([field])
    for (const text of ['%00', '%ff', '%25', '%5c', '_', "'%20or%20''%3d'", '%F0%9F%94%91', '%ED%A0%80'])
      for (const field of ['actor', 'action', 'object'])
        expect((await server.call(`/audit?${field}=${text}`, { as })).body, `${field}=${text}`).toEqual({
          items: [],
          nextCursor: null,
        })
  })
})

describe('what is hardly a request', () => {
  test('a URL that cannot be read', async () => {
    for (const path of ['/v1/cli/vpcs/%', '/v1/cli/vpcs/%zz', '/v1/cli/vpcs/%ff', '/v1/cli/%c0%ae%c0%ae/x'])
      expect(codeOf(await raw(lines(`GET ${path} HTTP/1.1`, 'host: x', apiKey()))), path).toBe('invalid_request')
  })

  test('a name of more than 500 characters, and a URL or headers of more than 16 KiB', async () => {
    expect(await refusal(`/vpcs/${'a'.repeat(500)}`)).toBe('vpc_not_found')
    expect(await refusal(`/vpcs/${'a'.repeat(501)}`)).toBe('url_too_long')
    const long = 'a'.repeat(17_000)
    expect(codeOf(await raw(lines(`GET /v1/cli/vpcs?q=${long} HTTP/1.1`, 'host: x')))).toBe('headers_too_large')
    expect(codeOf(await raw(lines('GET /v1/cli/vpcs HTTP/1.1', 'host: x', `x: ${long}`)))).toBe('headers_too_large')
    // Much more than one packet: the answer still arrives.
    expect(codeOf(await raw(lines('GET / HTTP/1.1', 'host: x', `x: ${long.repeat(50)}`)))).toBe('headers_too_large')
  })

  test('bytes that are not HTTP', async () => {
    for (const bytes of [
      'garbage\r\n\r\n',
      '\u0016\u0003\u0001\u0002\u0000',
      'GET / HTTP/9.9\r\n\r\n',
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    ])
      expect(codeOf(await raw(bytes)), JSON.stringify(bytes)).toBe('invalid_request')
  })

  test('nor is a client waited for that sent some and never hangs up', async () => {
    const options = { port: Number(new URL(server.url).port), host: '127.0.0.1', allowHalfOpen: true }
    const socket = connect(options, () => socket.write('garbage\r\n\r\n'))
    const gone = new Promise<void>((resolve) => socket.on('error', () => resolve()))
    const knock = setInterval(() => socket.write('?'), 50)
    await gone
    clearInterval(knock)
  })

  test('two lengths, or a length and chunks: what a proxy might read as two requests', async () => {
    const head = ['POST /v1/cli/vpcs HTTP/1.1', 'host: x', apiKey(), 'content-type: application/json']
    const smuggled = '0\r\n\r\nGET /v1/cli/tokens HTTP/1.1\r\n'
    for (const pair of [
      ['content-length: 5', 'transfer-encoding: chunked'],
      ['content-length: 5', 'content-length: 6'],
      ['transfer-encoding: xchunked'],
      ['content-length: +5'],
    ])
      expect(codeOf(await raw(lines(...head, ...pair) + smuggled)), pair.join()).toBe('invalid_request')
  })

  test('no Host; HTTP/1.0, which has none, is answered', async () => {
    expect(codeOf(await raw(lines('GET /v1/cli/auth/me HTTP/1.1', apiKey())))).toBe('invalid_request')
    expect((await raw(lines('GET /v1/cli/auth/me HTTP/1.0', apiKey()))).status).toBe(200)
  })

  test('an expectation or an upgrade is answered as if it were not there', async () => {
    for (const header of ['expect: a miracle', 'connection: upgrade\r\nupgrade: websocket'])
      expect((await raw(lines('GET /v1/cli/auth/me HTTP/1.1', 'host: x', apiKey(), header))).status, header).toBe(200)
  })

  test('one that does not arrive in time', async () => {
    const metrics = createMetrics(server.db)
    const app = await createHttp(server.platform, metrics, { trustProxy: false, dashboard: undefined })
    Object.assign(app.server, { requestTimeout: 100, headersTimeout: 100 })
    try {
      const url = await app.listen({ host: '127.0.0.1', port: 0 })
      expect(codeOf(await raw('GET /healthz HTTP/1.1\r\nhost:', url))).toBe('request_timeout')
      const body = lines('POST /v1/cli/vpcs HTTP/1.1', 'host: x', 'content-type: application/json', 'content-length: 9')
      expect(codeOf(await raw(body, url))).toBe('request_timeout')
    } finally {
      await app.close()
      metrics.close()
    }
  })
})

test('the description of the API is served to anyone', async () => {
  const answer = await server.call('/openapi.json')
  expect([answer.status, answer.headers.get('content-type')]).toEqual([200, 'application/json; charset=utf-8'])
  expect(answer.body).toMatchObject({
    openapi: '3.1.0',
    servers: [{ url: '/v1/cli' }],
    info: { version: expect.any(String) as string },
  })
})

describe('every answer', () => {
  test('has an id of its own, and a client cannot choose it', async () => {
    const headers = { 'x-request-id': 'mine', 'request-id': 'mine' }
    const asked = Array.from({ length: 50 }, (_, index) =>
      server.call(index % 2 ? '/vpcs' : '/nothing', { as, headers }),
    )
    const ids = (await Promise.all(asked)).map((answer) => answer.headers.get('x-request-id'))
    expect(new Set(ids).size).toBe(50)
    for (const id of ids) expect(id).toMatch(/^req_[0-9a-f]{10}[0-9a-z]{6}$/)
  })

  test('tells a browser to be careful, and not what it was made with', async () => {
    for (const path of ['/vpcs', '/nothing', `${server.url}/healthz`]) {
      const { headers } = await server.call(path, { as })
      expect(headers.get('cache-control')).toBe('no-store')
      expect(headers.get('content-security-policy')).toContain("default-src 'self'")
      expect(headers.get('content-security-policy')).toContain("frame-ancestors 'none'")
      expect(headers.get('x-frame-options')).toBe('DENY')
      expect(headers.get('x-content-type-options')).toBe('nosniff')
      expect(headers.get('referrer-policy')).toBe('no-referrer')
      expect(headers.get('access-control-allow-origin')).toBeNull()
      expect(headers.get('strict-transport-security')).toBeNull()
      expect([headers.get('server'), headers.get('x-powered-by')]).toEqual([null, null])
    }
  })

  test('says when the token ends, to a token that does', async () => {
    const { token } = await server.client().tokenCreate({ name: 'ends', expiresInDays: 1 })
    const ends = (await server.call('/vpcs', { as: { token: token ?? '' } })).headers.get('x-satusky-token-expires-at')
    expect(new Date(ends ?? '').getTime() - Date.now()).toBeGreaterThan(86_000_000)
    expect((await server.call('/vpcs', { as })).headers.get('x-satusky-token-expires-at')).toBeNull()
  })
})

test('a token that someone gives in the wrong place is in no answer, log or audit', async () => {
  const { token } = await newToken(server)
  const { invitation = '' } = await server.client().memberInvite({ email: 'late@example.test', role: 'viewer' })
  for (const secret of [token, invitation]) {
    const answers = [
      await server.call(`/tokens/${secret}`, { as }),
      await server.call(`/tokens/${secret}`, { method: 'DELETE', as: await newMember(server, 'viewer') }),
      await server.call(`/vpcs/${secret}`, { method: 'DELETE' }),
      await server.call(`/organizations/${secret}`, { as }),
      await server.call(`/nothing/${secret}`, { as }),
      await server.call(`/vpcs?${secret}=1&cursor=${secret}`, { as }),
      await server.call('/vpcs', { as, body: { name: secret, [secret]: secret } }),
      await server.call('/tokens', { as, body: { name: 'x', scopes: [secret] } }),
      await server.call('/auth/session', { body: { email: secret, password: secret } }),
      await server.call('/audit?limit=200', { as }),
      await server.call('/admin/audit?limit=200', { as }),
      await server.call(`${server.url}/metrics`),
    ]
    for (const { text } of answers) expect(text).not.toContain(secret)
    expect(server.log()).not.toContain(secret)
  }
})

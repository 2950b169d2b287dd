import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, expect, onTestFinished, test } from 'vitest'
import { newMachine } from './testing/cli.ts'

type Seen = { method: string; url: string; headers: IncomingMessage['headers']; body: string }

/** A server that is not ours: it records what arrives on the wire and answers as the test says, call by call. */
async function recorder(...answers: ((response: ServerResponse, request: IncomingMessage) => void)[]) {
  const seen: Seen[] = []
  const server = createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8').on('data', (text: string) => (body += text))
    request.on('end', () => {
      const answer = answers[Math.min(seen.length, answers.length - 1)]
      seen.push({ method: request.method ?? '', url: request.url ?? '', headers: request.headers, body })
      answer?.(response, request)
    })
  })
  const url = await listening(server)
  return { url, seen, env: { SATUSKY_API_KEY: token, SATUSKY_API_URL: url } }
}

async function listening(server: Server): Promise<string> {
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const token = 'sat_0123456789abcdefghijklmn'
const json = (status: number, body: unknown) => (response: ServerResponse) =>
  void response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
const refusal = (status: number, code: string, message: string, more = {}) =>
  json(status, { error: { code, message, requestId: 'req_1', ...more } })
const noTokens = json(200, { items: [], nextCursor: null })
const created = json(201, { id: 'tok_1', name: 'ci', expiresAt: null, token })
const cut = (response: ServerResponse) => void response.socket?.destroy()

describe('a request', () => {
  test('carries the token in x-satusky-api-key, says who it is, and asks below /v1/cli', async () => {
    const { seen, env } = await recorder(noTokens)
    await newMachine().run('token list', { env })
    expect(seen).toEqual([expect.objectContaining({ method: 'GET', url: '/v1/cli/tokens?limit=200', body: '' })])
    expect(seen[0]?.headers).toMatchObject({
      'x-satusky-api-key': token,
      'user-agent': expect.stringMatching(/^1ctl\/\d/),
    })
    expect(seen[0]?.headers).not.toHaveProperty('idempotency-key')
  })

  test('that changes something carries a key of its own', async () => {
    const { seen, env } = await recorder(created)
    await newMachine().run('token create --name ci', { env })
    await newMachine().run('token create --name ci', { env })
    const keys = seen.map(({ headers }) => headers['idempotency-key'])
    expect(keys[0]).toMatch(/^[0-9a-f-]{36}$/)
    expect(keys[1]).not.toBe(keys[0])
    expect(seen[0]?.headers).toMatchObject({ 'content-type': 'application/json' })
    expect(JSON.parse(seen[0]?.body ?? '')).toEqual({ name: 'ci' })
  })

  test('for the next page goes over the same connection', async () => {
    const sockets = new Set<unknown>()
    const page = (nextCursor: string | null) => (response: ServerResponse, request: IncomingMessage) => {
      sockets.add(request.socket)
      json(200, { items: [], nextCursor })(response)
    }
    const { seen, env } = await recorder(page('tok_2'), page(null))
    await newMachine().run('token list', { env })
    expect(seen.map(({ url }) => url)).toEqual(['/v1/cli/tokens?limit=200', '/v1/cli/tokens?cursor=tok_2&limit=200'])
    expect(sockets.size).toBe(1)
  })

  test('of status carries no token', async () => {
    const { seen, env } = await recorder(json(200, { status: 'ready', version: '9.9.9' }))
    const { stdout } = await newMachine().run('status', { env })
    expect(seen).toEqual([expect.objectContaining({ method: 'GET', url: '/readyz' })])
    expect(seen[0]?.headers).not.toHaveProperty('x-satusky-api-key')
    expect(stdout).toContain('State: ready\nVersion: 9.9.9 (server)')
  })
})

describe('when the server falters', () => {
  test('a read is repeated twice', async () => {
    const { seen, env } = await recorder(cut, json(503, {}), noTokens)
    expect(await newMachine().run('token list', { env })).toMatchObject({ code: 0 })
    expect(seen).toHaveLength(3)
  })

  test('a creation is repeated with the same key', async () => {
    const { seen, env } = await recorder(cut, json(502, {}), created)
    expect(await newMachine().run('token create --name ci -q', { env })).toMatchObject({
      code: 0,
      stdout: `${token}\n`,
    })
    expect(new Set(seen.map(({ headers }) => headers['idempotency-key'])).size).toBe(1)
    expect(seen).toHaveLength(3)
  })

  test('a value that got lost on the way is an error that says how to go on', async () => {
    const { env } = await recorder(cut, json(201, { id: 'tok_1', name: 'ci', expiresAt: null }))
    const { code, stdout, stderr } = await newMachine().run('token create --name ci', { env })
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toContain('Fix: 1ctl token delete tok_1 -y, and create another.')
  })

  test('a change without such a key is not repeated', async () => {
    const { seen, env } = await recorder(cut)
    const { code } = await newMachine().run('vpc protect prod', { env })
    expect({ code, seen: seen.length }).toEqual({ code: 9, seen: 1 })
  })

  test('a refusal is not repeated', async () => {
    const { seen, env } = await recorder(refusal(500, 'internal_error', 'Something broke.'))
    expect(await newMachine().run('token list', { env })).toMatchObject({ code: 1 })
    expect(seen).toHaveLength(1)
  })

  test('and stays unavailable, the command ends with 9', async () => {
    const { seen, env } = await recorder(refusal(503, 'unavailable', 'The database is away.'))
    const { code, stderr } = await newMachine().run('token list', { env })
    expect({ code, stderr, seen: seen.length }).toEqual({
      code: 9,
      stderr: 'Error: The database is away.\nRequest: req_1\n',
      seen: 3,
    })
  })

  test('or is silent, --timeout ends the command with 9', async () => {
    const { env, url } = await recorder(() => {})
    const began = Date.now()
    const { code, stderr } = await newMachine().run('token list --timeout 300ms', { env })
    expect(Date.now() - began).toBeLessThan(5000)
    expect({ code, stderr }).toEqual({
      code: 9,
      stderr: `Error: Cannot reach ${url}/v1/cli.\nCause: No answer within 0.3 s.\nFix: Try again, or wait longer with --timeout.\n`,
    })
  })

  test('or is not there, the command ends with 9 and names the address', async () => {
    const server = createServer()
    const url = await listening(server)
    server.close()
    const { code, stderr } = await newMachine().run('token list', {
      env: { SATUSKY_API_KEY: token, SATUSKY_API_URL: url },
    })
    expect(code).toBe(9)
    expect(stderr).toContain(`Error: Cannot reach ${url}/v1/cli.\nCause: Nothing listens there`)
  })
})

describe('the token goes', () => {
  test('nowhere else by a redirect', async () => {
    const other = await recorder(noTokens)
    for (const status of [301, 302, 307, 308]) {
      const { env } = await recorder(
        (response) => void response.writeHead(status, { location: `${other.url}/x` }).end(),
      )
      const { code, stderr } = await newMachine().run('token list', { env })
      expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining('Redirects are not followed') })
    }
    expect(other.seen).toEqual([])
  })

  test('to no address that is neither https nor this machine', async () => {
    const { code, stderr } = await newMachine().run('token list', {
      env: { SATUSKY_API_KEY: token, SATUSKY_API_URL: 'http://api.example.test' },
    })
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining('A token is sent only over https') })
  })

  test('to the address stored with it, whatever SATUSKY_API_URL says', async () => {
    const own = await recorder(noTokens)
    const other = await recorder(noTokens)
    const machine = newMachine()
    await machine.run(`profile create dev --url ${own.url} --token ${token}`)
    const { code, stderr } = await machine.run('token list', { env: { SATUSKY_API_URL: other.url } })
    expect({ code, own: own.seen.length, other: other.seen.length }).toEqual({ code: 0, own: 1, other: 0 })
    expect(stderr).toContain('SATUSKY_API_URL is ignored')
  })

  test('to no terminal: --debug shows neither it nor a body', async () => {
    const { env } = await recorder(created)
    const { stdout, stderr } = await newMachine().run('token create --name classified --debug -o json', { env })
    expect(stdout).toContain(token)
    expect(stderr).toContain('> POST http://127.0.0.1')
    expect(stderr).toContain('> x-satusky-api-key: [redacted]')
    expect(stderr).toContain('< 201 after')
    expect(stderr).not.toContain(token)
    expect(stderr).not.toContain('classified')
  })
})

describe('an answer', () => {
  test('that is not from such a server is said to be none', async () => {
    const { env } = await recorder(
      (response) => void response.writeHead(404, { 'content-type': 'text/html' }).end('<html>'),
    )
    const { code, stderr } = await newMachine().run('token list', { env })
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringContaining('The answer does not come from a 1ctl server.'),
    })
  })

  test.each([
    [400, 'invalid_body', 2],
    [400, 'malformed_json', 1],
    [401, 'missing_token', 4],
    [401, 'token_expired', 4],
    [401, 'token_disabled', 4],
    [403, 'invalid_token', 4],
    [403, 'insufficient_scope', 5],
    [403, 'insufficient_role', 5],
    [404, 'vpc_not_found', 3],
    [409, 'name_taken', 6],
    [429, 'too_many_attempts', 1],
    [500, 'internal_error', 1],
  ])('of %i %s ends the command with %i', async (status, error, code) => {
    const { env } = await recorder(refusal(status, error, 'No.', { hint: 'Do this.' }))
    const ended = await newMachine().run('token list', { env })
    expect(ended).toMatchObject({ code, stdout: '' })
    expect(ended.stderr).toMatch(/^Error: No\.\n(Cause: .*\n)?Fix: Do this\.\nRequest: req_1\n$/)
  })

  test('of too many attempts says when to try again', async () => {
    const { env } = await recorder((response) => {
      response.setHeader('retry-after', '42')
      refusal(429, 'too_many_attempts', 'Too many.')(response)
    })
    expect((await newMachine().run('token list', { env })).stderr).toContain('Fix: Try again in 42 s.')
  })

  test('that refuses the token says where the token came from, and that it looks cut', async () => {
    const { url, env } = await recorder(refusal(403, 'invalid_token', 'This token does not exist.'))
    const whole = await newMachine().run('token list', { env })
    expect(whole.stderr).toContain('Cause: The token comes from SATUSKY_API_KEY.\n')
    const machine = newMachine()
    await machine.run(`profile create dev --url ${url} --token ${token.slice(0, -1)}`)
    const { stderr } = await machine.run('token list')
    expect(stderr).toContain(
      'Cause: The token comes from the active profile "dev" (~/.satusky/profiles.json). It looks mistyped or cut.',
    )
    expect(stderr).toContain(`Fix: 1ctl profile create dev --url ${url} --token <token> -y`)
  })

  test('with an error is JSON on stderr when JSON was asked for', async () => {
    const { env } = await recorder(
      refusal(404, 'vpc_not_found', 'No VPC "x".', { hint: 'Look.', details: { near: ['y'] } }),
    )
    const { code, stdout, stderr } = await newMachine().run('vpc get x --json', { env })
    expect({ code, stdout }).toEqual({ code: 3, stdout: '' })
    expect(JSON.parse(stderr)).toEqual({
      error: {
        code: 'vpc_not_found',
        message: 'No VPC "x".',
        hint: 'Look.',
        requestId: 'req_1',
        details: { near: ['y'] },
      },
    })
  })
})

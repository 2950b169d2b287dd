import { expect, test } from 'vitest'
import { ApiError, createClient, type Send } from './client.ts'
import { contract } from './index.ts'
import { pathNames } from './openapi.ts'
import { table } from './table.ts'

type Sent = Parameters<Send>[0]
type Call = (input?: object, options?: object) => Promise<unknown>

/** A client whose requests are recorded and answered like this. */
function recording(status = 200, text = '{}', headers: Record<string, string> = {}) {
  const sent: Sent[] = []
  const client = createClient(table, async (request) => {
    sent.push(request)
    return { status, headers: new Headers(headers), text }
  })
  return { sent, client, call: (name: string) => (client as unknown as Record<string, Call>)[name] as Call }
}

test.each(Object.entries(contract))('%s is called as the contract says', async (name, route) => {
  const { sent, call } = recording()
  const { method, path } = route
  const names = pathNames(path)
  const query = Object.keys('query' in route ? route.query.shape : {})
  const body = Object.keys('body' in route ? route.body.shape : {})
  await call(name)(Object.fromEntries([...names, ...query, ...body].map((key) => [key, `the ${key}`])))
  const search = query.map((key) => `${key}=the+${key}`).join('&')
  expect(sent).toEqual([
    {
      method,
      path: path.replaceAll(/\{(\w+)\}/g, 'the%20$1') + (search && `?${search}`),
      headers: ['POST', 'PATCH'].includes(method) ? { 'content-type': 'application/json' } : {},
      body: ['POST', 'PATCH'].includes(method)
        ? JSON.stringify(Object.fromEntries(body.map((key) => [key, `the ${key}`])))
        : undefined,
    },
  ])
})

test.each(['a/b', '../tokens', 'ü', '🔑', 'a b', '%2e%2e', '?x=1', '#x', 'a\\b', '', '...', ';', "'"])(
  'a name stays one step of the path, whatever is in it: %j',
  async (name) => {
    const { sent, client } = recording()
    await client.vpcView({ name })
    const { pathname, search, hash } = new URL(sent[0]?.path ?? '', 'http://x')
    expect([search, hash]).toEqual(['', ''])
    expect(pathname.split('/').map(decodeURIComponent)).toEqual(['', 'vpcs', name])
  },
)

test.each(['.', '..'])('%j would lead to another endpoint, so it is not sent', async (name) => {
  const { sent, client } = recording()
  await expect(client.tokenRotate({ id: name })).rejects.toMatchObject({ status: 404 })
  await expect(client.vpcDelete({ name })).rejects.toBeInstanceOf(ApiError)
  expect(sent).toEqual([])
})

test('what is undefined is left out, and the input stays as it was', async () => {
  const { sent, client } = recording()
  const input = { limit: 3, cursor: undefined }
  await client.vpcList(input)
  await client.tokenPatch({ id: 'x', name: undefined, enabled: false })
  expect(sent.map(({ path, body }) => [path, body])).toEqual([
    ['/vpcs?limit=3', undefined],
    ['/tokens/x', '{"enabled":false}'],
  ])
  expect(input).toEqual({ limit: 3, cursor: undefined })
})

test('headers of a call go with it', async () => {
  const { sent, client } = recording()
  await client.vpcCreate({ name: 'x' }, { headers: { 'idempotency-key': 'k' } })
  expect(sent[0]?.headers).toEqual({ 'content-type': 'application/json', 'idempotency-key': 'k' })
})

test('a refusal is thrown with all it says', async () => {
  const error = {
    code: 'too_many_attempts',
    message: 'Too many.',
    hint: 'Wait.',
    details: { a: 1 },
    requestId: 'req_1',
  }
  const { client } = recording(429, JSON.stringify({ error }), { 'retry-after': '7' })
  await expect(client.vpcList()).rejects.toMatchObject({
    name: 'ApiError',
    status: 429,
    retryAfterSeconds: 7,
    ...error,
  })
})

test.each([
  [502, '<html>Bad Gateway</html>'],
  [502, '{"error":"bad gateway"}'],
  [502, '{"error":null}'],
  [502, 'null'],
  [502, ''],
  [200, '<html>Welcome to the hotel</html>'],
  [200, ''],
  [304, '{}'],
])('an answer that is not from 1ctl is an error without a code: %i %s', async (status, text) => {
  const { client } = recording(status, text)
  const message = `The server answered with status ${status}.`
  await expect(client.vpcList()).rejects.toMatchObject({
    status,
    message,
    code: undefined,
    retryAfterSeconds: undefined,
  })
})

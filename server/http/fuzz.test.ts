import { contract, type Route } from '@1ctl/contract'
import * as fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { newMember } from '../testing/actors.ts'
import { codeOf } from '../testing/raw.ts'
import { startTestServer, type TestServer } from '../testing/server.ts'

let server: TestServer
beforeAll(async () => {
  server = await startTestServer()
  await server.client().secretPut({ name: 'stored', data: { KEY: secret } })
})
afterAll(() => server.close())

const secret = 'never-shown-again'
const odd = [
  '',
  '\u0000',
  '\ud800',
  '%',
  "'",
  '"',
  '\\',
  '../..',
  '__proto__',
  '\u202e',
  '🔑',
  'a'.repeat(300),
  'default',
  'stored',
]
const text = fc.oneof(fc.constantFrom(...odd), fc.string({ unit: 'binary', maxLength: 40 }))
const hostile: fc.Arbitrary<unknown> = fc.oneof(
  text,
  fc.double(),
  fc.constantFrom(null, true, 0, -1, 1e21, 2 ** 53, [], {}, [[[[]]]], { a: { b: {} } }),
  fc.jsonValue({ maxDepth: 3 }),
)
// What a request might well say, so that some get further than the first check.
const plausible: Record<string, fc.Arbitrary<unknown>> = {
  name: fc.stringMatching(/^[a-z]{3,12}$/),
  email: fc.stringMatching(/^[a-z]{3,12}@example\.test$/),
  role: fc.constantFrom('viewer', 'owner'),
  scopes: fc.constantFrom(['read'], ['admin', 'operator']),
  vpcs: fc.constantFrom(['default'], ['missing']),
  apps: fc.constant(['api']),
  organization: fc.constantFrom('main', 'missing'),
  protected: fc.boolean(),
  enabled: fc.boolean(),
  graceHours: fc.double({ min: 0, max: 720, noNaN: true }),
  expiresInDays: fc.integer({ min: 1, max: 3650 }),
  limit: fc.integer({ min: 1, max: 200 }),
  cursor: fc.constantFrom('7', 'tok_01h455vb4pex5vsknk084sn02q'),
  action: fc.constantFrom('token.*', 'token.create'),
  key: fc.constantFrom('KEY', '__proto__', 'tls.crt'),
  data: fc.dictionary(fc.constantFrom('KEY', 'OTHER', 'tls.crt', '..'), fc.constantFrom(secret, secret, 1)),
  set: fc.dictionary(fc.constantFrom('KEY', 'OTHER', '__proto__'), fc.constant(secret)),
  unset: fc.constantFrom([], ['KEY'], ['NONE']),
  keys: fc.constantFrom(['KEY'], ['NONE']),
  keyValues: fc.constant([{ key: 'KEY', value: secret }]),
  version: fc.integer({ min: 1, max: 2 ** 31 - 1 }),
  vpc: fc.constantFrom('default', 'missing'),
  appId: fc.constantFrom('api', 'dep_01h455vb4pex5vsknk084sn02q'),
  rollout: fc.constantFrom('now', 'stage'),
  since: fc.date({ noInvalidDate: true }).map((date) => date.toISOString()),
}
const isSecret = (key: string) => ['password', 'current', 'new', 'invitation', 'value'].includes(key)
const valueOf = (key: string) =>
  isSecret(key) ? fc.constant(secret) : fc.oneof({ weight: 9, arbitrary: plausible[key] ?? text }, hostile)

/** Some of these keys, or all, and now and then one that nobody asked for. */
const objectOf = (keys: string[], more: fc.Arbitrary<unknown>) => {
  const values = Object.fromEntries(keys.map((key) => [key, valueOf(key)]))
  const known = fc.oneof(fc.record(values), fc.record(values, { requiredKeys: [] }))
  const extra = fc.oneof({ weight: 9, arbitrary: fc.constant({}) }, fc.dictionary(text, more, { maxKeys: 2 }))
  return fc.tuple(known, extra).map(([one, other]) => ({ ...one, ...other }))
}

const inputOf = ({ path, query, body }: Route) =>
  fc.record({
    path: text.map((name) => path.replaceAll(/\{\w+\}/g, encodeURIComponent(name.replaceAll(/\p{Cs}/gu, '�')))),
    query: objectOf(Object.keys(query?.shape ?? {}), text),
    body: body
      ? fc.oneof({ weight: 9, arbitrary: objectOf(Object.keys(body.shape), hostile) }, hostile)
      : fc.constant(undefined),
    key: fc.option(fc.string({ minLength: 1 }).map(encodeURIComponent)),
  })

test.each(Object.entries<Route>(contract))(
  'whatever is sent to %s, the answer is one of the contract',
  async (_, route) => {
    const caller =
      route.access === 'session' && route.method !== 'DELETE'
        ? await newMember(server, 'admin')
        : { token: server.token }
    let from = 0
    await fc.assert(
      fc.asyncProperty(inputOf(route), async ({ path, query, body, key }) => {
        const search = new URLSearchParams()
        for (const [name, value] of Object.entries(query))
          search.append(name, typeof value === 'string' ? value : JSON.stringify(value))
        const answer = await server.call(`${path}?${search.toString()}`, {
          method: route.method,
          as: caller,
          from: `198.51.100.${++from}`,
          ...(body === undefined ? {} : { body: JSON.stringify(body) }),
          headers: key ? { 'idempotency-key': key } : {},
        })
        if (answer.status === (route.status ?? 200))
          expect(route.stream ? answer.text : answer.body).toBeTypeOf(route.stream ? 'string' : 'object')
        else expect(codeOf(answer)).not.toMatch(/^(internal_error|unavailable)$/)
        expect(answer.text).not.toContain(secret)
      }),
      { seed: 7117, numRuns: 25 },
    )
    expect(server.log().includes(secret)).toBe(false)
    expect(server.log().includes('"request failed"')).toBe(false)
  },
)

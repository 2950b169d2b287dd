import * as fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startTestServer, type TestServer } from '../testing/server.ts'

/** Any sequence of changes leaves what a plain list of maps would hold: the same names, versions, differences and values. */
let server: TestServer
beforeAll(async () => {
  server = await startTestServer()
})
afterAll(() => server.close())

const key = fc.constantFrom<string[]>('A', 'B', 'C', 'tls.crt', '__proto__', 'constructor')
// Few, so that some are written again unchanged; long enough to be compared.
const value = fc.constantFrom<string[]>(
  'the first value',
  'the second value',
  'the third \0 value',
  'ein längerer Wert 🔑',
)
const data = fc.array(fc.tuple(key, value), { maxLength: 5 }).map((pairs) => new Map(pairs))
const keys = fc.uniqueArray(key, { minLength: 1, maxLength: 2 })
type Step =
  | { kind: 'put'; data: Values }
  | { kind: 'patch'; set: Values; unset: string[] }
  | { kind: 'restore'; back: number; keys: string[] | undefined }
type Values = ReadonlyMap<string, string>

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constant('put' as const), data }),
  fc.record({ kind: fc.constant('patch' as const), set: data, unset: fc.uniqueArray(key, { maxLength: 2 }) }),
  // How far back: often to what is kept, sometimes beyond.
  fc.record({
    kind: fc.constant('restore' as const),
    back: fc.integer({ min: 0, max: 24 }),
    keys: fc.option(keys, { nil: undefined }),
  }),
)

/** What the step makes of the current values, or the code of its refusal. */
function expected(versions: Values[], step: Step): Values | string {
  const now = versions.at(-1) ?? new Map<string, string>()
  if (step.kind === 'put') return step.data
  if (step.kind === 'patch') {
    if (step.unset.some((name) => step.set.has(name))) return 'invalid_body'
    if (step.unset.some((name) => !now.has(name))) return 'key_not_found'
    return new Map([...now, ...step.set].filter(([name]) => !step.unset.includes(name)))
  }
  const version = restored(step.back, versions.length)
  const then = versions[version - 1]
  if (!then || version <= versions.length - 20) return 'version_not_found'
  const { keys } = step
  if (!keys) return then
  if (keys.some((name) => !then.has(name))) return 'key_not_found'
  return new Map([...now, ...[...then].filter(([name]) => keys.includes(name))])
}

const restored = (back: number, count: number) => Math.max(1, count - back)

// As text, because an object literal makes something else of `__proto__`.
const json = (values: Values) =>
  `{${[...values].map((pair) => pair.map((text) => JSON.stringify(text)).join(':')).join()}}`

function send(name: string, step: Step, version: number) {
  const as = { token: server.token }
  if (step.kind === 'put') return server.call('/secrets', { as, body: `{"name":"${name}","data":${json(step.data)}}` })
  if (step.kind === 'patch') {
    const body = `{"set":${json(step.set)},"unset":${JSON.stringify(step.unset)}}`
    return server.call(`/secrets/${name}`, { as, method: 'PATCH', body })
  }
  const at = Math.max(1, version - step.back)
  return server.call(`/secrets/${name}/restore`, {
    as,
    body: { version: at, ...(step.keys ? { keys: step.keys } : {}) },
  })
}

const sorted = (names: Iterable<string>) => [...names].toSorted()
const isSame = (a: Values, b: Values) => a.size === b.size && [...a].every(([name, text]) => b.get(name) === text)

let counter = 0
test('a sequence of changes', { timeout: 120_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(data, fc.array(step, { minLength: 5, maxLength: 40, size: 'max' }), async (first, steps) => {
      const name = `bag-${++counter}`
      const versions: Values[] = []
      for (const next of [{ kind: 'put' as const, data: first }, ...steps]) {
        const wanted = expected(versions, next)
        const { status, body, text } = await send(name, next, versions.length)
        if (typeof wanted === 'string') {
          expect(body.error?.code, text).toBe(wanted)
          continue
        }
        expect(status, text).toBe(versions.length === 0 ? 201 : 200)
        const before = versions.at(-1)
        const isUnchanged = before !== undefined && isSame(before, wanted)
        if (!isUnchanged) versions.push(wanted)
        expect(body).toMatchObject({
          version: versions.length,
          unchanged: isUnchanged,
          keys: sorted(wanted.keys()),
          changes: {
            added: sorted([...wanted.keys()].filter((name) => !before?.has(name))),
            changed: sorted([...wanted].filter(([name, text]) => (before?.get(name) ?? text) !== text).map(([n]) => n)),
            removed: sorted([...(before?.keys() ?? [])].filter((name) => !wanted.has(name))),
            kept: sorted([...wanted].filter(([name, text]) => before?.get(name) === text).map(([name]) => name)),
          },
        })
      }
      const now = versions.at(-1) ?? new Map<string, string>()
      const client = server.client()
      const view = await client.secretView({ ref: name })
      expect([view.version, view.keyDetails.map(({ name }) => name)]).toEqual([versions.length, sorted(now.keys())])
      for (const [key, value] of now)
        expect(await client.secretVerify({ ref: name, key, value })).toEqual({ match: true })
      const { items } = await client.secretVersionList({ ref: name })
      const kept = Math.min(versions.length, 20)
      expect(items.map(({ version }) => version)).toEqual(Array.from({ length: kept }, (_, n) => versions.length - n))
    }),
    { numRuns: 15 },
  )
})

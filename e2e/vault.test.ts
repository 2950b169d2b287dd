import { setTimeout as sleep } from 'node:timers/promises'
import { apiBase } from '@1ctl/contract'
import { ApiError, type Client, createClient } from '@1ctl/contract/client'
import { table } from '@1ctl/contract/table'
import { afterEach, expect, test } from 'vitest'
import { boot, cleanUp, newFolder, type Running, readBootstrap, ready } from './processes.ts'

afterEach(cleanUp)

const bags = ['first', 'second']
const writersPerBag = 3
const kills = 4

/**
 * The built server, with a PostgreSQL of its own, is killed in the midst of writes. What was answered with 200 is there after the next
 * start; what was not answered is there as a whole or not at all.
 */
test('a server killed under load loses nothing it has acknowledged', { timeout: 120_000 }, async () => {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000)
  const random = randomFrom(seed)
  const dataDir = newFolder()
  let server = await start(dataDir)
  for (const name of bags) await server.client.secretPut({ name, data: {} })
  const written = new Map(bags.map((name) => [name, new Written()]))
  for (let kill = 0; kill < kills; kill++) {
    const writers = bags.flatMap((bag) =>
      Array.from({ length: writersPerBag }, (_, writer) => writeUntilGone(server, bag, writer, written.get(bag)!)),
    )
    await sleep(200 + random() * 800)
    server.child.kill('SIGKILL')
    await Promise.all([...writers, server.child.ended])
    server = await start(dataDir)
    for (const [name, expected] of written) await expectKept(server, name, expected, `SEED=${seed}, kill ${kill + 1}`)
    expect(await server.client.auditVerify()).toMatchObject({ ok: true })
  }
  // There was a load, and it was met by the kills.
  for (const { versions } of written.values()) expect(versions.length).toBeGreaterThan(kills)
})

/** What was sent to one bag: by key the value that was acknowledged last, and the one that nobody knows of. */
class Written {
  acknowledged = new Map<string, string>()
  unknown = new Map<string, string>()
  versions: number[] = []
  /** how many were done without an answer */
  landed = 0
}

async function writeUntilGone({ client }: Server, ref: string, writer: number, written: Written): Promise<void> {
  for (let n = 0; ; n++) {
    // Each value is another, so that each write is a version.
    const [key, value] = [`W${writer}_${n % 5}`, `value ${writer} ${n} of ${performance.now()}`]
    written.unknown.set(key, value)
    try {
      const { version } = await client.secretPatch({ ref, set: { [key]: value } })
      written.versions.push(version)
      written.acknowledged.set(key, value)
      written.unknown.delete(key)
    } catch (error) {
      // Refused, or not answered?
      if (error instanceof ApiError && error.code) throw error
      return
    }
  }
}

async function expectKept({ client }: Server, ref: string, written: Written, context: string): Promise<void> {
  const { acknowledged, unknown, versions } = written
  // One comparison for all keys, since they are counted; then some in the plain form.
  const before = await client.secretDiff({ ref, data: Object.fromEntries(acknowledged) })
  const { unchanged: landed } = await client.secretDiff({ ref, data: Object.fromEntries(unknown) })
  expect(
    [...before.added, ...before.changed].filter((key) => !landed.includes(key)),
    context,
  ).toEqual([])
  for (const key of landed) acknowledged.set(key, unknown.get(key)!)
  written.landed += landed.length
  unknown.clear()
  for (const [key, value] of [...acknowledged].slice(0, writersPerBag))
    expect(await client.secretVerify({ ref, key, value }), context).toEqual({ match: true })

  // Each write is one version, none twice: as many as were acknowledged, and those that landed all the same.
  const { version, keys } = await client.secretView({ ref })
  expect(keys, context).toEqual([...acknowledged.keys()].toSorted())
  expect(version, context).toBe(1 + versions.length + written.landed)
  expect(new Set(versions).size, context).toBe(versions.length)
  const { items } = await client.secretVersionList({ ref, limit: 200 })
  const kept = Array.from({ length: Math.min(version, 20) }, (_, n) => version - n)
  expect(
    items.map((item) => item.version),
    context,
  ).toEqual(kept)
}

type Server = { child: Running; client: Client }

async function start(dataDir: string): Promise<Server> {
  const child = boot({ 'data-dir': dataDir })
  const url = await ready(child)
  const { token } = readBootstrap(dataDir)
  const client = createClient(table, async ({ method, path, headers, body }) => {
    const all = { ...headers, 'x-satusky-api-key': token }
    const answer = await fetch(url + apiBase + path, { method, headers: all, ...(body === undefined ? {} : { body }) })
    return { status: answer.status, headers: answer.headers, text: await answer.text() }
  })
  return { child, client }
}

/** The same moments again from the same seed (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

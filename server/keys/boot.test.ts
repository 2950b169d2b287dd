import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest'
import type { Seal } from '../config.ts'
import { type Database, openDatabase } from '../store/database.ts'
import { uuidv7 } from '../store/uuid.ts'
import { newDatabase } from '../testing/server.ts'
import { openKeyring } from './boot.ts'
import { fingerprintOfKey, newKey } from './envelope.ts'
import { parseKey, printKey } from './key-text.ts'

let db: Database
let folder: string
let path: string
const organization = uuidv7()
beforeAll(async () => {
  db = openDatabase({ ...inject('postgres'), database: await newDatabase() }, () => undefined)
  await db.query("insert into organizations (id, name) values ($1, 'acme')", [organization])
})
afterAll(() => db.end())
beforeEach(async () => {
  await db.query('delete from organization_keys')
  await db.query('delete from master_keys')
  folder = mkdtempSync(join(tmpdir(), '1ctl-test-'))
  path = join(folder, 'master.key')
  return () => rmSync(folder, { recursive: true })
})

const said: string[] = []
function start(seal: Seal) {
  said.length = 0
  return openKeyring({ db, seal, log: pino({ level: 'silent' }), say: (line) => said.push(line) })
}
const inFile = (): Seal => ({ source: 'file', path })
const inEnv = (key: Buffer, previous?: Buffer): Seal => ({ source: 'env', key, previous })
const inShares = (more: Partial<Extract<Seal, { source: 'manual' }>> = {}): Seal => ({
  source: 'manual',
  shares: 5,
  threshold: 3,
  sharesFile: undefined,
  ...more,
})

const refusal = (seal: Seal) =>
  start(seal).then(
    () => 'started',
    (error: Error) => `${error.name}: ${error.message}`,
  )
const masters = async () =>
  (await db.query('select fingerprint, state, source, shares, threshold from master_keys order by created_at')).rows
const events = async () => (await db.query('select action, actor_name, detail from audit_events order by seq')).rows
const keyIn = (file: string) => parseKey(readFileSync(file, 'utf8')) ?? Buffer.alloc(32)
const fingerprintIn = (file: string) => fingerprintOfKey(keyIn(file))
/** What a data key opens must be openable after whatever happens. */
const dataKey = async (keyring: Awaited<ReturnType<typeof start>>) =>
  (await keyring.organization(organization)).current.key.toString('hex')

describe('a master key in a file', () => {
  test('is made at the first start, private, with advice, and found at the next', async () => {
    const first = await start(inFile())
    expect(first.sealed).toBe(false)
    expect(statSync(path).mode & 0o777).toBe(0o600)
    expect(readdirSync(folder)).toEqual(['master.key'])
    expect(said).toEqual([
      `made the master key ${path}. With it and the database, every value can be read: move it away from the data, keep a copy`,
    ])
    expect(await masters()).toEqual([
      { fingerprint: fingerprintIn(path), state: 'active', source: 'file', shares: null, threshold: null },
    ])
    expect((await events()).at(-1)).toEqual({
      action: 'master.create',
      actor_name: '1ctl',
      detail: { masterKey: fingerprintIn(path), source: 'file' },
    })
    const key = await dataKey(first)
    expect(await dataKey(await start(inFile()))).toBe(key)
    expect(said).toEqual([])
  })

  test('is made once, however many servers start at once', async () => {
    const keyrings = await Promise.all([1, 2, 3, 4, 5].map(() => start(inFile())))
    expect(new Set(await Promise.all(keyrings.map(dataKey))).size).toBe(1)
    expect(await masters()).toHaveLength(1)
  })

  test('that a start killed at the wrong moment has left is taken, not replaced', async () => {
    const key = newKey()
    writeFileSync(path, printKey(key), { mode: 0o600 })
    await start(inFile())
    expect(keyIn(path)).toEqual(key)
    expect(await masters()).toMatchObject([{ fingerprint: fingerprintOfKey(key) }])
  })

  test('may be elsewhere later, and in hex', async () => {
    const key = await dataKey(await start(inFile()))
    writeFileSync(join(folder, 'moved'), keyIn(path).toString('hex'), { mode: 0o600 })
    rmSync(path)
    expect(await dataKey(await start({ source: 'file', path: join(folder, 'moved') }))).toBe(key)
  })

  test('that is missing is not made anew: the start says which one is needed', async () => {
    await start(inFile())
    const wanted = fingerprintIn(path)
    rmSync(path)
    expect(await refusal(inFile())).toBe(
      `BootError: The master key of this database is ${wanted} (fingerprint), but ${path} is not there. Put the right key there, or name its file with --master-key-file.`,
    )
    expect(existsSync(path)).toBe(false)
  })

  test('that is another one is refused by both fingerprints', async () => {
    await start(inFile())
    const wanted = fingerprintIn(path)
    const other = newKey()
    writeFileSync(path, printKey(other))
    const text = await refusal(inFile())
    expect(text).toBe(
      `BootError: The master key of this database is ${wanted} (fingerprint), but ${path} holds ${fingerprintOfKey(other)}. Put the right key there, or name its file with --master-key-file.`,
    )
    expect(text).not.toContain(printKey(other))
    expect(keyIn(path)).toEqual(other)
  })

  test('is refused when the file holds none, cannot be read, or can be read by everyone', async () => {
    for (const text of ['', 'c2hvcnQ=', '0'.repeat(64), `${printKey(newKey())}${printKey(newKey())}`]) {
      writeFileSync(path, text)
      expect(await refusal(inFile())).toBe(
        `BootError: The file ${path} cannot be used: ${path} holds no key of 32 bytes in base64 or hex.`,
      )
    }
    expect(await refusal({ source: 'file', path: folder })).toMatch(/^BootError: The file \S+ cannot be used: EISDIR/)
    expect(await refusal({ source: 'file', path: join(folder, 'no', 'key') })).toMatch(/cannot be used: ENOENT/)
    writeFileSync(path, printKey(newKey()))
    chmodSync(path, 0o644)
    expect(await refusal(inFile())).toBe(
      `BootError: The master key ${path} can be read by everyone on this machine. Make it private: chmod 600 ${path}`,
    )
    expect(await masters()).toEqual([])
  })

  test('may move to the environment and back', async () => {
    const key = await dataKey(await start(inFile()))
    expect(await dataKey(await start(inEnv(keyIn(path))))).toBe(key)
    expect(await masters()).toMatchObject([{ source: 'env' }])
    expect(await dataKey(await start(inFile()))).toBe(key)
    expect(await masters()).toMatchObject([{ source: 'file' }])
  })
})

describe('a rotation of the file that was killed', () => {
  test('after the new key was written: the old one is in use, the new one is gone', async () => {
    const key = await dataKey(await start(inFile()))
    const before = await rotateUntil('staged')
    expect(await dataKey(await start(inFile()))).toBe(key)
    expect(readdirSync(folder)).toEqual(['master.key'])
    expect(keyIn(path)).toEqual(before)
  })

  test('while the new key was written: the same', async () => {
    const key = await dataKey(await start(inFile()))
    for (const remains of ['master.key.next', 'master.key.next.new']) {
      writeFileSync(join(folder, remains), 'half a ke')
      expect(await dataKey(await start(inFile()))).toBe(key)
    }
    expect(readdirSync(folder)).not.toContain('master.key.next')
  })

  test('after the commit: the new one is in use and has the name', async () => {
    const key = await dataKey(await start(inFile()))
    const next = await rotateUntil('committed')
    expect(await dataKey(await start(inFile()))).toBe(key)
    expect(readdirSync(folder)).toEqual(['master.key'])
    expect(keyIn(path)).toEqual(next)
    expect(await masters()).toMatchObject([
      { state: 'retired' },
      { state: 'active', fingerprint: fingerprintOfKey(next) },
    ])
  })

  test('after the commit, with the old file put back: refused, because it was replaced', async () => {
    await start(inFile())
    const before = keyIn(path)
    await rotateUntil('committed')
    await start(inFile())
    writeFileSync(path, printKey(before))
    expect(await refusal(inFile())).toContain(`holds ${fingerprintOfKey(before)}, which was replaced.`)
  })
})

describe('a master key in the environment', () => {
  test('that is another one is refused by both fingerprints', async () => {
    const [key, other] = [newKey(), newKey()]
    await start(inEnv(key))
    const both = `The master key of this database is ${fingerprintOfKey(key)} (fingerprint), but SATUSKY_MASTER_KEY holds ${fingerprintOfKey(other)}`
    expect(await refusal(inEnv(other))).toBe(
      `BootError: ${both}. Give the right key; to change keys, give the old one in SATUSKY_MASTER_KEY_PREVIOUS.`,
    )
    expect(await refusal(inEnv(other, newKey()))).toContain(both)
  })

  test('is changed by a start with both, once', async () => {
    const [one, two] = [newKey(), newKey()]
    const key = await dataKey(await start(inEnv(one)))
    expect(await dataKey(await start(inEnv(two, one)))).toBe(key)
    expect(said).toEqual(['the master key was changed. Remove SATUSKY_MASTER_KEY_PREVIOUS (--master-key-previous)'])
    expect((await events()).at(-1)).toEqual({
      action: 'master.rotate',
      actor_name: '1ctl',
      detail: { masterKey: fingerprintOfKey(two), before: fingerprintOfKey(one), rewrapped: 2 },
    })
    const count = (await events()).length
    expect(await dataKey(await start(inEnv(two, one)))).toBe(key)
    expect(await dataKey(await start(inEnv(two)))).toBe(key)
    expect((await events()).length).toBe(count)
    expect(await refusal(inEnv(one))).toContain(`holds ${fingerprintOfKey(one)}, which was replaced`)
  })

  test('may be changed back', async () => {
    const [one, two] = [newKey(), newKey()]
    const key = await dataKey(await start(inEnv(one)))
    await start(inEnv(two, one))
    expect(await dataKey(await start(inEnv(one, two)))).toBe(key)
    expect(await masters()).toMatchObject([
      { state: 'retired' },
      { state: 'active', fingerprint: fingerprintOfKey(one) },
    ])
  })

  test('is not changed while a key of an organization does not open: the start names the organization', async () => {
    const [one, two] = [newKey(), newKey()]
    await dataKey(await start(inEnv(one)))
    await db.query(
      "update organization_keys set wrapped = set_byte(wrapped, 20, 255 - get_byte(wrapped, 20)) where purpose = 'data'",
    )
    expect(await refusal(inEnv(two, one))).toMatch(
      /^BootError: A key of the organization org_\w+ was changed in the database and does not open\. Restore the table organization_keys/,
    )
    expect(await masters()).toMatchObject([{ state: 'active', fingerprint: fingerprintOfKey(one) }])
  })
})

describe('a master key in shares', () => {
  test('is shown once, at a first start that ends sealed', async () => {
    expect((await start(inShares())).sealed).toBe(true)
    const [text = ''] = said
    expect(said).toHaveLength(1)
    expect(text).toMatch(
      /^the master key is in 5 shares; 3 open the server\. Shown this once, each for another person:\n/,
    )
    expect(text.match(/^1ctl-share-[0-9a-f]{8}-3-[0-9a-f]{66}-[0-9a-f]{8}$/gm)).toHaveLength(5)
    const [master] = await masters()
    expect(master).toMatchObject({ state: 'active', source: 'manual', shares: 5, threshold: 3 })
    expect(text).toContain(`1ctl-share-${master?.fingerprint.slice(0, 8)}-3-`)
    expect((await start(inShares({ shares: 9, threshold: 9 }))).sealed).toBe(true)
    expect(said).toEqual([])
    expect(await masters()).toEqual([master])
  })

  test('is written to a private file instead, and never over another', async () => {
    const sharesFile = join(folder, 'shares')
    await start(inShares({ sharesFile }))
    expect(said).toEqual([
      `the master key is in 5 shares; 3 open the server. They are in ${sharesFile}: give each to another person, and delete the file`,
    ])
    expect(statSync(sharesFile).mode & 0o777).toBe(0o600)
    const shares = readFileSync(sharesFile, 'utf8')
    expect(shares.match(/^1ctl-share-/gm)).toHaveLength(5)
    expect((await start(inShares({ sharesFile }))).sealed).toBe(true)

    await db.query('delete from master_keys')
    expect(await refusal(inShares({ sharesFile }))).toBe(
      `BootError: The file ${sharesFile} exists, and shares are not written over anything. Name another.`,
    )
    expect(await refusal(inShares({ sharesFile: join(folder, 'no', 'file') }))).toMatch(
      /^BootError: The file \S+ cannot be used/,
    )
    expect(readFileSync(sharesFile, 'utf8')).toBe(shares)
    expect(await masters()).toEqual([])
  })

  test('is nothing that a start without --seal manual can open', async () => {
    await start(inShares())
    for (const seal of [inFile(), inEnv(newKey())])
      expect(await refusal(seal)).toBe(
        'BootError: The master key of this database is held in shares by people. Start with --seal manual, then: 1ctl admin unseal',
      )
    expect(existsSync(path)).toBe(false)
  })

  test('does not take the place of one in a file by a flag', async () => {
    await start(inFile())
    expect(await refusal(inShares())).toBe(
      'BootError: The master key of this database is not held in shares. Start with --seal file; to hand it out: 1ctl admin rekey',
    )
  })
})

/** The next key as the rotation leaves it, and with `commit` the database too. */
async function rotateUntil(step: 'staged' | 'committed') {
  const before = keyIn(path)
  const next = newKey()
  writeFileSync(`${path}.next`, printKey(next), { mode: 0o600 })
  if (step === 'staged') return before
  // What the server does in its transaction is what a start with both keys in the environment does.
  await start(inEnv(next, before))
  expect(keyIn(path)).toEqual(before)
  return next
}

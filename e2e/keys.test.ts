import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, inject, test } from 'vitest'
import { newDatabase } from '../server/testing/server.ts'
import { boot, call, cleanUp, eventually, newFolder, type Running, readBootstrap, ready } from './processes.ts'

afterEach(cleanUp)

const onLinux = { skip: process.platform !== 'linux' }

const databaseUrl = async () => {
  const { host, port, user } = inject('postgres')
  return `postgres://${user}@localhost:${port}/${await newDatabase()}?host=${encodeURIComponent(host)}`
}

async function stopped(server: Running): Promise<number | null> {
  server.kill('SIGTERM')
  return (await server.ended).code
}
async function killed(server: Running): Promise<void> {
  server.kill('SIGKILL')
  await server.ended
}
const isKept = async (to: { apiUrl: string; token: string }, value: string) =>
  (await call(to, '/secrets/kept/verify', { body: { key: 'KEY', value } })).body?.match

describe('--seal manual', () => {
  test('shows the shares at the first start and never again; they open it after every kill -9', async () => {
    const dataDir = newFolder()
    const flags = {
      'data-dir': dataDir,
      'database-url': await databaseUrl(),
      seal: 'manual',
      'seal-shares': '3',
      'seal-threshold': '2',
    }
    const first = boot(flags)
    await ready(first)
    await first.says(/^1ctl: sealed: operators open it with 1ctl admin unseal$/m)
    const shares = first.stdout().match(/^1ctl-share-[0-9a-f-]+$/gm) ?? []
    expect(shares).toHaveLength(3)
    expect(readdirSync(dataDir)).toEqual(['bootstrap.json', 'cluster', 'kubeconfig'])
    const value = 'a value from before'
    const url = readBootstrap(dataDir)
    expect((await call(url, '/secrets')).body.error.code).toBe('sealed')
    expect((await fetch(`${url.url}/healthz`)).status).toBe(200)
    expect((await fetch(`${url.url}/readyz`)).status).toBe(503)
    for (const share of shares.slice(1)) await call(url, '/admin/unseal', { body: { share } })
    expect((await call(url, '/secrets', { body: { name: 'kept', data: { KEY: value } } })).status).toBe(201)
    await killed(first)
    expect(first.stderr()).not.toContain('1ctl-share')

    const second = boot(flags)
    await ready(second)
    const again = readBootstrap(dataDir)
    expect((await call(again, '/secrets')).status).toBe(503)
    for (const share of shares.slice(0, 2)) await call(again, '/admin/unseal', { body: { share } })
    expect(await isKept(again, value)).toBe(true)
    expect(second.stdout() + second.stderr()).not.toContain('1ctl-share')
    expect(await stopped(second)).toBe(0)
  })

  test('writes them to a file, which it never replaces', async () => {
    const dataDir = newFolder()
    const file = join(dataDir, 'shares')
    const flags = { 'data-dir': dataDir, 'database-url': await databaseUrl(), seal: 'manual', 'shares-file': file }
    const server = boot(flags)
    await ready(server)
    expect(server.stdout()).not.toContain('1ctl-share')
    expect(statSync(file).mode & 0o777).toBe(0o600)
    expect(readFileSync(file, 'utf8').match(/^1ctl-share-/gm)).toHaveLength(5)
    await stopped(server)
    const other = boot({ ...flags, 'database-url': await databaseUrl() })
    expect(await other.ended).toMatchObject({ code: 1 })
    expect(other.stderr()).toContain(`The file ${file} exists, and shares are not written over anything. Name another.`)
  })
})

describe('a master key', () => {
  test('that is the wrong one is refused before anything is served, by both fingerprints', async () => {
    const dataDir = newFolder()
    const flags = { 'data-dir': dataDir, 'database-url': await databaseUrl() }
    await stopped(await started(flags))
    const path = join(dataDir, 'master.key')
    const right = readFileSync(path)
    writeFileSync(path, randomBytes(32).toString('base64'))
    const refused = boot(flags)
    expect(await refused.ended).toMatchObject({ code: 1 })
    expect(refused.stderr()).toMatch(
      /^1ctl: The master key of this database is [0-9a-f]{16} \(fingerprint\), but \S+\/master\.key holds [0-9a-f]{16}\. Put the right key there, or name its file with --master-key-file\.\n$/,
    )
    writeFileSync(path, right)
    await stopped(await started(flags))
  })

  test('from the environment shows nowhere: not in what is said, not among the processes', onLinux, async () => {
    const key = randomBytes(32)
    const flags = { 'data-dir': newFolder(), 'database-url': await databaseUrl(), seal: 'env', 'log-level': 'debug' }
    const server = await started(flags, { SATUSKY_MASTER_KEY: key.toString('base64') })
    expect(
      (await call(readBootstrap(flags['data-dir']), '/secrets', { body: { name: 'kept', data: { KEY: 'x' } } })).status,
    ).toBe(201)
    const commandLines = readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name) && existsSync(`/proc/${name}/cmdline`))
      .map((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8'))
    expect(commandLines.join('\n')).toContain('--seal=env')
    await stopped(server)
    const refused = boot(flags, { env: { SATUSKY_MASTER_KEY: randomBytes(32).toString('hex') } })
    expect(await refused.ended).toMatchObject({ code: 1 })
    const said = [server, refused].map((running) => running.stdout() + running.stderr()).join() + commandLines.join()
    for (const form of ['hex', 'base64', 'base64url'] as const)
      expect(said).not.toContain(key.toString(form).slice(0, 40))
    const visible = boot({ ...flags, 'master-key': key.toString('hex') })
    await visible.says(/^1ctl: every user of this machine can see the flags of a process/m)
    await ready(visible)
  })
})

describe('kill -9', () => {
  test('at any moment of a rotation of the master key loses nothing', async () => {
    const dataDir = newFolder()
    const flags = { 'data-dir': dataDir, 'database-url': await databaseUrl() }
    const value = 'a value from before'
    let server = await started(flags)
    await call(readBootstrap(dataDir), '/secrets', { body: { name: 'kept', data: { KEY: value } } })
    const keys = new Set([readFileSync(join(dataDir, 'master.key'), 'utf8')])
    for (const delayMs of [0, 3, 6, 9, 12, 16, 20, 5000]) {
      const rotating = call(readBootstrap(dataDir), '/admin/keys/master/rotate', { body: {} }).catch(() => undefined)
      await Promise.race([sleep(delayMs), rotating])
      await killed(server)
      await rotating
      server = await started(flags)
      expect(await isKept(readBootstrap(dataDir), value), `killed after ${delayMs} ms`).toBe(true)
      expect(readdirSync(dataDir).filter((name) => name.endsWith('.next'))).toEqual([])
      keys.add(readFileSync(join(dataDir, 'master.key'), 'utf8'))
    }
    // The last one was over, and others may have been.
    expect(keys.size).toBeGreaterThan(1)
    expect((await call(readBootstrap(dataDir), '/secrets')).body.items).toHaveLength(1)
  })

  test('in the middle of a rotation of a data key: the next start goes on with it', async () => {
    const dataDir = newFolder()
    const flags = { 'data-dir': dataDir, 'database-url': await databaseUrl() }
    const server = await started(flags)
    const data = Object.fromEntries(Array.from({ length: 500 }, (_, n) => [`KEY_${n}`, `the value number ${n}`]))
    const names = ['one', 'two', 'three', 'four']
    for (const name of names) await call(readBootstrap(dataDir), '/secrets', { body: { name, data } })
    await call(readBootstrap(dataDir), '/keys/rotate', { body: {} })
    await eventually(async () => (await call(readBootstrap(dataDir), '/keys')).body.done > 0, 5000)
    await killed(server)
    await started(flags)
    const to = readBootstrap(dataDir)
    await eventually(async () => !(await call(to, '/keys')).body.running, 10_000)
    expect((await call(to, '/keys')).body).toMatchObject({ total: 2000, done: 2000 })
    for (const name of names) {
      const answer = await call(to, `/secrets/${name}/restore`, { body: { version: 1 } })
      expect(answer.body).toMatchObject({ unchanged: true })
    }
  })
})

async function started(flags: Record<string, string>, env: Record<string, string> = {}): Promise<Running> {
  const server = boot(flags, { env })
  await ready(server)
  return server
}

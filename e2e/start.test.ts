import { execFileSync } from 'node:child_process'
import { cpSync, readdirSync, statSync } from 'node:fs'
import { request } from 'node:http'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { gunzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Answer } from '../server/testing/server.ts'
import {
  call,
  cleanUp,
  freePort,
  isAlive,
  newFolder,
  postgresGoneAfterMs,
  postgresOf,
  type Running,
  readBootstrap,
  ready,
  root,
  run,
  serverOf,
} from './processes.ts'

// One story, told in order: the tests share a copy of the project and its data folder.
describe('npm start in a fresh copy of the project', { timeout: 120_000 }, () => {
  test('installs, builds, makes a database, and shows all the while that it goes on', {
    timeout: 300_000,
  }, async (context) => {
    const npm = startNpm()
    await npm.says(/> exec node/)
    const began = performance.now()
    await npm.says(/^Starting 1ctl …$/m)
    expect(performance.now() - began).toBeLessThan(1_000)
    await ready(npm).catch((error: unknown) => {
      if (!/ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENETUNREACH/.test(npm.stderr())) throw error
      // The rest of the story is told all the same.
      cpSync(join(root, 'node_modules'), join(copy, 'node_modules'), { recursive: true, verbatimSymlinks: true })
      current = undefined
      context.skip('npm can neither reach its registry nor find the packages in its cache')
    })
    // In a step that takes long, one line a second at first and later one in five.
    expect(npm.longestSilenceMs()).toBeLessThan(8_000)
    expect(npm.stdout()).toMatch(/Starting 1ctl …\nInstalling packages …\n/)
    const said = ['Installing packages: done in', 'Building …', 'Building: done in', '1ctl: making a PostgreSQL']
    expect(said.filter((line) => !npm.stdout().includes(line))).toEqual([])
  })

  test('says where it is and how to sign in, and keeps password and token to a file for its owner only', async () => {
    const npm = await running()
    const { url, apiUrl, email, password, token } = readBootstrap(dataDir)
    expect([url, apiUrl]).toEqual([`http://127.0.0.1:${port}`, `http://127.0.0.1:${port}/v1/cli`])
    const [said] = await npm.says(/^1ctl: ready at .*\n1ctl: sign in as .*$/m)
    expect(said).toBe(`1ctl: ready at ${url}\n1ctl: sign in as ${email}; the password is in ${dataDir}/bootstrap.json`)
    expect(statSync(join(dataDir, 'bootstrap.json')).mode & 0o777).toBe(0o600)
    expect(statSync(dataDir).mode & 0o077).toBe(0)
    expect(password.length).toBeGreaterThan(20)
    for (const secret of [password, token]) expect(npm.stdout() + npm.stderr()).not.toContain(secret)
  })

  test('what is in that file opens the door, and a wrong password does not', async () => {
    await running()
    const { apiUrl, email, password, token } = readBootstrap(dataDir)
    const { body } = await call({ apiUrl, token }, '/auth/me')
    expect(body).toMatchObject({ user: { email }, organization: { name: 'main' }, role: 'owner' })
    expect((await call({ apiUrl }, '/auth/session', { body: { email, password } })).status).toBe(200)
    const refused = await call({ apiUrl }, '/auth/session', { body: { email, password: `${password}x` } })
    expect([refused.status, refused.body.error.code]).toEqual([401, 'invalid_credentials'])
    expect((await call({ apiUrl }, '/auth/me')).body.error.code).toBe('missing_token')
  })

  test('nothing is written outside of the copy and the data folder', async () => {
    await running()
    expect(readdirSync(home)).toEqual([])
  })

  test('serves the dashboard: packed, cached by name, and closed to foreign scripts', async () => {
    await running()
    const { url } = readBootstrap(dataDir)
    const page = await get(url)
    expect([page.status, page.headers['content-type']]).toEqual([200, 'text/html; charset=utf-8'])
    expect(page.headers['cache-control']).toBe('no-cache')
    expect(page.headers['content-security-policy']).toContain("default-src 'self'")
    expect(page.headers['content-security-policy']).toContain("script-src 'self';")
    expect(page.headers['content-security-policy']).toContain("frame-ancestors 'none'")
    expect(page.headers['x-content-type-options']).toBe('nosniff')

    const assets = [...page.body.toString().matchAll(/(?:src|href)="(\/assets\/[^"]+)"/g)].map(([, path]) => path!)
    expect(new Set(assets.map((path) => path.split('.').at(-1)))).toEqual(new Set(['css', 'js']))
    for (const path of assets) {
      const packed = await get(url + path, { 'accept-encoding': 'gzip' })
      expect([packed.status, packed.headers['content-encoding']]).toEqual([200, 'gzip'])
      expect(packed.headers['cache-control']).toBe('public, max-age=31536000, immutable')
      expect(packed.headers['vary']).toContain('accept-encoding')
      const plain = await get(url + path)
      expect(plain.headers['content-encoding']).toBeUndefined()
      expect(gunzipSync(packed.body).equals(plain.body)).toBe(true)
    }
    const missing = await get(`${url}/assets/index-gone.js`)
    expect([missing.status, missing.headers['cache-control']]).toEqual([404, 'no-store'])
  })

  test('a page of any address is the dashboard; below /v1 and for programs, nothing is a JSON 404', async () => {
    await running()
    const { url } = readBootstrap(dataDir)
    const page = await get(url)
    const deep = await get(`${url}/vpcs/default/secrets`, { accept: 'text/html,*/*;q=0.8' })
    expect([deep.status, deep.body.equals(page.body)]).toEqual([200, true])
    for (const [path, accept] of [
      ['/v1/nothing', 'text/html,*/*;q=0.8'],
      ['/v1/cli/nothing', 'application/json'],
      ['/vpcs/default/secrets', 'application/json'],
    ] as const) {
      const { status, headers, body } = await get(url + path, { accept })
      expect([status, headers['content-type']], path).toEqual([404, 'application/json; charset=utf-8'])
      expect(JSON.parse(body.toString()).error, path).toMatchObject({
        code: 'endpoint_not_found',
        requestId: headers['x-request-id'],
      })
    }
  })

  test('SIGTERM lets a sign-in that has begun succeed, takes no new one, and ends with 0 and no process left', async () => {
    const npm = await running()
    const server = serverOf(npm)
    const { apiUrl, email, password } = readBootstrap(dataDir)
    expect(postgresOf(server).length).toBeGreaterThan(2)
    // Its head has been received, its body has not: the password is checked when the server is closing already.
    const signIn = await beginSignIn(apiUrl)
    process.kill(server, 'SIGTERM')
    await npm.says(/finishing requests, then stopping/)
    await expect(call({ apiUrl }, '/auth/me')).rejects.toThrow('fetch failed')
    const answer = await signIn.finish({ email, password })
    expect([answer.status, answer.body.user.email]).toEqual([200, email])

    expect(await npm.ended).toEqual({ code: 0, signal: null })
    expect([isAlive(server), postgresOf(server)]).toEqual([false, []])
    cookie = answer.headers.get('set-cookie')!.split(';', 1)[0]!
    current = undefined
  })

  test('the next start finds everything as it was, and has nothing to install or build', async () => {
    const before = readBootstrap(dataDir)
    const began = performance.now()
    const npm = await running()
    // The figure to reach is 3 s on a machine with nothing else to do.
    expect(performance.now() - began).toBeLessThan(10_000)
    expect(npm.stdout()).not.toMatch(/Installing|Building|making|updating/)
    expect(readBootstrap(dataDir)).toEqual(before)
    const me = await call(before, '/auth/me', { headers: { cookie } })
    expect(me.body.user.email).toBe(before.email)
    expect((await call({ apiUrl: before.apiUrl }, '/auth/me', { headers: { cookie } })).body.session).not.toBeNull()
  })

  test('SIGTERM to npm alone stops the server, too', async () => {
    const npm = await running()
    const server = serverOf(npm)
    npm.kill('SIGTERM')
    expect(await npm.ended).toEqual({ code: 0, signal: null })
    expect([isAlive(server), postgresOf(server)]).toEqual([false, []])
    current = undefined
  })

  test('Ctrl-C, which reaches npm and the server both, does not cut the end short', async () => {
    const npm = await running()
    const server = serverOf(npm)
    const { apiUrl, email, password } = readBootstrap(dataDir)
    const signIn = await beginSignIn(apiUrl)
    process.kill(-npm.pid, 'SIGINT')
    await npm.says(/finishing requests, then stopping/)
    process.kill(-npm.pid, 'SIGINT')
    expect((await signIn.finish({ email, password })).status).toBe(200)
    await npm.ended
    expect([isAlive(server), postgresOf(server)]).toEqual([false, []])
    current = undefined
  })

  test('kill -9 amid writes: PostgreSQL is gone within 2 s, and the next start has every acknowledged write', async () => {
    const random = seeded(20_261_124)
    const acknowledged = { vpcs: [] as string[], tokens: [] as string[] }
    for (let round = 0; round < 3; round++) {
      const npm = await running()
      const server = serverOf(npm)
      const bootstrap = readBootstrap(dataDir)
      const writers = [0, 1, 2, 3].map(async (writer) => {
        for (let n = 0; n < 500; n++) {
          const name = `r${round}-w${writer}-n${n}`
          const kind = random() < 0.5 ? 'vpcs' : 'tokens'
          const answer = await call(bootstrap, `/${kind}`, { body: { name } }).catch(() => undefined)
          if (!answer) return
          expect(answer.status, answer.text).toBe(201)
          acknowledged[kind].push(name)
        }
      })
      const before = acknowledged.vpcs.length + acknowledged.tokens.length
      await sleep(300 + 700 * random())
      process.kill(server, 'SIGKILL')
      expect(await postgresGoneAfterMs(server)).toBeLessThan(2_000)
      await Promise.all(writers)
      await npm.ended
      expect(acknowledged.vpcs.length + acknowledged.tokens.length).toBeGreaterThan(before)
      current = undefined
    }

    await running()
    const bootstrap = readBootstrap(dataDir)
    for (const kind of ['vpcs', 'tokens'] as const) {
      const kept = new Set((await listAll(bootstrap, kind)).map(({ name }) => name))
      expect(acknowledged[kind].filter((name) => !kept.has(name))).toEqual([])
    }
    const { body } = await call(bootstrap, '/audit/verify')
    expect(body).toMatchObject({ ok: true })
    expect(body.rows).toBeGreaterThan(acknowledged.vpcs.length + acknowledged.tokens.length)
  })
})

let copy: string
let dataDir: string
let home: string
let port: number
let environment: Record<string, string>
let current: Running | undefined
let cookie: string

beforeAll(async () => {
  copy = newFolder(0o755)
  home = newFolder()
  dataDir = join(newFolder(), 'data')
  port = await freePort()
  // What git would clone, and what is about to be committed.
  const others = /^(node_modules|dist|\.git|.*\.log)$/
  cpSync(root, copy, { recursive: true, verbatimSymlinks: true, filter: (path) => !others.test(basename(path)) })
  environment = { HOME: home, SATUSKY_DATA_DIR: dataDir, PORT: `${port}`, ...npmSettings() }
})
afterAll(cleanUp)

/** The way to npm's registry and the cache of whoever runs this; everything else is as on a new machine. */
function npmSettings(): Record<string, string> {
  const said = execFileSync('npm', ['config', 'get', 'cache', 'userconfig'], { cwd: root, encoding: 'utf8' })
  const settings = said.split('\n').flatMap((line) => {
    const [, name, value] = /^(\w+)=(.+)$/.exec(line) ?? []
    return name && value ? [[`npm_config_${name}`, value]] : []
  })
  const network = Object.entries(process.env).filter(([name]) => /^(node_extra_ca_certs|.*_proxy)$/i.test(name))
  return Object.fromEntries([...settings, ...network]) as Record<string, string>
}

function startNpm(): Running {
  current = run('npm', ['start'], { cwd: copy, env: environment })
  return current
}

/** The server of the test before, or one more start. */
async function running(): Promise<Running> {
  const npm = current ?? startNpm()
  await ready(npm)
  return npm
}

/** A request as it is, without `fetch`, which unpacks what it gets. */
function get(url: string, headers: Record<string, string> = {}) {
  type Raw = { status: number | undefined; headers: Record<string, string | string[] | undefined>; body: Buffer }
  return new Promise<Raw>((resolve, reject) => {
    const asked = request(url, { headers, agent: false }, (answer) => {
      const parts: Buffer[] = []
      answer.on('data', (part: Buffer) => parts.push(part))
      answer.on('end', () =>
        resolve({ status: answer.statusCode, headers: answer.headers, body: Buffer.concat(parts) }),
      )
    })
    asked.on('error', reject)
    asked.end()
  })
}

/** Resolves when the server has the head of the request, as it then asks for the body. */
function beginSignIn(apiUrl: string) {
  const asked = request(`${apiUrl}/auth/session`, {
    method: 'POST',
    agent: false,
    headers: { 'content-type': 'application/json', 'transfer-encoding': 'chunked', expect: '100-continue' },
  })
  const answer = new Promise<Answer>((resolve, reject) => {
    asked.on('error', reject)
    asked.on('response', (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (part: string) => (text += part))
      response.on('end', () => {
        const headers = new Headers({ 'set-cookie': response.headers['set-cookie']?.[0] ?? '' })
        resolve({ status: response.statusCode ?? 0, headers, text, body: JSON.parse(text) })
      })
    })
  })
  const finish = (body: object) => {
    asked.end(JSON.stringify(body))
    return answer
  }
  return new Promise<{ finish: typeof finish }>((resolve, reject) => {
    asked.on('continue', () => resolve({ finish }))
    asked.on('error', reject)
    asked.flushHeaders()
  })
}

async function listAll(bootstrap: { apiUrl: string; token: string }, kind: string): Promise<{ name: string }[]> {
  const items: { name: string }[] = []
  let cursor = ''
  do {
    const { body } = await call(bootstrap, `/${kind}?limit=200${cursor && `&cursor=${encodeURIComponent(cursor)}`}`)
    items.push(...body.items)
    cursor = body.nextCursor ?? ''
  } while (cursor)
  return items
}

/** Mulberry32: the same sequence in every run. */
function seeded(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

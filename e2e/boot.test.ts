import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { get as httpsGet } from 'node:https'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Client } from 'pg'
import { afterEach, beforeAll, describe, expect, inject, test, vi } from 'vitest'
import { flags } from '../server/config.ts'
import { type Embedded, startEmbedded } from '../server/store/embedded.ts'
import { template } from '../server/testing/global-setup.ts'
import { needs } from '../server/testing/needs.ts'
import {
  boot,
  call,
  childrenOf,
  cleanUp,
  eventually,
  keepForLater,
  mainFile,
  newFolder,
  onCleanUp,
  postgresGoneAfterMs,
  postgresOf,
  type Running,
  readBootstrap,
  ready,
} from './processes.ts'

// Whole starts, also on a machine that is busy with something else.
vi.setConfig({ testTimeout: 60_000 })

/** A data folder as a first start leaves it, for starts that are about something else. */
let used: string
/** A PostgreSQL where the user `app` needs a password. */
let guarded: Embedded
const secret = 'p#ss word%'

beforeAll(async () => {
  used = newFolder()
  const server = boot({ 'data-dir': used })
  await ready(server)
  await stopped(server)

  const dataDir = newFolder()
  guarded = await startEmbedded({ dataDir, progress() {}, exited() {}, settings: { fsync: 'off' } })
  const admin = urlOf(guarded.connection)
  await query(admin, `create user app password '${secret}'`)
  await query(admin, 'create user guest')
  await query(admin, "create database app owner app template template0 encoding 'UTF8'")
  await query(admin, "create database latin owner app template template0 encoding 'LATIN1'")
  const rules = join(dataDir, 'postgres/pg_hba.conf')
  writeFileSync(rules, `local all app scram-sha-256\n${readFileSync(rules, 'utf8')}`)
  await query(admin, 'select pg_reload_conf()')

  const cleanUpLater = keepForLater()
  return async () => {
    await guarded.stop()
    await cleanUpLater()
  }
})
afterEach(cleanUp)

describe('a start that cannot succeed is refused by one sentence with the next step', () => {
  test.each([
    ['a flag that is none', ['--verbose'], /^--verbose is not a flag\.$/m],
    ['a misspelled flag', ['--databse-url', 'x'], /^--databse-url is not a flag \(did you mean --database-url\?\)\.$/m],
    ['a flag without its value', ['--public-url'], /^--public-url needs a value: the address people use/m],
    ['a value without its flag', ['8080'], /^A value stands alone: every setting is --flag value\.$/m],
    ['a port that is none', ['--port', 'http'], /^--port must be a whole number from 0 to 65535, not "http"\.$/m],
    ['one half of TLS', ['--tls-cert', 'x.pem'], /^--tls-cert and --tls-key go together\.$/m],
    [
      'TLS files that are not there',
      ['--tls-cert=/no/c', '--tls-key=/no/k'],
      /^--tls-cert: cannot read \/no\/c \(ENOENT\)/m,
    ],
    [
      'an address for all without TLS',
      ['--host', '0.0.0.0'],
      /^--host 0\.0\.0\.0 is not this machine alone.*--tls-cert/m,
    ],
  ])('%s', async (_, argv, sentence) => {
    const dataDir = join(newFolder(), 'data')
    const server = boot({ 'data-dir': dataDir }, { argv })
    expect(await refusal(server)).toMatch(sentence)
    expect(server.stderr().endsWith('.\nSee all flags with: npm start -- --help\n')).toBe(true)
    expect(existsSync(dataDir)).toBe(false)
  })

  test('several problems at once, each on its line, also those of the environment', async () => {
    const server = boot(
      { port: 'http', 'log-level': 'loud' },
      { env: { SATUSKY_AUDIT_MONTHS: 'all', DATABASE_URL: 'x' } },
    )
    const lines = (await refusal(server)).split('\n')
    expect(lines.map((line) => line.split(' ', 1)[0])).toEqual([
      '--port',
      'DATABASE_URL',
      'SATUSKY_AUDIT_MONTHS',
      '--log-level',
      'See',
    ])
  })

  test('a second server on the same data folder, while the first goes on', async () => {
    const dataDir = usedFolder()
    const first = boot({ 'data-dir': dataDir })
    const url = await ready(first)
    expect(await sentence(boot({ 'data-dir': dataDir }))).toBe(
      `Another 1ctl server (pid ${first.pid}) is using the data folder ${dataDir}. Stop it, or choose another folder with --data-dir.`,
    )
    expect((await call(readBootstrap(dataDir), `${url}/readyz`)).status).toBe(200)
  })

  test('a port that is in use; what was started for it is stopped', async () => {
    const port = await busyPort()
    const server = boot({ 'data-dir': usedFolder(), port: `${port}` })
    expect(await sentence(server)).toBe(
      `Port ${port} on 127.0.0.1 is in use. Stop what uses it, or choose another with --port.`,
    )
    expect(postgresOf(server.pid)).toEqual([])
  })

  test('an address that this machine has not', async () => {
    const server = boot({ 'data-dir': usedFolder(), host: '192.0.2.1', 'trust-proxy': 'true' })
    expect(await sentence(server)).toBe(
      'Nothing can listen on 192.0.2.1 here (EADDRNOTAVAIL). Choose another address with --host.',
    )
  })

  test('a data folder that cannot be made', async () => {
    const file = join(newFolder(), 'file')
    writeFileSync(file, '')
    expect(await sentence(boot({ 'data-dir': join(file, 'data') }))).toBe(
      `The data folder ${file}/data cannot be used (ENOTDIR). Choose another with --data-dir.`,
    )
  })

  test.for<[string, Record<string, string>]>([
    ['with the embedded database', {}],
    ['with a database of its own', { 'database-url': 'postgres://nobody@127.0.0.1:1/none' }],
  ])('a data folder that may not be written, %s', async ([, more], context) => {
    const isRoot = process.getuid?.() === 0
    const user = isRoot ? { uid: 65534, gid: 65534 } : {}
    if (spawnSync(process.execPath, ['--check', mainFile], user).status !== 0)
      context.skip('this checkout is closed to other users')
    const dataDir = newFolder(isRoot ? 0o755 : 0o555)
    onCleanUp(() => chmodSync(dataDir, 0o755))
    expect(await sentence(boot({ 'data-dir': dataDir, ...more }, user))).toBe(
      `The data folder ${dataDir} cannot be used (EACCES). Choose another with --data-dir.`,
    )
  })

  test('a key that does not belong to its certificate', needs('openssl'), async () => {
    const [one, other] = [certificate(), certificate()]
    const server = boot({ 'data-dir': newFolder(), 'tls-cert': one.cert, 'tls-key': other.key })
    expect(await refusal(server)).toContain('are no PEM certificate and key that belong together.\n')
  })
})

describe('a database that cannot be used is refused by one sentence that repeats no password', () => {
  const password = encodeURIComponent(secret)
  const at = (rest: string) => `postgres://app:${password}@${rest}`

  test.each([
    [
      'a URL that is none',
      () => 'postgres://app:p#ss@host/app',
      /^DATABASE_URL must be a URL like postgres:\/\/user:password@/,
    ],
    [
      'another kind of database',
      () => `mysql://app:${password}@host/app`,
      /^DATABASE_URL must be a URL like postgres:/,
    ],
    [
      'nobody listens there',
      () => at('127.0.0.1:1/app'),
      /^The database at postgres:\/\/127\.0\.0\.1:1\/app cannot be used: connect ECONNREFUSED/,
    ],
    [
      'a host that is not known',
      () => at('db.invalid/app'),
      /^The database at postgres:\/\/db\.invalid\/app cannot be used: getaddrinfo E\w+ db\.invalid\. Check/,
    ],
    [
      'a wrong password',
      () => on('app', { password: 'p#ss wrong' }),
      /cannot be used: password authentication failed for user "app"\. Check --database-url/,
    ],
    [
      'a database that is not there',
      () => on('gone', { password: secret }),
      /cannot be used: database "gone" does not exist\. Check/,
    ],
    ['a user that is not known', () => on('app', { user: 'who' }), /cannot be used: role "who" does not exist\. Check/],
    [
      'a certificate that is not there',
      () => at('127.0.0.1:1/app?sslmode=verify-full&sslrootcert=/no/ca'),
      /cannot be used: ENOENT: .*'\/no\/ca'\. Check/,
    ],
    [
      'a user that may not create',
      () => on('app', { user: 'guest' }),
      /^The database cannot be updated: permission denied for schema public\. The database user must/,
    ],
    [
      'another encoding',
      () => on('latin', { password: secret }),
      /has the encoding LATIN1\. Make one with: create database … encoding 'UTF8'$/,
    ],
  ])('%s', async (_, url, expected) => {
    const server = boot({ 'data-dir': newFolder() }, { env: { DATABASE_URL: url() } })
    expect(await refusal(server)).toMatch(expected)
    for (const form of [secret, password, 'p#ss', 'p%23ss'])
      expect(server.stdout() + server.stderr()).not.toContain(form)
  })

  test('a PostgreSQL older than 15', (context) => {
    context.skip('there is no PostgreSQL older than 15 to be had here')
  })

  test('a schema that a newer 1ctl has changed', async () => {
    const url = await newDatabase(template, "insert into migrations (name) values ('999-future')")
    expect(await sentence(boot({ 'data-dir': newFolder(), 'database-url': url }))).toBe(
      'The database was used by a newer 1ctl (it knows 999-future). Start that version, or restore a backup made before it.',
    )
  })
})

describe('a database of your own', () => {
  test('is used as it is, and no other is started', async () => {
    const dataDir = newFolder()
    const server = boot({ 'data-dir': dataDir }, { env: { DATABASE_URL: await newDatabase() } })
    await ready(server)
    expect((await call(readBootstrap(dataDir), '/auth/me')).body.role).toBe('owner')
    expect(readdirSync(dataDir)).toEqual(['bootstrap.json', 'cluster', 'kubeconfig', 'master.key'])
    expect(postgresOf(server.pid)).toEqual([])
  })

  test('that is new and empty serves two servers that start at the same moment; one of them makes the first owner', async () => {
    const url = await newDatabase()
    const dataDirs = [newFolder(), newFolder()]
    const shared = { 'database-url': url, 'master-key-file': join(newFolder(), 'master.key') }
    const urls = await Promise.all(dataDirs.map((dataDir) => ready(boot({ 'data-dir': dataDir, ...shared }))))
    const [holder, ...others] = dataDirs.filter((dataDir) => existsSync(join(dataDir, 'bootstrap.json')))
    expect(others).toEqual([])
    const { token } = readBootstrap(holder!)
    for (const url of urls) expect((await call({ apiUrl: `${url}/v1/cli`, token }, '/auth/me')).status).toBe(200)
    const [counts] = await query(
      url,
      'select (select count(*) from users) users, (select count(*) from organizations) organizations',
    )
    expect(counts).toEqual({ users: '1', organizations: '1' })
    expect((await call({ apiUrl: `${urls[1]}/v1/cli`, token }, '/audit/verify')).body.ok).toBe(true)
  })

  test('that goes away is missed, request by request, and found again without a restart', async () => {
    const folder = newFolder()
    let postgres = await startPostgres(folder)
    const dataDir = newFolder()
    const server = boot({ 'data-dir': dataDir, 'database-url': urlOf(postgres.connection) })
    const url = await ready(server)
    const bootstrap = readBootstrap(dataDir)
    expect((await call(bootstrap, '/vpcs')).status).toBe(200)

    await postgres.stop()
    for (const path of ['/vpcs', '/auth/me', `${url}/readyz`]) {
      const { status, headers, body } = await call(bootstrap, path)
      expect([status, body.error.code, body.error.requestId], path).toEqual([
        503,
        'unavailable',
        headers.get('x-request-id'),
      ])
    }
    const signIn = await call(bootstrap, '/auth/session', {
      body: { email: bootstrap.email, password: bootstrap.password },
    })
    expect([signIn.status, signIn.body.error.code]).toEqual([503, 'unavailable'])
    expect((await call(bootstrap, `${url}/healthz`)).status).toBe(200)

    postgres = await startPostgres(folder)
    await eventually(async () => (await call(bootstrap, `${url}/readyz`)).status === 200, 10_000)
    expect((await call(bootstrap, '/vpcs')).status).toBe(200)
    expect((await call(bootstrap, '/vpcs', { body: { name: 'afterwards' } })).status).toBe(201)
    expect(await stopped(server)).toBe(0)
  })

  test('that freezes holds up the end for 20 s at most', async () => {
    const folder = newFolder()
    const postgres = await startPostgres(folder)
    const server = boot({ 'data-dir': newFolder(), 'database-url': urlOf(postgres.connection) })
    const url = await ready(server)
    const postmaster = postmasterOf(folder)
    const pids = [postmaster, ...childrenOf(postmaster)]
    for (const pid of pids) process.kill(pid, 'SIGSTOP')
    onCleanUp(() => {
      for (const pid of pids) process.kill(pid, 'SIGCONT')
    })
    const unanswered = fetch(`${url}/readyz`).catch(() => 'given up')
    await sleep(500)
    const began = performance.now()
    expect(await stopped(server)).toBe(1)
    expect(performance.now() - began).toBeLessThan(40_000)
    expect(await unanswered).toBe('given up')
    expect(server.stdout()).toContain('1ctl: not everything stopped within 20 s; leaving\n')
  })
})

describe('the embedded database', () => {
  test('that is killed ends the server at once, which says so, and the next start goes on', async () => {
    const dataDir = usedFolder()
    const server = boot({ 'data-dir': dataDir })
    const url = await ready(server)
    // Its connection is kept alive, and must not hold anything up.
    expect((await fetch(`${url}/readyz`)).status).toBe(200)
    process.kill(postmasterOf(dataDir), 'SIGKILL')
    expect(await server.ended).toEqual({ code: 1, signal: null })
    expect(server.stdout()).toMatch(/^1ctl: PostgreSQL ended unexpectedly: .*killed by signal 9.*\. Start again/m)
    expect(logOf(server)).toContainEqual(
      expect.objectContaining({ level: 60, msg: expect.stringMatching(/^PostgreSQL ended/) }),
    )
    expect(await postgresGoneAfterMs(server.pid)).toBeLessThan(2_000)
    await ready(boot({ 'data-dir': dataDir }))
  })

  test('that is still being made is given up on SIGTERM, and the next start makes it', async () => {
    const dataDir = newFolder()
    const server = boot({ 'data-dir': dataDir })
    await server.says(/making a PostgreSQL/)
    expect(await stopped(server)).toBe(0)
    expect(await postgresGoneAfterMs(server.pid)).toBeLessThan(2_000)
    expect(server.stdout()).not.toContain('ready')
    const next = boot({ 'data-dir': dataDir })
    await ready(next)
    expect((await call(readBootstrap(dataDir), '/auth/me')).status).toBe(200)
    expect(readdirSync(dataDir)).toEqual(['bootstrap.json', 'cluster', 'kubeconfig', 'master.key', 'postgres'])
  })
})

describe('the address', () => {
  test('is the one the system chose for port 0, printed and in bootstrap.json, also after a restart', async () => {
    const dataDir = usedFolder()
    for (let start = 0; start < 2; start++) {
      const server = boot({ 'data-dir': dataDir })
      const url = await ready(server)
      expect(url).toMatch(/^http:\/\/127\.0\.0\.1:[1-9]\d+$/)
      expect(readBootstrap(dataDir)).toMatchObject({ url, apiUrl: `${url}/v1/cli` })
      expect(statSync(join(dataDir, 'bootstrap.json')).mode & 0o777).toBe(0o600)
      expect((await call(readBootstrap(dataDir), '/auth/me')).status).toBe(200)
      expect(await stopped(server)).toBe(0)
    }
  })

  test('is the public one where that was named', async () => {
    const dataDir = usedFolder()
    const publicUrl = 'https://1ctl.example.test'
    const server = boot({ 'data-dir': dataDir, 'public-url': publicUrl })
    expect(await ready(server)).toBe(publicUrl)
    expect(readBootstrap(dataDir)).toMatchObject({ url: publicUrl, apiUrl: `${publicUrl}/v1/cli` })
  })

  test('is https with a certificate; plain HTTP is not answered there', needs('openssl'), async () => {
    const dataDir = usedFolder()
    const { cert, key } = certificate()
    const url = await ready(boot({ 'data-dir': dataDir, 'tls-cert': cert, 'tls-key': key, host: '0.0.0.0' }))
    expect(url).toMatch(/^https:/)
    const port = new URL(url).port
    const answer = await new Promise<{ status?: number; hsts?: unknown }>((resolve, reject) => {
      const options = { ca: readFileSync(cert), host: 'localhost', port, path: '/readyz', family: 4, agent: false }
      httpsGet(options, (answer) => {
        answer.resume()
        resolve({ status: answer.statusCode!, hsts: answer.headers['strict-transport-security'] })
      }).on('error', reject)
    })
    expect(answer).toEqual({ status: 200, hsts: expect.stringContaining('max-age=') })
    await expect(fetch(`http://localhost:${port}/readyz`)).rejects.toThrow('fetch failed')
  })

  test('of a client is the one a proxy forwards with --trust-proxy, and only then', async () => {
    for (const [more, expected] of [
      [{ 'trust-proxy': 'true', host: '0.0.0.0' }, '192.0.2.7'],
      [{}, '127.0.0.1'],
    ] as const) {
      const dataDir = usedFolder()
      const server = boot({ 'data-dir': dataDir, ...more })
      const apiUrl = (await ready(server)).replace('0.0.0.0', '127.0.0.1') + '/v1/cli'
      const { token, email, password } = readBootstrap(dataDir)
      const headers = { 'x-forwarded-for': '192.0.2.7' }
      expect((await call({ apiUrl }, '/auth/session', { body: { email, password }, headers })).status).toBe(200)
      const { items } = (await call({ apiUrl, token }, '/sessions')).body
      expect(items.map(({ address }: { address: string }) => address)).toEqual([expected])
      expect(await stopped(server)).toBe(0)
    }
  })
})

describe('what it says', () => {
  test('--help names every flag, starts nothing and ends with 0', async () => {
    const dataDir = join(newFolder(), 'data')
    const server = boot({ 'data-dir': dataDir }, { argv: ['--help'] })
    expect(await server.ended).toEqual({ code: 0, signal: null })
    for (const flag of Object.keys(flags)) expect(server.stdout()).toContain(`--${flag} `)
    expect([server.stderr(), existsSync(dataDir)]).toEqual(['', false])
  })

  test('in the log is one JSON object a line, without any password, token or query', async () => {
    const dataDir = usedFolder()
    const server = boot({ 'data-dir': dataDir, 'log-level': 'debug' })
    const url = await ready(server)
    const bootstrap = readBootstrap(dataDir)
    const { apiUrl, email, password, token } = bootstrap
    const made = await call(bootstrap, '/tokens', { body: { name: 'ci' } })
    expect(made.status).toBe(201)
    const signIn = (password: string) => call({ apiUrl }, '/auth/session', { body: { email, password } })
    expect((await signIn(password)).status).toBe(200)
    expect((await signIn('wrong-hunter2-wrong')).status).toBe(401)
    const wrong = token.slice(0, -1) + (token.endsWith('x') ? 'y' : 'x')
    expect((await call({ apiUrl, token: wrong }, '/auth/me')).status).toBe(403)
    expect((await call({ apiUrl }, `/auth/me?key=${token}&q=hunter2`)).status).toBe(401)
    expect((await call(bootstrap, `/tokens/${token}`)).status).toBe(404)
    expect((await call(bootstrap, `${url}/nothing?hunter2`)).status).toBe(404)
    expect(await stopped(server)).toBe(0)

    const log = logOf(server)
    expect(log.filter(({ msg }) => msg === 'request').length).toBeGreaterThanOrEqual(7)
    const said = server.stdout() + server.stderr()
    for (const text of [password, token, wrong, made.body.token, 'hunter2']) expect(said).not.toContain(text)
  })

  test('to nobody, as with `npm start | head -1`, is no reason to stop', async () => {
    const dataDir = usedFolder()
    const server = boot({ 'data-dir': dataDir })
    await server.says(/starting/)
    server.hangUp()
    const before = readBootstrap(dataDir).url
    await eventually(() => readBootstrap(dataDir).url !== before, 20_000)
    expect((await call(readBootstrap(dataDir), '/auth/me')).status).toBe(200)
    expect(await stopped(server)).toBe(0)
    expect(server.stderr()).toBe('')
  })

  test('of a fault of its own: where, not what, as that may quote data; it finishes requests and ends with 1', async () => {
    const fault = join(newFolder(), 'fault.mjs')
    writeFileSync(fault, "process.on('SIGUSR2', () => void Promise.reject(new Error('hunter2')))")
    const server = boot({ 'data-dir': usedFolder() }, { node: ['--import', fault] })
    await ready(server)
    server.kill('SIGUSR2')
    expect(await server.ended).toEqual({ code: 1, signal: null })
    expect(logOf(server).at(-1)).toMatchObject({
      level: 60,
      err: { type: 'Error', stack: expect.stringContaining('at ') },
    })
    expect(server.stdout() + server.stderr()).not.toContain('hunter2')
    expect(postgresOf(server.pid)).toEqual([])
  })
})

/** What a refused start leaves on stderr, without the product's name. */
async function refusal(server: Running): Promise<string> {
  const end = await Promise.race([server.ended, sleep(20_000)])
  expect(end, server.stdout()).toEqual({ code: 1, signal: null })
  expect(server.stdout()).not.toContain('ready')
  expect(server.stderr()).toMatch(/^1ctl: [^]+\n$/)
  expect(server.stderr()).not.toMatch(/^\s+at /m)
  return server.stderr().slice('1ctl: '.length, -1)
}

/** The same, where it is a single line. */
async function sentence(server: Running): Promise<string> {
  const text = await refusal(server)
  expect(text.split('\n')).toHaveLength(1)
  return text
}

async function stopped(server: Running): Promise<number | null> {
  server.kill('SIGTERM')
  return (await server.ended).code
}

const logOf = (server: Running) =>
  server
    .stderr()
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Record<string, unknown>)

async function busyPort(): Promise<number> {
  const other = createServer()
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
  onCleanUp(() => other.close())
  return (other.address() as AddressInfo).port
}

function certificate(): { cert: string; key: string } {
  const folder = newFolder()
  const files = { cert: join(folder, 'cert.pem'), key: join(folder, 'key.pem') }
  const options = '-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost'
  const names = ['-addext', 'subjectAltName=DNS:localhost']
  execFileSync('openssl', ['req', ...options.split(' '), ...names, '-keyout', files.key, '-out', files.cert], {
    stdio: 'ignore',
  })
  return files
}

function usedFolder(): string {
  const folder = newFolder()
  execFileSync('cp', ['-a', `${used}/.`, folder])
  return folder
}

const postmasterOf = (dataDir: string) =>
  Number.parseInt(readFileSync(join(dataDir, 'postgres/postmaster.pid'), 'utf8'), 10)

/** A PostgreSQL to be stopped and frozen. */
async function startPostgres(dataDir: string): Promise<Embedded> {
  const postgres = await startEmbedded({ dataDir, progress() {}, exited() {}, settings: { fsync: 'off' } })
  onCleanUp(() => postgres.stop())
  return postgres
}

type Address = { host: string; port: number; user: string; database: string }

const urlOf = ({ host, user, database }: Address, password = '') =>
  `postgres://${user}:${encodeURIComponent(password)}@localhost/${database}?host=${encodeURIComponent(host)}`

const on = (database: string, { user = 'app', password = '' }) =>
  urlOf({ ...guarded.connection, user, database }, password)

/** In the PostgreSQL of the whole run. */
async function newDatabase(from = 'template0', ...statements: string[]): Promise<string> {
  const database = `boot_${process.pid}_${counter++}`
  const server = { ...inject('postgres'), database }
  await query(
    urlOf({ ...server, database: 'postgres' }),
    `create database ${database} template ${from} encoding 'UTF8'`,
  )
  for (const statement of statements) await query(urlOf(server), statement)
  return urlOf(server)
}
let counter = 0

async function query(url: string, text: string): Promise<Record<string, unknown>[]> {
  const client = new Client({ connectionString: url })
  await client.connect()
  try {
    return (await client.query(text)).rows
  } finally {
    await client.end()
  }
}

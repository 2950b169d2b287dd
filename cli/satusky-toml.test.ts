import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { type Declared, findAppConfig, readAppConfig, readDeclaration } from './satusky-toml.ts'

let root: string
let notes: string[]

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), '1ctl-toml-'))
  onTestFinished(() => rmSync(root, { recursive: true, force: true }))
  notes = []
})

const write = (path: string, text = '[app]\nname = "api"\n') => {
  mkdirSync(join(root, path, '..'), { recursive: true })
  writeFileSync(join(root, path), text)
}
const read = (config?: string, folder = '.') => readAppConfig(config, (text) => notes.push(text), join(root, folder))

/** Without what it does not say. */
const declared = async () =>
  JSON.parse(JSON.stringify((await readDeclaration(undefined, () => {}, root))?.declared)) as Declared

describe('the file', () => {
  test('of the working folder is used without a word', async () => {
    write('satusky.toml', '[app]\nname = "api"\nvpc = "staging"\n')
    expect(await read()).toEqual({ path: 'satusky.toml', name: 'api', deploymentId: undefined, vpc: 'staging' })
    expect(notes).toEqual([])
  })

  test('of a parent is used up to the root of the repository, and that is said', async () => {
    write('satusky.toml', '[app]\nname = "outside"\n')
    write('repository/.git/HEAD')
    write('repository/satusky.toml', '[app]\ndeployment_id = "dep_123abc"\n')
    write('repository/src/deep/x')
    expect(await read(undefined, 'repository/src/deep')).toMatchObject({ deploymentId: 'dep_123abc' })
    expect(notes).toEqual(['Using ../../satusky.toml (dep_123abc).'])
    rmSync(join(root, 'repository/satusky.toml'))
    expect(await read(undefined, 'repository/src/deep')).toBeUndefined()
  })

  test('of a parent is not looked for outside of a repository', async () => {
    write('satusky.toml')
    write('folder/x')
    expect(await read(undefined, 'folder')).toBeUndefined()
  })

  test('is named by --config as a word or as a path', async () => {
    write('.git/HEAD')
    write('satusky.staging.toml', '[app]\nname = "staging"\n')
    write('other/app.toml', '[app]\nname = "other"\n')
    expect(await read('staging', 'other')).toMatchObject({ path: '../satusky.staging.toml', name: 'staging' })
    expect(await read('app.toml', 'other')).toMatchObject({ name: 'other' })
    expect(await read('other/app.toml')).toMatchObject({ name: 'other' })
    expect(await read('./satusky.staging.toml')).toMatchObject({ name: 'staging' })
    expect(notes).toEqual([])
  })

  test('must be there when it is named', () => {
    write('satusky.staging.toml')
    expect(() => findAppConfig('stagin', root)).toThrow('There is no satusky.stagin.toml here')
    expect(() => findAppConfig('x/y.toml', root)).toThrow('There is no file x/y.toml.')
    expect(findAppConfig(undefined, root)).toBeUndefined()
  })
})

describe('what it may hold', () => {
  test('is all of the example, and other tools may have tables in it', async () => {
    write(
      'satusky.toml',
      `[app]
name = "api"                 # or deployment_id = "dep_…"; the id wins
vpc = "default"
image = "acme/api:1.0"
port = 3000
replicas = 2
env_from = ["db-creds"]      # bags, all keys as environment
secret_files = ["tls-bundle"]

[checks]
health_path = "/healthz"

[env]
LOG_LEVEL = "info"
DATABASE_URL = { secret = "db-creds", key = "DATABASE_URL" }   # a link

[services.worker]            # more workloads of the same app
command = ["node", "worker.js"]
env_from = ["queue"]

[build]
anything = { at = ["all"] }

[hpa]
`,
    )
    expect(await read()).toMatchObject({ name: 'api', vpc: 'default' })
    expect(notes).toEqual(['satusky.toml: 1ctl does not use [build], [hpa].'])
    expect(await declared()).toEqual({
      image: 'acme/api:1.0',
      port: 3000,
      replicas: 2,
      healthPath: '/healthz',
      env: { LOG_LEVEL: 'info', DATABASE_URL: { secret: 'db-creds', key: 'DATABASE_URL' } },
      envFrom: ['db-creds'],
      secretFiles: ['tls-bundle'],
      services: [{ name: 'worker', command: ['node', 'worker.js'], envFrom: ['queue'] }],
    })
  })

  test('is every field of a deploy', async () => {
    write(
      'satusky.toml',
      `[app]
name = "api"
on_failure = "keep"
security = "restricted"
command = ["sh", "-c", ""]
args = ["--port=80"]
resources = { requests = { cpu = "100m", memory = "64Mi" }, limits = { memory = "128Mi" } }
[env]
WORKERS = 4
DEBUG = true
__proto__ = "x"
[services.web]
image = "acme/web:1"
port = 80
replicas = 0
health_path = "/"
secret_files = ["tls"]
[services.web.env]
MODE = { secret = "s", key = "tls.key" }
`,
    )
    const file = await declared()
    expect(file).toMatchObject({
      onFailure: 'keep',
      security: 'restricted',
      command: ['sh', '-c', ''],
      args: ['--port=80'],
      resources: { requests: { cpu: '100m', memory: '64Mi' }, limits: { memory: '128Mi' } },
      envFrom: [],
      secretFiles: [],
      services: [
        {
          name: 'web',
          image: 'acme/web:1',
          port: 80,
          replicas: 0,
          healthPath: '/',
          secretFiles: ['tls'],
          env: { MODE: { secret: 's', key: 'tls.key' } },
        },
      ],
    })
    expect(JSON.stringify(file.env)).toBe('{"WORKERS":"4","DEBUG":"true","__proto__":"x"}')
  })

  test.each([
    ['port = "80"', '3: "port" must be a whole number.'],
    ['port = 80.5', '3: "port" must be a whole number.'],
    ['replicas = -1', '3: "replicas" must be a whole number.'],
    ['image = 1', '3: "image" must be text.'],
    ['command = "node"', '3: "command" must be a list of texts: ["…", "…"].'],
    ['env_from = ["Db Creds"]', '3: "env_from" must be at most 63 lower-case letters'],
    ['on_failure = "cry"', '3: "on_failure" must be "rollback" or "keep".'],
    ['resources = { cpu = "1" }', '3: "cpu" is nothing that [app.resources] can have.'],
    ['resources = { limits = { cpus = "1" } }', '3: "cpus" is nothing that [app.resources.limits] can have.'],
    ['[env]\nRATIO = 1.0', '4: "RATIO" must be text, or { secret = "…", key = "…" }.'],
    ['[env]\nSINCE = 2026-01-01', '4: "SINCE" must be text'],
    ['[env]\nA = { secret = "s" }', '4: "A" must be text'],
    ['[env]\nA = { secret = "s", kee = "k" }', '4: "kee" is nothing that [env.A] can have.'],
    ['[env]\n"MY-KEY" = "x"', '4: The name of a variable must be at most 128 letters'],
    ['[services.Web]', "3: A service's name must be at most 20 lower-case letters"],
    ['[checks]\nhealth_path = true', '4: "health_path" must be text.'],
  ])('is not %j in a deploy', async (line, message) => {
    write('satusky.toml', `[app]\nname = "api"\n${line}\n`)
    await expect(declared()).rejects.toThrow(`satusky.toml:${message}`)
  })

  test.each([
    ['name = "api"\n', '1: "name" is nothing that satusky.toml can have.'],
    ['[app]\nname = "api"\n\n[chekcs]\n', '4: "chekcs" is nothing that satusky.toml can have.'],
    ['[app]\nname = "api"\nreplica = 2\n', '3: "replica" is nothing that [app] can have.'],
    [
      '[app]\nname = "api"\nargs = [\n  "a",\n]\n# why\nextra = """\nx\n"""',
      '7: "extra" is nothing that [app] can have.',
    ],
    [
      '[app]\nname = "api"\n[services.web]\nimage = "x"\nvpc = "y"\n',
      '5: "vpc" is nothing that [services.web] can have.',
    ],
    ['[app]\nname = "api"\n[services]\nweb = 1\n', '4: "web" must be a table.'],
    ['env = "x"\n[app]\nname = "api"\n', '1: "env" must be a table.'],
    ['[[app]]\nname = "api"\n', '1: "app" must be a table.'],
    ['[app]\n\nname = 5\n', '3: "name" must be text.'],
    ['[app]\nname = "An App"\n', '2: "name" must be at most 40 lower-case letters'],
    ['[app]\nname = "api"\nvpc = "-"\n', '3: "vpc" must be at most 30 lower-case letters'],
    ['[app]\nname = "api"\nname = "b"\n', '3: this is not TOML: trying to redefine'],
    ['[app]\nname = api\n', '2: this is not TOML: invalid value.'],
    ['[app]\nname = "api\n', '2: this is not TOML: '],
  ])('is not %j', async (text, message) => {
    write('satusky.toml', text)
    await expect(read()).rejects.toThrow(`satusky.toml:${message}`)
  })

  test('names an app', async () => {
    write('satusky.toml', '[app]\nvpc = "staging"\n')
    await expect(read()).rejects.toThrow('satusky.toml names no app.')
  })

  test('is not quoted when it is no TOML', async () => {
    write('satusky.toml', '[env]\nPASSWORD = "hunter2-canary\nx = hunter2-canary\n')
    const error: Error = await read().then(
      () => new Error('no error'),
      (error: Error) => error,
    )
    expect(error.message).toContain('satusky.toml:2: this is not TOML')
    expect(error.message).not.toContain('canary')
  })
})

test('what looks like a secret is warned of, without its value', async () => {
  write(
    'satusky.toml',
    `[app]
name = "api-token"
[env]
LOG_LEVEL = "info"
DB_PASSWORD = "canary-1"
PAYMENTS = "sk_test_canary"
URL = "postgres://app:canary@db/app"
SAFE_URL = "postgres://db/app"
LINKED_TOKEN = { secret = "s", key = "API_KEY" }
EMPTY_TOKEN = ""
[services.worker.env]
JWT_SECRET = "canary-2"
`,
  )
  await read()
  expect(notes).toEqual(
    [
      [5, 'DB_PASSWORD'],
      [6, 'PAYMENTS'],
      [7, 'URL'],
      [12, 'JWT_SECRET'],
    ].map(
      ([line, name]) =>
        `Warning: satusky.toml:${line}: ${name} looks like a secret. Keep it out of files: 1ctl secret create --kv ${name}`,
    ),
  )
})

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { findAppConfig, readAppConfig } from './satusky-toml.ts'

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

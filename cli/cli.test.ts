import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { newToken, signIn as signInBrowser } from '../server/testing/actors.ts'
import { startTestServer, type TestServer } from '../server/testing/server.ts'
import { type Machine, newMachine } from './testing/cli.ts'
import { inTerminal, needsTerminal } from './testing/terminal.ts'

let server: TestServer
let machine: Machine

beforeAll(async () => {
  server = await startTestServer()
})
afterAll(() => server.close())
beforeEach(() => {
  machine = newMachine()
})

const stored = (file: string) => readFileSync(join(machine.home, '.satusky', file), 'utf8')
const today = () => new Date().toISOString().slice(0, 10)
const inDays = (days: number) => new Date(Date.now() + days * 86_400_000).toISOString().slice(0, 10)
const asKey = (token = server.token) => ({ env: { SATUSKY_API_KEY: token, SATUSKY_API_URL: server.url } })
/** With the token in SATUSKY_API_KEY, the server's own if none is given. */
const run = (line: string, token?: string) => machine.run(line, asKey(token))
const made = async (line: string) => JSON.parse((await run(`${line} -o json`)).stdout) as { id: string; token: string }
const signIn = () => machine.run(`auth login --url ${server.url} --token ${server.token}`)
const complete = async (line: string) => (await run(`__complete bash ${line}`)).stdout.trim().split('\n')

async function createDevAndProd() {
  await machine.run('profile create dev --url https://dev-api.satusky.com --token sat_dev_xxxxxxxx')
  await machine.run('profile create prod --url https://api.satusky.com --token sat_prod_xxxxxxxx')
}

/** Cells of a table: at least three spaces part them. */
const rows = (table: string) =>
  table
    .trimEnd()
    .split('\n')
    .map((line) => line.split(/ {3,}/))

describe('1ctl auth', () => {
  test('login checks the token and keeps it in ~/.satusky/context.json, for the owner of the file only', async () => {
    expect(await machine.run(`auth login --url ${server.url} --token ${server.token}`)).toEqual({
      code: 0,
      stdout: 'Authenticated as owner@example.test (org: main)\nContext saved to ~/.satusky/context.json\n',
      stderr: '',
    })
    expect(JSON.parse(stored('context.json'))).toEqual({
      url: server.apiUrl,
      token: server.token,
      email: 'owner@example.test',
      organization: 'main',
    })
    expect(statSync(join(machine.home, '.satusky')).mode & 0o777).toBe(0o700)
    expect(statSync(join(machine.home, '.satusky/context.json')).mode & 0o777).toBe(0o600)
  })

  test('login takes the token from stdin, however slowly it comes and with the newline at its end', async () => {
    async function* slowly() {
      yield server.token.slice(0, 10)
      await new Promise((resolve) => setTimeout(resolve, 700))
      yield `${server.token.slice(10)}\n`
    }
    expect(await machine.run(`auth login --url ${server.url} --token-stdin`, { stdin: slowly() })).toMatchObject({
      code: 0,
    })
    expect(stored('context.json')).toContain(`"${server.token}"`)
  })

  test('login stores nothing when the token is not accepted', async () => {
    const wrong = `${server.token.slice(0, -1)}!`
    const { code, stdout, stderr } = await machine.run(`auth login --url ${server.url} --token ${wrong}`)
    expect({ code, stdout }).toEqual({ code: 4, stdout: '' })
    expect(stderr).toContain('It looks mistyped or cut.')
    expect(existsSync(join(machine.home, '.satusky'))).toBe(false)
  })

  test('login says what comes before it, and that SATUSKY_API_URL alone does not count', async () => {
    const line = `auth login --url ${server.url} --token ${server.token}`
    const { code, stderr } = await machine.run(line, asKey())
    expect({ code, stderr }).toEqual({ code: 0, stderr: 'Note: SATUSKY_API_KEY comes before this login.\n' })
    const alone = await machine.run(line, { env: { SATUSKY_API_URL: 'https://elsewhere.example.test' } })
    expect(alone.stderr.match(/SATUSKY_API_URL is ignored/g)).toHaveLength(1)
  })

  test.each([
    ['auth login', 'Error: Token is missing.\nFix: Give it with --token-stdin or --token.\n'],
    ['auth login --token-stdin', 'Error: The token is empty.\n'],
    ['auth login --token sat_x --token-stdin', 'Error: --token and --token-stdin cannot be used together.\n'],
    [
      'auth login --token sat_x --url api.satusky.com',
      'Error: "api.satusky.com" is not an address.\nFix: Write it in full: https://api.satusky.com\n',
    ],
  ])('%s, without a terminal, ends with 2', async (line, stderr) => {
    expect(await machine.run(line)).toEqual({ code: 2, stdout: '', stderr })
  })

  test('status tells who, where and with which token, and where the token comes from on stderr', async () => {
    await signIn()
    const last4 = server.token.slice(-4)
    expect(await machine.run('auth status')).toEqual({
      code: 0,
      stdout: [
        'Logged in as: owner@example.test',
        'Organization: main',
        `API URL: ${server.apiUrl}`,
        `Token: ${server.token.slice(0, 8)}...${last4} (last 4: ${last4})`,
        '',
      ].join('\n'),
      stderr: 'The token comes from ~/.satusky/context.json and never expires.\n',
    })
    const { stdout } = await machine.run('auth status -o json')
    expect(JSON.parse(stdout)).toMatchObject({ user: { email: 'owner@example.test' }, organization: { name: 'main' } })
    expect(stdout).not.toContain(server.token)
  })

  test('status without a token says how to get in, and ends with 4', async () => {
    const line = 'Not logged in. Run: 1ctl auth login --token <token>'
    expect(await machine.run('auth status')).toEqual({ code: 4, stdout: `${line}\n`, stderr: '' })
    expect(await machine.run('token list')).toEqual({ code: 4, stdout: '', stderr: `Error: ${line}\n` })
    const { stdout, stderr } = await machine.run('auth status --json')
    expect({ stdout, error: JSON.parse(stderr) }).toEqual({
      stdout: '',
      error: { error: { code: 'missing_token', message: line } },
    })
  })

  test('logout removes the token from this machine only', async () => {
    await machine.run(`auth login --url ${server.url} --token ${server.token}`)
    const { code, stderr } = await machine.run('auth logout')
    expect({ code, stderr }).toEqual({ code: 0, stderr: expect.stringContaining('still valid on the server') })
    expect(stored('context.json')).not.toContain('sat_')
    expect((await machine.run('auth status')).code).toBe(4)
    expect((await machine.run('token list', asKey())).code).toBe(0)
    expect((await machine.run('auth logout')).code).toBe(0)
  })
})

describe('SATUSKY_API_KEY', () => {
  test('is used as it is: ~/.satusky is neither needed, nor written, nor read', async () => {
    expect(await machine.run('auth status', asKey())).toMatchObject({
      code: 0,
      stderr: expect.stringContaining('SATUSKY_API_KEY'),
    })
    expect(existsSync(join(machine.home, '.satusky'))).toBe(false)

    await machine.run(`auth login --url ${server.url} --token ${server.token}`)
    writeFileSync(join(machine.home, '.satusky/context.json'), 'damaged')
    expect((await machine.run('token list')).stderr).toContain('~/.satusky/context.json is damaged')
    expect((await machine.run('token list', asKey())).code).toBe(0)
  })

  test('comes before what is stored: a refused key does not fall through to it', async () => {
    await machine.run(`auth login --url ${server.url} --token ${server.token}`)
    const { code, stderr } = await machine.run('token list', asKey('sat_000000000000000000000000'))
    expect({ code, stderr }).toEqual({
      code: 4,
      stderr: expect.stringContaining('The token comes from SATUSKY_API_KEY.'),
    })
  })
})

describe('1ctl profile', () => {
  test('create, create, list: the last one is active and marked', async () => {
    await createDevAndProd()
    expect(await machine.run('profile list')).toEqual({
      code: 0,
      stdout: [
        'NAME     URL                           ACTIVE',
        'dev      https://dev-api.satusky.com',
        '* prod   https://api.satusky.com       true',
        '',
      ].join('\n'),
      stderr: '',
    })
    expect(JSON.parse(stored('profiles.json'))).toEqual({
      active: 'prod',
      profiles: {
        dev: { url: 'https://dev-api.satusky.com', token: 'sat_dev_xxxxxxxx' },
        prod: { url: 'https://api.satusky.com', token: 'sat_prod_xxxxxxxx' },
      },
    })
    expect(statSync(join(machine.home, '.satusky/profiles.json')).mode & 0o777).toBe(0o600)
  })

  test('use makes another one active, and --profile overrides it for one command', async () => {
    await machine.run(`profile create here --url ${server.url} --token ${server.token}`)
    await machine.run('profile create away --url http://127.0.0.1:9 --token sat_away_xxxxxxxx')
    expect((await machine.run('auth status --timeout 5')).stderr).toContain('Cannot reach http://127.0.0.1:9/v1/cli.')
    expect((await machine.run('--profile here auth status')).stderr).toContain('--profile here')
    expect((await machine.run('auth status --profile here')).code).toBe(0)
    expect((await machine.run('auth status', { env: { SATUSKY_PROFILE: 'here' } })).stderr).toContain(
      'SATUSKY_PROFILE=here',
    )
    expect((await machine.run('profile use here')).code).toBe(0)
    expect((await machine.run('auth status')).stderr).toContain('the active profile "here"')
  })

  test('a profile that does not exist ends with 3, though SATUSKY_API_KEY would work', async () => {
    await createDevAndProd()
    for (const line of ['--profile prdo token list', 'profile use prdo', 'profile show prdo', 'profile delete prdo']) {
      expect(await machine.run(line, asKey()), line).toEqual({
        code: 3,
        stdout: '',
        stderr: 'Error: There is no profile "prdo" in ~/.satusky/profiles.json.\nFix: Did you mean "prod"?\n',
      })
    }
    expect((await machine.run('token list', { env: { SATUSKY_PROFILE: 'prdo' } })).code).toBe(3)
  })

  test('create replaces a profile only with -y, and refuses an address to which no token may go', async () => {
    await createDevAndProd()
    const again = 'profile create dev --url https://other.satusky.com --token sat_other_xxxxxxxx'
    expect(await machine.run(again)).toMatchObject({ code: 2, stderr: expect.stringContaining('-y') })
    expect(stored('profiles.json')).not.toContain('other')
    expect((await machine.run(`${again} -y`)).code).toBe(0)
    expect(stored('profiles.json')).toContain('https://other.satusky.com')
    expect((await machine.run('profile create x --url http://api.satusky.com --token sat_x')).code).toBe(2)
    expect((await machine.run('profile create __proto__ --url https://x.test --token sat_x')).code).toBe(2)
  })

  test('delete asks for the active one only', async () => {
    await createDevAndProd()
    expect((await machine.run('profile delete dev')).code).toBe(0)
    expect(await machine.run('profile delete prod')).toMatchObject({ code: 2, stderr: expect.stringContaining('-y') })
    expect((await machine.run('profile delete prod -y')).code).toBe(0)
    expect(JSON.parse(stored('profiles.json'))).toEqual({ active: null, profiles: {} })
  })

  test('with none active, the login counts again', async () => {
    await createDevAndProd()
    const { stderr } = await machine.run(`auth login --url ${server.url} --token ${server.token}`)
    expect(stderr).toContain('the active profile "prod" (~/.satusky/profiles.json) comes before this login.')
    await machine.run('profile use --none')
    expect((await machine.run('auth status')).stderr).toContain('~/.satusky/context.json')
  })
})

describe('1ctl token', () => {
  test('create prints the token once, and it works', async () => {
    const { code, stdout, stderr } = await run('token create --name "github-actions" --expires 90')
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    const [first, id, expires, heading, value = '', end] = stdout.split('\n')
    expect([first, expires, heading, end]).toEqual([
      'Token created: github-actions',
      `Expires: ${inDays(90)}`,
      'Token value (shown once — save it now):',
      '',
    ])
    expect(id).toMatch(/^ID: tok_[0-9a-z]{26}$/)
    expect(value).toMatch(/^sat_[0-9A-Za-z]{32}$/)
    expect((await run('auth status', value)).code).toBe(0)
    const everything = await Promise.all(
      ['list --wide', 'list -o json', 'get github-actions -o yaml'].map((line) => run(`token ${line}`)),
    )
    for (const { stdout } of everything) expect(stdout).not.toContain(value)
  })

  test('create without --expires never expires, and hints at it', async () => {
    const { stdout, stderr } = await run('token create --name "monitoring-agent"')
    expect(stdout).toContain('\nExpires: never\n')
    expect(stderr).toContain('--expires 90')
    expect((await run('token create --name x --expires never')).stderr).toBe('')
  })

  test('create passes on scopes, limits and tag', async () => {
    const { stdout } = await run(
      `token create --name deployer --scope deploy --scope secrets:write --vpc default --app web --tag prod --expires ${inDays(30)} -o json`,
    )
    expect(JSON.parse(stdout)).toMatchObject({
      scopes: ['deploy', 'secrets:write'],
      vpcs: ['default'],
      apps: ['web'],
      token: expect.stringMatching(/^sat_prod_/),
      expiresAt: expect.stringMatching(new RegExp(`^${inDays(30)}`)),
    })
  })

  test('create -q prints the value and nothing else; -o name, which would lose it, creates nothing', async () => {
    const { stdout, stderr } = await run('token create --name quiet -q')
    expect([stdout, stderr]).toEqual([expect.stringMatching(/^sat_[0-9A-Za-z]{32}\n$/), ''])
    expect((await run('token create --name lost -o name')).code).toBe(2)
    expect((await run('token list')).stdout).not.toContain('lost')
  })

  test('create --output-file keeps the value off the screen, and overwrites nothing without -y', async () => {
    const file = join(machine.home, 'token')
    const { code, stdout } = await run('token create --name filed --output-file token')
    const value = readFileSync(file, 'utf8').trim()
    expect({ code, shown: stdout.includes(value), mode: statSync(file).mode & 0o777 }).toEqual({
      code: 0,
      shown: false,
      mode: 0o600,
    })
    expect((await run('auth status', value)).code).toBe(0)

    const again = 'token create --name filed-again --output-file token'
    expect((await run(again)).code).toBe(2)
    expect(readFileSync(file, 'utf8').trim()).toBe(value)
    expect((await run('token list')).stdout).not.toContain('filed-again')
    expect((await run(`${again} -y`)).code).toBe(0)
    expect(readFileSync(file, 'utf8').trim()).not.toBe(value)
  })

  test('list shows name, status and expiry; api-token is the same', async () => {
    const own = await startTestServer()
    const list = (line: string) => machine.run(line, { env: { SATUSKY_API_KEY: own.token, SATUSKY_API_URL: own.url } })
    const { id } = await newToken(own)
    await list(`token disable ${id}`)
    const soon = await own.client().tokenCreate({ name: 'soon', expiresInDays: 7 })
    const { code, stdout } = await list('token list')
    expect(code).toBe(0)
    expect(rows(stdout)).toEqual([
      ['ID', 'NAME', 'STATUS', 'EXPIRES'],
      [soon.id, 'soon', 'active', inDays(7)],
      [id, expect.any(String), 'disabled', 'never'],
      [expect.stringMatching(/^tok_/), 'admin', 'active', 'never'],
    ])
    expect((await list('api-token list')).stdout).toBe(stdout)
    expect(rows((await list('token list --wide')).stdout)[0]).toEqual([
      'ID',
      'NAME',
      'STATUS',
      'EXPIRES',
      'SCOPES',
      'LAST-USED',
      'CREATED-BY',
    ])
    expect((await list('token list --expiring 14d -q')).stdout).toBe(`${soon.id}\n`)
    expect((await list('token list --expiring 3d -q')).stdout).toBe('')
    await own.close()
  })

  test('get shows what is known of a token, by id or by name', async () => {
    const { id } = await made('token create --name to-get --expires 30')
    const { code, stdout } = await run(`token get ${id}`)
    expect(code).toBe(0)
    expect(stdout).toContain(
      `ID: ${id}\nName: to-get\nStatus: active\nCreated: ${today()} by owner@example.test\nExpires: ${inDays(30)}\nLast used: never\n`,
    )
    expect((await run('token get to-get')).stdout).toBe(stdout)
  })

  test('disable shuts a token out at once with 401, enable lets it in again', async () => {
    const { id, token } = await made('token create --name to-disable')
    expect((await run(`token disable ${id}`)).code).toBe(0)
    const refused = await run('token list', token)
    expect({ code: refused.code, stderr: refused.stderr }).toEqual({
      code: 4,
      stderr: expect.stringContaining('SATUSKY_API_KEY'),
    })
    expect((await server.call('/tokens', { as: { token } })).status).toBe(401)
    expect((await run(`token enable ${id}`)).code).toBe(0)
    expect((await run('token list', token)).code).toBe(0)
  })

  test('disable refuses the token in use without -y', async () => {
    const { id, token } = await made('token create --name own')
    expect(await run(`token disable ${id}`, token)).toMatchObject({ code: 2, stderr: expect.stringContaining('-y') })
    expect((await run('token list', token)).code).toBe(0)
    expect((await run('token disable own -y', token)).code).toBe(0)
    expect((await run('token list', token)).code).toBe(4)
  })

  test('delete needs -y where nobody can be asked, and then shuts the token out for good with 403', async () => {
    const { id, token } = await made('token create --name old-script')
    expect(await run(`token delete ${id}`)).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringContaining('with -y'),
    })
    expect((await run('token list', token)).code).toBe(0)
    expect((await run(`token delete ${id} -y`)).code).toBe(0)
    expect((await server.call('/tokens', { as: { token } })).status).toBe(403)
    expect((await run('token list', token)).code).toBe(4)
    expect((await run(`token get ${id}`)).code).toBe(3)
  })

  test('rotate makes a successor; the old token ends after the grace', async () => {
    const { id, token } = await made('token create --name rotated --expires 30')
    const { stdout, stderr } = await run(`token rotate ${id} --grace 30m`)
    expect(stdout).toMatch(
      /^Token rotated: rotated\nID: tok_\w+\nExpires: .*\nToken value \(shown once — save it now\):\nsat_\w{32}\n$/,
    )
    expect(stderr).toContain(`The old token (${id}) works until`)
    expect((await run('auth status', token)).code).toBe(0)
    const { id: successor, token: next } = await made(`token rotate ${/tok_\w+/.exec(stdout)?.[0]} --grace 0`)
    expect((await run('auth status', next)).code).toBe(0)
    expect((await run('token rotate rotated')).stderr).toContain('There is more than one token "rotated".')
    expect((await run(`token get ${successor}`)).code).toBe(0)
  })

  test('a token that is not there ends with 3 and the likely name', async () => {
    await made('token create --name buildkite')
    expect(await run('token get buildkit')).toEqual({
      code: 3,
      stdout: '',
      stderr: 'Error: There is no token "buildkit".\nFix: Did you mean "buildkite"?\n',
    })
    expect((await run('token get tok_abc123')).code).toBe(3)
  })

  test('too little of a scope ends with 5 and names it', async () => {
    const { token } = await newToken(server, { scopes: ['read'] })
    const { code, stderr } = await run('token create --name no', token)
    expect({ code, stderr }).toEqual({ code: 5, stderr: expect.stringContaining('tokens:admin') })
  })

  test('a name that breaks the rule ends with 2 and says the rule', async () => {
    const { code, stderr } = await run(`token create --name ${'x'.repeat(65)}`)
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining('at most 64 printable characters') })
  })
})

describe('the rest of an organization', () => {
  test('user sessions: list, revoke one, revoke all', async () => {
    const cookies = await Promise.all([1, 2, 3].map(() => signInBrowser(server, server.email, server.password)))
    const [first] = (await run('user sessions list -q')).stdout.split('\n')
    expect((await run(`user sessions revoke ${first}`)).code).toBe(0)
    expect((await run('user sessions revoke')).stdout).toBe('2 browser sessions ended.\n')
    for (const as of cookies) expect((await server.call('/auth/me', { as })).status).toBe(401)
    expect((await run('token list')).code).toBe(0)
    expect((await run(`user sessions revoke ${first}`)).code).toBe(3)
  })

  test('org: create answers a token of it, show and rename; delete needs the name', async () => {
    const { stdout } = await run('org create acme')
    const token = stdout.split('\n')[3] ?? ''
    expect(stdout).toMatch(
      /^Organization created: acme\nID: org_\w+\nToken value \(shown once — save it now\):\nsat_\w+\n$/,
    )
    expect((await run('org show', token)).stdout).toContain('Name: acme\nYour role: owner\n')
    expect((await run('org rename acme acme-eu', token)).code).toBe(0)
    expect((await run('org create acme-eu')).code).toBe(6)
    expect(await run('org delete acme-eu -y', token)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('--confirm=acme-eu'),
    })
    expect((await run('org delete acme-eu --confirm=acme', token)).code).toBe(2)
    expect((await run('org list -q', token)).stdout).toBe('acme-eu\n')
    expect((await run('org delete acme-eu --confirm=acme-eu', token)).code).toBe(0)
    expect((await run('auth status', token)).code).toBe(4)
  })

  test('member: invite, accept, change the role, remove', async () => {
    const { stdout, stderr } = await run('member invite developer@example.test --role developer')
    expect(stdout).toMatch(
      /^Invitation created: developer@example.test\nID: mem_\w+\nRole: developer\nExpires: .*\nInvitation code .*:\n\S+\n$/,
    )
    expect(stderr).toContain(`${server.url}/`)
    const invitation = stdout.trim().split('\n').at(-1)
    const accepted = await server.call('/auth/invitation', { body: { invitation, password: 'correct horse battery' } })
    expect(accepted.status).toBe(200)
    expect((await run('member role developer@example.test viewer')).stdout).toBe(
      'developer@example.test is viewer now.\n',
    )
    expect(rows((await run('member list')).stdout)).toContainEqual([
      expect.stringMatching(/^mem_/),
      'developer@example.test',
      'viewer',
      'active',
    ])
    expect((await run('member remove developer@example.test')).code).toBe(2)
    expect((await run('member remove developer@example.test -y')).code).toBe(0)
    expect((await run('member list')).stdout).not.toContain('developer@example.test')
    expect((await run('member remove developer@example.test -y')).code).toBe(3)
  })

  test('member: the last owner stays', async () => {
    expect((await run('member role owner@example.test viewer')).code).toBe(6)
  })

  test('vpc: create, protect, get, delete', async () => {
    expect((await run('vpc create staging')).stdout).toBe('VPC "staging" created (namespace main--staging).\n')
    expect((await run('vpc create staging')).code).toBe(6)
    expect((await run('vpc protect staging')).code).toBe(0)
    expect((await run('vpc get staging')).stdout).toContain('Name: staging\nNamespace: main--staging\nProtected: yes\n')
    expect(await run('vpc delete staging -y')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('--confirm=staging'),
    })
    expect((await run('vpc unprotect staging')).code).toBe(0)
    expect(rows((await run('vpc list')).stdout)).toContainEqual(['staging', 'main--staging', 'no'])
    expect((await run('vpc delete staging')).code).toBe(2)
    expect((await run('vpc delete staging -y')).code).toBe(0)
    expect((await run('vpc get staging')).code).toBe(3)
    expect((await run('vpc delete default -y')).code).toBe(6)
  })

  test('vpc: who may only read cannot make one', async () => {
    const { token } = await newToken(server, { scopes: ['read'] })
    expect((await run('vpc list', token)).code).toBe(0)
    expect((await run('vpc create nope', token)).code).toBe(5)
  })

  test('audit: list with filters, and verify', async () => {
    await run('vpc create audited')
    const [header, newest] = rows((await run('audit list --action vpc.create --object audited --since 1h')).stdout)
    expect(header).toEqual(['TIME', 'ACTOR', 'ACTION', 'OBJECT', 'OUTCOME'])
    expect(newest).toEqual([
      expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:]+Z$/),
      'admin',
      'vpc.create',
      'audited',
      'done',
    ])
    expect((await run('audit list --until 2020-01-01')).stderr).toBe('Nothing was recorded that fits.\n')
    expect(JSON.parse((await run('audit list --limit 3 -o json')).stdout).items).toHaveLength(3)
    expect((await run('audit verify')).stdout).toMatch(/^The audit is intact: \d+ entries, through \d+\.\n$/)
    expect((await run('audit verify --installation')).code).toBe(0)
    const { token } = await newToken(server, { scopes: ['read'] })
    expect((await run('audit list --installation', token)).code).toBe(5)
  })

  test('audit verify ends with 10 when an entry was changed', async () => {
    const own = await startTestServer()
    const env = { SATUSKY_API_KEY: own.token, SATUSKY_API_URL: own.url }
    await machine.run('vpc create audited', { env })
    await own.db.query("update audit_events set action = 'vpc.view' where action = 'vpc.create'")
    expect(await machine.run('audit verify', { env })).toMatchObject({
      code: 10,
      stdout: '',
      stderr: expect.stringContaining('does not fit'),
    })
    await own.close()
  })
})

describe('what this machine would do', () => {
  test('status: the server, its version, the source of the token, the files', async () => {
    await machine.run(`auth login --url ${server.url} --token ${server.token}`)
    const { code, stdout } = await machine.run('status')
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: expect.stringMatching(
        /^API URL: http.*\nState: ready\nVersion: \S+ \(server\), \S+ \(1ctl\)\nToken: from ~\/.satusky\/context.json\nFiles: ~\/.satusky\/context.json\n$/,
      ),
    })
  })

  test('config show --sources: every setting with its source, the token only in part', async () => {
    const { stdout } = await machine.run('config show --sources', asKey())
    expect(rows(stdout)).toEqual([
      ['NAME', 'VALUE', 'SOURCE'],
      ['profile', '-', 'not set'],
      ['api-url', server.apiUrl, 'SATUSKY_API_URL'],
      ['token', expect.stringContaining('...'), 'SATUSKY_API_KEY'],
      ['app-config', '-', 'not found'],
      ['timeout', '30s', 'default'],
      ['files', '-', '~/.satusky'],
    ])
    expect(stdout).not.toContain(server.token)
  })

  test('--version, and the page of a group that was called alone', async () => {
    expect(await machine.run('--version')).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^1ctl \d+\.\d+\.\d+\n$/),
    })
    expect((await machine.run('token list --version')).stdout).toMatch(/^1ctl \d/)
    expect(await machine.run('')).toMatchObject({ code: 0, stdout: expect.stringContaining('Commands:') })
    expect(await machine.run('token')).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringContaining('Commands:'),
    })
  })

  test('help begins with examples, and knows topics', async () => {
    const { stdout } = await machine.run('token create -h')
    expect(stdout).toMatch(/^Examples:\n {2}1ctl token create --name github-actions --expires 90\n/)
    expect((await machine.run('help token create')).stdout).toBe(stdout)
    expect((await machine.run('help exit-codes')).stdout).toContain('  9  the server is sealed')
    expect((await machine.run('help environment')).stdout).toContain('SATUSKY_API_KEY')
    expect((await machine.run('help precedence')).stdout).toContain('1. --profile <profile>')
    expect(await machine.run('help precedense')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('Did you mean "precedence"?'),
    })
  })
})

describe('completion', () => {
  test('knows commands, flags, words, profiles', async () => {
    await machine.run('profile create dev --url https://dev.example.test --token sat_dev_xxxxxxxx')
    expect(await complete('to')).toEqual(['token'])
    expect(await complete('token ""')).toEqual(['list', 'create', 'get', 'enable', 'disable', 'delete', 'rotate'])
    expect(await complete('token create --exp')).toEqual(['--expires'])
    expect(await complete('token create --scope s')).toEqual(['secrets:write'])
    expect(await complete('token create --scope=s')).toEqual(['--scope=secrets:write'])
    expect(await complete('profile use ""')).toEqual(['dev'])
    expect(await complete('--profile d')).toEqual(['dev'])
  })

  test('knows ids, and asks for them once a minute', async () => {
    const before = await complete('token get ""')
    expect(before).toContain((await server.client().meView()).token?.id)
    await server.client().tokenCreate({ name: 'unseen' })
    expect(await complete('token get ""')).toEqual(before)
  })

  test('is silent when something is wrong', async () => {
    for (const line of [
      'token get ""',
      '--profile none token get ""',
      'nonsense --really ""',
      'token create --name ""',
    ]) {
      expect(await machine.run(`__complete bash ${line}`), line).toEqual({ code: 0, stdout: '', stderr: '' })
    }
  })

  test('does not wait for a server that is silent', async () => {
    const began = Date.now()
    const env = { SATUSKY_API_KEY: 'sat_x', SATUSKY_API_URL: 'https://192.0.2.1' }
    expect(await machine.run('__complete bash token get ""', { env })).toEqual({ code: 0, stdout: '', stderr: '' })
    expect(Date.now() - began).toBeLessThan(3000)
  })

  test.each(['bash', 'zsh', 'fish', 'powershell'])('has a script for %s', async (shell) => {
    expect((await machine.run(`completion ${shell}`)).stdout).toContain(`1ctl __complete ${shell}`)
  })
})

describe('at a terminal', needsTerminal, () => {
  test('the token is asked for and not shown', async () => {
    const { code, screen } = await inTerminal(machine, `auth login --url ${server.url}`, [
      ['Token', `${server.token}\r`],
    ])
    expect({ code, screen }).toEqual({
      code: 0,
      screen: expect.stringContaining('Authenticated as owner@example.test'),
    })
    expect(screen).toContain(`Read ${server.token.length} characters.`)
    expect(screen).not.toContain(server.token.slice(-8))
    expect(stored('context.json')).toContain(server.token)
  })

  test('a token on the command line is warned about', async () => {
    const { screen } = await inTerminal(machine, `auth login --url ${server.url} --token ${server.token}`, [])
    expect(screen).toContain('Warning: --token leaves the token in the shell history')
  })

  test('delete goes ahead after y only', async () => {
    await signIn()
    const { id } = await newToken(server)
    const question = '(y/N)'
    for (const [keys, code] of [
      ['n', 2],
      ['\r', 2],
      ['\x03', 130],
    ] as const) {
      expect((await inTerminal(machine, `token delete ${id}`, [[question, keys]])).code).toBe(code)
      expect((await machine.run(`token get ${id}`)).code).toBe(0)
    }
    expect((await inTerminal(machine, `token delete ${id} --no-input`, [])).code).toBe(2)
    expect((await inTerminal(machine, `token delete ${id}`, [[question, 'y']])).code).toBe(0)
    expect((await machine.run(`token get ${id}`)).code).toBe(3)
  })

  test('what cannot be undone goes ahead when its name is typed', async () => {
    await signIn()
    await machine.run('vpc create precious')
    await machine.run('vpc protect precious')
    expect((await inTerminal(machine, 'vpc delete precious', [['Type its name', 'preciuos\r']])).code).toBe(2)
    expect((await machine.run('vpc get precious')).code).toBe(0)
    expect((await inTerminal(machine, 'vpc delete precious', [['Type its name', 'precious\r']])).code).toBe(0)
    expect((await machine.run('vpc get precious')).code).toBe(3)
  })

  test('a token that expires soon is warned about, in a pipe it is not', async () => {
    const { token } = await server.client().tokenCreate({ name: 'short', expiresInDays: 3 })
    await machine.run(`auth login --url ${server.url} --token ${token}`)
    const { screen } = await inTerminal(machine, 'vpc list', [])
    expect(screen).toContain(`Warning: this token expires in 2 days, on ${inDays(3)}.`)
    expect((await machine.run('vpc list')).stderr).toBe('')
  })
})

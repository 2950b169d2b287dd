import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { encodeId } from '@1ctl/contract/ids'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { newToken } from '../server/testing/actors.ts'
import { startTestServer, type TestServer } from '../server/testing/server.ts'
import { type Machine, newMachine, type RunOptions } from './testing/cli.ts'
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

/** All values have it in them, and nothing that the program prints or writes may. */
const marker = 'c4nary'
const newValue = () => `${marker}-${randomBytes(8).toString('hex')}`

async function run(args: string | string[], options: RunOptions = {}) {
  const env = { SATUSKY_API_KEY: server.token, SATUSKY_API_URL: server.url, ...options.env }
  const ended = await machine.run(args, { ...options, env })
  expect(ended.stdout + ended.stderr).not.toContain(marker)
  expect(existsSync(join(machine.home, '.satusky'))).toBe(false)
  return ended
}
const write = (file: string, text: string | Buffer) => {
  mkdirSync(join(machine.home, file, '..'), { recursive: true })
  writeFileSync(join(machine.home, file), text)
}
/** As `satusky.toml` in the working folder names it. */
const workOn = (app: string) => write('satusky.toml', `[app]\nname = "${app}"\n`)

let count = 0
/** Another for each test, so that tests do not meet. */
const newName = (what: string) => `${what}-${count++}`

async function newApp(name = newName('app')) {
  const { rows } = await server.db.query<{ id: string }>(
    `insert into apps (id, organization_id, vpc_id, name)
     select gen_random_uuid(), organization_id, id, '${name}' from vpcs where name = 'default' returning id`,
  )
  return { name, id: encodeId('app', rows[0]?.id ?? '') }
}

/** There is no door through which a value comes out; but one that says whether it is this one. */
async function isStored(ref: string, where: { appId?: string; vpc?: string }, key: string, value: string) {
  // With a token of its own each time, because comparisons are limited.
  const { match } = await server.client(await newToken(server)).secretVerify({ ref, ...where, key, value })
  return match
}

describe('the commands of the documentation', () => {
  test('create stores keys for the project in the current directory', async () => {
    workOn('docs')
    expect(await run('secret create --kv DATABASE_PASSWORD=hunter2 --kv JWT_SECRET=abc123')).toEqual({
      code: 0,
      stdout:
        '✓ docs-secrets (app docs): 2 added\n  DATABASE_PASSWORD  added  7 chars\n  JWT_SECRET         added  6 chars\n',
      stderr: '',
    })
    // Again: nothing changes.
    expect(await run('secret create --kv DATABASE_PASSWORD=hunter2 --kv JWT_SECRET=abc123')).toMatchObject({
      code: 0,
      stdout: 'No change: docs-secrets (app docs) has that already.\n',
    })
  })

  test('create stores keys for a specific deployment, and attaches them', async () => {
    const app = await newApp()
    const { code, stdout } = await run(`secret create --deployment-id ${app.id} --kv API_KEY=xyz`)
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: `✓ ${app.name}-secrets (${app.id}): 1 added\n  API_KEY  added  3 chars\n`,
    })
    expect((await run(`secret usage -d ${app.id} -o json`)).stdout).toContain('"mode": "envFrom"')
  })

  test('create labels a group; list shows groups, deployments, keys and ages, oldest first', async () => {
    const [first, second] = [await newApp(), await newApp()]
    await run(`secret create -d ${first.id} --name "database-creds" --kv DB_PASS=s3cr3t --kv DB_USER=app`)
    await run(`secret create -d ${second.id} --name api-keys --kv STRIPE_KEY=sk_test_1 --kv SENDGRID_KEY=SG.1`)
    await server.db.query(`update secrets set created_at = now() - interval '50 hours' where name = 'database-creds'`)
    await server.db.query(`update secrets set created_at = now() - interval '61 minutes' where name = 'api-keys'`)
    const { stdout } = await run('secret list')
    const lines = stdout.trimEnd().split('\n')
    expect(lines[0]?.split(/ {3,}/)).toEqual(['GROUP', 'DEPLOYMENT', 'KEYS', 'CREATED'])
    expect(lines.slice(-2).map((line) => line.split(/ {3,}/))).toEqual([
      ['database-creds', first.id, 'DB_PASS, DB_USER', '2 days ago'],
      ['api-keys', second.id, 'SENDGRID_KEY, STRIPE_KEY', '1 hour ago'],
    ])
    expect((await run('secrets ls -o name')).stdout).toBe((await run('secret list -o name')).stdout)
    expect((await run(`secret list -d ${first.id} -o name`)).stdout).toBe('database-creds\n')
    expect(JSON.parse((await run(`secret list -d ${second.id} --json`)).stdout)).toMatchObject({
      items: [{ name: 'api-keys', appId: second.id, keys: ['SENDGRID_KEY', 'STRIPE_KEY'] }],
    })
  })

  test('create and unset use a staging config', async () => {
    const app = await newApp()
    write('satusky.staging.toml', `[app]\ndeployment_id = "${app.id}"\n`)
    expect((await run('secret create --config staging --kv STRIPE_KEY=sk_test_abc')).stdout).toContain(
      `(${app.id}): 1 added`,
    )
    expect((await run('secret list --config staging')).stdout).toContain('STRIPE_KEY')
    expect((await run('secret unset --config staging -k STRIPE_KEY')).stdout).toBe(
      `✓ ${app.name}-secrets (${app.id}): 1 removed\n  STRIPE_KEY  removed\n`,
    )
  })

  test('unset removes a key from the project and from a specific deployment', async () => {
    const app = await newApp()
    workOn('unsetting')
    await run('secret create --kv DATABASE_PASSWORD=hunter2 --kv KEPT=x')
    expect(await run('secret unset -k DATABASE_PASSWORD')).toEqual({
      code: 0,
      stdout: '✓ unsetting-secrets (app unsetting): 1 removed, 1 kept\n  DATABASE_PASSWORD  removed\n',
      stderr: '',
    })
    await run(`secret create -d ${app.id} --kv OLD_API_KEY=1`)
    expect(await run(`secret unset -d ${app.id} -k OLD_API_KEY`)).toMatchObject({ code: 0 })
    expect((await run(`secret keys -d ${app.id} -o name`)).stdout).toBe('')
  })
})

async function store(args: string[], stdin: RunOptions['stdin'] = '') {
  const app = newName('values')
  workOn(app)
  const ended = await run(['secret', 'create', ...args], { stdin })
  return { ...ended, has: (key: string, value: string) => isStored(`${app}-secrets`, { appId: app }, key, value) }
}

describe('where a value comes from', () => {
  const pem = `-----BEGIN PRIVATE KEY-----\n${marker}\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----\n`
  const large = `${marker}\n${'0123456789abcdef'.repeat(4)}\n`.repeat(2800)

  test.each(['a=b=c', '@literal', '-dash', 'it\'s $HOME \\n "x"', ' spaces ', 'ünï🔑'])(
    '--kv takes %j as it is',
    async (end) => {
      const value = newValue() + end
      const { code, has } = await store(['--kv', `KEY=${value}`])
      expect(code).toBe(0)
      expect(await has('KEY', value)).toBe(true)
      expect(await has('KEY', `${value}x`)).toBe(false)
    },
  )

  test.each([
    ['--kv KEY', ['--kv', 'KEY']],
    ['--stdin KEY', ['--stdin', 'KEY']],
  ])('%s reads the pipe to its end, however slowly it comes', async (_, args) => {
    const value = newValue()
    async function* slowly() {
      yield value.slice(0, 9)
      await sleep(2000)
      yield value.slice(9)
      await sleep(700)
    }
    const { code, has } = await store(args, slowly())
    expect(code).toBe(0)
    expect(await has('KEY', value)).toBe(true)
  })

  test.each([
    ['a private key', pem],
    ['more than a pipe holds', large],
    ['lines of Windows', pem.replaceAll('\n', '\r\n')],
    ['no newline at the end', `${marker}\nsecond line`],
    ['one line without a newline', `${marker} one line`],
  ])('%s comes through the pipe byte by byte', async (_, value) => {
    const { code, stderr, has } = await store(['--kv', 'KEY'], value)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(await has('KEY', value)).toBe(true)
  })

  test.each(['\n', '\r\n'])('one %j at the end of a piped line is removed, and that is said', async (end) => {
    const value = newValue()
    const { stderr, has } = await store(['--kv', 'KEY'], value + end)
    expect(stderr).toBe('The newline at the end of KEY was removed; --no-trim keeps it.\n')
    expect(await has('KEY', value)).toBe(true)
    const untrimmed = await store(['--kv', 'KEY', '--no-trim'], value + end)
    expect(untrimmed.stderr).toBe('Warning: KEY ends with a newline.\n')
    expect(await untrimmed.has('KEY', value + end)).toBe(true)
    const two = await store(['--kv', 'KEY'], `${value}\n\n`)
    expect(two.stderr).toBe('Warning: KEY has spaces around it.\n')
    expect(await two.has('KEY', `${value}\n\n`)).toBe(true)
  })

  test('--kv-file takes a file as it is, --kv-file KEY=- the pipe', async () => {
    write('tls.key', `${marker} one line\n`)
    const { stderr, has } = await store(['--kv-file', 'tls.key=tls.key', '--kv-file', 'PIPED=-'], `${marker} piped\n`)
    expect(await has('tls.key', `${marker} one line\n`)).toBe(true)
    expect(await has('PIPED', `${marker} piped\n`)).toBe(true)
    expect(stderr.split('\n')).toEqual([
      'Warning: tls.key ends with a newline.',
      'Warning: PIPED ends with a newline.',
      'Note: tls.key cannot be an environment variable; mount it as a file or link it under another name.',
      '',
    ])
  })

  test('--from-env-file goes with the others', async () => {
    const [a, b] = [newValue(), newValue()]
    write('.env', `# mine\nA=${a}\n`)
    const { stdout, has } = await store(['--from-env-file', '.env', '--kv', 'B'], b)
    expect(stdout).toContain('2 added')
    expect([await has('A', a), await has('B', b)]).toEqual([true, true])
  })

  test('names that mean something elsewhere are plain names', async () => {
    const value = newValue()
    const { code, stdout, has } = await store([
      '--kv',
      `__proto__=${value}`,
      '--kv',
      `constructor=${value}`,
      '--kv',
      `toString=${value}`,
    ])
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringContaining('3 added') })
    expect(await has('__proto__', value)).toBe(true)
    expect(await has('constructor', value)).toBe(true)
  })

  test.each([
    ['a value that looks wrong', ['--kv', `KEY= ${marker}`], 'Warning: KEY has spaces around it.\n'],
    ['a placeholder', ['--kv', 'KEY=changeme'], 'Warning: KEY looks like a placeholder.\n'],
    [
      'a name of the system',
      ['--kv', `PATH=${marker}`],
      'Warning: PATH is set by the system in every process, and may not reach yours.\n',
    ],
  ])('%s is stored with a warning', async (_, args, warning) => {
    const { code, stderr } = await store(args)
    expect({ code, stderr }).toEqual({ code: 0, stderr: warning })
    expect((await store([...args, '-q'])).stderr).toBe('')
  })

  test('an @ before the name of a file is stored as it is, with a hint', async () => {
    write(`${marker}.txt`, 'x')
    const { stderr, has } = await store(['--kv', `KEY=@${marker}.txt`])
    expect(stderr).toBe('Hint: KEY is stored as it is, with the @. To store what is in that file: --kv-file KEY=PATH\n')
    expect(await has('KEY', `@${marker}.txt`)).toBe(true)
  })

  test.each<[string, string[], string, RegExp]>([
    ['nothing at all', [], '', /^Error: There is nothing to store/],
    ['an empty value', ['--kv', 'KEY='], '', /^Error: The value of KEY is empty.\nFix: .*--allow-empty/],
    ['an empty pipe', ['--kv', 'KEY'], '', /^Error: The value of KEY is empty./],
    ['a pipe with nothing but a newline', ['--kv', 'KEY'], '\n', /Error: The value of KEY is empty./],
    ['a pipe for two keys', ['--kv', 'A', '--kv', 'B'], 'x', /^Error: Stdin can give one of these, not all: A, B./],
    ['a pipe for two flags', ['--stdin', 'A', '--kv-file', 'B=-'], 'x', /^Error: Stdin can give one of these/],
    ['a name given twice', ['--kv', 'A=1', '--kv-file', 'A=f'], '', /^Error: A is given twice./],
    [
      'no name',
      ['--kv', `=${marker}`],
      '',
      /^Error: The name given with --kv is not valid.\nFix: It can have at most 128/,
    ],
    [
      'a value instead of a name',
      ['--kv', `${marker} with spaces`],
      '',
      /^Error: The name given with --kv is not valid./,
    ],
    ['a name of 129 characters', ['--kv', `${'K'.repeat(129)}=${marker}`], '', /not valid/],
    ['a file that is not there', ['--kv-file', 'A=none'], '', /^Error: Cannot read the file for A: there is no such/],
    ['a value in place of its file', ['--kv-file', `A=${marker}`], '', /^Error: Cannot read the file for A: there is/],
    [
      'a pair in place of a file',
      ['--from-env-file', `A=${marker}`],
      '',
      /^Error: Cannot read A=…: there is no such file./,
    ],
    ['a file without a path', ['--kv-file', 'A='], '', /^Error: --kv-file A has no path./],
    ['binary data', ['--kv-file', 'A=binary'], '', /^Error: The file for A is not text in UTF-8./],
    [
      'a value of more than 256 KiB',
      ['--kv', 'A'],
      'y'.repeat(262_145),
      /^Error: The value of A has 262145 bytes; a value can have 262144./,
    ],
    ['more than stdin may give', ['--kv', 'A'], 'y'.repeat(1_100_000), /^Error: More than \d+ bytes came on stdin./],
    [
      'too much together',
      ['A', 'B', 'C', 'D'].flatMap((key) => ['--kv-file', `${key}=big`]),
      '',
      /^Error: Names and values have 1000008 bytes/,
    ],
    ['a mistyped flag with a value in it', [`--kw=KEY=${marker}`], '', /^Error: Unknown option '--kw'.\n$/],
    ['a value without its flag', [`KEY=${marker}`], '', /^Error: Too many arguments for 'create'/],
    [
      'a label that is none',
      ['--name', 'My Bag', '--kv', `A=${marker}`],
      '',
      /^Error: "My Bag" cannot be the name of a secret./,
    ],
  ])('%s is refused', async (_, args, stdin, message) => {
    write('binary', Buffer.from([0x61, 0xff, 0xfe, 0]))
    write('f', 'x')
    write('big', 'y'.repeat(250_001))
    const { code, stdout, stderr } = await store(args, stdin)
    expect({ code, stdout, stderr }).toEqual({ code: 2, stdout: '', stderr: expect.stringMatching(message) })
  })

  test('an unknown command with a value in it does not show it', async () => {
    for (const flags of [[], ['--debug']])
      expect((await run(['secret', `KEY=${marker}\nx`, ...flags])).stderr).toBe("Error: Unknown command 'KEY'.\n")
  })

  test('--allow-empty stores what is empty', async () => {
    expect(await store(['--kv', 'KEY=', '--allow-empty'])).toMatchObject({ code: 0 })
  })
})

describe('where a secret is', () => {
  test('shared, of a VPC, of an app there: three bags of one name', async () => {
    await server.client().vpcCreate({ name: 'eu' })
    for (const [flags, place] of [
      ['--shared', 'shared'],
      ['--vpc eu', 'VPC eu'],
      ['--app web --vpc eu', 'app web in VPC eu'],
      ['--app web', 'app web'],
    ]) {
      const value = newValue()
      const { stdout } = await run(`secret create ${flags} --name smtp --kv SMTP_PASSWORD=${value}`)
      expect(stdout).toMatch(`✓ smtp (${place}): 1 added\n  SMTP_PASSWORD  added  23 chars  digest `)
      expect((await run(`secret get smtp ${flags}`)).stdout).toContain(`Place: ${place}`)
    }
    const { code, stderr } = await run('secret get smtp')
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: expect.stringMatching(/^Error: There are 4 secrets "smtp".\nFix: Say which with --app, .*\(VPC eu, sec_/),
    })
    // In a project its own comes first, then one of its VPC, then a shared one.
    workOn('web')
    expect((await run('secret get smtp')).stdout).toContain('Place: app web')
    workOn('other')
    expect((await run('secret get smtp')).stdout).toContain('Place: shared')
    write('satusky.toml', '[app]\nname = "other"\nvpc = "eu"\n')
    expect((await run('secret get smtp')).stdout).toContain('Place: VPC eu')
    expect((await run('secret list --vpc eu')).stdout.trim().split('\n')).toHaveLength(3)
    expect((await run('secret list --shared -o name')).stdout.split('\n')).toContain('smtp')
  })

  test('a secret of another app is out of reach of a project, and said to be there', async () => {
    await run('secret create --app theirs --name cache-creds --kv A=1')
    workOn('ours')
    const { code, stderr } = await run('secret delete cache-creds -y')
    expect({ code, stderr }).toEqual({
      code: 3,
      stderr: 'Error: There is no secret "cache-creds" of app ours.\nFix: There is one of app theirs.\n',
    })
    expect((await run('secret get cache-cred')).stderr).toContain('Did you mean "cache-creds"?')
    expect((await run('secret delete cache-creds --app theirs -y')).code).toBe(0)
  })

  test.each([
    ['secret create --kv A=1', 2, /^Error: Which app\?\nFix: Name it with --deployment-id or --app/],
    ['secret create --shared --kv A=1', 2, /^Error: A secret that is not of an app needs a name./],
    ['secret create --shared --app web --kv A=1', 2, /^Error: These flags name several places./],
    ['secret create -d dep_x --vpc eu --kv A=1', 2, /^Error: These flags name several places./],
    ['secret create -d dep_123abc --kv A=1', 3, /^Error: No app "dep_123abc" in VPC "default"./],
    ['secret create --app x --vpc nowhere --kv A=1', 3, /nowhere/],
    ['secret list --vpc nowhere', 3, /^Error: No VPC "nowhere" in this organization./],
    ['secret list --app x --vpc nowhere', 3, /nowhere/],
    ['secret create --config nowhere --kv A=1', 3, /^Error: There is no satusky.nowhere.toml here/],
    ['secret unset -k A', 2, /^Error: Which app\?/],
    ['secret get', 2, /^Error: Which secret\?/],
    ['secret get sec_01m86gk6kee00a7x2cgrc985z5', 3, /^Error: No secret "sec_01m8/],
  ])('%s ends with %i', async (line, code, message) => {
    expect(await run(line)).toEqual({ code, stdout: '', stderr: expect.stringMatching(message) })
  })

  test('a satusky.toml above is used and named; a broken one is not quoted', async () => {
    write('.git/HEAD', '')
    workOn('upper')
    mkdirSync(join(machine.home, 'src'))
    expect(await run('secret create --kv A=12345678', { folder: 'src' })).toMatchObject({
      stdout: expect.stringContaining('upper-secrets'),
      stderr: 'Using ../satusky.toml (upper).\n',
    })
    expect((await run('config show --sources', { folder: 'src' })).stdout).toMatch(
      /app-config .*satusky.toml .*working folder or a parent/,
    )
    write('satusky.toml', `[env]\nx = "${marker}\n`)
    expect(await run('secret create --kv A=1')).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/^Error: satusky.toml:2: this is not TOML/),
    })
  })

  test('many who store in a secret that is not there yet all get their keys in', async () => {
    const keys = ['A', 'B', 'C', 'D', 'E', 'F']
    const ended = await Promise.all(
      keys.map((key) => run(`secret create --shared --name race --kv ${key}=${newValue()}`)),
    )
    expect(ended.map(({ code }) => code)).toEqual(keys.map(() => 0))
    expect((await run('secret keys race -o name')).stdout.trim().split('\n').sort()).toEqual(keys)
  })
})

describe('a file of keys', () => {
  test('is imported whole, keeping what it does not name', async () => {
    workOn('importing')
    const [a, b] = [newValue(), newValue()]
    await run(`secret create --kv KEPT=${newValue()} --kv A=old-${marker}`)
    write('.env', `export A="${a}"\r\nB=${b}#1 # note\r\n`)
    expect(await run('secret import .env --dry-run')).toMatchObject({
      code: 0,
      stdout: 'importing-secrets (app importing): 1 added, 1 changed, 1 kept\n  B  added\n  A  changed\n',
      stderr: expect.stringMatching(/\nDry run: nothing was saved.\n$/),
    })
    expect(await run('secret import .env')).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(
        /^✓ importing-secrets \(app importing\): 1 added, 1 changed, 1 kept\n {2}B {2}added {4}25 chars/,
      ),
      stderr: 'Warning: .env:2: B: contains #, which is kept: a comment has a space before it\n',
    })
    expect(await isStored('importing-secrets', { appId: 'importing' }, 'A', a)).toBe(true)
    expect(await isStored('importing-secrets', { appId: 'importing' }, 'B', `${b}#1`)).toBe(true)
    expect((await run('secret import', { stdin: `{"A": "${a}"}` })).stdout).toContain('No change')
  })

  test('with --prune the secret has those keys only, after a yes', async () => {
    workOn('pruning')
    await run(`secret create --kv A=${newValue()} --kv B=${newValue()} --kv C=${newValue()}`)
    write('keys.json', JSON.stringify({ A: newValue() }))
    expect((await run('secret import keys.json --prune --dry-run')).stdout).toContain('  B  removed\n  C  removed\n')
    expect(await run('secret import keys.json --prune')).toEqual({
      code: 2,
      stdout: '',
      stderr:
        'Error: A confirmation is needed. Remove from pruning-secrets (app pruning) what is not in the file: B, C?\nFix: Repeat the command with -y.\n',
    })
    expect((await run('secret import keys.json --prune -y')).stdout).toMatch(/: 1 changed, 2 removed\n/)
    expect((await run('secret keys -o name')).stdout).toBe('A\n')
  })

  test.each<[string, string, string]>([
    ['import .env', `A=1\n${marker}\n`, 'Error: .env:2: neither KEY=value nor a comment.\n'],
    ['import .env', `A="${marker}\nB=1\n`, 'Error: .env:1: A: the quote is never closed.\n'],
    [
      'import .env',
      `A=${marker}\nA=2\n-x=${marker}`,
      'Error: .env has 2 errors.\nCause: .env:2: A: given in line 1 already; .env:3: no name before "=": letters, digits and underscores.\n',
    ],
    ['import .env --format json', `A=${marker}`, 'Error: .env:1: a JSON object is expected: {"KEY": "value"}.\n'],
    ['create --from-env-file .env', `A=${marker}\nB`, 'Error: .env:2: neither KEY=value nor a comment.\n'],
    ['diff .env', `A=${marker}\nB`, 'Error: .env:2: neither KEY=value nor a comment.\n'],
    ['import .env', '', 'Error: .env:1: nothing in the file.\n'],
    ['import .env', 'A=\n', 'Error: The value of A is empty.\n'],
    ['import .env', Array.from({ length: 501 }, (_, n) => `K${n}=${marker}\n`).join(''), 'Error: These are 501 keys;'],
    ['import none', '', 'Error: Cannot read none: there is no such file.\n'],
  ])('secret %s with an error in it stores nothing and quotes nothing', async (line, text, message) => {
    const app = newName('broken')
    workOn(app)
    write('.env', text)
    const { code, stderr } = await run(`secret ${line}`)
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining(message) })
    expect((await run(`secret list --app ${app} -o name`)).stdout).toBe('')
  })

  test('is compared by names; --exit-code says by 10 that they differ', async () => {
    workOn('comparing')
    const [a, b] = [newValue(), newValue()]
    await run(`secret create --kv A=${a} --kv B=${b} --kv SHORT=1 --kv GONE=${newValue()}`)
    write('.env', `A=${a}\nB=${newValue()}\nSHORT=1\nNEW=${newValue()}\n`)
    const out =
      'comparing-secrets (app comparing): 1 added, 1 changed, 1 removed, 1 unchanged, 1 too short to compare\n  NEW    added\n  B      changed\n  GONE   removed\n  A      unchanged\n  SHORT  too short to compare\n'
    expect(await run('secret diff .env')).toEqual({ code: 0, stdout: out, stderr: '' })
    expect(await run('secret diff .env --exit-code')).toEqual({ code: 10, stdout: out, stderr: '' })
    expect(JSON.parse((await run('secret diff .env -o json')).stdout)).toMatchObject({
      added: ['NEW'],
      removed: ['GONE'],
      notCompared: ['SHORT'],
    })
    expect((await run('secret diff --name comparing-secrets --exit-code', { stdin: `A=${a}\nB=${b}` })).code).toBe(10)
    expect((await run('secret diff .env --name none')).code).toBe(3)
    await run('secret unset -k GONE -k SHORT')
    expect((await run('secret diff --exit-code', { stdin: `A=${a}\nB=${b}` })).code).toBe(0)
  })
})

describe('keys that are there', () => {
  test.each(['unset', 'verify', 'rotate group', 'restore group --version 1', 'history'])(
    '%s does not repeat what is no name of a key: it may be a value',
    async (command) => {
      expect(await run(`secret ${command} -k KEY=${marker}`)).toEqual({
        code: 2,
        stdout: '',
        stderr: expect.stringMatching(/^Error: The name given with -k is not valid.\nFix: It can have at most 128/),
      })
    },
  )

  test('unset finds the secret that holds the key, and asks for --name where several do', async () => {
    workOn('several')
    await run('secret create --kv A=1 --kv B=1')
    await run('secret create --name second --kv A=2 --kv C=3')
    const { code, stderr } = await run('secret unset -k A')
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: expect.stringMatching(
        /^Error: 2 secrets hold A.\nFix: Say which with --name: second \(app several, sec_\w+\), several-secrets/,
      ),
    })
    expect((await run('secret unset -k A --name second')).stdout).toContain('✓ second (app several): 1 removed, 1 kept')
    expect((await run('secret unset -k A -k B --dry-run')).stdout).toBe(
      'several-secrets (app several): 2 removed\n  A  removed\n  B  removed\n',
    )
    expect((await run('secret unset -k B -k C')).stderr).toContain(
      'B is in several-secrets and C in second: one command changes one secret.',
    )
    expect((await run('secret unset -k A -k B')).code).toBe(0)
    expect(await run('secret unset -k Bb')).toMatchObject({
      code: 3,
      stderr: 'Error: There is no key Bb.\nFix: Did you mean C?\n'.replace('Did you mean C?', '1ctl secret list'),
    })
    expect(await run('secret unset -k A --ignore-missing')).toMatchObject({
      code: 0,
      stdout: 'No change: there is no key A.\n',
    })
    expect(await run('secret unset -k A -k C --ignore-missing')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('C  removed'),
    })
  })

  test('verify says whether a value is the stored one, by 0 and 10', async () => {
    workOn('verifying')
    const value = newValue()
    await run(`secret create --kv KEY=${value} --kv SHORT=1`)
    expect(await run('secret verify -k KEY', { stdin: `${value}\n` })).toEqual({
      code: 0,
      stdout: 'KEY in verifying-secrets (app verifying): match\n',
      stderr: 'The newline at the end of KEY was removed; --no-trim keeps it.\n',
    })
    expect(await run('secret verify -k KEY', { stdin: `${value}x` })).toEqual({
      code: 10,
      stdout: 'KEY in verifying-secrets (app verifying): no match\n',
      stderr: '',
    })
    expect(
      JSON.parse((await run('secret verify -k KEY --name verifying-secrets -o json', { stdin: value })).stdout),
    ).toMatchObject({ match: true })
    expect(await run('secret verify -k KEYS', { stdin: value })).toMatchObject({
      code: 3,
      stderr: 'Error: There is no key KEYS.\nFix: Did you mean KEY?\n',
    })
    expect((await run('secret verify -k SHORT', { stdin: '1' })).stderr).toContain('shorter than 8 characters')
  })

  test('history tells who changed which keys and why; restore makes an old version the new one', async () => {
    workOn('restoring')
    const [first, second] = [newValue(), newValue()]
    await run(['secret', 'create', '--kv', `A=${first}`, '--kv', `B=${first}`, '--note', 'from the old vault'])
    await run(`secret create --kv A=${second} --kv B=${second} --kv C=${second}`)
    await run('secret unset -k C')
    const rows = (await run('secret history')).stdout
      .trimEnd()
      .split('\n')
      .map((line) => line.split(/ {3,}/))
    expect(rows.map(([version, , , keys, note]) => [version, keys, note])).toEqual([
      ['VERSION', 'KEYS', 'NOTE'],
      ['* v3', '-C', undefined],
      ['v2', '+C ~A ~B', undefined],
      ['v1', '+A +B', 'from the old vault'],
    ])
    expect((await run('secret history restoring-secrets -k C -o name')).stdout).toBe('3\n2\n')

    expect((await run('secret restore restoring-secrets -k A --version 1')).stdout).toMatch(
      /: 1 changed, 1 kept\n {2}A {2}changed {2}digest/,
    )
    expect(await isStored('restoring-secrets', { appId: 'restoring' }, 'A', first)).toBe(true)
    expect(await isStored('restoring-secrets', { appId: 'restoring' }, 'B', second)).toBe(true)
    expect((await run('secret restore restoring-secrets --version=2')).stdout).toContain('1 added, 1 changed, 1 kept')
    expect(await isStored('restoring-secrets', { appId: 'restoring' }, 'A', second)).toBe(true)
    expect((await run('secret restore restoring-secrets --version 99')).code).toBe(3)
    expect((await run('secret restore restoring-secrets --version x')).code).toBe(2)
    expect((await run('--version')).stdout).toMatch(/^1ctl \d/)
    expect((await run('secret list --version')).stdout).toMatch(/^1ctl \d/)
  })

  test.each([
    ['', '43 chars'],
    ['--bytes 16 --charset hex', '32 chars'],
    ['--charset alnum', '43 chars'],
  ])('rotate %s replaces a value by one that nobody sees', async (flags, length) => {
    const app = newName('rotating')
    workOn(app)
    const value = newValue()
    await run(`secret create --kv KEY=${value}`)
    const { code, stdout, stderr } = await run(`secret rotate ${app}-secrets -k KEY ${flags}`)
    expect({ code, stdout, stderr }).toEqual({
      code: 0,
      stdout: expect.stringMatching(
        new RegExp(
          `^✓ ${app}-secrets \\(app ${app}\\): 1 changed\n {2}KEY {2}changed {2}${length} {2}digest [0-9a-f]{8}\n$`,
        ),
      ),
      stderr: '',
    })
    expect(await isStored(`${app}-secrets`, { appId: app }, 'KEY', value)).toBe(false)
  })

  test('rotate takes a value of yours from the pipe, and only for a key that is there', async () => {
    workOn('rotating')
    const value = newValue()
    await run(`secret create --kv KEY=${newValue()}`)
    await run('secret rotate rotating-secrets -k KEY --stdin', { stdin: value })
    expect(await isStored('rotating-secrets', { appId: 'rotating' }, 'KEY', value)).toBe(true)
    expect(await run('secret rotate rotating-secrets -k KEZ')).toMatchObject({
      code: 3,
      stderr: expect.stringContaining('Did you mean KEY?'),
    })
    expect((await run('secret rotate rotating-secrets -k KEY --prompt')).code).toBe(2)
    expect((await run('secret rotate rotating-secrets -k KEY --bytes 0')).code).toBe(2)
  })

  test('keys makes a .env.example of all secrets of an app', async () => {
    workOn('example')
    await run('secret create --kv A=1 --kv tls.crt=2')
    await run('secret create --name another --kv A=1 --kv B=2')
    expect((await run('secret keys --format env-example')).stdout).toBe(
      '# another: the values are secrets, stored with 1ctl secret create --kv KEY\nA=\nB=\n\n# example-secrets: the values are secrets, stored with 1ctl secret create --kv KEY\n# tls.crt (a file)\n',
    )
  })

  test('get shows all that may be known', async () => {
    workOn('getting')
    await run(`secret create --kv KEY=${newValue()} --kv PLACEHOLDER=changeme`)
    const { stdout } = await run('secret get')
    expect(stdout).toMatch(
      /^ID: sec_\w+\nName: getting-secrets\nPlace: app getting\nType: custom\nVersion: 1\nUsed by: 0\n/,
    )
    expect(stdout).toMatch(
      /\nKeys:\n {2}KEY {10}v1 {2}16-31 chars {2}[0-9a-f]{8} {2}.* by admin\n {2}PLACEHOLDER .* looks like a placeholder\n$/,
    )
    expect(JSON.parse((await run('secret get getting-secrets --json')).stdout).keyDetails).toHaveLength(2)
  })

  test('delete asks first; what is in use stays, and who uses it is said', async () => {
    const app = await newApp()
    await run(`secret create -d ${app.id} --name used --kv A=1`)
    const { code, stderr } = await run(`secret delete used -d ${app.id}`)
    expect({ code, stderr }).toEqual({
      code: 6,
      stderr: expect.stringMatching(
        `^Error: Secret "used" is in use by ${app.name}.\nFix: Remove the references first: 1ctl env (?:unset \\w+|detach used) --app ${app.name}\n`,
      ),
    })
    expect(JSON.parse((await run(`secret delete used -d ${app.id} --json`)).stderr).error.details.usedBy).toMatchObject(
      [{ app: app.name, mode: 'envFrom' }],
    )

    await run('secret create --app unused --kv A=1')
    expect(await run('secret rm unused-secrets')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('Fix: Repeat the command with -y.'),
    })
    expect(await run('secret rm unused-secrets -y')).toMatchObject({
      code: 0,
      stdout: 'unused-secrets (app unused) deleted.\n',
    })
    expect((await run('secret get unused-secrets')).code).toBe(3)
  })
})

test('no form of output and no --debug shows a value', async () => {
  workOn('debugging')
  write('.env', `A=${newValue()}\nB="${marker}\nlines"\n`)
  for (const form of ['-o table', '-o json', '-o name']) {
    for (const [line, stdin] of [
      [`secret create --kv C=${newValue()}`, ''],
      ['secret create --kv C', newValue()],
      ['secret import .env --prune -y', ''],
      ['secret diff .env', ''],
      ['secret verify -k A', newValue()],
      ['secret rotate debugging-secrets -k A --stdin', newValue()],
      ['secret create --kv D --dry-run', newValue()],
      ['secret get debugging-secrets', ''],
    ] as const) {
      // `run` looks for the marker in all that comes out.
      const { code, stderr } = await run(`${line} ${form} --debug`, { stdin })
      expect(code, stderr).toBe(line.includes('verify') ? 10 : 0)
      expect(stderr).toContain('bytes, not shown')
    }
  }
  expect(server.log()).not.toContain(marker)
  expect(readdirSync(machine.home).sort()).toEqual(['.env', 'satusky.toml'])
})

const paste = (text: string) => `\u001b[200~${text.replaceAll('\n', '\r')}\u001b[201~`

async function typing(args: string, answers: [string, string][]) {
  const app = newName('typing')
  workOn(app)
  await machine.run(`auth login --url ${server.url} --token ${server.token}`)
  const ended = await inTerminal(machine, args, answers)
  expect(ended.screen).not.toContain(marker)
  for (const file of readdirSync(join(machine.home, '.satusky'))) {
    expect(readFileSync(join(machine.home, '.satusky', file), 'utf8')).not.toContain(marker)
  }
  return { ...ended, has: (key: string, value: string) => isStored(`${app}-secrets`, { appId: app }, key, value) }
}

describe('at a terminal', needsTerminal, () => {
  const pem = `-----BEGIN PRIVATE KEY-----\n${marker}\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----\n`

  test('keys without values are asked for in order, hidden; a pasted private key is one value', async () => {
    const value = newValue()
    const { code, screen, has } = await typing('secret create --kv TLS_KEY --kv PASSWORD', [
      ['Value of TLS_KEY (hidden): ', `${paste(pem)}\r`],
      ['Value of PASSWORD (hidden): ', `${value}x\u007f\r`],
    ])
    expect({ code, screen }).toEqual({ code: 0, screen: expect.stringContaining('2 added') })
    expect(screen).toContain(`Read ${pem.length} characters in 5 lines.`)
    expect(screen).toContain(`Read ${value.length} characters.`)
    expect([await has('TLS_KEY', pem), await has('PASSWORD', value)]).toEqual([true, true])
  })

  test('Ctrl-C stores nothing and ends with 130', async () => {
    const { code, screen } = await typing('secret create --kv PASSWORD', [['(hidden): ', `${marker}\u0003`]])
    expect({ code, screen }).toEqual({ code: 130, screen: expect.stringContaining('Interrupted: nothing was done.') })
  })

  test('an empty answer is refused', async () => {
    expect((await typing('secret create --kv PASSWORD', [['(hidden): ', '\r']])).screen).toContain(
      'The value of PASSWORD is empty.',
    )
  })

  test('--no-input asks nothing', async () => {
    const { code, screen } = await typing('secret create --kv PASSWORD --no-input', [])
    expect({ code, screen }).toEqual({
      code: 2,
      screen: expect.stringContaining('Pipe it in, or give it with --kv-file PASSWORD=PATH.'),
    })
  })

  test('--stdin says what it waits for, and reads until Ctrl-D', async () => {
    const { code, screen, has } = await typing('secret create --stdin KEY', [
      ['Ctrl-D ends it.', 'not hidden here\n\u0004'],
    ])
    expect({ code, screen }).toEqual({
      code: 0,
      screen: expect.stringContaining('Waiting for the value of KEY on stdin'),
    })
    expect(await has('KEY', 'not hidden here')).toBe(true)
  })

  test('a value on the command line is warned of', async () => {
    expect((await typing('secret create --kv KEY=12345678', [])).screen).toContain('Use --kv KEY to be asked for it.')
    expect((await typing('secret create --kv KEY=12345678 -q', [])).screen).not.toContain('Warning')
  })

  test('verify and rotate ask, delete and --prune want a yes', async () => {
    const value = newValue()
    const create: [string, string][] = [['(hidden): ', `${value}\r`]]
    const { has } = await typing('secret create --kv KEY', create)
    expect((await inTerminal(machine, 'secret verify -k KEY', create)).screen).toContain(': match')
    const name = `typing-${count - 1}-secrets`
    await inTerminal(machine, `secret rotate ${name} -k KEY --prompt`, [['(hidden): ', `${value}2\r`]])
    expect(await has('KEY', `${value}2`)).toBe(true)
    const kept = await inTerminal(machine, `secret delete ${name}`, [['(y/N)', '\r']])
    expect({ code: kept.code, screen: kept.screen }).toEqual({ code: 2, screen: expect.stringContaining('Cancelled') })
    expect((await inTerminal(machine, `secret delete ${name}`, [['(y/N)', 'y']])).code).toBe(0)
  })
})

const complete = async (line: string) => {
  const ended = await machine.run(`__complete bash ${line}`, {
    env: { SATUSKY_API_KEY: server.token, SATUSKY_API_URL: server.url },
  })
  return ended.stdout.trim().split('\n')
}

test('--prune removes nothing that was not read out, when the secret changes meanwhile', needsTerminal, async () => {
  workOn('meanwhile')
  write('.env', `A=${newValue()}\n`)
  await run('secret create --kv A=1 --kv B=2')
  await machine.run(`auth login --url ${server.url} --token ${server.token}`)
  const { code, screen } = await inTerminal(machine, 'secret import .env --prune', [
    [
      '(y/N)',
      async () => {
        await server.client().secretPatch({ ref: 'meanwhile-secrets', appId: 'meanwhile', set: { C: '3' } })
        return 'y'
      },
    ],
  ])
  expect({ code, screen }).toEqual({
    code: 6,
    screen: expect.stringContaining('"meanwhile-secrets" is at version 2 by now'),
  })
  const { keys } = await server.client().secretView({ ref: 'meanwhile-secrets', appId: 'meanwhile' })
  expect(keys).toEqual(['A', 'B', 'C'])
})

test('completion knows groups, keys and deployments', async () => {
  const app = await newApp()
  await run(`secret create -d ${app.id} --name completed --kv COMPLETED_KEY=1`)
  expect(await complete('secret get compl')).toEqual(['completed'])
  expect(await complete('secret unset -k COMPLETED')).toEqual(['COMPLETED_KEY'])
  expect(await complete('secret create --name compl')).toEqual(['completed'])
  expect(await complete(`secret list -d ${app.id.slice(0, 20)}`)).toContain(app.id)
})

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { embeddedPlace, startDelivering } from '../server/delivery/testing.ts'
import type { TestServer } from '../server/testing/server.ts'
import { type Machine, newMachine, type RunOptions } from './testing/cli.ts'
import { inTerminal, needsTerminal } from './testing/terminal.ts'

/** Against a server that delivers to the embedded cluster, whose pods are simulated: some images and variables make them slow, or fail. */

let place: Awaited<ReturnType<typeof embeddedPlace>>
let server: TestServer
let machine: Machine

beforeAll(async () => {
  place = await embeddedPlace()
  server = await startDelivering(place)
})
afterAll(async () => {
  await server.close()
  await place.stop()
})
beforeEach(() => {
  machine = newMachine()
})

const run = (args: string | string[], options: RunOptions = {}) => {
  const env = { SATUSKY_API_KEY: server.token, SATUSKY_API_URL: server.url, ...options.env }
  return machine.run(args, { ...options, env })
}
const json = async (line: string) => JSON.parse((await run(`${line} -o json`)).stdout)
const write = (file: string, text: string) => {
  mkdirSync(join(machine.home, file, '..'), { recursive: true })
  writeFileSync(join(machine.home, file), text)
}
let count = 0
/** Another for each test, so that tests do not meet. */
const newName = (what = 'app') => `${what}-${count++}`

/** One that is live, quickly: without a replica there is nothing to wait for. */
async function newApp(more = '') {
  const app = newName()
  const { code, stderr } = await run(`deploy --name ${app} --image acme/api:1.0 ${more}`)
  expect(code, stderr).toBe(0)
  return app
}
const slowly = (ms: number) => `--env SIMULATE_READY_AFTER_MS=${ms}`
/** Starts, and is ready for a moment, so a failure needs an image that is not there. */
const failing = '--image acme/no-such:1'

/** What the pods of an app are told: variables with the Secret and key they come from, or their value. */
async function environmentOf(app: string): Promise<Record<string, string>> {
  const found = (await place.list('Deployment')).find(({ metadata }) => metadata.name === app)
  // oxlint-disable-next-line typescript/no-explicit-any -- a manifest, looked into
  const [container] = (found as any).spec.template.spec.containers
  return Object.fromEntries(
    // oxlint-disable-next-line typescript/no-explicit-any -- likewise
    (container.env ?? []).map(({ name, value, valueFrom }: any) => [
      name,
      value ?? `${valueFrom.secretKeyRef.name}/${valueFrom.secretKeyRef.key}`,
    ]),
  )
}

describe('a rollout is waited for', () => {
  test('until it is live: a line for each change, and one in the end', async () => {
    const app = newName()
    const { code, stdout, stderr } = await run(`deploy --name ${app} --image acme/api:1.0 --port 3000`)
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: expect.stringMatching(new RegExp(`^✓ ${app} v1 live in \\d\\.\\d s\\n$`)),
    })
    // How many of its states are seen depends on how busy the machine is.
    expect(stderr).toMatch(/^(?:Rolling out v1 … (?:stored|applied|[01]\/1 ready)\n)+$/)
    expect(await run(`deploy --name ${app} --image acme/api:1.0`)).toEqual({
      code: 0,
      stdout: `No change: ${app} has that already (v1).\n`,
      stderr: '',
    })
  })

  test('-o json prints one object in the end, -q the id of the rollout', async () => {
    const app = newName()
    const { code, stdout, stderr } = await run(`deploy --name ${app} --image acme/api:1.0 -o json`)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(JSON.parse(stdout)).toMatchObject({
      app: { name: app, liveRelease: 1, services: [{ name: app, ready: 1 }] },
      release: 1,
      rollout: { state: 'live', services: [{ ready: 1, wanted: 1 }] },
    })
    const quiet = await run(`deploy --name ${app} --image acme/api:1.1 -q`)
    expect(quiet).toEqual({ code: 0, stdout: expect.stringMatching(/^rol_\w{26}\n$/), stderr: '' })
    expect(await json(`deploy status ${quiet.stdout.trim()}`)).toMatchObject({ state: 'live', release: 2 })
  })

  test('not with --detach: it goes on, and `deploy status` follows it', async () => {
    const app = newName()
    const { code, stdout, stderr } = await run(`deploy --name ${app} --image acme/api:1.0 ${slowly(1500)} --detach`)
    const [, id] = /^Rolling out app-\d+ v1 \((rol_\w+)\)\n$/.exec(stdout) ?? []
    expect({ code, stderr }).toEqual({ code: 0, stderr: `Not waiting. To follow it: 1ctl deploy status ${id}\n` })
    expect((await run(`deploy list`)).stdout).toMatch(new RegExp(`${app} +default +(stored|applied|rolling) +0/1 `))
    const status = await run(`deploy status ${id}`)
    expect(status).toEqual({
      code: 0,
      stdout: expect.stringMatching(
        new RegExp(`^${app} v1: live \\(deploy, .* by admin\\)\\n {2}${app} {2}1/1 ready\\n✓ ${app} v1 live in \\d`),
      ),
      stderr: expect.stringContaining('Rolling out v1 … 0/1 ready\n'),
    })
    expect((await run(`deploy --name ${app} --image acme/api:1.1 --no-wait`)).stdout).toContain('v2 (rol_')
    expect((await run(`deploy status ${app}`)).stdout).toContain(`): live, v2\n  ${app}  acme/api:1.1  1/1 ready\n`)
  })

  test('as long as --wait-timeout says: 8, and the command that goes on waiting', async () => {
    const app = newName()
    const { code, stdout, stderr } = await run(
      `deploy --name ${app} --image acme/api:1.0 ${slowly(2500)} --wait --wait-timeout 1s`,
    )
    expect({ code, stdout }).toEqual({ code: 8, stdout: '' })
    const [, id] = /: 1ctl deploy status (rol_\w+)\n$/.exec(stderr) ?? []
    expect(stderr).toContain(
      `Error: Not live after 1.0 s: ${app} v1 (0/1 ready). The rollout goes on.\nFix: To follow it: 1ctl deploy status ${id}\n`,
    )
    expect(await run(`deploy status ${id}`)).toMatchObject({ code: 0 })
  })

  test('of one that pods reject: 7, the reason of the pod, and that the version before is still serving', async () => {
    const app = await newApp()
    const { code, stdout, stderr } = await run(`deploy --name ${app} ${failing}`)
    expect({ code, stdout }).toEqual({ code: 7, stdout: '' })
    expect(stderr).toContain(
      `\nError: ${app} v2 failed and was rolled back: the previous version (v1) is still serving.\nCause: `,
    )
    expect(stderr).toMatch(/\nCause: .*ImagePullBackOff.*\nFix: Correct it, and roll it out again.\n$/)
    expect((await run('deploy list')).stdout).toMatch(new RegExp(`${app} +default +rejected +\\d/1 +v1 `))
    expect(await run(`deploy status ${app}`)).toMatchObject({
      code: 7,
      stdout: expect.stringMatching(/\n {2}rejected: Release 2 failed: .*ImagePullBackOff/),
    })

    const program = await run(`deploy --name ${app} ${failing} -o json`)
    expect(program.code).toBe(7)
    expect(JSON.parse(program.stdout)).toMatchObject({ rollout: { state: 'rolled_back', previousRelease: 1 } })
    expect(JSON.parse(program.stderr)).toMatchObject({
      error: { code: 'rollout_failed', details: { app, release: 3 } },
    })
  })

  test('that crashes: the last lines of the container are shown', async () => {
    const app = newName()
    write('satusky.toml', `[app]\nname = "${app}"\nimage = "acme/crash:1"\nport = 80\n[checks]\nhealth_path = "/"\n`)
    const { code, stderr } = await run('deploy')
    expect(code).toBe(7)
    expect(stderr).toMatch(/Rolling out v1 … (?:applied|0\/1 ready), CrashLoopBackOff\n|\nCause: .*CrashLoopBackOff/)
    expect(stderr).toContain(`Error: ${app} v1 failed, and there is no previous version to go back to.\n`)
    expect(stderr).toMatch(new RegExp(`\\n {2}last lines of ${app}:\\n( {2}.*\\n)* {2}.*always crashes\\nFix: `))
  })

  test('that fails and is kept, as --on-failure says', async () => {
    const app = await newApp()
    const { code, stderr } = await run(`deploy --name ${app} ${failing} --on-failure keep`)
    expect({ code, stderr }).toEqual({
      code: 7,
      stderr: expect.stringContaining(
        `${app} v2 failed and was not rolled back; pods of v1 that are ready still serve.`,
      ),
    })
    expect((await run(`deploy rollback 1 --app ${app}`)).stdout).toContain(`✓ ${app} v3 live`)
  })

  test('and of the one that takes its place', async () => {
    const app = await newApp()
    const first = run(`deploy --name ${app} ${slowly(4000)}`)
    await sleep(1500)
    const second = await run(`env set LATER=1 SIMULATE_READY_AFTER_MS=100 --app ${app}`)
    expect(second).toMatchObject({ code: 0, stdout: expect.stringContaining(`✓ ${app} v3 live in `) })
    expect(await first).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(new RegExp(`^✓ ${app} v3 live in .*, which took the place of v2\\n$`)),
    })
  })

  test('a rollback in its place is a failure', async () => {
    const app = await newApp()
    const first = run(`deploy --name ${app} ${slowly(4000)}`)
    await sleep(1500)
    expect((await run(`deploy rollback v1 --app ${app}`)).code).toBe(0)
    expect(await first).toMatchObject({
      code: 7,
      stderr: expect.stringContaining(`Error: ${app} v2 did not go live: v3 took its place (rollback to 1).\n`),
    })
  })

  test('while the cluster is away: it is said, and it goes on by itself', async () => {
    const app = await newApp()
    await place.pause()
    const waiting = await run(`env set A=1 --app ${app} --wait-timeout 4s`)
    await place.restart()
    expect(waiting.code).toBe(8)
    expect(waiting.stderr).toMatch(/Rolling out v2 … .*cluster/i)
    expect(await run(`deploy status ${app} --wait-timeout 60s`)).toMatchObject({
      code: 0,
      stdout: expect.stringContaining(`✓ ${app} v2 live`),
    })
  }, 60_000)
})

const signIn = () => machine.run(`auth login --url ${server.url} --token ${server.token}`)
const [dim, notDim, erased] = ['\u001b[2m', '\u001b[22m', '\r\u001b[J']

describe('at a terminal', needsTerminal, () => {
  test('one line is drawn again and again, and replaced by the result', async () => {
    const app = newName()
    await signIn()
    const { code, screen } = await inTerminal(
      machine,
      `deploy --name ${app} --image acme/api:1.0 --replicas 2 ${slowly(6000)}`,
      [],
    )
    expect(code, screen).toBe(0)
    expect(screen).toMatch(/Rolling out v1 … 0\/2 ready \([1-9]s\)/)
    // Nothing but that line, always from its beginning, and then the result in its place.
    const drawn = screen.replaceAll(dim, '').replaceAll(notDim, '').split(erased)
    expect(drawn.at(-1)).toMatch(/^✓ app-\d+ v1 live in \d\.\d s\r\n$/)
    expect(drawn.slice(0, -1).filter((part) => !part.startsWith('Rolling out v1 … '))).toEqual([])
  })

  test('Ctrl-C ends the waiting, not the rollout', async () => {
    const app = newName()
    await signIn()
    const { code, screen } = await inTerminal(machine, `deploy --name ${app} --image acme/api:1.0 ${slowly(6000)}`, [
      ['0/1 ready', '\u0003'],
    ])
    expect(code).toBe(130)
    const [, id] =
      /Interrupted. The rollout goes on.\r\n.*To follow it: 1ctl deploy status (rol_\w+)/s.exec(screen) ?? []
    expect(screen).toContain('Interrupted')
    expect(await run(`deploy status ${id}`)).toMatchObject({ code: 0, stdout: expect.stringContaining('v1 live') })
  })

  test('an app is deleted when its name is typed', async () => {
    const app = await newApp()
    await signIn()
    const kept = await inTerminal(machine, `deploy delete ${app}`, [['Type its', 'other\r']])
    expect(kept).toMatchObject({ code: 2, screen: expect.stringContaining('Cancelled') })
    const gone = await inTerminal(machine, `deploy delete ${app}`, [['Type its', `${app}\r`]])
    expect(gone).toMatchObject({ code: 0, screen: expect.stringContaining(`${app} deleted.`) })
  })
})

describe('satusky.toml', () => {
  test('says how an app runs; the environment is shown with what wins, before anything is changed', async () => {
    const app = newName()
    await run('secret create --shared --name db-creds --kv DATABASE_URL=postgres://db --kv LOG_LEVEL=warn')
    await run('secret create --shared --name tls-bundle --kv tls.crt=certificate')
    await run('secret create --shared --name queue --kv QUEUE_URL=amqp://queue')
    write(
      'satusky.toml',
      `[app]
name = "${app}"
image = "acme/api:1.0"
port = 3000
env_from = ["db-creds"]
secret_files = ["tls-bundle"]
resources = { requests = { cpu = "100m" }, limits = { memory = "128Mi" } }

[checks]
health_path = "/healthz"

[env]
LOG_LEVEL = "info"
WORKERS = 4
DATABASE = { secret = "db-creds", key = "DATABASE_URL" }

[services.web]

[services.worker]
command = ["node", "worker.js"]
replicas = 2
env_from = ["queue"]
env = { LOG_LEVEL = "debug" }

[hpa]
min = 1
`,
    )
    const dry = await run('deploy --dry-run')
    expect(dry).toEqual({
      code: 0,
      stdout: `${app}: would be v1
web:
  DATABASE                link to db-creds v1 (shared), key DATABASE_URL
  DATABASE_URL            db-creds v1 (shared)
  LOG_LEVEL               env                                             overrides db-creds v1 (shared)
  WORKERS                 env
  /run/secrets/tls.crt    tls-bundle v1 (shared)
worker:
  DATABASE                link to db-creds v1 (shared), key DATABASE_URL
  DATABASE_URL            db-creds v1 (shared)
  LOG_LEVEL               env, of the service                             overrides db-creds v1 (shared), env
  QUEUE_URL               queue v1 (shared), of the service
  WORKERS                 env
  /run/secrets/tls.crt    tls-bundle v1 (shared)
`
        .replaceAll('/run/secrets/tls.crt    ', '/run/secrets/tls.crt  ')
        .replaceAll(/^( {2}[A-Z_]+ +) {2}(?=\S)/gm, '$1'),
      stderr: 'satusky.toml: 1ctl does not use [hpa].\nDry run: nothing was changed.\n',
    })
    expect((await run(`deploy status ${app}`)).code).toBe(3)

    expect(await run('deploy')).toMatchObject({ code: 0, stdout: expect.stringContaining(`✓ ${app} v1 live`) })
    expect(await environmentOf(`${app}--worker`)).toMatchObject({ LOG_LEVEL: 'debug', WORKERS: '4' })
    expect((await run('deploy status')).stdout).toContain('  worker  acme/api:1.0  2/2 ready  port 3000\n')
    expect((await run('deploy env --explain LOG_LEVEL')).stdout).toBe(
      'LOG_LEVEL in web: env, "info"\n  overrides db-creds v1 (shared)\nLOG_LEVEL in worker: env, of the service, "debug"\n  overrides env\n  overrides db-creds v1 (shared)\n',
    )
    expect((await run('deploy env --service web -o name')).stdout).toBe('DATABASE\nDATABASE_URL\nLOG_LEVEL\nWORKERS\n')
    expect(await run('deploy env --explain LOG_LEVLE')).toMatchObject({
      code: 3,
      stderr: expect.stringContaining('Did you mean LOG_LEVEL?'),
    })
    expect((await run('deploy env --service nowhere')).code).toBe(3)

    // What is not in the file any more goes; a flag comes before the file, and adds to its lists.
    write('satusky.toml', `[app]\nname = "${app}"\nimage = "acme/api:1.0"\nenv_from = ["queue"]\n[services.web]\n`)
    expect((await run('deploy --image acme/api:1.1 --env A=1 --env-from db-creds')).code).toBe(0)
    expect((await run('deploy env')).stdout).toMatch(
      /^web:\n {2}A {13}env\n {2}DATABASE_URL {2}db-creds v1 .*\n {2}LOG_LEVEL {5}db-creds .*\n {2}QUEUE_URL {5}queue v1 \(shared\)\n$/,
    )
    expect((await run('deploy releases')).stdout).toMatch(/\n\* v2 +yes +.* admin +deploy +acme\/api:1.1/)
  }, 60_000)

  test('a named file is used for another name or VPC too; one of another app that lies here is not', async () => {
    const app = newName()
    await server.client().vpcCreate({ name: 'eu' })
    write('satusky.staging.toml', `[app]\nname = "${app}"\nimage = "acme/api:1.0"\nreplicas = 0\n[env]\nA = "1"\n`)
    expect((await run('deploy --config staging --vpc eu')).stdout).toContain(`✓ ${app} v1 live`)
    expect((await run(`deploy --config staging --name ${app}-copy`)).stdout).toContain(`✓ ${app}-copy v1 live`)
    expect((await run('deploy list --vpc eu -o name')).stdout).toBe(`${app}\n`)
    expect((await run('env list --config staging --vpc eu -o name')).stdout).toBe('A\n')

    write('satusky.toml', `[app]\nname = "${app}"\n[env]\nNOT = "mine"\n`)
    const other = newName('other')
    expect(await run(`deploy --name ${other} --image acme/api:1.0 --replicas 0`)).toMatchObject({
      code: 0,
      stderr: expect.stringContaining(`satusky.toml is of ${app}: it is not used.\n`),
    })
    expect((await run(`env list --app ${other} -o name`)).stdout).toBe('')
    const { id } = await server.client().appView({ ref: other })
    write('satusky.toml', `[app]\ndeployment_id = "${id}"\nimage = "acme/api:1.2"\n`)
    expect((await run('deploy')).stdout).toContain(`✓ ${other} v2 live`)
    expect((await run(`deploy -d ${id} --vpc eu`)).code).toBe(2)
  })
})

describe('what cannot be deployed', () => {
  test.each<[string, number, RegExp]>([
    ['deploy', 2, /^Error: Which app\?\nFix: Name it with --name, or run this where a satusky.toml is.\n$/],
    ['deploy --name new', 2, /^Error: .*image/],
    ['deploy --name new --image UPPER!', 2, /^Error: image: an image: acme\/api:1.0/],
    ['deploy --name New --image a', 2, /^Error: name: at most 40 lower-case letters/],
    ['deploy --name new --image a --port 0', 2, /Write a number from 1 to 65535./],
    ['deploy --name new --image a --replicas many', 2, /Write a number from 0 to 1000./],
    ['deploy --name new --image a --on-failure cry', 2, /It is one of: rollback, keep./],
    ['deploy --name new --image a --env A', 2, /^Error: A has no value.\nFix: Write A=VALUE./],
    ['deploy --name new --image a --env hunter2-canary=1', 2, /^Error: A variable has no valid name./],
    [
      'deploy --name new --image a --env-from nowhere --secret-file none',
      3,
      /There is no secret "none", "nowhere" for/,
    ],
    ['deploy --name new --image a --vpc nowhere', 3, /^Error: No VPC "nowhere"/],
    ['deploy --name a --app b', 2, /name the same thing/],
    ['deploy --name a -d dep_x', 2, /^Error: This names several apps./],
    ['deploy -d dep_123abc --image a', 3, /^Error: No app "dep_123abc" in VPC "default"/],
    ['deploy --config nowhere', 3, /^Error: There is no satusky.nowhere.toml here/],
    ['deploy lits', 2, /^Error: There is no command "deploy lits".\nFix: Did you mean "list"\?\n$/],
    ['deploy KEY=canary', 2, /^Error: There is no command "deploy KEY".\n/],
    ['deploy status nowhere', 3, /^Error: No app "nowhere" in VPC "default".\nFix: See them with: 1ctl deploy list\n/],
    ['deploy status rol_01m86gk6kee00a7x2cgrc985z5', 3, /^Error: No rollout "rol_/],
    ['deploy status wav_01m86gk6kee00a7x2cgrc985z5', 3, /^Error: No wave "wav_/],
    ['deploy status', 2, /^Error: Which app\?/],
    ['deploy list --vpc nowhere', 3, /^Error: No VPC "nowhere"/],
    ['deploy rollback', 2, /missing required argument 'release'/i],
    ['deploy rollback last', 2, /Write the number of a release: 3 or v3./],
    ['deploy delete nowhere -y', 3, /^Error: No app "nowhere"/],
    ['deploy redeploy a --config b', 2, /^Error: This names several apps./],
  ])('%s ends with %i', async (line, code, message) => {
    const ended = await run(line)
    expect(ended).toEqual({ code, stdout: '', stderr: expect.stringMatching(message) })
    expect(ended.stderr).not.toContain('canary')
  })

  test('keys that no variable can be named, and two secrets that would be one file', async () => {
    await run('secret create --shared --name files-a --kv tls.key=a')
    await run('secret create --shared --name files-b --kv tls.key=b')
    const deploy = 'deploy --name files --image a'
    expect(await run(`${deploy} --env-from files-a`)).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/^Error: No environment variable can be named "tls.key" of "files-a".\nFix: Mount/),
    })
    expect(await run(`${deploy} --secret-file files-a --secret-file files-b`)).toMatchObject({
      code: 6,
      stderr: expect.stringMatching(/^Error: .*"files-a".*"files-b".*\/run\/secrets\/tls.key/),
    })
    expect((await run('deploy status files')).code).toBe(3)
  })
})

test('rollback, redeploy, stage, releases, delete', async () => {
  const app = await newApp()
  await run(`deploy --name ${app} --image acme/api:2.0 --note second`)
  expect(await run(`deploy rollback 1 --app ${app} --note undo`)).toMatchObject({
    code: 0,
    stdout: expect.stringContaining(`✓ ${app} v3 live`),
  })
  expect((await run(`deploy rollback 99 --app ${app}`)).code).toBe(3)
  const rows = (await run(`deploy releases ${app}`)).stdout.trim().split('\n')
  expect(
    rows
      .map((row) => row.split(/ {3,}/))
      .map(([release, live, , , cause, image, note]) => [release, live, cause, image, note]),
  ).toEqual([
    ['RELEASE', 'LIVE', 'CAUSE', 'IMAGE', 'NOTE'],
    ['* v3', 'yes', 'rollback to 1', 'acme/api:1.0', 'undo'],
    ['v2', '-', 'deploy', 'acme/api:2.0', 'second'],
    ['v1', '-', 'deploy', 'acme/api:1.0', undefined],
  ])

  const staged = await run(`deploy --name ${app} --image acme/api:3.0 --stage`)
  expect(staged).toEqual({
    code: 0,
    stdout: `✓ ${app}: saved, not live yet\n`,
    stderr: `Something is staged for ${app}. A restart of a pod does not apply it; run: 1ctl deploy redeploy ${app}\n`,
  })
  expect((await run('deploy list')).stdout).toMatch(new RegExp(`${app} +default +redeploy needed `))
  expect((await run(`deploy redeploy ${app}`)).stdout).toContain(`✓ ${app} v4 live`)
  // Nothing staged: the pods start anew.
  expect((await run(`deploy redeploy ${app}`)).stdout).toContain(`✓ ${app} v5 live`)

  expect(await run(`deploy delete ${app}`)).toMatchObject({
    code: 2,
    stderr: expect.stringContaining(`Fix: Repeat the command with --confirm=${app}.`),
  })
  expect((await run(`deploy delete ${app} --confirm=other`)).code).toBe(2)
  expect(await run(`deploy delete ${app} --confirm=${app}`)).toMatchObject({ code: 0, stdout: `${app} deleted.\n` })
  expect((await run(`deploy status ${app}`)).code).toBe(3)
})

describe('1ctl env', () => {
  test('attaches whole secrets and detaches them again, which frees them', async () => {
    const app = await newApp()
    write('satusky.toml', `[app]\nname = "${app}"\n`)
    await run('secret create --shared --name whole --kv WHOLE_KEY=canary')
    expect((await run('env attach whole')).stdout).toMatch(new RegExp(`^✓ ${app}: whole attached\n✓ ${app} v2 live`))
    expect(await environmentOf(app)).toEqual({ WHOLE_KEY: 'org.whole.v1/WHOLE_KEY' })
    const refused = await run('secret delete whole --shared -y')
    expect(refused).toMatchObject({ code: 6, stderr: expect.stringContaining(`1ctl env detach`) as string })
    expect((await run('env detach whole')).stdout).toContain('whole detached')
    expect(await environmentOf(app)).toEqual({})
    expect((await run('env detach whole')).code).toBe(3)
    expect((await run('env attach none-such')).code).toBe(3)
    expect((await run('secret delete whole --shared -y')).code).toBe(0)
  })

  test('sets, links, lists and removes variables; pods get them', async () => {
    const app = await newApp()
    write('satusky.toml', `[app]\nname = "${app}"\n`)
    await run('secret create --shared --name env-creds --kv DATABASE_URL=postgres://db')
    expect(await run('env set LOG_LEVEL=debug FEATURE_X= QUOTE=a=b')).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(new RegExp(`^✓ ${app}: 3 variables set\\n✓ ${app} v2 live in `)),
    })
    expect((await run('env set DB --from-secret env-creds/DATABASE_URL -q')).code).toBe(0)
    expect((await run('env set --from-secret env-creds/DATABASE_URL OTHER -q')).code).toBe(0)
    expect((await run('env set --from-secret env-creds/DATABASE_URL -q')).code).toBe(0)
    expect(await environmentOf(app)).toEqual({
      LOG_LEVEL: 'debug',
      FEATURE_X: '',
      QUOTE: 'a=b',
      DB: 'org.env-creds.v1/DATABASE_URL',
      OTHER: 'org.env-creds.v1/DATABASE_URL',
      DATABASE_URL: 'org.env-creds.v1/DATABASE_URL',
    })
    const rows = (await run('env list')).stdout.trim().split('\n')
    expect(rows.slice(0, 3).map((row) => row.split(/ {3,}/))).toEqual([
      ['VARIABLE', 'VALUE', 'SERVICE'],
      ['DATABASE_URL', '(secret env-creds/DATABASE_URL)', 'all'],
      ['DB', '(secret env-creds/DATABASE_URL)', 'all'],
    ])
    expect(await json('env list')).toMatchObject({
      items: [{ name: 'DATABASE_URL', secret: 'env-creds', value: null }, {}, {}, {}, {}, {}],
    })

    expect((await run('env set LOG_LEVEL=debug')).stdout).toBe(`No change: ${app} has that already (v5).\n`)
    expect((await run('env unset DB OTHER DATABASE_URL')).stdout).toContain(`✓ ${app}: 3 variables removed\n`)
    expect(await environmentOf(app)).toEqual({ LOG_LEVEL: 'debug', FEATURE_X: '', QUOTE: 'a=b' })
    expect(await run('env unset LOG_LEVLE')).toMatchObject({
      code: 3,
      stderr: 'Error: There is no variable LOG_LEVLE.\nFix: Did you mean LOG_LEVEL?\n',
    })
    expect((await run('env unset NONE --ignore-missing')).stdout).toBe('No change: there is no variable NONE.\n')
    expect((await run('env unset NONE QUOTE --ignore-missing')).stdout).toContain('1 variable removed')
  })

  test('imports a file, or nothing of it', async () => {
    const app = await newApp('--replicas 0')
    write('.env', 'A=1\nB="two lines\nin one"\n')
    expect((await run(`env import .env --app ${app}`)).stdout).toContain('2 variables set')
    expect((await run(`env import --app ${app}`, { stdin: '{"C": "3"}' })).stdout).toContain('1 variable set')
    expect((await run(`env import --app ${app}`, { stdin: 'D=1\nE' })).code).toBe(2)
    expect((await run(`env list --app ${app} -o name`)).stdout).toBe('A\nB\nC\n')
  })

  test('stages, and says so', async () => {
    const app = await newApp('--replicas 0')
    expect(await run(`env set A=1 --stage --app ${app}`)).toMatchObject({
      code: 0,
      stdout: `✓ ${app}: 1 variable set\n✓ ${app}: saved, not live yet\n`,
      stderr: expect.stringContaining(`run: 1ctl deploy redeploy ${app}\n`),
    })
    expect(await environmentOf(app)).toEqual({})
    expect((await run(`env set A=1 --app ${app}`)).stdout).toContain(`✓ ${app} v2 live`)
  })

  test('warns of what looks like a secret, without its value', async () => {
    const app = await newApp('--replicas 0')
    const { code, stderr } = await run(`env set API_TOKEN=hunter2-canary --app ${app}`)
    expect({ code, stderr }).toEqual({
      code: 0,
      stderr: expect.stringMatching(
        /^Warning: API_TOKEN looks like a secret, and variables can be read. Better: 1ctl /,
      ),
    })
    expect(stderr).not.toContain('canary')
  })

  test.each<[string, number, RegExp]>([
    ['env set', 2, /^Error: There is nothing to set./],
    ['env set A=1', 2, /^Error: Which app\?/],
    [
      'env set LOG_LEVEL --app x',
      2,
      /^Error: LOG_LEVEL has no value.\nFix: Write LOG_LEVEL=VALUE, or link it: 1ctl env set/,
    ],
    ['env set A=1 A=2 --app x', 2, /^Error: A is given twice./],
    ['env set canary-1=x --app x', 2, /^Error: A variable has no valid name./],
    [
      'env set A B --from-secret s/K --app x',
      2,
      /^Error: There are 2 variables to link \(A, B\) and 1 key of secrets./,
    ],
    [
      'env set A --from-secret canary --app x',
      2,
      /^Error: --from-secret takes the name of a secret and a key of it.\nFix: Write db-creds\/DATABASE_URL.\n$/,
    ],
    [
      'env set --from-secret tls/tls.crt --app x',
      2,
      /^Error: tls.crt cannot be the name of a variable.\nFix: Name it: 1ctl env set NAME --from-secret tls\/tls.crt/,
    ],
    ['env set A=1 --app nowhere', 3, /^Error: No app "nowhere"/],
    ['env set A --from-secret nowhere/K --app refusing', 3, /^Error: There is no secret "nowhere" for "refusing"./],
    ['env set A=1 --service nowhere --app refusing', 3, /^Error: "refusing" has no service "nowhere"./],
    ['env unset --app refusing', 2, /missing required argument/i],
    ['env unset canary! --app refusing', 2, /^Error: This is not the name of a variable./],
    ['env list --app nowhere', 3, /^Error: No app "nowhere"/],
  ])('%s ends with %i', async (line, code, message) => {
    await server.client().deploy({ name: 'refusing', image: 'a', replicas: 0 })
    const ended = await run(line)
    expect(ended).toEqual({ code, stdout: '', stderr: expect.stringMatching(message) })
    expect(ended.stderr).not.toContain('canary')
  })
})

describe('1ctl secret', () => {
  test('create: pods see the key; unset: it is gone', async () => {
    const app = await newApp()
    write('satusky.toml', `[app]\nname = "${app}"\n`)
    const created = await run('secret create --kv DATABASE_PASSWORD=hunter2 --kv JWT_SECRET=abc123')
    expect(created).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(
        new RegExp(
          `^✓ ${app}-secrets \\(dep_\\w+\\): 2 added\\n {2}DATABASE_PASSWORD {2}added {2}7 chars\\n {2}JWT_SECRET {9}added {2}6 chars\\n✓ ${app} v2 live in \\d`,
        ),
      ),
      stderr: expect.stringMatching(/^(?:Rolling out v2 … .*\n)+$/),
    })
    expect(await environmentOf(app)).toEqual({
      DATABASE_PASSWORD: `app.${app}.${app}-secrets.v1/DATABASE_PASSWORD`,
      JWT_SECRET: `app.${app}.${app}-secrets.v1/JWT_SECRET`,
    })
    expect((await run('secret unset -k DATABASE_PASSWORD')).stdout).toMatch(
      new RegExp(
        `^✓ ${app}-secrets \\(dep_\\w+\\): 1 removed, 1 kept\\n {2}DATABASE_PASSWORD {2}removed\\n✓ ${app} v3 live`,
      ),
    )
    expect(await environmentOf(app)).toEqual({ JWT_SECRET: `app.${app}.${app}-secrets.v2/JWT_SECRET` })
    // Import, rotate and restore wait as well.
    expect((await run('secret import', { stdin: 'A=1\n' })).stdout).toContain(`✓ ${app} v4 live`)
    expect((await run(`secret rotate ${app}-secrets -k JWT_SECRET`)).stdout).toContain(`✓ ${app} v5 live`)
    expect((await run(`secret restore ${app}-secrets --version 2`)).stdout).toContain(`✓ ${app} v6 live`)
    expect(await json('secret create --kv A=2')).toMatchObject({
      name: `${app}-secrets`,
      changes: { added: ['A'] },
      rollouts: [{ app, state: 'live', release: 7 }],
    })
    expect((await run('secret usage')).stdout).toMatch(/RUNNING +CURRENT\n.* v6 +v6\n$/)
  }, 60_000)

  test('--stage keeps a change from the pods until `secret deploy`', async () => {
    const app = await newApp()
    write('satusky.toml', `[app]\nname = "${app}"\n`)
    await run('secret create --kv A=1')
    const staged = await run('secret create --kv A=2 --stage')
    expect(staged).toMatchObject({
      code: 0,
      stdout: expect.not.stringContaining('live'),
      stderr: `Not live yet: ${app} runs what was there before. A restart does not change that; run: 1ctl secret deploy ${app}-secrets --app ${app}\n`,
    })
    expect((await run('secret get')).stdout).toContain('Status: redeploy needed\n')
    expect((await run('secret deploy')).stdout).toContain(`✓ ${app} v3 live`)
    expect(await run('secret deploy')).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^No change. Nothing is staged for /),
    })
    await run('secret create --kv A=3 --stage')
    expect((await run(`secret deploy ${app}-secrets --app ${app}`)).stdout).toMatch(
      new RegExp(`^${app}-secrets \\(dep_\\w+\\): rolling out v3\\n✓ ${app} v4 live`),
    )
    expect((await run('secret create --kv A=4 --stage --rollout')).code).toBe(2)
  })

  test('a shared one is staged, names the apps, and goes out when it is said so', async () => {
    const [first, second] = [await newApp(), await newApp()]
    await run('secret create --shared --name smtp --kv SMTP_PASSWORD=first')
    for (const app of [first, second]) await run(`deploy --name ${app} --env-from smtp`)
    const changed = await run('secret create --shared --name smtp --kv SMTP_PASSWORD=second')
    expect(changed).toMatchObject({
      code: 0,
      stderr: `Not live yet: ${first}, ${second} run what was there before. A restart does not change that; run: 1ctl secret deploy smtp --shared\n`,
    })
    expect((await run('secret list --shared --wide')).stdout).toMatch(/smtp .* redeploy needed /)
    await run(`deploy delete ${second} --confirm=${second}`)
    expect(await run('secret deploy smtp --shared')).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(new RegExp(`^smtp \\(shared\\): rolling out v2\\n✓ ${first} v3 live.*\\n$`)),
    })
    expect((await run('secret create --shared --name smtp --kv SMTP_PASSWORD=third --rollout')).stdout).toContain(
      `✓ ${first} v4 live`,
    )
    expect(await run('secret deploy smtp --shared')).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^No change./),
    })
  }, 60_000)

  test('a shared one goes out app after app', async () => {
    const [first, second] = [await newApp(), await newApp()]
    await run('secret create --shared --name mail --kv MAIL_PASSWORD=first')
    for (const app of [first, second]) await run(`deploy --name ${app} --env-from mail`)
    await run('secret create --shared --name mail --kv MAIL_PASSWORD=second')
    const deployed = await run('secret deploy mail --shared --wave-size 1')
    expect(deployed).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(
        new RegExp(`^mail \\(shared\\): rolling out v2\\n✓ ${first} v3 live.*\\n✓ ${second} v3 live.*\\n$`),
      ),
      stderr: expect.stringContaining(`First ${first}; once it is live ${second}.\nRolling out ${first} v3 … `),
    })
    const program = await json('secret create --shared --name mail --kv MAIL_PASSWORD=third --rollout')
    expect(program).toMatchObject({
      wave: expect.stringMatching(/^wav_/),
      rollouts: [{ state: 'live' }, { state: 'live' }],
    })
    expect((await run(`deploy status ${program.wave}`)).stdout).toContain('mail v3: the wave through 2 apps is done\n')
    expect(await run('secret deploy mail --shared')).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^No change./),
    })
  }, 60_000)

  test('a wave that stops says where, and how to go on', async () => {
    const [first, second] = [await newApp(), await newApp()]
    await run('secret create --shared --name mode --kv MODE=fine')
    const crashing = '--port 80 --env SIMULATE_CRASH_IF=MODE=broken'
    write('satusky.toml', `[app]\nname = "${first}"\nport = 80\nenv_from = ["mode"]\n[checks]\nhealth_path = "/"\n`)
    await run('deploy --env SIMULATE_CRASH_IF=MODE=broken')
    await run(`deploy --name ${second} --env-from mode ${crashing}`)
    const stopped = await run('secret create --shared --name mode --kv MODE=broken --rollout')
    expect(stopped.code).toBe(7)
    expect(stopped.stderr).toMatch(
      new RegExp(
        `Error: ${first} v3 failed and was rolled back: the previous version \\(v2\\) is still serving. The wave was stopped, not rolled out to ${second}.\\n`,
      ),
    )
    const [, wave] = /Fix: 1ctl secret deploy --resume (wav_\w+), or --abort wav_/.exec(stopped.stderr) ?? []
    expect((await run(`deploy status ${wave}`)).code).toBe(7)
    expect((await run(`secret deploy --resume ${wave}`)).code).toBe(7)
    expect((await run(`secret deploy --abort ${wave}`)).stdout).toBe(
      `The wave of mode v2 ends here; as they are: ${second}.\n`,
    )
    expect((await run(`secret deploy --abort ${wave}`)).code).toBe(6)
  }, 60_000)

  test('create for an app that is not deployed yet stores, and rolls out nothing', async () => {
    const app = newName()
    expect(await run(`secret create --app ${app} --kv A=1`)).toMatchObject({
      code: 0,
      stdout: `✓ ${app}-secrets (app ${app}): 1 added\n  A  added  1 char\n`,
      stderr: '',
    })
    expect(await run(`deploy --name ${app} --image acme/api:1.0 --env-from ${app}-secrets`)).toMatchObject({ code: 0 })
    expect(Object.keys(await environmentOf(app))).toEqual(['A'])
  })
})

describe('1ctl logs', () => {
  test('shows what each pod wrote, behind its service and name', async () => {
    const app = await newApp()
    expect(await run(`logs ${app}`)).toEqual({
      code: 0,
      stdout: expect.stringMatching(
        new RegExp(`^(?:${app}/${app}-\\S+ .*\\n)*${app}/${app}-\\S+ started acme/api:1.0 with .*\\n$`),
      ),
      stderr: '',
    })
    expect((await run(`logs ${app} --tail 1`)).stdout.trim().split('\n')).toHaveLength(1)
    write('satusky.toml', `[app]\nname = "${app}"\n`)
    expect((await run(`logs --service ${app}`)).stdout).toContain('started')
  })

  test('-f goes on with pods that come later, until Ctrl-C', needsTerminal, async () => {
    const app = await newApp()
    await signIn()
    const { code, screen } = await inTerminal(machine, `logs ${app} -f --tail 1`, [
      [
        `${app}/`,
        async () => {
          await run(`env set LATER=1 --app ${app}`)
          return ''
        },
      ],
      ['with 1 environment variables: LATER', '\u0003'],
    ])
    expect(screen).toContain('environment variables: LATER')
    expect(code).toBe(130)
  })

  test.each([
    ['logs nowhere', 3, /^Error: No app "nowhere" in VPC "default"/],
    ['logs refusing --service nowhere', 3, /^Error: .*service "nowhere"/],
    ['logs refusing --tail many', 2, /Write a number from 0 to 5000./],
    ['logs', 2, /^Error: Which app\?/],
  ])('%s ends with %i', async (line, code, message) => {
    await server.client().deploy({ name: 'refusing', image: 'a', replicas: 0 })
    expect(await run(line)).toEqual({ code, stdout: '', stderr: expect.stringMatching(message) })
  })
})

const complete = async (line: string) => (await run(`__complete bash ${line}`)).stdout.trim().split('\n')

test('completion knows apps, services and the commands of deploy', async () => {
  const app = await newApp('--replicas 0')
  expect(await complete('deploy re')).toEqual(
    ['releases', 'rollback', 'redeploy'].filter((word) => word.startsWith('re')),
  )
  expect(await complete('deploy --rep')).toEqual(['--replicas'])
  expect(await complete('deploy --on-failure k')).toEqual(['keep'])
  expect(await complete(`deploy status ${app}`)).toContain(app)
  expect(await complete(`env list --service ${app}`)).toContain(app)
  expect(await complete('deploy dep')).toEqual([''])
})

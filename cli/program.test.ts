import type { Command } from 'commander'
import { describe, expect, test } from 'vitest'
import { optionsOf } from './deps.ts'
import { createProgram, fill } from './program.ts'

/** The handler that a line leads to, its options, and the flags of every command that were given. */
async function parse(line: string) {
  let parsed: { handler: string; options: Record<string, unknown>; flags: Record<string, unknown> } | undefined
  const program = createProgram((handler) => async (...args) => {
    parsed = { handler: handler.name, options: optionsOf(args.at(-1) as Command), flags: program.opts() }
  })
  program.configureOutput({ writeOut: () => {}, writeErr: () => {} })
  await program.parseAsync(line.split(' '), { from: 'user' })
  return parsed
}

describe('what a line means', () => {
  test.each<[string, string, Record<string, unknown>]>([
    ['auth login --token sat_x', 'authLogin', { token: 'sat_x' }],
    ['auth login --token-stdin --url https://x', 'authLogin', { tokenStdin: true, url: 'https://x' }],
    ['auth status', 'authStatus', {}],
    ['auth logout', 'authLogout', {}],
    [
      'profile create dev --url https://x --token sat_x',
      'profileCreate',
      { name: 'dev', url: 'https://x', token: 'sat_x' },
    ],
    ['profile list', 'profileList', {}],
    ['profile ls', 'profileList', {}],
    ['profile use dev', 'profileUse', { profile: 'dev' }],
    ['profile delete dev', 'profileDelete', { profile: 'dev' }],
    ['profile show', 'profileShow', { profile: undefined }],
    ['token list --expiring 14d', 'tokenList', { expiring: 1_209_600_000 }],
    ['api-token list', 'tokenList', {}],
    ['token create --name ci', 'tokenCreate', { name: 'ci' }],
    [
      'token create --name ci --expires 90 --scope read --scope deploy --vpc a --vpc b --app web --tag prod --output-file f',
      'tokenCreate',
      {
        name: 'ci',
        expires: 90,
        scope: ['read', 'deploy'],
        vpc: ['a', 'b'],
        app: ['web'],
        tag: 'prod',
        outputFile: 'f',
      },
    ],
    ['token get tok_abc123', 'tokenView', { tokenId: 'tok_abc123' }],
    ['token enable tok_abc123', 'tokenEnable', { tokenId: 'tok_abc123' }],
    ['token disable tok_abc123', 'tokenDisable', { tokenId: 'tok_abc123' }],
    ['token delete tok_abc123', 'tokenDelete', { tokenId: 'tok_abc123' }],
    ['token rm tok_abc123', 'tokenDelete', { tokenId: 'tok_abc123' }],
    ['token rotate tok_abc123 --grace 30m', 'tokenRotate', { tokenId: 'tok_abc123', grace: 1_800_000 }],
    ['user sessions list', 'sessionList', {}],
    ['user sessions revoke', 'sessionRevoke', { sessionId: undefined }],
    ['user sessions revoke ses_1', 'sessionRevoke', { sessionId: 'ses_1' }],
    ['user sessions revoke --all-except-current', 'sessionRevoke', { sessionId: undefined, allExceptCurrent: true }],
    ['org create acme', 'organizationCreate', { name: 'acme' }],
    ['org rename acme acme-eu', 'organizationPatch', { organization: 'acme', newName: 'acme-eu' }],
    ['org delete acme --confirm=acme', 'organizationDelete', { organization: 'acme', confirm: 'acme' }],
    ['member invite owner@example.test --role viewer', 'memberInvite', { email: 'owner@example.test', role: 'viewer' }],
    ['member role mem_1 admin', 'memberPatch', { memberId: 'mem_1', role: 'admin' }],
    ['member remove mem_1', 'memberDelete', { memberId: 'mem_1' }],
    ['vpc protect prod', 'vpcProtect', { vpc: 'prod' }],
    ['vpc delete prod --confirm prod', 'vpcDelete', { vpc: 'prod', confirm: 'prod' }],
    [
      'audit list --actor a --action token.* --object o --since 2026-04-01 --until 2026-04-02T00:00:00Z --limit 7 --installation',
      'auditList',
      {
        actor: 'a',
        action: 'token.*',
        object: 'o',
        since: '2026-04-01T00:00:00.000Z',
        until: '2026-04-02T00:00:00.000Z',
        limit: 7,
        installation: true,
      },
    ],
    ['audit verify', 'auditVerify', {}],
    ['deploy', 'deploy', { command: undefined, waitTimeout: 300_000 }],
    [
      'deploy --name api -d dep_1 --config staging --vpc eu --image a --port 80 --replicas 2 --env A=1 --env B=2 --env-from s --secret-file t --on-failure keep --note n --stage --dry-run --detach --wait-timeout 90',
      'deploy',
      {
        command: undefined,
        name: 'api',
        deploymentId: 'dep_1',
        config: 'staging',
        vpc: 'eu',
        image: 'a',
        port: 80,
        replicas: 2,
        env: ['A=1', 'B=2'],
        envFrom: ['s'],
        secretFile: ['t'],
        onFailure: 'keep',
        note: 'n',
        stage: true,
        dryRun: true,
        detach: true,
        waitTimeout: 90_000,
      },
    ],
    ['deploy --no-wait', 'deploy', { command: undefined, wait: false, waitTimeout: 300_000 }],
    ['deploy --wait --wait-timeout 5m', 'deploy', { command: undefined, wait: true, waitTimeout: 300_000 }],
    ['deploy list --vpc eu', 'appList', { vpc: 'eu' }],
    ['deploy ls', 'appList', {}],
    ['deploy status rol_1 --wait-timeout 1h', 'rolloutStatus', { target: 'rol_1', waitTimeout: 3_600_000 }],
    ['deploy releases api', 'releaseList', { app: 'api' }],
    [
      'deploy rollback v3 --app api --secrets release',
      'appRollback',
      { release: 3, app: 'api', secrets: 'release', waitTimeout: 300_000 },
    ],
    ['deploy redeploy', 'appRedeploy', { app: undefined, waitTimeout: 300_000 }],
    ['deploy env api --explain A', 'effectiveEnv', { app: 'api', explain: 'A' }],
    ['deploy delete api --confirm=api', 'appDelete', { app: 'api', confirm: 'api' }],
    ['env set A=1 B=2 --stage', 'envSet', { pairs: ['A=1', 'B=2'], stage: true, waitTimeout: 300_000 }],
    [
      'env set --from-secret s/K A --service web',
      'envSet',
      { pairs: ['A'], fromSecret: [{ secret: 's', key: 'K' }], service: 'web', waitTimeout: 300_000 },
    ],
    ['env list', 'envList', {}],
    ['env unset A B', 'envUnset', { variable: ['A', 'B'], waitTimeout: 300_000 }],
    ['env import .env', 'envImport', { file: '.env', waitTimeout: 300_000 }],
    ['logs api -f --tail 5', 'logs', { app: 'api', follow: true, tail: 5 }],
    ['secret deploy smtp --shared', 'secretDeploy', { group: 'smtp', shared: true, waitTimeout: 300_000 }],
    [
      'secret unset -k A --rollout --wave-size 3 --no-wait',
      'secretUnset',
      { key: ['A'], rollout: true, waveSize: 3, wait: false, waitTimeout: 300_000 },
    ],
    ['status', 'status', {}],
    ['config show --sources', 'configShow', { sources: true }],
  ])('%s', async (line, handler, options) => {
    expect(await parse(line)).toMatchObject({ handler, options })
    expect((await parse(line))?.options).toEqual(options)
  })
})

test('the flags of every command count in any position', async () => {
  const flags = { profile: 'prod', output: 'json', quiet: true, yes: true, input: false, color: false, timeout: 5000 }
  for (const line of [
    '--profile prod -o json -q -y --no-input --no-color --timeout 5 token delete tok_1',
    'token --profile prod delete -o json -qy tok_1 --no-input --no-color --timeout 5s',
    'token delete tok_1 --profile=prod --output=json --quiet --yes --no-input --no-color --timeout=5000ms',
  ]) {
    expect(await parse(line), line).toMatchObject({ handler: 'tokenDelete', options: { tokenId: 'tok_1' }, flags })
  }
})

describe('what is wrong is named', () => {
  test.each([
    ['tokn list', "unknown command 'tokn'\n(Did you mean token?)"],
    ['token lits', "unknown command 'lits'\n(Did you mean list?)"],
    ['token list --expirng 3d', "unknown option '--expirng'\n(Did you mean --expiring?)"],
    ['token create', "required option '--name <name>' not specified"],
    ['token create --name', "option '--name <name>' argument missing"],
    ['token create --name x --expires soon', 'Write days (90), a date (2026-12-31) or never.'],
    ['token create --name x --scope reed', 'Did you mean "read"?'],
    ['token get', "missing required argument 'token-id'"],
    ['token get a b', 'too many arguments'],
    ['member invite owner@example.test', "required option '--role <role>' not specified"],
    ['member role mem_1 boss', 'It is one of: owner, admin, developer, viewer.'],
    ['audit list --limit 0', 'Write a whole number, 1 or more.'],
    ['-o xml status', 'It is one of: table, json, yaml, name.'],
    ['deploy --wait-timeout soon', 'Write a number with a unit: 30s, 15m, 24h, 7d.'],
    ['deploy list --image a', "unknown option '--image'"],
    ['secret create --stage --rollout', "option '--rollout' cannot be used with option '--stage'"],
    ['completion tcsh', 'It is one of: bash, zsh, fish, powershell.'],
  ])('%s', async (line, message) => {
    await expect(parse(line)).rejects.toThrow(message)
  })
})

test('no command has a flag that every command has already', () => {
  // Without --version, which `secret restore` has of its own.
  const program = createProgram(notRun, ['restore'])
  const common = program.options.flatMap(({ short, long }) => [short, long])
  const commandsOf = (parent: Command): Command[] =>
    parent.commands.flatMap((command) => [command, ...commandsOf(fill(command, notRun))])
  const commands = commandsOf(program)
  expect(commands.length).toBeGreaterThan(60)
  for (const command of commands) {
    const own = command.options.flatMap(({ short, long }) => [short, long]).filter(Boolean)
    expect(
      own.filter((flag) => common.includes(flag)),
      command.name(),
    ).toEqual([])
  }
})

const notRun = () => async () => {}

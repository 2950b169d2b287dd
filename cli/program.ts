import { Command, Help, Option } from 'commander'
import { choiceOption, examples } from './command.ts'
import { adminCommands } from './commands/admin.ts'
import { auditCommands } from './commands/audit.ts'
import { authCommands } from './commands/auth.ts'
import { completionCommand } from './commands/completion.ts'
import { configCommands } from './commands/config.ts'
import { deployCommands } from './commands/deploy.ts'
import { envCommands } from './commands/env.ts'
import { helpCommand } from './commands/help.ts'
import { logsCommand } from './commands/logs.ts'
import { memberCommands } from './commands/member.ts'
import { organizationCommands } from './commands/organization.ts'
import { profileCommands } from './commands/profile.ts'
import { secretCommands } from './commands/secret.ts'
import { statusCommand } from './commands/status.ts'
import { tokenCommands } from './commands/token.ts'
import { userCommands } from './commands/user.ts'
import { vpcCommands } from './commands/vpc.ts'
import type { Run } from './deps.ts'
import { version } from './version.ts'
import { duration } from './words.ts'

/** The nouns: `1ctl token …`, and what has many flags. */
const nouns: Noun[] = [
  {
    name: 'auth',
    about: 'Sign in with a token, see who you are, sign out',
    example: '1ctl auth login',
    commands: authCommands,
  },
  {
    name: 'profile',
    about: 'Several addresses and tokens: dev, staging, production',
    example: '1ctl profile create dev --url https://dev-api.satusky.com',
    commands: profileCommands,
  },
  {
    name: 'deploy',
    about: 'Run an app, or change how it runs; follow it until all pods do',
    example: [
      '1ctl deploy --image acme/api:1.1',
      '1ctl deploy --name api --image acme/api:1.0 --port 3000 --env-from db-creds --secret-file tls-bundle',
      '1ctl deploy --config staging --dry-run',
    ],
    commands: deployCommands,
  },
  {
    name: 'env',
    about: 'Variables of an app that may be read; for others see secret',
    example: '1ctl env set LOG_LEVEL=debug',
    commands: envCommands,
  },
  {
    name: 'logs',
    about: 'Show what the containers of an app write; values of its secrets are blotted out',
    example: ['1ctl logs', '1ctl logs api -f --tail 20', '1ctl logs api --service worker'],
    isCommand: true,
    commands: logsCommand,
  },
  {
    name: 'secret',
    alias: 'secrets',
    about: 'Keys and values that nobody can read again, for your apps',
    example: '1ctl secret create --kv DATABASE_PASSWORD',
    commands: secretCommands,
  },
  {
    name: 'token',
    alias: 'api-token',
    about: 'API tokens, for CI, scripts and this CLI',
    example: '1ctl token create --name github-actions --expires 90',
    commands: tokenCommands,
  },
  {
    name: 'user',
    about: 'What belongs to you alone: browser sessions',
    example: '1ctl user sessions revoke',
    commands: userCommands,
  },
  {
    name: 'org',
    about: 'Organizations, which own members, tokens and VPCs',
    example: '1ctl org create acme-eu',
    commands: organizationCommands,
  },
  {
    name: 'member',
    about: 'Who belongs to the organization, and as what',
    example: '1ctl member invite owner@example.test --role developer',
    commands: memberCommands,
  },
  {
    name: 'vpc',
    about: 'Isolated environments, each a Kubernetes namespace',
    example: '1ctl vpc create staging',
    commands: vpcCommands,
  },
  {
    name: 'audit',
    about: 'What was done and what was refused, by whom',
    example: '1ctl audit list --since 24h',
    commands: auditCommands,
  },
  {
    name: 'admin',
    about: 'Run the installation: seal, unseal, change the master key',
    example: '1ctl admin status',
    commands: adminCommands,
  },
  { name: 'config', about: 'What commands would use', example: '1ctl config show --sources', commands: configCommands },
]
type Noun = {
  name: string
  alias?: string
  about: string
  example: string | string[]
  /** a command itself, without others below it */
  isCommand?: true
  commands: (noun: Command, run: Run) => void
}

/** All commands and flags. Nothing happens in here: `run` decides what becomes of a parsed command. */
export function createProgram(run: Run, argv: string[] = []): Command {
  const program = new Command('1ctl')
    .description('The control plane for application secrets on Kubernetes')
    .usage('<command> [flags]')
    .exitOverride()
    .configureOutput({ outputError: () => {} }) // main.ts prints errors
    .configureHelp({
      showGlobalOptions: true,
      // The page of a noun is about its commands.
      visibleGlobalOptions(command) {
        return command.commands.length > 0 ? [] : Help.prototype.visibleGlobalOptions.call(this, command)
      },
    })
    .helpCommand(false)
    .helpOption('-h, --help', 'show help')
    .addHelpText(
      'before',
      examples('1ctl auth login', '1ctl secret create --kv DATABASE_PASSWORD', '1ctl deploy', '1ctl status'),
    )
  // `secret restore --version 3` means another one, and commander would find this first, wherever it stands.
  if (!argv.includes('restore')) program.version(`1ctl ${version}`, '--version', 'show the version')

  // Options of the program are found in any position, before and after the command.
  program
    .option('--profile <profile>', 'use this profile for this command')
    .addOption(
      choiceOption('-o, --output <format>', 'form of the result', ['table', 'json', 'yaml', 'name']).default('table'),
    )
    .option('--json', 'the same as -o json')
    .option('--wide', 'more columns')
    .option('-q, --quiet', 'print only what is essential: names, ids, a new token')
    .option('-y, --yes', 'answer yes where a command asks')
    .option('--no-input', 'never ask')
    .option('--no-color', 'no color')
    .option('--debug', 'show requests on stderr, without tokens and bodies')
    .addOption(
      new Option('--timeout <duration>', 'how long to wait for an answer')
        .argParser(duration('s'))
        .default(30_000, '30s'),
    )

  for (const { name, alias, about } of nouns) {
    const noun = program.command(name).description(about)
    if (alias) noun.alias(alias)
  }
  statusCommand(program, run)
  completionCommand(program, run)
  helpCommand(program, run)

  // Filled when needed: making all commands takes 5 ms and more, which every single one would pay.
  return program.hook('preSubcommand', (_, command) => void fill(command, run))
}

/** The commands of a noun, or what a command takes, made now. */
export function fill(command: Command, run: Run): Command {
  // `deploy env` is no noun, though there is one of this name.
  const isTop = command.parent !== null && command.parent.parent === null
  const noun = isTop && !filled.has(command) ? nouns.find(({ name }) => name === command.name()) : undefined
  if (!noun) return command
  filled.add(command)
  command.addHelpText('before', examples(...[noun.example].flat()))
  if (!noun.isCommand) command.usage('<command> [flags]').helpCommand(false)
  noun.commands(command, run)
  return command
}
const filled = new WeakSet<Command>()

import type { Command } from 'commander'
import { defaultUrl } from '../address.ts'
import { examples } from '../command.ts'
import type { Run } from '../deps.ts'
import { exitCodes, usage } from '../errors.ts'
import { nearest } from '../words.ts'

export function helpCommand(program: Command, run: Run): void {
  program
    .command('help')
    .description(`Show help for a command, or on ${Object.keys(topics).join(', ')}`)
    .argument('[topic...]', 'a command or a topic')
    .addHelpText('before', examples('1ctl help token create', '1ctl help environment'))
    .action(
      run(async ({ topic }: { topic: string[] }, { out }) => {
        const [word] = topic
        const page = topics[topic.join(' ')]
        if (page !== undefined) return out.text(page.replace(/^\n+|\s+$/g, ''))
        const names = program.commands.flatMap((command) => [command.name(), ...command.aliases()])
        if (word !== undefined && !names.includes(word)) throw unknownTopic(word, [...names, ...Object.keys(topics)])
        await program.parseAsync([...topic, '--help'], { from: 'user' })
      }),
    )
}

function unknownTopic(word: string, known: string[]) {
  const guess = nearest(word, known)
  return usage(`There is no help on "${word}".`, guess ? `Did you mean "${guess}"?` : '1ctl help')
}

const topics: Record<string, string> = {
  environment: `
SATUSKY_API_KEY            a token; comes before the active profile and ~/.satusky/context.json
SATUSKY_API_URL            the address that SATUSKY_API_KEY goes to (default: ${defaultUrl})
SATUSKY_PROFILE            the profile to use instead of the active one
SATUSKY_NO_ARGV_WARNING    set: no warning about tokens and values on the command line
NO_COLOR, FORCE_COLOR      set: never color, always color; TERM=dumb means no color
NODE_EXTRA_CA_CERTS        a file with certificates to trust, for a server with a certificate of your own authority
HOME                       where ~/.satusky lies

Whether a command may ask something is decided by stdin alone: it must be a terminal.`,

  'exit-codes': Object.values(exitCodes)
    .map(({ code, means }) => `${String(code).padStart(3)}  ${means}`)
    .join('\n'),

  dotenv: `
What 1ctl secret import, diff and --from-env-file read, the same in CLI and dashboard. Strict, because readers that guess
store wrong values: with one error nothing is stored. Errors name file, line and key, and never show what is there.

  KEY=value            until the end of the line; spaces around it do not count
  KEY=value # note     # begins a comment after a space only: PASS=a#b is a#b
  KEY='any text'       as it is; may have several lines
  KEY="a\\nb"           the same, and \\n \\r \\t \\\\ \\" are replaced
  export KEY=value     export may stand in front

Nothing is interpolated: $ is $. Names have letters, digits and underscores, and each stands once. UTF-8; lines end with
LF or CRLF. JSON is one object of strings: {"KEY": "value"}; there names may also have dots and dashes (tls.crt).`,

  'satusky.toml': `
One file for each app and environment: satusky.toml, satusky.staging.toml (--config staging). 1ctl deploy does what it says;
other commands take from it which app is meant. It belongs into the repository, so no secret belongs into it.

  [app]
  name = "api"                  # or deployment_id = "dep_…", which comes first
  vpc = "default"
  image = "acme/api:1.0"
  port = 3000
  replicas = 2
  command = ["node", "api.js"]  # and args = […]
  env_from = ["db-creds"]       # secrets: each key becomes a variable
  secret_files = ["tls-bundle"] # secrets: each key becomes a file /run/secrets/KEY
  on_failure = "rollback"       # or "keep"
  security = "baseline"         # or "restricted"
  resources = { requests = { cpu = "100m", memory = "64Mi" }, limits = { memory = "128Mi" } }

  [checks]
  health_path = "/healthz"      # a pod is ready once this answers 200 on the port

  [env]                         # variables that may be read, and links to keys of secrets
  LOG_LEVEL = "info"
  DATABASE_URL = { secret = "db-creds", key = "DATABASE_URL" }

  [services.worker]             # several workloads; without any, the app is one of its own name
  command = ["node", "worker.js"]
  env_from = ["queue"]          # after those of the app
  env = { LOG_LEVEL = "debug" }

Of several values for one variable the last counts: env_from of the app, env_from of the service, [env], env of the service.
See which: 1ctl deploy env --explain KEY. Flags come before the file; lists and variables are added to it. What the file does
not list any more goes with the next deploy; what was set by 1ctl env set or attached by 1ctl secret create stays.`,

  rollouts: `
A change of an app, its variables or its secrets is a release. It rolls out at once, and the command waits until every pod
runs it: exit 0 means live. Old pods serve until new ones are ready.

  pods reject it          the release before is put back, the pod's own words are shown: exit 7 (--on-failure keep: it stays)
  --wait-timeout passes   exit 8; the rollout goes on
  Ctrl-C                  ends the waiting, not the rollout
  --detach, --no-wait     does not wait
  1ctl deploy status      follows the last rollout, or that of an id: rol_…

  --stage                 saves without rolling out. No restart applies it; 1ctl secret deploy or 1ctl deploy redeploy does
  a shared secret         is staged unless --rollout says otherwise, because several apps use it. Then one app comes first, the
                          others --wave-size at a time, until one fails: 1ctl secret deploy --resume wav_… or --abort wav_…
  1ctl deploy rollback 3  runs release 3 again, with the secrets of now, or those of then: --secrets release`,

  precedence: `
The token and the address it goes to come from the first of these that is there:

  1. --profile <profile>
  2. SATUSKY_API_KEY, with SATUSKY_API_URL or the default address
  3. the profile in SATUSKY_PROFILE, else the active profile (1ctl profile use)
  4. ~/.satusky/context.json (1ctl auth login)

A profile that does not exist is an error (exit 3): no other credential is used in its place. A stored token goes only
to the address stored with it, over https or to this machine itself, and redirects are not followed.

Which app a command means comes from its argument, --deployment-id or --app (with --vpc), else --config staging
(satusky.staging.toml, or a path), else satusky.toml in the working folder or a parent, up to the root of the repository. A
secret may also be of a VPC (--vpc alone) or of all apps (--shared). 1ctl deploy takes --name for the app.

See what is in force: 1ctl config show --sources`,
}

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

  precedence: `
The token and the address it goes to come from the first of these that is there:

  1. --profile <profile>
  2. SATUSKY_API_KEY, with SATUSKY_API_URL or the default address
  3. the profile in SATUSKY_PROFILE, else the active profile (1ctl profile use)
  4. ~/.satusky/context.json (1ctl auth login)

A profile that does not exist is an error (exit 3): no other credential is used in its place. A stored token goes only
to the address stored with it, over https or to this machine itself, and redirects are not followed.

Which app a secret belongs to comes from --deployment-id, else --config staging (satusky.staging.toml, or a path), else
satusky.toml in the working folder or a parent, up to the root of the repository; or from --app, --vpc or --shared.

See what is in force: 1ctl config show --sources`,
}

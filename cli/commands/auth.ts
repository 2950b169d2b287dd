import type { Command } from 'commander'
import { type Account, masked, sourceOf } from '../account.ts'
import { baseOf, defaultUrl } from '../address.ts'
import { examples } from '../command.ts'
import type { Deps, Run } from '../deps.ts'
import { CliError, notLoggedIn, usage } from '../errors.ts'
import { readToken, type TokenInput } from '../token-input.ts'
import { day } from '../words.ts'

export function authCommands(auth: Command, run: Run): void {
  auth
    .command('login')
    .description('Check a token with the API and keep it in ~/.satusky/context.json')
    .option('--token <token>', 'an API token, from the dashboard under Settings → API Tokens')
    .option('--token-stdin', 'read the token from stdin')
    .option('--url <url>', `address of the API (default: ${defaultUrl})`)
    .addHelpText(
      'before',
      examples(
        '1ctl auth login',
        '1ctl auth login --token sat_xxxxxxxxxxxxxxxxxxxxxxxx',
        '1ctl auth login --url https://1ctl.example.test --token-stdin < token.txt',
      ),
    )
    .action(run(authLogin))

  auth
    .command('status')
    .description('Who is signed in, where, and with which token')
    .addHelpText('before', examples('1ctl auth status', '1ctl auth status -o json'))
    .action(run(authStatus))

  auth
    .command('logout')
    .description('Remove the token from ~/.satusky/context.json; it stays valid on the server')
    .addHelpText('before', examples('1ctl auth logout'))
    .action(run(authLogout))
}

export async function authLogin({ url, ...input }: TokenInput & { url?: string }, deps: Deps): Promise<void> {
  const { flags, home, out, note } = deps
  if (flags.profile !== undefined) {
    throw usage(
      'auth login writes ~/.satusky/context.json, not a profile.',
      `1ctl profile create ${flags.profile} --url <url> --token <token> -y`,
    )
  }
  const other = deps.findAccount() // and its notices, before the token goes anywhere
  const base = baseOf(url ?? defaultUrl)
  const account: Account = { url: base, token: await readToken(input, deps), source: { kind: 'given' } }

  const { user, organization } = await deps.clientFor(account).meView()
  home.saveContext({ url: base, token: account.token, email: user.email, organization: organization?.name ?? null })

  out.one({ user, organization, apiUrl: base }, user.email, [
    `Authenticated as ${user.email} (org: ${organization?.name ?? 'none'})`,
    'Context saved to ~/.satusky/context.json',
  ])
  if (other && other.source.kind !== 'context') note(`Note: ${sourceOf(other)} comes before this login.`)
}

export async function authStatus(_: object, deps: Deps): Promise<void> {
  const { flags, out, note } = deps
  const account = deps.findAccount()
  if (!account) {
    const error = notLoggedIn()
    if (flags.output !== 'table') throw error
    out.text(error.message)
    throw new CliError(error.exit, error.code, '')
  }
  const { user, organization, token } = await deps.clientFor(account).meView()
  const apiUrl = baseOf(account.url)
  const { prefix, last4, text } = masked(account.token)

  const shown = {
    prefix,
    last4,
    source: sourceOf(account),
    expiresAt: token?.expiresAt ?? null,
    scopes: token?.scopes ?? null,
  }
  out.one({ user, organization, apiUrl, token: shown }, user.email, [
    `Logged in as: ${user.email}`,
    `Organization: ${organization?.name ?? 'none'}`,
    `API URL: ${apiUrl}`,
    `Token: ${text}`,
  ])
  note(
    `The token comes from ${shown.source} and ${token?.expiresAt ? `expires on ${day(token.expiresAt)}` : 'never expires'}.`,
  )
}

export function authLogout(_: object, deps: Deps): void {
  const { home, out, note } = deps
  const context = home.context()
  if (context) home.saveContext(undefined)
  out.one({ loggedOut: context !== undefined }, '~/.satusky/context.json', [
    context
      ? 'Logged out: the token is removed from ~/.satusky/context.json'
      : 'There is no token in ~/.satusky/context.json.',
  ])
  if (context) note('The token is still valid on the server. To end it: 1ctl token delete, or Settings → API Tokens.')
  const used = deps.findAccount()
  if (used) note(`Note: you are still signed in by ${sourceOf(used)}.`)
}

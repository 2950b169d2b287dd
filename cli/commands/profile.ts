import { isTokenWhole } from '@1ctl/contract/token-format'
import type { Command } from 'commander'
import { masked, profileNamed } from '../account.ts'
import { baseOf } from '../address.ts'
import { examples } from '../command.ts'
import type { Deps, Run } from '../deps.ts'
import { CliError, usage } from '../errors.ts'
import { readToken, type TokenInput } from '../token-input.ts'

export function profileCommands(profile: Command, run: Run): void {
  profile
    .command('create')
    .description('Store an address and its token as a profile, and make it the active one')
    .argument('<name>', 'letters, digits, dots, dashes and underscores')
    .requiredOption('--url <url>', 'address of the API')
    .option('--token <token>', 'an API token of that address')
    .option('--token-stdin', 'read the token from stdin')
    .addHelpText(
      'before',
      examples(
        '1ctl profile create dev --url https://dev-api.satusky.com',
        '1ctl profile create prod --url https://api.satusky.com --token-stdin < token.txt',
      ),
    )
    .action(run(profileCreate))

  profile
    .command('list')
    .alias('ls')
    .description('List the profiles; * marks the active one')
    .addHelpText('before', examples('1ctl profile list'))
    .action(run(profileList))

  profile
    .command('use')
    .description('Make a profile the active one: commands use its address and token')
    .argument('[profile]')
    .option('--none', 'no active profile: commands use what `1ctl auth login` stored')
    .addHelpText(
      'before',
      examples('1ctl profile use dev', '1ctl profile use --none', '1ctl --profile prod token list'),
    )
    .action(run(profileUse))

  profile
    .command('show')
    .description('Show a profile, by default the one that commands use')
    .argument('[profile]')
    .addHelpText('before', examples('1ctl profile show', '1ctl profile show prod'))
    .action(run(profileShow))

  profile
    .command('delete')
    .alias('rm')
    .description('Delete a profile; its token stays valid on the server')
    .argument('<profile>')
    .addHelpText('before', examples('1ctl profile delete dev', '1ctl profile delete dev -y'))
    .action(run(profileDelete))
}

export async function profileCreate({ name, url, ...input }: TokenInput & { name: string; url: string }, deps: Deps) {
  if (!/^[A-Za-z0-9][\w.-]{0,63}$/.test(name)) {
    throw usage(
      `"${name}" cannot be the name of a profile.`,
      'Use letters, digits, dots, dashes and underscores: prod-eu',
    )
  }
  baseOf(url) // refuses what no token may be sent to
  const stored = deps.home.profiles()
  if (Object.hasOwn(stored.profiles, name)) await deps.prompt.confirm(`There is a profile "${name}". Replace it?`)
  const token = await readToken(input, deps)
  if (!isTokenWhole(token)) deps.note('Warning: this token looks mistyped or cut.')

  deps.home.saveProfiles({ active: name, profiles: { ...stored.profiles, [name]: { url, token } } })
  deps.out.one({ name, url, active: true }, name, [`Profile "${name}" saved. It is the active one now.`])
  noteIfOverridden(deps)
}

export function profileList(_: object, deps: Deps): void {
  const { active, profiles } = deps.home.profiles()
  const items = Object.entries(profiles).map(([name, { url }]) => ({ name, url, active: name === active }))
  deps.out.list(
    items,
    [
      { header: 'NAME', cell: ({ name, active }) => (active ? `* ${name}` : name) },
      { header: 'URL', cell: ({ url }) => url },
      { header: 'ACTIVE', cell: ({ active }) => (active ? 'true' : '') },
    ],
    ({ name }) => name,
  )
  if (items.length === 0) deps.note('No profiles yet. To make one: 1ctl profile create <name> --url <url>')
}

export function profileUse({ profile, none }: { profile?: string; none?: boolean }, deps: Deps): void {
  if ((profile === undefined) === !none) throw usage('Name a profile, or use --none.', '1ctl profile list')
  const { profiles } = deps.home.profiles()
  if (profile !== undefined) profileNamed({ active: null, profiles }, profile)
  deps.home.saveProfiles({ active: profile ?? null, profiles })
  deps.out.one({ active: profile ?? null }, profile ?? '', [
    profile === undefined ? 'No profile is active now.' : `Profile "${profile}" is the active one now.`,
  ])
  noteIfOverridden(deps)
}

export function profileShow({ profile }: { profile?: string }, { flags, env, home, out }: Deps): void {
  const stored = home.profiles()
  const name = profile ?? flags.profile ?? (env.SATUSKY_PROFILE || stored.active)
  if (name === null)
    throw new CliError('notFound', 'profile_not_found', 'No profile is active.', { fix: '1ctl profile list' })
  const { url, token } = profileNamed(stored, name)
  const { prefix, last4, text } = masked(token)
  const active = name === stored.active
  out.one({ name, url, active, token: { prefix, last4 }, file: '~/.satusky/profiles.json' }, name, [
    `Name: ${name}`,
    `URL: ${url}`,
    `Token: ${text}`,
    `Active: ${active}`,
    'File: ~/.satusky/profiles.json',
  ])
}

export async function profileDelete(
  { profile }: { profile: string },
  { home, out, note, prompt }: Deps,
): Promise<void> {
  const stored = home.profiles()
  profileNamed(stored, profile)
  const active = stored.active === profile
  if (active) await prompt.confirm(`"${profile}" is the active profile. Delete it?`)
  const { [profile]: _, ...profiles } = stored.profiles
  home.saveProfiles({ active: active ? null : stored.active, profiles })
  out.one({ name: profile, deleted: true }, profile, [`Profile "${profile}" deleted.`])
  if (active) note('No profile is active now. To choose one: 1ctl profile use <profile>')
}

function noteIfOverridden({ env, note }: Deps): void {
  if (env.SATUSKY_API_KEY) note('Note: SATUSKY_API_KEY is set and comes before the active profile.')
  else if (env.SATUSKY_PROFILE)
    note(`Note: SATUSKY_PROFILE=${env.SATUSKY_PROFILE} is set and comes before the active profile.`)
}

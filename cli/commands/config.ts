import type { Command } from 'commander'
import { masked, sourceOf } from '../account.ts'
import { baseOf } from '../address.ts'
import { examples } from '../command.ts'
import type { Deps, Run } from '../deps.ts'
import { findAppConfig } from '../satusky-toml.ts'

export function configCommands(config: Command, run: Run): void {
  config
    .command('show')
    .description('Show the settings in force')
    .option('--sources', 'and where each comes from')
    .addHelpText('before', examples('1ctl config show', '1ctl --profile prod config show --sources'))
    .action(run(configShow))
}

export function configShow({ sources }: { sources?: boolean }, deps: Deps): void {
  const { env, flags, home, out } = deps
  const account = deps.findAccount()
  const profile = account && 'profile' in account.source ? account.source.profile : undefined
  const accountSource = account ? sourceOf(account) : 'not set'
  const url = account?.source.kind === 'key' ? (env.SATUSKY_API_URL ? 'SATUSKY_API_URL' : 'default') : accountSource
  const appConfig = findAppConfig(undefined)
  const settings = [
    { name: 'profile', value: profile ?? '-', source: profile === undefined ? 'not set' : accountSource },
    { name: 'api-url', value: account ? baseOf(account.url) : '-', source: url },
    { name: 'token', value: account ? masked(account.token).text : '-', source: accountSource },
    { name: 'app-config', value: appConfig ?? '-', source: appConfig ? 'working folder or a parent' : 'not found' },
    { name: 'timeout', value: `${flags.timeout / 1000}s`, source: flags.timeout === 30_000 ? 'default' : '--timeout' },
    { name: 'files', value: home.files().join(',') || '-', source: '~/.satusky' },
  ]
  out.list(
    settings,
    [
      { header: 'NAME', cell: ({ name }) => name },
      { header: 'VALUE', cell: ({ value }) => value },
      ...(sources ? [{ header: 'SOURCE', cell: ({ source }: { source: string }) => source }] : []),
    ],
    ({ name }) => name,
  )
}

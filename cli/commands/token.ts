import type { ApiContract, Output } from '@1ctl/contract'
import type { Client } from '@1ctl/contract/client'
import { limits } from '@1ctl/contract/limits'
import { type Scope, scopes } from '@1ctl/contract/permissions'
import { type Command, InvalidArgumentError } from 'commander'
import { choiceOption, examples } from '../command.ts'
import type { Deps, Run } from '../deps.ts'
import { usage } from '../errors.ts'
import { keepOnce } from '../once.ts'
import { everyPage, idOf } from '../pages.ts'
import { day, dayMs, duration, hourMs, oneOf, repeated } from '../words.ts'

type Token = Output<ApiContract['tokenView']>

export function tokenCommands(token: Command, run: Run): void {
  token
    .command('list')
    .alias('ls')
    .description('List the API tokens of the organization')
    .option('--expiring <within>', 'only those that expire within this time: 14d', duration('d'))
    .addHelpText('before', examples('1ctl token list', '1ctl token list --expiring 14d --wide'))
    .action(run(tokenList))

  token
    .command('create')
    .description('Create an API token; its value is shown once')
    .requiredOption('--name <name>', 'what it is for')
    .option('--expires <when>', 'days (90), a date (2026-12-31), or never, which is the default', expiry)
    .addOption(
      choiceOption('--scope <scope>', 'what it may do; repeat for more (default: what you may)', scopes).argParser(
        repeated(oneOf(scopes)),
      ),
    )
    .option('--vpc <vpc>', 'limit it to this VPC; repeat for more', repeated(String))
    .option('--app <app>', 'limit it to this app; repeat for more', repeated(String))
    .option('--tag <tag>', 'a word shown inside the token: prod gives sat_prod_…')
    .option('--output-file <path>', 'write the value to this file (mode 0600) and do not show it')
    .addHelpText(
      'before',
      examples(
        '1ctl token create --name github-actions --expires 90',
        '1ctl token create --name deployer --scope deploy --vpc staging --expires 30',
        '1ctl token create --name ci --expires 2026-12-31 --output-file ./token',
        'TOKEN=$(1ctl token create --name ci --expires 90 -q)',
      ),
    )
    .action(run(tokenCreate))

  token
    .command('get')
    .description('Show a token: status, expiry, last use; never its value')
    .argument('<token-id>', 'id or name')
    .addHelpText('before', examples('1ctl token get tok_abc123', '1ctl token get github-actions -o json'))
    .action(run(tokenView))

  token
    .command('enable')
    .description('Let a disabled token in again, at once')
    .argument('<token-id>', 'id or name')
    .addHelpText('before', examples('1ctl token enable tok_abc123'))
    .action(run(tokenEnable))

  token
    .command('disable')
    .description('Lock a token out, at once, until it is enabled again')
    .argument('<token-id>', 'id or name')
    .addHelpText('before', examples('1ctl token disable tok_abc123'))
    .action(run(tokenDisable))

  token
    .command('delete')
    .alias('rm')
    .description('Delete a token for good, at once')
    .argument('<token-id>', 'id or name')
    .addHelpText('before', examples('1ctl token delete tok_ghi789', '1ctl token delete tok_ghi789 -y'))
    .action(run(tokenDelete))

  token
    .command('rotate')
    .description('Make a successor with the same name, scopes and lifetime; the old token ends after the grace')
    .argument('<token-id>', 'id or name')
    .option('--grace <duration>', 'how long the old token still works: 0, 30m, 24h, 7d (default: 24h)', duration('h'))
    .option('--output-file <path>', 'write the value to this file (mode 0600) and do not show it')
    .addHelpText('before', examples('1ctl token rotate github-actions', '1ctl token rotate tok_abc123 --grace 0'))
    .action(run(tokenRotate))
}

export async function tokenList({ expiring }: { expiring?: number }, { client, out, note }: Deps): Promise<void> {
  const all = await everyPage(client().tokenList)
  const tokens = expiring === undefined ? all : all.filter((token) => endsWithin(token, expiring))
  out.list(
    tokens,
    [
      { header: 'ID', cell: ({ id }) => id },
      { header: 'NAME', cell: ({ name }) => name },
      { header: 'STATUS', cell: ({ status }) => status },
      { header: 'EXPIRES', cell: ({ expiresAt }) => day(expiresAt) },
      { header: 'SCOPES', cell: ({ scopes }) => scopes?.join(',') ?? 'all', wide: true },
      { header: 'LAST-USED', cell: ({ lastUsedAt }) => out.time(lastUsedAt), wide: true },
      { header: 'CREATED-BY', cell: ({ createdBy }) => createdBy, wide: true },
    ],
    ({ id }) => id,
  )
  if (tokens.length === 0) note(expiring === undefined ? 'No tokens.' : 'No token expires within that time.')
}

type TokenCreateOptions = {
  name: string
  expires?: number | 'never'
  scope?: Scope[]
  vpc?: string[]
  app?: string[]
  tag?: string
  outputFile?: string
}

export async function tokenCreate(options: TokenCreateOptions, deps: Deps): Promise<void> {
  const { name, expires, scope, vpc, app, tag, outputFile } = options
  const show = keepOnce(deps, outputFile)
  const expiresInDays = expires === 'never' ? undefined : expires
  const { token, ...created } = await deps
    .client()
    .tokenCreate({ name, expiresInDays, scopes: scope, vpcs: vpc, apps: app, tag })
  show({ ...once(created, token), lines: [`Token created: ${created.name}`, ...idAndExpiry(created)] })
  if (expires === undefined) deps.note('Hint: this token never expires. One that ends by itself: --expires 90')
}

export async function tokenView({ tokenId }: TokenRef, { client, out }: Deps): Promise<void> {
  const api = client()
  const token = await api.tokenView({ id: await tokenIdOf(api, tokenId) })
  const lastUse =
    token.lastUsedAt && `${out.time(token.lastUsedAt)}${token.lastUsedAddress ? ` from ${token.lastUsedAddress}` : ''}`
  out.one(token, token.id, [
    `ID: ${token.id}`,
    `Name: ${token.name}`,
    `Status: ${token.status}`,
    `Created: ${day(token.createdAt)} by ${token.createdBy}`,
    `Expires: ${day(token.expiresAt)}`,
    `Last used: ${lastUse ?? 'never'}`,
    `Token: ${token.prefix}...${token.last4}`,
    `Scopes: ${token.scopes?.join(', ') ?? 'all that its creator may do'}`,
    `VPCs: ${token.vpcs?.join(', ') ?? 'all'}`,
    `Apps: ${token.apps?.join(', ') ?? 'all'}`,
  ])
}

export async function tokenEnable({ tokenId }: TokenRef, { client, out }: Deps): Promise<void> {
  const api = client()
  const token = await api.tokenPatch({ id: await tokenIdOf(api, tokenId), enabled: true })
  const state = token.status === 'active' ? 'enabled: it is accepted again' : 'enabled, but it has expired'
  out.one(token, token.id, [`Token "${token.name}" (${token.id}) ${state}.`])
}

export async function tokenDisable({ tokenId }: TokenRef, { client, flags, out }: Deps): Promise<void> {
  const api = client()
  const id = await tokenIdOf(api, tokenId)
  if (!flags.yes && (await api.meView()).token?.id === id) throw lockOut(tokenId)
  const token = await api.tokenPatch({ id, enabled: false })
  out.one(token, id, [`Token "${token.name}" (${id}) disabled: it is refused from now on.`])
}

export async function tokenDelete({ tokenId }: TokenRef, { client, flags, out, prompt }: Deps): Promise<void> {
  const api = client()
  const id = await tokenIdOf(api, tokenId)
  if (!flags.yes) {
    const { name } = await api.tokenView({ id })
    await prompt.confirm(
      `Delete the token "${name}" (${id})? Requests with it are refused at once, and this cannot be undone.`,
    )
  }
  await api.tokenDelete({ id })
  out.one({ id, deleted: true }, id, [`Token ${id} deleted.`])
}

export async function tokenRotate(
  options: TokenRef & { grace?: number; outputFile?: string },
  deps: Deps,
): Promise<void> {
  const { tokenId, grace, outputFile } = options
  const show = keepOnce(deps, outputFile)
  const api = deps.client()
  const graceHours = grace === undefined ? undefined : grace / hourMs
  const id = await tokenIdOf(api, tokenId)
  const own = (await api.meView()).token?.id === id
  if (own && graceHours === 0 && !deps.flags.yes) throw lockOut(tokenId)
  const { token, ...successor } = await api.tokenRotate({ id, graceHours })
  show({ ...once(successor, token), lines: [`Token rotated: ${successor.name}`, ...idAndExpiry(successor)] })
  deps.note(`The old token (${successor.replaces}) works until ${successor.replacedEndsAt}.`)
  if (own) deps.note('It is the one you are using: sign in with the new one before that, 1ctl auth login --token-stdin')
}

const lockOut = (tokenId: string) =>
  usage(
    `"${tokenId}" is the token that you are using: this command would lock you out.`,
    'If you mean it, repeat with -y.',
  )

const endsWithin = ({ status, expiresAt }: Token, ms: number) =>
  status !== 'expired' && expiresAt !== null && Date.parse(expiresAt) - Date.now() <= ms

type TokenRef = { tokenId: string }

const tokenIdOf = (api: Client, typed: string) => idOf('token', typed, api.tokenList, ({ name }) => name)

const idAndExpiry = ({ id, expiresAt }: Token) => [`ID: ${id}`, `Expires: ${day(expiresAt)}`]

const once = <T extends { id: string }>(data: T, value: string | undefined) => ({
  value,
  data,
  field: 'token',
  heading: 'Token value (shown once — save it now)',
  undo: `1ctl token delete ${data.id} -y`,
})

/** `90`, `90d` or `2026-12-31` as days from today. */
export function expiry(text: string): number | 'never' {
  if (text === 'never') return 'never'
  const days = daysOf(text)
  if (days === undefined) throw new InvalidArgumentError('Write days (90), a date (2026-12-31) or never.')
  if (days < 1) throw new InvalidArgumentError('It must lie in the future.')
  if (days > limits.tokenExpiresDaysMax)
    throw new InvalidArgumentError(`At most ${limits.tokenExpiresDaysMax} days, or never.`)
  return days
}

function daysOf(text: string): number | undefined {
  const [, days] = /^(\d+)d?$/.exec(text) ?? []
  if (days !== undefined) return Number(days)
  // The API adds days to the present hour, so that the token ends on that day, in UTC as it is shown.
  const date = /^\d{4}-\d{2}-\d{2}$/.test(text) ? Date.parse(text) : Number.NaN
  return Number.isNaN(date) ? undefined : date / dayMs - Math.floor(Date.now() / dayMs)
}

import { matches, nameRules } from '@1ctl/contract/names'
import type { Command } from 'commander'
import { type AppOptions, addAppOptions, appFor } from '../app.ts'
import { type Deployed, showDeployed } from '../app-lines.ts'
import { choiceOption, examples, noteOption } from '../command.ts'
import type { Deps, Run } from '../deps.ts'
import { CliError, usage } from '../errors.ts'
import { addWaitOptions, type WaitOptions } from '../rollout.ts'
import type { Variable } from '../satusky-toml.ts'
import { readKeyFile } from '../values.ts'
import { splitVariable, warnOfSecrets } from '../variables.ts'
import { nearest, plural, repeated } from '../words.ts'

/** Variables of an app that may be read, and links to single keys of secrets. */
export function envCommands(env: Command, run: Run): void {
  addChangeOptions(env.command('set'))
    .description('Set variables, which everybody who may see the app can read; or link keys of secrets')
    .argument('[pairs...]', 'KEY=VALUE; with --from-secret the names of the variables')
    .option('--from-secret <group/key>', 'link a key of a secret; repeat for more', repeated(groupAndKey))
    .addHelpText(
      'before',
      examples(
        '1ctl env set LOG_LEVEL=debug FEATURE_X=on',
        '1ctl env set WORKERS=4 --service worker --stage',
        '1ctl env set DATABASE_URL --from-secret db-creds/DATABASE_URL',
        '1ctl env set --from-secret db-creds/DATABASE_URL      # under the name of the key',
      ),
    )
    .action(run(envSet))

  addAppOptions(env.command('list').alias('ls'))
    .description('List the variables that were set, and the links; for all that pods get: 1ctl deploy env')
    .option('--service <service>', 'only what this service gets')
    .addHelpText('before', examples('1ctl env list', '1ctl env list --app api -o json'))
    .action(run(envList))

  addChangeOptions(env.command('unset'))
    .description('Remove variables and links')
    .argument('<variable...>', 'the names')
    .option('--ignore-missing', 'one that is not there is no error')
    .addHelpText('before', examples('1ctl env unset FEATURE_X', '1ctl env unset WORKERS --service worker'))
    .action(run(envUnset))

  addChangeOptions(env.command('attach'))
    .description('Inject all keys of secrets as variables, beside what deploys declare')
    .argument('<group...>', 'the names of the secrets')
    .addHelpText('before', examples('1ctl env attach db-creds', '1ctl env attach queue --service worker --stage'))
    .action(run(envAttach))

  addChangeOptions(env.command('detach'))
    .description('Inject and mount secrets no more; links to single keys stay')
    .argument('<group...>', 'the names of the secrets')
    .addHelpText('before', examples('1ctl env detach db-creds', '1ctl env detach queue --service worker'))
    .action(run(envDetach))

  addChangeOptions(env.command('import'))
    .description('Set all variables of a .env or JSON file, or none; others stay')
    .argument('[file]', '- or nothing: stdin')
    .addOption(choiceOption('--format <format>', 'what the file is (default: by its content)', ['dotenv', 'json']))
    .addHelpText('before', examples('1ctl env import .env.production', '1ctl env import - < .env'))
    .action(run(envImport))
}

const addChangeOptions = (command: Command) =>
  addWaitOptions(addAppOptions(command))
    .option('--service <service>', 'only for this service (default: for all of the app)')
    .option('--stage', 'save without rolling out')
    .option(...noteOption)

type ChangeOptions = AppOptions & WaitOptions & { service?: string; stage?: boolean; note?: string }

type SetOptions = ChangeOptions & { pairs: string[]; fromSecret?: { secret: string; key: string }[] }

export async function envSet({ pairs, fromSecret, ...options }: SetOptions, deps: Deps): Promise<void> {
  const set = new Map<string, Variable>()
  const add = (name: string, value: Variable) => {
    if (set.has(name)) throw usage(`${name} is given twice.`)
    set.set(name, value)
  }
  for (const [name, value] of linked(pairs.map(splitVariable), fromSecret ?? [])) add(name, value)
  if (set.size === 0) throw usage('There is nothing to set.', 'Write KEY=VALUE, or KEY --from-secret GROUP/KEY.')
  warnOfSecrets(set, deps)
  await change({ set }, options, deps)
}

/** Names without a value, and links, in their order; a link without a name is called as its key. */
function linked(
  pairs: [name: string, value: string | undefined][],
  links: { secret: string; key: string }[],
): [string, Variable][] {
  const plain = pairs.flatMap(([name, value]): [string, Variable][] => (value === undefined ? [] : [[name, value]]))
  const bare = pairs.flatMap(([name, value]) => (value === undefined ? [name] : []))
  if (bare.length === 0) {
    const unnameable = links.find(({ key }) => !matches(nameRules.variable, key))
    if (unnameable)
      throw usage(
        `${unnameable.key} cannot be the name of a variable.`,
        `Name it: 1ctl env set NAME --from-secret ${unnameable.secret}/${unnameable.key}`,
      )
    return [...plain, ...links.map((link): [string, Variable] => [link.key, link])]
  }
  if (links.length === 0)
    throw usage(
      `${bare[0]} has no value.`,
      `Write ${bare[0]}=VALUE, or link it: 1ctl env set ${bare[0]} --from-secret GROUP/KEY`,
    )
  if (bare.length !== links.length)
    throw usage(
      `There are ${plural(bare.length, 'variable')} to link (${bare.join(', ')}) and ${plural(links.length, 'key')} of secrets.`,
      'Give one --from-secret GROUP/KEY for each, in their order.',
    )
  return [...plain, ...links.map((link, at): [string, Variable] => [bare[at] ?? '', link])]
}

// What is no such pair is not repeated: it may be a value.
function groupAndKey(text: string): { secret: string; key: string } {
  const [, secret = '', key = ''] = /^([^/]*)\/(.*)$/s.exec(text) ?? []
  if (matches(nameRules.secret, secret) && matches(nameRules.secretKey, key)) return { secret, key }
  throw usage('--from-secret takes the name of a secret and a key of it.', 'Write db-creds/DATABASE_URL.')
}

type UnsetOptions = ChangeOptions & { variable: string[]; ignoreMissing?: boolean }

export async function envUnset({ variable: names, ignoreMissing, ...options }: UnsetOptions, deps: Deps) {
  const wanted = [...new Set(names.map(variableName))]
  const app = await appFor(undefined, options, deps)
  const { items } = await deps.client().envView(app)
  const known = items.filter(({ service }) => service === (options.service ?? null)).map(({ name }) => name)
  const unset = wanted.filter((name) => known.includes(name))
  const missing = wanted.find((name) => !known.includes(name))
  if (missing !== undefined && !ignoreMissing) throw variableNotFound(missing, options.service, known)
  if (unset.length === 0)
    return deps.out.one({ unchanged: true }, '', [`No change: there is no variable ${wanted.join(', ')}.`])
  await change({ unset }, options, deps)
}

function variableName(text: string): string {
  if (matches(nameRules.variable, text)) return text
  throw usage('This is not the name of a variable.', `It can have ${nameRules.variable.says}.`)
}

function variableNotFound(name: string, service: string | undefined, known: string[]): CliError {
  const guess = nearest(name, known)
  const where = service === undefined ? '' : ` of service ${service}`
  return new CliError('notFound', 'variable_not_found', `There is no variable ${name}${where}.`, {
    fix: guess ? `Did you mean ${guess}?` : '1ctl env list',
  })
}

type WholeOptions = ChangeOptions & { group: string[] }

export const envAttach = ({ group, ...options }: WholeOptions, deps: Deps) =>
  change({ attach: group.map(groupName) }, options, deps)

export const envDetach = ({ group, ...options }: WholeOptions, deps: Deps) =>
  change({ detach: group.map(groupName) }, options, deps)

function groupName(text: string): string {
  if (matches(nameRules.secret, text)) return text
  throw usage('This is not the name of a secret.', `It can have ${nameRules.secret.says}.`)
}

type ImportOptions = ChangeOptions & { file?: string; format?: 'dotenv' | 'json' }

export async function envImport({ file, format, ...options }: ImportOptions, deps: Deps): Promise<void> {
  if (file === undefined && process.stdin.isTTY) throw usage('Which file?', 'Name one, or - for stdin.')
  const set = await readKeyFile(file ?? '-', format, deps)
  warnOfSecrets(set, deps)
  await change({ set }, options, deps)
}

async function change(
  { set, unset = [], attach = [], detach = [] }: EnvChange,
  options: ChangeOptions,
  deps: Deps,
): Promise<void> {
  const { service, stage, note } = options
  const app = await appFor(undefined, options, deps)
  const changed = await deps.client().envPatch({
    ...app,
    ...(set ? { set: Object.fromEntries(set) } : {}),
    ...(unset.length > 0 ? { unset } : {}),
    ...(attach.length > 0 ? { attach } : {}),
    ...(detach.length > 0 ? { detach } : {}),
    service,
    note,
    ...(stage ? { rollout: 'stage' as const } : {}),
  })
  await showDeployed(changed, options, deps, linesOf(changed, { set, unset, attach, detach }))
}

type EnvChange = { set?: Map<string, Variable> | undefined; unset?: string[]; attach?: string[]; detach?: string[] }

function linesOf({ app }: Deployed, { set, unset = [], attach = [], detach = [] }: EnvChange): string[] {
  const counts = [
    set && set.size > 0 && `${plural(set.size, 'variable')} set`,
    unset.length > 0 && `${plural(unset.length, 'variable')} removed`,
    attach.length > 0 && `${attach.join(', ')} attached`,
    detach.length > 0 && `${detach.join(', ')} detached`,
  ]
  return [`✓ ${app.name}: ${counts.filter(Boolean).join(', ')}`]
}

export async function envList({ service, ...options }: AppOptions & { service?: string }, deps: Deps): Promise<void> {
  const { client, out, note } = deps
  const { items } = await client().envView(await appFor(undefined, options, deps))
  const variables = service === undefined ? items : items.filter((each) => [null, service].includes(each.service))
  out.list(
    variables,
    [
      { header: 'VARIABLE', cell: ({ name }) => name },
      { header: 'VALUE', cell: ({ value, secret, key }) => value ?? `(secret ${secret}/${key})` },
      { header: 'SERVICE', cell: ({ service }) => service ?? 'all' },
      { header: 'SET-BY', cell: ({ declared }) => (declared ? 'deploy' : 'command'), wide: true },
    ],
    ({ name }) => name,
  )
  if (variables.length === 0) note('No variables. To set one: 1ctl env set KEY=VALUE')
}

import type { ApiContract, Output } from '@1ctl/contract'
import type { Client } from '@1ctl/contract/client'
import { decodeId } from '@1ctl/contract/ids'
import { matches, nameRules } from '@1ctl/contract/names'
import type { Command } from 'commander'
import type { Deps } from './deps.ts'
import { CliError, usage } from './errors.ts'
import { everyPage } from './pages.ts'
import { readAppConfig } from './satusky-toml.ts'
import { nearest } from './words.ts'

/** Where bags of keys are: with an app (by id or by name), in a VPC, or shared. */
export type Place =
  | { kind: 'deployment'; deploymentId: string }
  | { kind: 'app'; app: string; vpc: string | undefined }
  | { kind: 'vpc'; vpc: string }
  | { kind: 'shared' }

export type PlaceOptions = { deploymentId?: string; config?: string; app?: string; vpc?: string; shared?: boolean }

export type Bag = Output<ApiContract['secretList']>['items'][number]

export const addPlaceOptions = (command: Command): Command =>
  command
    .option('-d, --deployment-id <dep-id>', 'the deployment (default: that of satusky.toml)')
    .option('--config <config>', 'staging means satusky.staging.toml; or a path')
    .option('--app <app>', 'the app of this name')
    .option('--vpc <vpc>', 'the VPC of the app; without --app the VPC itself')
    .option('--shared', 'shared by all apps of the organization')

/** What the flags name. */
export async function placeOfFlags(options: PlaceOptions, { note }: Deps): Promise<Place | undefined> {
  const { deploymentId, config, app, vpc, shared } = options
  const one = [deploymentId ?? config, app ?? vpc, shared].filter((given) => given !== undefined)
  if (one.length > 1) {
    throw usage(
      'These flags name several places.',
      'Use one of --deployment-id, --config, --app with --vpc, --vpc and --shared.',
    )
  }
  if (deploymentId !== undefined) return { kind: 'deployment', deploymentId }
  if (config !== undefined) return placeOfConfig(await readAppConfig(config, note))
  if (app !== undefined) return { kind: 'app', app, vpc }
  if (vpc !== undefined) return { kind: 'vpc', vpc }
  return shared ? { kind: 'shared' } : undefined
}

/** The same, and where they say nothing what satusky.toml says. */
export async function findPlace(options: PlaceOptions, deps: Deps): Promise<Place | undefined> {
  return (await placeOfFlags(options, deps)) ?? placeOfConfig(await readAppConfig(undefined, deps.note))
}

export async function placeFor(options: PlaceOptions, deps: Deps): Promise<Place> {
  const place = await findPlace(options, deps)
  if (place) return place
  throw usage('Which app?', 'Name it with --deployment-id or --app, use --shared, or run this where a satusky.toml is.')
}

function placeOfConfig(config: Awaited<ReturnType<typeof readAppConfig>>): Place | undefined {
  if (config?.deploymentId !== undefined) return { kind: 'deployment', deploymentId: config.deploymentId }
  return config?.name === undefined ? undefined : { kind: 'app', app: config.name, vpc: config.vpc }
}

/** A place as the API's requests about one bag name it. */
export function whereOf(place: Place): { appId?: string; vpc?: string | undefined } {
  if (place.kind === 'deployment') return { appId: place.deploymentId }
  if (place.kind === 'app') return { appId: place.app, vpc: place.vpc }
  return place.kind === 'vpc' ? { vpc: place.vpc } : {}
}

/** A place as a filter of the list. */
export function filterOf(place: Place): NonNullable<Parameters<Client['secretList']>[0]> {
  if (place.kind === 'deployment') return { app: place.deploymentId }
  if (place.kind === 'app') return { app: place.app, vpc: place.vpc ?? 'default' }
  return place.kind === 'vpc' ? { scope: 'vpc', vpc: place.vpc } : { scope: 'org' }
}

export const bagsAt = (api: Client, place: Place): Promise<Bag[]> =>
  everyPage((page) => api.secretList({ ...filterOf(place), ...page }))

/** `dep_123abc`, `app api`, `VPC staging`, `shared`: in tables and after names. */
export function placeOfBag({ appId, app, vpc, scope }: Bag): string {
  if (appId !== null) return appId
  if (app !== null) return vpc === 'default' ? `app ${app}` : `app ${app} in VPC ${vpc}`
  return scope === 'vpc' ? `VPC ${vpc}` : 'shared'
}

/** As a command takes it, to be repeated for this bag: `smtp --shared`. */
export function bagAgain({ name, app, vpc, scope }: Pick<Bag, 'name' | 'app' | 'vpc' | 'scope'>): string {
  if (scope === 'org') return `${name} --shared`
  const inVpc = scope === 'vpc' || vpc !== 'default' ? ` --vpc ${vpc}` : ''
  return `${name}${app === null ? '' : ` --app ${app}`}${inVpc}`
}

/** A name for a new bag, which no id can be mistaken for. */
export function labelOf(typed: string): string {
  if (matches(nameRules.secret, typed)) return typed
  throw usage(`"${typed}" cannot be the name of a secret.`, `It can have ${nameRules.secret.says}`)
}

/**
 * The bag that a person means: by id, or by name. Flags say where to look, else satusky.toml: then its app's own bag comes before one
 * of the VPC and a shared one, as in the app itself, and bags of other apps are out of reach. Without both a name must be unique.
 */
export async function bagFor(typed: string | undefined, options: PlaceOptions, deps: Deps): Promise<Bag> {
  const api = deps.client()
  if (typed !== undefined && decodeId('secret', typed) !== undefined) return api.secretView({ ref: typed })
  const flags = await placeOfFlags(options, deps)
  const place = flags ?? (await findPlace({}, deps))
  if (typed === undefined) return onlyBag(api, place)

  const load = (q?: string) => everyPage((page) => api.secretList({ ...(flags && filterOf(flags)), q, ...page }))
  const named = (await load(typed)).filter(({ name }) => name === typed)
  const reachable = flags || !place ? named : inReachOf(place, named)
  const [found, another] = reachable
  if (found && !another) return found
  if (another)
    throw several(
      `There are ${reachable.length} secrets "${typed}".`,
      reachable,
      'Say which with --app, --vpc or --shared, or use its id',
    )
  const elsewhere = named[0] && `There is one of ${placeOfBag(named[0])}.`
  const guess = nearest(
    typed,
    (await load()).map(({ name }) => name),
  )
  throw new CliError(
    'notFound',
    'secret_not_found',
    `There is no secret "${typed}"${place ? ` ${inWords(place)}` : ''}.`,
    {
      fix: elsewhere ?? (guess ? `Did you mean "${guess}"?` : '1ctl secret list'),
    },
  )
}

async function onlyBag(api: Client, place: Place | undefined): Promise<Bag> {
  if (!place) throw usage('Which secret?', 'Name it, or run this where a satusky.toml is. See: 1ctl secret list')
  const bags = await bagsAt(api, place)
  const [found, another] = bags
  if (found && !another) return found
  if (another) throw several(`There are ${bags.length} secrets ${inWords(place)}.`, bags, 'Name one')
  throw new CliError('notFound', 'secret_not_found', `There is no secret ${inWords(place)}.`, {
    fix: '1ctl secret list',
  })
}

/** The nearest of them: of the app, else of its VPC, else shared. */
function inReachOf(place: Place, bags: Bag[]): Bag[] {
  const isOwn = ({ app, appId, vpc }: Bag) =>
    place.kind === 'deployment'
      ? appId === place.deploymentId
      : place.kind === 'app' && app === place.app && vpc === (place.vpc ?? 'default')
  // Of a deployment only the id is known here, so that each VPC might be its own.
  const isOfVpc = ({ scope, vpc }: Bag) => scope === 'vpc' && (place.kind !== 'app' || vpc === (place.vpc ?? 'default'))
  const tiers = [bags.filter(isOwn), bags.filter(isOfVpc), bags.filter(({ scope }) => scope === 'org')]
  return tiers.find((tier) => tier.length > 0) ?? []
}

/** The bag that holds a key. Where several do, only the person can say which is meant. */
export function holderOf(bags: Bag[], key: string): Bag | undefined {
  const holders = bags.filter(({ keys }) => keys.includes(key))
  if (holders.length > 1) throw several(`${holders.length} secrets hold ${key}.`, holders, 'Say which with --name')
  return holders[0]
}

export const keyNotFound = (key: string, known: string[]) => {
  const guess = nearest(key, known)
  return new CliError('notFound', 'key_not_found', `There is no key ${key}.`, {
    fix: guess ? `Did you mean ${guess}?` : '1ctl secret list',
  })
}

const several = (message: string, bags: Bag[], what: string) =>
  usage(message, `${what}: ${bags.map((bag) => `${bag.name} (${placeOfBag(bag)}, ${bag.id})`).join(', ')}.`)

function inWords(place: Place): string {
  if (place.kind === 'deployment') return `of ${place.deploymentId}`
  if (place.kind === 'app') return `of app ${place.app}${place.vpc === undefined ? '' : ` in VPC ${place.vpc}`}`
  return place.kind === 'vpc' ? `of VPC ${place.vpc}` : 'that is shared'
}

import { printDotenv } from '@1ctl/contract/dotenv'
import { isEnvName } from '@1ctl/contract/names'
import { aligned } from '../bag-lines.ts'
import type { Deps } from '../deps.ts'
import { everyPage } from '../pages.ts'
import { type Bag, bagFor, bagsAt, filterOf, type PlaceOptions, placeFor, placeOfBag, placeOfFlags } from '../place.ts'
import { ago, day } from '../words.ts'

/** What may be known of secrets: everything but values. */

export async function secretList(options: PlaceOptions, deps: Deps): Promise<void> {
  const { client, out, note } = deps
  const place = await placeOfFlags(options, deps)
  // In a VPC are its own bags and those of its apps.
  const filter = place && (place.kind === 'vpc' ? { vpc: place.vpc } : filterOf(place))
  const api = client()
  // Oldest first, so that what was made just now stands at the bottom, where one looks.
  const bags = (await everyPage((page) => api.secretList({ ...filter, ...page }))).reverse()
  // A mistyped VPC has none either, and is not the same as an empty one.
  if (bags.length === 0 && place && 'vpc' in place && place.vpc !== undefined) await api.vpcView({ name: place.vpc })
  out.list(
    bags,
    [
      { header: 'GROUP', cell: ({ name }) => name },
      { header: 'DEPLOYMENT', cell: placeOfBag },
      { header: 'KEYS', cell: ({ keys }) => keys.join(', ') },
      { header: 'CREATED', cell: ({ createdAt }) => ago(createdAt) },
      { header: 'TYPE', cell: ({ type }) => type, wide: true },
      { header: 'VERSION', cell: ({ version }) => `v${version}`, wide: true },
      { header: 'USED-BY', cell: ({ usedBy }) => String(usedBy), wide: true },
      { header: 'STATUS', cell: statusOf, wide: true },
      { header: 'CHANGED', cell: ({ updatedAt, updatedBy }) => `${ago(updatedAt)} by ${updatedBy}`, wide: true },
      { header: 'ID', cell: ({ id }) => id, wide: true },
    ],
    ({ name }) => name,
  )
  if (bags.length === 0) note(place ? 'No secrets there.' : 'No secrets yet. To store one: 1ctl secret create --kv KEY')
}

const statusOf = ({ status }: Pick<Bag, 'status'>) => status.replaceAll('_', ' ')

type GroupOptions = PlaceOptions & { group?: string }

export async function secretView({ group, ...options }: GroupOptions, deps: Deps): Promise<void> {
  const { client, out } = deps
  const bag = await client().secretView({ ref: (await bagFor(group, options, deps)).id })
  const keys = bag.keyDetails.map(({ name, version, length, digest, updatedAt, updatedBy, hints, expiresAt }) => [
    `  ${name}`,
    `v${version}`,
    `${length} chars`,
    digest ?? '-',
    `${ago(updatedAt)} by ${updatedBy}`,
    [...hints, ...(expiresAt ? [`expires ${day(expiresAt)}`] : [])].join(', '),
  ])
  out.one(bag, bag.name, [
    `ID: ${bag.id}`,
    `Name: ${bag.name}`,
    `Place: ${placeOfBag(bag)}`,
    `Type: ${bag.type}`,
    `Version: ${bag.version}`,
    `Used by: ${bag.usedBy}`,
    `Status: ${statusOf(bag)}`,
    `Created: ${day(bag.createdAt)} by ${bag.createdBy}`,
    `Changed: ${day(bag.updatedAt)} by ${bag.updatedBy}`,
    `Keys: ${bag.keys.length === 0 ? 'none' : ''}`.trimEnd(),
    ...aligned(keys),
  ])
}

export async function secretKeys({ group, format, ...options }: GroupOptions & { format?: 'env-example' }, deps: Deps) {
  const { client, out } = deps
  const bags =
    group === undefined ? await bagsAt(client(), await placeFor(options, deps)) : [await bagFor(group, options, deps)]
  if (format === 'env-example') return out.text(envExample(bags).trimEnd())
  const keys = bags.flatMap((bag) => bag.keys.map((name) => ({ name, group: bag.name })))
  out.list(
    keys,
    [
      { header: 'KEY', cell: ({ name }) => name },
      { header: 'GROUP', cell: ({ group }) => group },
    ],
    ({ name }) => name,
  )
}

/** A `.env.example`: names without values. Each once, because a file that names a key twice is refused. */
function envExample(bags: Bag[]): string {
  const seen = new Set<string>()
  return bags
    .toSorted((a, b) => a.name.localeCompare(b.name))
    .map(({ name, keys }) => {
      const fresh = keys.filter((key) => !seen.has(key))
      fresh.forEach((key) => seen.add(key))
      const variables = fresh.filter(isEnvName).map((key) => ({ key, value: '' }))
      const files = fresh.filter((key) => !isEnvName(key)).map((key) => `# ${key} (a file)\n`)
      return `# ${name}: the values are secrets, stored with 1ctl secret create --kv KEY\n${printDotenv(variables)}${files.join('')}`
    })
    .join('\n')
}

export async function secretVersionList({ group, key, ...options }: GroupOptions & { key?: string }, deps: Deps) {
  const { client, out, note } = deps
  const bag = await bagFor(group, options, deps)
  const api = client()
  const all = await everyPage((page) => api.secretVersionList({ ref: bag.id, ...page }))
  const touches = ({ added, changed, removed }: (typeof all)[number]) =>
    key === undefined || [...added, ...changed, ...removed].includes(key)
  const versions = all.filter(touches)
  out.list(
    versions,
    [
      { header: 'VERSION', cell: ({ version, current }) => (current ? `* v${version}` : `v${version}`) },
      { header: 'CHANGED', cell: ({ createdAt }) => out.time(createdAt) },
      { header: 'BY', cell: ({ createdBy }) => createdBy },
      {
        header: 'KEYS',
        cell: ({ added, changed, removed }) =>
          [
            ...added.map((key) => `+${key}`),
            ...changed.map((key) => `~${key}`),
            ...removed.map((key) => `-${key}`),
          ].join(' '),
      },
      { header: 'NOTE', cell: ({ note }) => note ?? '' },
    ],
    ({ version }) => String(version),
  )
  if (versions.length === 0) note(`No version of ${bag.name} that is kept touches ${key ?? 'a key'}.`)
}

export async function secretUsage({ group, ...options }: GroupOptions, deps: Deps): Promise<void> {
  const { client, out, note } = deps
  const bag = await bagFor(group, options, deps)
  const { items } = await client().secretUsage({ ref: bag.id })
  out.list(
    items,
    [
      { header: 'APP', cell: ({ app }) => app },
      { header: 'VPC', cell: ({ vpc }) => vpc },
      { header: 'SERVICE', cell: ({ service }) => service ?? 'all' },
      { header: 'MODE', cell: ({ mode }) => mode },
      { header: 'KEY', cell: ({ key }) => key ?? 'all' },
      { header: 'VARIABLE', cell: ({ variable }) => variable ?? '-' },
      { header: 'RUNNING', cell: ({ runningVersion }) => (runningVersion === null ? '-' : `v${runningVersion}`) },
      { header: 'CURRENT', cell: ({ currentVersion }) => `v${currentVersion}` },
    ],
    ({ app, service }) => (service === null ? app : `${app}/${service}`),
  )
  if (items.length === 0) note(`Nothing uses ${bag.name}.`)
}

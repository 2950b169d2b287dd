import { isEnvName } from '@1ctl/contract/names'
import { invalid, Refusal } from '../refusal.ts'

/**
 * What an app's services run, computed from what was declared and the key names of the bags: pure, so that a deploy, a dry run, a page and
 * a release all say the same.
 */

/** How a workload runs, apart from its environment. */
export type Workload = {
  image?: string
  port?: number
  replicas?: number
  command?: string[]
  args?: string[]
  healthPath?: string
  resources?: { requests?: Amounts; limits?: Amounts }
}
type Amounts = { cpu?: string; memory?: string }
/** As deploys declare it: the app's own fields are the defaults of its services. */
export type Spec = Workload & { security?: 'baseline' | 'restricted'; services?: (Workload & { name: string })[] }

/** Everything declared of an app. `service` is '' for all of them; `secret` is a bag's id. */
export type Inputs = {
  spec: Spec
  variables: { service: string; variable: string; value: string }[]
  links: { service: string; variable: string; secret: string; key: string }[]
  /** in their order */
  uses: { service: string; mode: 'envFrom' | 'secretFiles'; secret: string }[]
}

/** A bag at the version that is meant. */
export type PinnedBag = {
  id: string
  name: string
  scope: 'org' | 'vpc' | 'app'
  version: number
  keys: string[]
}

export type Entry = {
  name: string
  /** of plain env; a secret's value is not known here */
  value: string | null
  source: 'envFrom' | 'link' | 'env'
  level: 'app' | 'service'
  bag: PinnedBag | null
  key: string | null
}
export type Variable = Entry & { overrides: Entry[] }
export type File = { bag: PinnedBag; key: string }

export type EffectiveService = {
  name: string
  workload: Workload & { image: string; replicas: number; security: 'baseline' | 'restricted' }
  variables: Variable[]
  files: File[]
}

export function effectiveServices(app: string, inputs: Inputs, bags: Map<string, PinnedBag>): EffectiveService[] {
  const { services = [{ name: app }], security = 'baseline', ...defaults } = inputs.spec
  refuseUnknownServices(
    inputs,
    services.map(({ name }) => name),
  )
  const unnameable = new Map<string, Set<string>>()
  const effective = services.map(({ name, ...own }, at) => {
    const { image, replicas = 1, ...workload } = { ...defaults, ...own }
    if (image === undefined)
      throw invalid('invalid_body', [
        { path: inputs.spec.services ? `services.${at}.image` : 'image', message: 'is needed' },
      ])
    return {
      name,
      workload: { ...workload, image, replicas, security },
      variables: variablesOf(name, inputs, bags, unnameable),
      files: filesOf(name, inputs, bags),
    }
  })
  if (unnameable.size > 0) throw invalidEnvKeys(unnameable)
  return effective
}

const levelOf = (service: string) => (service === '' ? ('app' as const) : ('service' as const))
/** Those of the app, then those of the service. */
const appFirst = <Row extends { service: string }>(rows: Row[], service: string) =>
  ['', service].flatMap((level) => rows.filter((row) => row.service === level))

/** Later wins: bags of the app in their order, bags of the service, then what stands inline. */
function variablesOf(
  service: string,
  { uses, links, variables }: Inputs,
  bags: Map<string, PinnedBag>,
  unnameable: Map<string, Set<string>>,
): Variable[] {
  const entries: Entry[] = []
  for (const { secret, service: level, mode } of appFirst(uses, service)) {
    const bag = bags.get(secret)
    if (mode !== 'envFrom' || !bag) continue
    const bad = bag.keys.filter((key) => !isEnvName(key))
    if (bad.length > 0) unnameable.set(bag.name, new Set([...(unnameable.get(bag.name) ?? []), ...bad]))
    for (const key of bag.keys)
      entries.push({ name: key, value: null, source: 'envFrom', level: levelOf(level), bag, key })
  }
  const inline = appFirst(
    [
      ...variables.map(({ service, variable, value }) => ({
        service,
        entry: { name: variable, value, source: 'env' as const, level: levelOf(service), bag: null, key: null },
      })),
      ...links.flatMap(({ service, variable, secret, key }) => {
        const bag = bags.get(secret)
        if (!bag) return []
        if (!bag.keys.includes(key)) throw noSuchKey(variable, bag, key)
        return [
          {
            service,
            entry: { name: variable, value: null, source: 'link' as const, level: levelOf(service), bag, key },
          },
        ]
      }),
    ],
    service,
  )
  entries.push(...inline.map(({ entry }) => entry))

  const winners = new Map<string, Variable>()
  for (const entry of entries) {
    const beaten = winners.get(entry.name)
    winners.set(entry.name, { ...entry, overrides: beaten ? [...beaten.overrides, entryOf(beaten)] : [] })
  }
  return [...winners.values()].sort((one, other) => (one.name < other.name ? -1 : 1))
}

function entryOf(variable: Variable): Entry {
  const { overrides: _, ...entry } = variable
  return entry
}

function filesOf(service: string, { uses }: Inputs, bags: Map<string, PinnedBag>): File[] {
  const files = new Map<string, File>()
  for (const { secret, mode } of appFirst(uses, service)) {
    const bag = bags.get(secret)
    if (mode !== 'secretFiles' || !bag) continue
    for (const key of bag.keys) {
      const other = files.get(key)
      if (other && other.bag.id !== bag.id)
        throw new Refusal(
          'file_key_collision',
          `"${other.bag.name}" and "${bag.name}" would both be the file /run/secrets/${key} in service "${service}".`,
          {
            hint: 'Mount one of them, or rename the key.',
            details: { service, key, secrets: [other.bag.name, bag.name] },
          },
        )
      files.set(key, { bag, key })
    }
  }
  return [...files.values()].sort((one, other) => (one.key < other.key ? -1 : 1))
}

function refuseUnknownServices({ variables, links, uses }: Inputs, known: string[]): void {
  const unknown = [...variables, ...links, ...uses].find(({ service }) => service !== '' && !known.includes(service))
  if (unknown)
    throw new Refusal('service_not_found', `There is no service "${unknown.service}" in this app.`, {
      hint: `It has ${known.join(', ')}.`,
    })
}

const noSuchKey = (variable: string, { name, version }: PinnedBag, key: string) =>
  new Refusal(
    'key_not_found',
    `${variable} is linked to "${key}" of "${name}", which version ${version} does not have.`,
    {
      hint: 'Link it to another key, or unset the variable.',
      details: { missing: [{ secret: name, key }] },
    },
  )

function invalidEnvKeys(unnameable: Map<string, Set<string>>): Refusal {
  const list = [...unnameable].map(([secret, keys]) => ({ secret, keys: [...keys].sort() }))
  const words = list.map(({ secret, keys }) => `${keys.map((key) => `"${key}"`).join(', ')} of "${secret}"`).join('; ')
  return new Refusal('invalid_env_key', `No environment variable can be named ${words}.`, {
    hint: 'Mount the secret as files, or link the key under another name.',
    details: { secrets: list },
  })
}

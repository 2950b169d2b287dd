import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import type { ApiContract, Request } from '@1ctl/contract'
import { matches, type NameRule, nameRules } from '@1ctl/contract/names'
import { looksSecret } from '@1ctl/contract/value-hints'
import { CliError, usage } from './errors.ts'
import { decode } from './stdin.ts'
import { nearest } from './words.ts'

/** What `satusky.toml` says about which app a command means. */
export type AppConfig = {
  /** from the working folder: `satusky.toml`, `../satusky.staging.toml` */
  path: string
  name: string | undefined
  deploymentId: string | undefined
  vpc: string | undefined
}

/** A deploy, apart from which app it is of. */
export type Declared = Omit<Request<ApiContract['deploy']>, 'name' | 'vpc' | 'rollout' | 'note' | 'dryRun'>

/**
 * The file that `--config` names, as a word (`staging` is `satusky.staging.toml`) or as a path; without it `satusky.toml`, if there is
 * one. Words are looked for in the working folder and its parents, up to the root of the repository.
 */
export function findAppConfig(config: string | undefined, folder = process.cwd()): string | undefined {
  if (config !== undefined && /[/\\]|\.toml$/.test(config)) {
    if (existsSync(resolve(folder, config))) return resolve(folder, config)
    throw notFound(`There is no file ${config}.`)
  }
  const file = config === undefined ? 'satusky.toml' : `satusky.${config}.toml`
  const folders = withParents(folder)
  const found = folders.map((each) => join(each, file)).find((path) => existsSync(path))
  if (found !== undefined || config === undefined) return found
  const names = folders
    .flatMap((each) => readdirSync(each))
    .flatMap((name) => /^satusky\.(.+)\.toml$/.exec(name)?.[1] ?? [])
  const guess = nearest(config, names)
  throw notFound(
    `There is no ${file} here or in a parent folder, up to the root of the repository.`,
    guess && `Did you mean "${guess}"?`,
  )
}

const notFound = (message: string, fix?: string) => new CliError('notFound', 'config_not_found', message, { fix })

/** Outside of a repository only the folder itself: who knows to whom the ones above belong. */
function withParents(folder: string): string[] {
  const folders = [folder]
  for (let at = folder; !existsSync(join(at, '.git')); folders.push(at)) {
    if (dirname(at) === at) return [folder]
    at = dirname(at)
  }
  return folders
}

export async function readAppConfig(
  config: string | undefined,
  note: (text: string) => void,
  folder = process.cwd(),
): Promise<AppConfig | undefined> {
  return (await open(config, note, folder))?.app
}

/** The same, and what the file says of how the app is to run. */
export async function readDeclaration(
  config: string | undefined,
  note: (text: string) => void,
  folder = process.cwd(),
): Promise<(AppConfig & { declared: Declared }) | undefined> {
  const opened = await open(config, note, folder)
  return opened && { ...opened.app, declared: declaredIn(opened.file) }
}

async function open(config: string | undefined, note: (text: string) => void, folder: string) {
  const found = findAppConfig(config, folder)
  if (found === undefined) return undefined
  const path = relative(folder, found)
  const file = await parse(path, decode(readFileSync(found), path))
  checkTables(file)

  const read = reader(file, ['app'])
  const name = read.text('name', nameRules.app)
  const deploymentId = read.text('deployment_id')
  const vpc = read.text('vpc', nameRules.vpc)
  if (name === undefined && deploymentId === undefined) {
    throw usage(`${path} names no app.`, 'Give its table [app] a name, or a deployment_id.')
  }
  const unused = tolerated.filter((table) => table in file.root)
  if (unused.length > 0) note(`${path}: 1ctl does not use ${unused.map((table) => `[${table}]`).join(', ')}.`)
  warnOfSecrets(file, note)
  if (config === undefined && dirname(found) !== folder) note(`Using ${path} (${deploymentId ?? name}).`)
  return { file, app: { path, name, deploymentId, vpc } }
}

type Table = Record<string, unknown>
type File = { path: string; root: Table; lineOf: (keys: string[]) => number }

/** Tables that belong to other tools or to later versions. */
const tolerated = ['build', 'deploy', 'volume', 'hpa', 'vpa', 'pdb', 'multicluster']

const workload = ['image', 'port', 'replicas', 'command', 'args', 'resources', 'env_from', 'secret_files']
const keysOf: Record<string, string[]> = {
  app: ['name', 'deployment_id', 'vpc', 'on_failure', 'security', ...workload],
  checks: ['health_path'],
}
const keysOfService = ['health_path', 'env', ...workload]
const tables = [...Object.keys(keysOf), 'env', 'services']

function checkTables(file: File): void {
  checkKeys(file, [], [...tables, ...tolerated])
  for (const [table, keys] of Object.entries(keysOf)) checkKeys(file, [table], keys)
  for (const service of Object.keys(tableAt(file, ['services']))) checkKeys(file, ['services', service], keysOfService)
}

function checkKeys(file: File, table: string[], allowed: string[]): void {
  const unknown = Object.keys(tableAt(file, table)).find((key) => !allowed.includes(key))
  if (unknown === undefined) return
  const guess = nearest(unknown, allowed)
  const where = table.length > 0 ? `[${table.join('.')}]` : file.path
  throw problem(
    file,
    [...table, unknown],
    `"${unknown}" is nothing that ${where} can have.`,
    guess && `Did you mean "${guess}"?`,
  )
}

function tableAt(file: File, keys: string[]): Table {
  let table = file.root
  for (const [depth, key] of keys.entries()) {
    const next = Object.hasOwn(table, key) ? table[key] : {}
    if (!isTable(next)) throw problem(file, keys.slice(0, depth + 1), `"${key}" must be a table.`)
    table = next
  }
  return table
}

function declaredIn(file: File): Declared {
  const app = reader(file, ['app'])
  const services = Object.keys(tableAt(file, ['services'])).map((name) => {
    const at = ['services', name]
    if (!matches(nameRules.service, name))
      throw problem(file, at, `A service's name must be ${nameRules.service.says}.`)
    const own = reader(file, at)
    return { name, ...workloadIn(own), healthPath: own.text('health_path'), env: environmentAt(file, [...at, 'env']) }
  })
  const own = workloadIn(app)
  return {
    ...own,
    healthPath: reader(file, ['checks']).text('health_path'),
    // Empty rather than not given: what the file does not list any more is to go.
    env: environmentAt(file, ['env']) ?? {},
    envFrom: own.envFrom ?? [],
    secretFiles: own.secretFiles ?? [],
    ...(services.length > 0 ? { services } : {}),
    onFailure: app.word('on_failure', ['rollback', 'keep']),
    security: app.word('security', ['baseline', 'restricted']),
  }
}

const workloadIn = (read: Reader) => ({
  image: read.text('image'),
  port: read.number('port'),
  replicas: read.number('replicas'),
  command: read.texts('command'),
  args: read.texts('args'),
  resources: read.table('resources'),
  envFrom: read.texts('env_from', nameRules.secret),
  secretFiles: read.texts('secret_files', nameRules.secret),
})

type Reader = ReturnType<typeof reader>

/** Values of one table, each of the kind it must be. What they may be beyond that is the server's to say. */
function reader(file: File, at: string[]) {
  const table = tableAt(file, at)
  const wrong = (key: string, what: string) => problem(file, [...at, key], `"${key}" must be ${what}.`)
  const get = <T>(key: string, convert: (value: unknown) => T): T | undefined =>
    Object.hasOwn(table, key) ? convert(table[key]) : undefined
  const checked = (key: string, value: unknown, rule: NameRule | undefined, what: string): string => {
    if (typeof value !== 'string' || value === '') throw wrong(key, what)
    if (rule && !matches(rule, value)) throw wrong(key, rule.says)
    return value
  }
  return {
    text: (key: string, rule?: NameRule) => get(key, (value) => checked(key, value, rule, 'text')),
    number: (key: string) =>
      get(key, (value) => {
        if (typeof value !== 'bigint' || value < 0n || value > 1_000_000n) throw wrong(key, 'a whole number')
        return Number(value)
      }),
    texts: (key: string, rule?: NameRule) =>
      get(key, (value) => {
        const what = 'a list of texts: ["…", "…"]'
        if (!Array.isArray(value)) throw wrong(key, what)
        // An argument may be empty, a name not.
        return value.map((text: unknown) => (text === '' && !rule ? '' : checked(key, text, rule, what)))
      }),
    word: <const T extends string>(key: string, words: readonly T[]) =>
      get(key, (value) => {
        const word = words.find((word) => word === value)
        if (word === undefined) throw wrong(key, words.map((word) => `"${word}"`).join(' or '))
        return word
      }),
    table: (key: string) =>
      get(key, (value) => {
        if (!isTable(value)) throw wrong(key, 'a table')
        return resourcesAt(file, [...at, key])
      }),
  }
}

function resourcesAt(file: File, at: string[]): NonNullable<Declared['resources']> {
  checkKeys(file, at, ['requests', 'limits'])
  const amounts = (key: string) => {
    if (!Object.hasOwn(tableAt(file, at), key)) return undefined
    checkKeys(file, [...at, key], ['cpu', 'memory'])
    const read = reader(file, [...at, key])
    return { cpu: read.text('cpu'), memory: read.text('memory') }
  }
  return { requests: amounts('requests'), limits: amounts('limits') }
}

function environmentAt(file: File, at: string[]): Record<string, Variable> | undefined {
  const entries = Object.entries(tableAt(file, at)).map(([name, value]): [string, Variable] => {
    if (!matches(nameRules.variable, name))
      throw problem(file, [...at, name], `The name of a variable must be ${nameRules.variable.says}.`)
    if (isTable(value)) {
      checkKeys(file, [...at, name], ['secret', 'key'])
      const read = reader(file, [...at, name])
      const [secret, key] = [read.text('secret', nameRules.secret), read.text('key', nameRules.secretKey)]
      if (secret !== undefined && key !== undefined) return [name, { secret, key }]
    } else if (typeof value === 'string') return [name, value]
    // These are written in one way only; a float or a date is not.
    else if (typeof value === 'bigint' || typeof value === 'boolean') return [name, String(value)]
    throw problem(
      file,
      [...at, name],
      `"${name}" must be text, or { secret = "…", key = "…" }.`,
      'Write other values in quotes.',
    )
  })
  return entries.length > 0 ? Object.fromEntries(entries) : undefined
}

/** What a variable is set to: a text, or a link to a key of a secret. */
export type Variable = string | { secret: string; key: string }

/** Settings stand in the file for all to read. */
function warnOfSecrets(file: File, note: (text: string) => void): void {
  const environments = [
    ['env'],
    ...Object.keys(tableAt(file, ['services'])).map((service) => ['services', service, 'env']),
  ]
  for (const keys of environments) {
    for (const [name, value] of Object.entries(tableAt(file, keys))) {
      if (typeof value !== 'string' || !looksSecret(name, value)) continue
      const line = file.lineOf([...keys, name])
      note(
        `Warning: ${file.path}:${line}: ${name} looks like a secret. Keep it out of files: 1ctl secret create --kv ${name}`,
      )
    }
  }
}

const problem = (file: File, keys: string[], message: string, fix?: string) =>
  new CliError('usage', 'invalid_config', `${file.path}:${file.lineOf(keys)}: ${message}`, { fix })

/** Only a command that reads such a file loads the parser. */
async function parse(path: string, text: string): Promise<File> {
  const toml = await import('smol-toml')
  try {
    // Integers as what nothing else is, so that 1.0 is not taken for 1.
    const read = (text: string): Table => toml.parse(text, { integersAsBigInt: true })
    return { path, root: read(text), lineOf: (keys) => lineOf(text, keys, read) }
  } catch (error) {
    if (!(error instanceof toml.TomlError)) throw error
    // The first line says what is wrong, those after it quote the file.
    const [what = ''] = error.message.replace('Invalid TOML document: ', '').split('\n')
    throw new CliError('usage', 'invalid_config', `${path}:${error.line}: this is not TOML: ${what}.`)
  }
}

/** The parser tells no lines, but the shortest beginning of a file that has the key ends with it. */
function lineOf(text: string, keys: string[], parse: (text: string) => Table): number {
  const lines = text.split('\n')
  let whole = 0
  for (let count = 1; count < lines.length; count++) {
    try {
      const found = keys.reduce<unknown>(
        (table, key) => (isTable(table) ? table[key] : undefined),
        parse(lines.slice(0, count).join('\n')),
      )
      if (found !== undefined) return whole + 1
      whole = count
    } catch {
      // It ends amid a value of several lines.
    }
  }
  return whole + 1
}

const isTable = (value: unknown): value is Table =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date)

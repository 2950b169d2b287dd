import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
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
  const found = findAppConfig(config, folder)
  if (found === undefined) return undefined
  const path = relative(folder, found)
  const file = await parse(path, decode(readFileSync(found), path))
  checkTables(file)

  const app = tableAt(file, ['app'])
  const name = textAt(file, app, 'name', nameRules.app)
  const deploymentId = textAt(file, app, 'deployment_id')
  const vpc = textAt(file, app, 'vpc', nameRules.vpc)
  if (name === undefined && deploymentId === undefined) {
    throw usage(`${path} names no app.`, 'Give its table [app] a name, or a deployment_id.')
  }
  const unused = tolerated.filter((table) => table in file.root)
  if (unused.length > 0) note(`${path}: 1ctl does not use ${unused.map((table) => `[${table}]`).join(', ')}.`)
  warnOfSecrets(file, note)
  if (config === undefined && dirname(found) !== folder) note(`Using ${path} (${deploymentId ?? name}).`)
  return { path, name, deploymentId, vpc }
}

type Table = Record<string, unknown>
type File = { path: string; root: Table; lineOf: (keys: string[]) => number }

/** Tables that belong to other tools or to later versions. */
const tolerated = ['build', 'deploy', 'volume', 'hpa', 'vpa', 'pdb', 'multicluster']

const workload = ['image', 'port', 'replicas', 'command', 'args', 'resources', 'env_from', 'secret_files']
const keysOf: Record<string, string[]> = {
  app: ['name', 'deployment_id', 'vpc', 'on_failure', ...workload],
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

function textAt(file: File, app: Table, key: string, rule?: NameRule): string | undefined {
  const value = app[key]
  if (value === undefined) return undefined
  if (typeof value !== 'string' || value === '') throw problem(file, ['app', key], `"${key}" must be text.`)
  if (rule && !matches(rule, value)) throw problem(file, ['app', key], `"${key}" must be ${rule.says}.`)
  return value
}

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
    return { path, root: toml.parse(text), lineOf: (keys) => lineOf(text, keys, toml.parse) }
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

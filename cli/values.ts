import { existsSync, readFileSync } from 'node:fs'
import { type Parsed, type Problem, parseDotenv, parseJson } from '@1ctl/contract/dotenv'
import { limits } from '@1ctl/contract/limits'
import { isEnvName, isReservedEnvName, matches, nameRules } from '@1ctl/contract/names'
import { valueHints } from '@1ctl/contract/value-hints'
import { type Command, Option } from 'commander'
import type { Deps } from './deps.ts'
import { CliError, usage } from './errors.ts'
import { askHidden } from './hidden.ts'
import { decode, readStdin } from './stdin.ts'
import { plural, repeated } from './words.ts'

/** Where the values of a command come from. Nothing in here shows one. */
export type ValueOptions = {
  /** `KEY=VALUE`, or `KEY` to be asked or read from stdin */
  kv?: string[]
  stdin?: string[]
  /** `KEY=PATH` */
  kvFile?: string[]
  fromEnvFile?: string[]
  trim: boolean
  allowEmpty?: boolean
}

/** Names and values; a Map, because `__proto__` is a name like any other. */
export type Values = Map<string, string>

export const addValueOptions = (command: Command): Command =>
  command
    .option('--kv <pair>', 'KEY=VALUE, or KEY alone: asked for, or piped in; repeat for more', repeated(String))
    .option('--stdin <key>', 'read the value of this key from stdin', repeated(String))
    .option('--kv-file <pair>', 'KEY=PATH: the file byte for byte; - is stdin', repeated(String))
    .option('--from-env-file <file>', 'all keys of a .env file (1ctl help dotenv); - is stdin', repeated(String))

export const trimOption = () => new Option('--no-trim', 'keep the newline at the end of a typed or piped line')
export const emptyOption = () => new Option('--allow-empty', 'store empty values too')

type Source = { key: string } & (
  | { from: 'argv'; value: string }
  | { from: 'file'; path: string }
  | { from: 'terminal' }
  /** exact: not a line that was piped, but bytes */
  | { from: 'stdin'; exact?: true }
)

export async function readValues(options: ValueOptions, deps: Deps): Promise<Values> {
  const sources = sourcesOf(options, deps)
  const envFiles = options.fromEnvFile ?? []
  if (sources.length === 0 && envFiles.length === 0) {
    throw usage(
      'There is nothing to store.',
      'Give keys and values: --kv KEY, --kv KEY=VALUE, --kv-file KEY=PATH or --from-env-file .env',
    )
  }
  refuseSharedStdin([
    ...sources.filter(({ from }) => from === 'stdin').map(({ key }) => key),
    ...envFiles.filter((file) => file === '-'),
  ])
  if (sources.some(({ from }) => from === 'argv')) warnOfArgv(deps)

  const pairs: [key: string, value: string][] = []
  for (const source of sources) pairs.push([source.key, await valueFrom(source, options.trim, deps)])
  for (const file of envFiles) pairs.push(...(await readKeyFile(file, 'dotenv', deps)))
  return checked(pairs, options, deps)
}

/** A file of keys: what `import`, `diff` and `--from-env-file` read. Its problems name file, line and key, and quote nothing. */
export async function readKeyFile(
  file: string,
  format: 'dotenv' | 'json' | undefined,
  { note }: Deps,
): Promise<Values> {
  const name = file === '-' ? 'stdin' : file
  if (file === '-') noteWaiting(note, 'the file')
  const text = decode(file === '-' ? await readStdin(limits.bodyBytesMax) : readFile(file), name)
  // What begins with a brace is no .env file in any case.
  const isJson = format === undefined ? text.trimStart().startsWith('{') : format === 'json'
  const parsed: Parsed = isJson ? parseJson(text) : parseDotenv(text)
  if ('errors' in parsed) throw refused(name, parsed.errors)
  for (const problem of parsed.warnings) note(`Warning: ${inWords(name, problem)}`)
  return new Map(parsed.entries.map(({ key, value }) => [key, value]))
}

/** One value, asked for or from stdin. */
export function readOneValue(key: string, trim: boolean, deps: Deps): Promise<string> {
  return valueFrom(askedOrPiped(key, deps), trim, deps)
}

/** What is wrong with values whatever they come from: names, emptiness, size. */
export function checked(
  pairs: Iterable<[string, string]>,
  { allowEmpty }: Pick<ValueOptions, 'allowEmpty'>,
  { note }: Deps,
): Values {
  const values: Values = new Map()
  for (const [key, value] of pairs) {
    if (values.has(key)) throw usage(`${key} is given twice.`)
    values.set(key, value)
    if (value === '' && !allowEmpty)
      throw usage(`The value of ${key} is empty.`, 'If it is meant to be, add --allow-empty.')
    const bytes = Buffer.byteLength(value)
    if (bytes > limits.valueBytesMax) {
      throw usage(`The value of ${key} has ${bytes} bytes; a value can have ${limits.valueBytesMax}.`)
    }
    if (!isEnvName(key))
      note(`Note: ${key} cannot be an environment variable; mount it as a file or link it under another name.`)
    else if (isReservedEnvName(key))
      note(`Warning: ${key} is set by the system in every process, and may not reach yours.`)
  }
  if (values.size > limits.bagKeysMax)
    throw usage(`These are ${values.size} keys; a secret can have ${limits.bagKeysMax}.`)
  const total = Array.from(values).reduce((sum, [key, value]) => sum + key.length + Buffer.byteLength(value), 0)
  if (total > limits.bagBytesMax) {
    throw usage(`Names and values have ${total} bytes together; a secret can have ${limits.bagBytesMax}.`)
  }
  return values
}

function sourcesOf({ kv = [], stdin = [], kvFile = [] }: ValueOptions, deps: Deps): Source[] {
  return [
    ...kv.map((pair): Source => {
      const [key, value] = split(pair, '--kv')
      return value === undefined ? askedOrPiped(key, deps) : { key, from: 'argv', value }
    }),
    ...stdin.map((key): Source => {
      refuseBadKey(key, '--stdin')
      return { key, from: 'stdin' }
    }),
    ...kvFile.map((pair): Source => {
      const [key, path] = split(pair, '--kv-file')
      if (!path) throw usage(`--kv-file ${key} has no path.`, `Write --kv-file ${key}=PATH.`)
      return path === '-' ? { key, from: 'stdin', exact: true } : { key, from: 'file', path }
    }),
  ]
}

function askedOrPiped(key: string, { flags }: Deps): Source {
  if (!process.stdin.isTTY) return { key, from: 'stdin' }
  if (!flags.input) throw usage(`The value of ${key} is missing.`, `Pipe it in, or give it with --kv-file ${key}=PATH.`)
  return { key, from: 'terminal' }
}

function split(pair: string, flag: string): [key: string, rest: string | undefined] {
  const [key = '', ...rest] = pair.split('=')
  refuseBadKey(key, flag)
  return [key, rest.length > 0 ? rest.join('=') : undefined]
}

/** The name that `-k` is given. */
export function keyName(key: string): string {
  refuseBadKey(key, '-k')
  return key
}

// Not shown: what stands in the place of a name may be a value.
function refuseBadKey(key: string, flag: string): void {
  if (!matches(nameRules.secretKey, key))
    throw usage(`The name given with ${flag} is not valid.`, `It can have ${nameRules.secretKey.says}`)
}

function refuseSharedStdin(readers: string[]): void {
  if (readers.length < 2) return
  throw usage(
    `Stdin can give one of these, not all: ${readers.join(', ')}.`,
    'Give the others with --kv-file KEY=PATH, or all together with --from-env-file.',
  )
}

async function valueFrom(source: Source, trim: boolean, { note }: Deps): Promise<string> {
  const { key } = source
  const value = await read()
  for (const hint of valueHints(value)) note(`Warning: ${key} ${hint}.`)
  return value

  async function read(): Promise<string> {
    if (source.from === 'argv') {
      if (source.value.startsWith('@') && existsSync(source.value.slice(1))) {
        note(`Hint: ${key} is stored as it is, with the @. To store what is in that file: --kv-file ${key}=PATH`)
      }
      return source.value
    }
    // Without the path: who takes --kv-file for --kv has written the value there.
    if (source.from === 'file') return decode(readFile(source.path, `the file for ${key}`), `The file for ${key}`)
    if (source.from === 'terminal') {
      const typed = trimmed(await askHidden(`Value of ${key}`))
      const lines = typed.split('\n').length
      note(`Read ${plural(Array.from(typed).length, 'character')}${lines > 1 ? ` in ${lines} lines` : ''}.`)
      return typed
    }
    noteWaiting(note, `the value of ${key}`)
    const piped = decode(await readStdin(limits.bodyBytesMax), `What came on stdin for ${key}`)
    return source.exact ? piped : trimmed(piped)
  }

  // `echo x |` and editors add one newline to a line. A text of several lines needs the one at its end.
  function trimmed(given: string): string {
    const [, line] = /^([^\n]*?)\r?\n$/.exec(given) ?? []
    if (line === undefined || !trim) return given
    note(`The newline at the end of ${key} was removed; --no-trim keeps it.`)
    return line
  }
}

function warnOfArgv({ env, note }: Deps): void {
  if (!process.stdin.isTTY || env.SATUSKY_NO_ARGV_WARNING) return
  note('Warning: --kv KEY=VALUE leaves the value in the shell history and in `ps`. Use --kv KEY to be asked for it.')
}

function noteWaiting(note: Deps['note'], what: string): void {
  if (process.stdin.isTTY) note(`Waiting for ${what} on stdin; Ctrl-D ends it.`)
}

function readFile(path: string, name = withoutValue(path)): Buffer {
  try {
    return readFileSync(path)
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException
    throw usage(`Cannot read ${name}: ${reasons[code] ?? code}.`)
  }
}

// `1ctl secret import KEY=VALUE` is not how it goes, and is typed all the same.
const withoutValue = (path: string) => path.replace(/=.*/s, '=…')

const reasons: Record<string, string> = {
  ENOENT: 'there is no such file',
  EISDIR: 'it is a folder',
  EACCES: 'permission denied',
}

const inWords = (file: string, { line, key, message }: Problem) =>
  `${file}:${line}: ${key === null ? '' : `${key}: `}${message}`

const problemsShown = 10

function refused(file: string, problems: Problem[]): CliError {
  const shown = problems.slice(0, problemsShown).map((problem) => inWords(file, problem))
  const more = problems.length > problemsShown ? `; and ${problems.length - problemsShown} more` : ''
  const why = shown.length > 1 ? `${shown.join('; ')}${more}.` : undefined
  const message = why === undefined ? `${shown[0]}.` : `${file} has ${problems.length} errors.`
  return new CliError('usage', 'invalid_file', message, {
    ...(why ? { why } : {}),
    fix: 'It is all or nothing: correct the file. See: 1ctl help dotenv',
  })
}

import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { createSecureContext } from 'node:tls'
import { parseArgs } from 'node:util'
import { limits } from '@1ctl/contract/limits'
import { BootError } from './boot-error.ts'
import { parseKey } from './keys/key-text.ts'

export type Config = {
  host: string
  port: number
  dataDir: string
  /** absent: the embedded PostgreSQL */
  databaseUrl: string | undefined
  tls: { cert: Buffer; key: Buffer } | undefined
  publicUrl: string | undefined
  trustProxy: boolean
  auditMonths: number | undefined
  logLevel: string
  seal: Seal
}

/** Where the master key comes from. */
export type Seal =
  | { source: 'file'; path: string }
  | { source: 'env'; key: Buffer; previous: Buffer | undefined }
  | { source: 'manual'; shares: number; threshold: number; sharesFile: string | undefined }

type Flag = { env: string[]; says: string; switch?: true }

/** Every setting: a flag, and the environment names that stand for it. docs/configuration.md is held to this table by a test. */
export const flags = {
  host: { env: ['SATUSKY_HOST'], says: 'address to listen on (127.0.0.1)' },
  port: { env: ['SATUSKY_PORT', 'PORT'], says: 'port to listen on (7117)' },
  'data-dir': { env: ['SATUSKY_DATA_DIR'], says: 'folder for the database and bootstrap.json' },
  'database-url': {
    env: ['SATUSKY_DATABASE_URL', 'DATABASE_URL'],
    says: 'a PostgreSQL 15 or newer, instead of the embedded one',
  },
  'tls-cert': { env: ['SATUSKY_TLS_CERT'], says: 'certificate chain, a PEM file' },
  'tls-key': { env: ['SATUSKY_TLS_KEY'], says: 'its private key, a PEM file' },
  'public-url': { env: ['SATUSKY_PUBLIC_URL'], says: 'the address people use, when it is not the one listened on' },
  'trust-proxy': {
    env: ['SATUSKY_TRUST_PROXY'],
    says: 'believe forwarded headers: a proxy in front ends TLS',
    switch: true,
  },
  'audit-months': { env: ['SATUSKY_AUDIT_MONTHS'], says: 'drop audit older than this many whole months (keep all)' },
  seal: { env: ['SATUSKY_SEAL'], says: 'where the master key is: file, env, or manual (shares held by people) (file)' },
  'master-key-file': { env: ['SATUSKY_MASTER_KEY_FILE'], says: 'with file: its path (master.key in the data folder)' },
  'master-key': { env: ['SATUSKY_MASTER_KEY'], says: 'with env: the key, 32 bytes in base64 or hex' },
  'master-key-previous': {
    env: ['SATUSKY_MASTER_KEY_PREVIOUS'],
    says: 'with env: the key until now, once, to change it',
  },
  'seal-shares': { env: ['SATUSKY_SEAL_SHARES'], says: 'with manual, first start: how many shares are made (5)' },
  'seal-threshold': { env: ['SATUSKY_SEAL_THRESHOLD'], says: 'with manual, first start: how many of them open (3)' },
  'shares-file': {
    env: ['SATUSKY_SHARES_FILE'],
    says: 'with manual, first start: write the shares to this new file instead of showing them',
  },
  'log-level': { env: ['SATUSKY_LOG_LEVEL'], says: 'debug, info, warn or error (info)' },
  help: { env: [], says: 'show this', switch: true },
} as const satisfies Record<string, Flag>

type FlagName = keyof typeof flags

/** Flags and environment as a Config; a BootError names every problem at once. */
export function readConfig(argv: string[], env: NodeJS.ProcessEnv): Config {
  const problems: string[] = []
  const given = parseFlags(argv, problems)
  const text = (flag: FlagName): string | undefined => {
    const value = given[flag] ?? flags[flag].env.map((name) => env[name]).find(Boolean)
    return value === undefined || value === '' ? undefined : value
  }
  const isOn = (flag: FlagName) =>
    oneOf(problems, flag, text(flag) ?? 'false', ['true', 'false', '1', '0']).match(/true|1/) !== null
  const host = text('host') ?? '127.0.0.1'
  const trustProxy = isOn('trust-proxy')
  const dataDir = resolve(text('data-dir') ?? defaultDataDir(env))
  const config: Config = {
    host,
    port: integer(problems, 'port', text('port') ?? '7117', 0, 65_535),
    dataDir,
    databaseUrl: url(problems, 'database-url', text('database-url'), ['postgres:', 'postgresql:']),
    tls: readTls(problems, text('tls-cert'), text('tls-key')),
    publicUrl: url(problems, 'public-url', text('public-url'), ['http:', 'https:'])?.replace(/\/+$/, ''),
    trustProxy,
    auditMonths:
      text('audit-months') === undefined
        ? undefined
        : integer(problems, 'audit-months', text('audit-months') ?? '', 1, 1200),
    logLevel: oneOf(problems, 'log-level', text('log-level') ?? 'info', ['debug', 'info', 'warn', 'error']),
    seal: readSeal(problems, text, dataDir),
  }
  if (!isLoopback(host) && !config.tls && !trustProxy)
    problems.push(
      `--host ${host} is not this machine alone, and tokens would travel unencrypted: give --tls-cert and --tls-key, or --trust-proxy if a proxy in front ends TLS`,
    )
  if (problems.length > 0) throw new BootError(`${problems.join('.\n')}.\nSee all flags with: npm start -- --help`)
  return config
}

export function helpText(): string {
  const rows = Object.entries(flags).map(([name, { env, says }]) => [`  --${name}`, env.join(', '), says] as const)
  const width = (column: 0 | 1) => Math.max(...rows.map((row) => row[column].length)) + 2
  return [
    'npm start -- [flags]',
    '',
    ...rows.map(([flag, env, says]) => flag.padEnd(width(0)) + env.padEnd(width(1)) + says),
  ].join('\n')
}

function parseFlags(argv: string[], problems: string[]): Partial<Record<FlagName, string>> {
  const options = Object.fromEntries(
    Object.entries(flags).map(([name, flag]) => [
      name,
      { type: 'switch' in flag ? ('boolean' as const) : ('string' as const) },
    ]),
  )
  const { tokens } = parseArgs({ args: argv, options, strict: false, tokens: true })
  const given: Partial<Record<FlagName, string>> = {}
  for (const token of tokens) {
    if (token.kind === 'positional') problems.push(`"${token.value}" is not a flag`)
    if (token.kind !== 'option') continue
    if (!Object.hasOwn(flags, token.name)) {
      problems.push(`${token.rawName} is not a flag${suggestion(token.name)}`)
      continue
    }
    const name = token.name as FlagName
    if ('switch' in flags[name]) given[name] = token.value ?? 'true'
    else if (token.value === undefined || token.value === '')
      problems.push(`--${name} needs a value: ${flags[name].says}`)
    else given[name] = token.value
  }
  return given
}

function suggestion(name: string): string {
  const near = Object.keys(flags).find(
    (flag) =>
      flag.startsWith(name) || name.startsWith(flag) || flag.replaceAll('-', '') === name.replaceAll(/[-_]/g, ''),
  )
  return near ? `, did you mean --${near}?` : ''
}

const isLoopback = (host: string) => host === 'localhost' || host === '::1' || host.startsWith('127.')

function defaultDataDir(env: NodeJS.ProcessEnv): string {
  if (process.geteuid?.() === 0) return '/var/lib/1ctl'
  return join(env['XDG_DATA_HOME'] || join(homedir(), '.local', 'share'), '1ctl')
}

function integer(problems: string[], flag: FlagName, text: string, min: number, max: number): number {
  const value = Number(text)
  if (!/^\d+$/.test(text) || value < min || value > max)
    problems.push(`--${flag} must be a whole number from ${min} to ${max}, not "${text}"`)
  return value
}

function oneOf(problems: string[], flag: FlagName, text: string, allowed: string[]): string {
  if (!allowed.includes(text)) problems.push(`--${flag} must be one of ${allowed.join(', ')}, not "${text}"`)
  return text
}

function url(problems: string[], flag: FlagName, text: string | undefined, protocols: string[]): string | undefined {
  if (text === undefined) return undefined
  // The text is not repeated: a database URL holds a password.
  if (!URL.canParse(text) || !protocols.includes(new URL(text).protocol))
    problems.push(`--${flag} must be a URL that starts with ${protocols.join('// or ')}//`)
  return text
}

function readSeal(problems: string[], text: (flag: FlagName) => string | undefined, dataDir: string): Seal {
  const source = oneOf(problems, 'seal', text('seal') ?? 'file', ['file', 'env', 'manual'])
  const belongsTo = (wanted: Seal['source'], ...flags: FlagName[]) => {
    for (const flag of flags)
      if (source !== wanted && text(flag) !== undefined) problems.push(`--${flag} goes with --seal ${wanted}`)
  }
  belongsTo('file', 'master-key-file')
  belongsTo('env', 'master-key', 'master-key-previous')
  belongsTo('manual', 'seal-shares', 'seal-threshold', 'shares-file')
  // The text is not repeated: it is a key, or was meant to be one.
  const key = (flag: FlagName) => {
    const given = text(flag)
    const parsed = given === undefined ? undefined : parseKey(given)
    if (given !== undefined && !parsed)
      problems.push(`--${flag} must be a random key of 32 bytes in base64 or hex: openssl rand -base64 32`)
    return parsed
  }
  if (source === 'env') {
    const [given, previous] = [key('master-key'), key('master-key-previous')]
    if (text('master-key') === undefined) problems.push('--seal env needs the key in SATUSKY_MASTER_KEY')
    return { source, key: given ?? Buffer.alloc(32), previous }
  }
  if (source === 'manual') {
    const shares = integer(problems, 'seal-shares', text('seal-shares') ?? '5', 1, limits.sharesMax)
    const threshold = integer(problems, 'seal-threshold', text('seal-threshold') ?? '3', 1, limits.sharesMax)
    if (threshold > shares) problems.push(`--seal-threshold ${threshold} is more than there are shares (${shares})`)
    const file = text('shares-file')
    return { source, shares, threshold, sharesFile: file && resolve(file) }
  }
  return { source: 'file', path: resolve(text('master-key-file') ?? join(dataDir, 'master.key')) }
}

function readTls(problems: string[], certFile: string | undefined, keyFile: string | undefined): Config['tls'] {
  if (certFile === undefined && keyFile === undefined) return undefined
  if (certFile === undefined || keyFile === undefined) {
    problems.push('--tls-cert and --tls-key go together')
    return undefined
  }
  const read = (flag: FlagName, file: string) => {
    try {
      return readFileSync(file)
    } catch (error) {
      problems.push(
        `--${flag}: cannot read ${file} (${error instanceof Error && 'code' in error ? String(error.code) : 'unknown reason'})`,
      )
      return Buffer.alloc(0)
    }
  }
  const tls = { cert: read('tls-cert', certFile), key: read('tls-key', keyFile) }
  try {
    if (tls.cert.length > 0 && tls.key.length > 0) createSecureContext(tls)
  } catch {
    problems.push(`--tls-cert ${certFile} and --tls-key ${keyFile} are no PEM certificate and key that belong together`)
  }
  return tls
}

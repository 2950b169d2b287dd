import { readFileSync } from 'node:fs'
import { isIPv4 } from 'node:net'
import { userInfo } from 'node:os'
import { delimiter, join, resolve } from 'node:path'
import { createSecureContext } from 'node:tls'
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
  cluster: ClusterChoice
}

/** Where apps are delivered to. */
export type ClusterChoice = { kind: 'embedded' } | { kind: 'kubeconfig'; path: string } | { kind: 'in-cluster' }

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
  cluster: {
    env: ['SATUSKY_CLUSTER'],
    says: 'where apps run: embedded (simulated), kubeconfig, or in-cluster (this pod) (embedded)',
  },
  kubeconfig: {
    env: ['SATUSKY_KUBECONFIG', 'KUBECONFIG'],
    says: 'with kubeconfig: the file; its current context counts',
  },
  'log-level': { env: ['SATUSKY_LOG_LEVEL'], says: 'debug, info, warn or error (info)' },
  help: { env: [], says: 'show this', switch: true },
} as const satisfies Record<string, Flag>

type FlagName = keyof typeof flags

/** What was given for a flag, and under which name, so that a complaint says what to correct. */
type Setting = { name: string; text: string | undefined }

/** Flags and environment as a Config; a BootError names every problem at once. */
export function readConfig(argv: string[], env: NodeJS.ProcessEnv): Config {
  const problems: string[] = []
  const given = parseFlags(argv, problems)
  const setting = (flag: FlagName): Setting => {
    const name = given[flag] === undefined ? flags[flag].env.find((name) => env[name]) : undefined
    return name ? { name, text: env[name] } : { name: `--${flag}`, text: given[flag] }
  }
  const host = setting('host').text ?? '127.0.0.1'
  const tls = readTls(problems, setting('tls-cert'), setting('tls-key'))
  const trustProxy = oneOf(problems, setting('trust-proxy'), ['false', 'true', '0', '1'])
  const dataDir = resolve(setting('data-dir').text ?? defaultDataDir(env))
  const config: Config = {
    host,
    port: integer(problems, setting('port'), 0, 65_535) ?? 7117,
    dataDir,
    databaseUrl: databaseUrl(problems, setting('database-url')),
    tls,
    publicUrl: publicUrl(problems, setting('public-url')),
    trustProxy: trustProxy === 'true' || trustProxy === '1',
    auditMonths: integer(problems, setting('audit-months'), 1, 1200),
    logLevel: oneOf(problems, setting('log-level'), ['debug', 'info', 'warn', 'error']) ?? 'info',
    seal: readSeal(problems, setting, dataDir),
    cluster: readCluster(problems, setting),
  }
  if (!isLoopback(host) && !setting('tls-cert').text && !config.trustProxy)
    problems.push(
      `${setting('host').name} ${host} is not this machine alone, and tokens would travel unencrypted: give --tls-cert and --tls-key, or --trust-proxy if a proxy in front ends TLS`,
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

/** By hand, since `parseArgs` takes the next flag for the value of one that has none. */
function parseFlags(argv: string[], problems: string[]): Partial<Record<FlagName, string>> {
  const given: Partial<Record<FlagName, string>> = {}
  const rest = [...argv]
  const nextValue = () => (rest[0]?.startsWith('--') ? undefined : rest.shift())
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    const [, name = '', inline] = /^--?([^=]+)(?:=(.*))?$/s.exec(word) ?? []
    if (!name) problems.push('A value stands alone: every setting is --flag value')
    else if (!word.startsWith('--') || !Object.hasOwn(flags, name)) {
      problems.push(`${word.split('=', 1)[0]} is not a flag${suggestion(name)}`)
      // Its value is not repeated either: with the name of the flag, we do not know what it is.
      if (inline === undefined) nextValue()
    } else {
      const flag = name as FlagName
      const value = 'switch' in flags[flag] ? (inline ?? 'true') : (inline ?? nextValue())
      if (value) given[flag] = value
      else problems.push(`--${flag} needs a value: ${flags[flag].says}`)
    }
  }
  return given
}

function suggestion(typed: string): string {
  const name = typed.toLowerCase()
  const near = Object.keys(flags).find(
    (flag) => flag.startsWith(name) || (name.length > 2 && flag.includes(name)) || lettersBetween(name, flag) <= 2,
  )
  return near ? ` (did you mean --${near}?)` : ''
}

/** How many letters one has and the other has not; where they stand does not matter. */
function lettersBetween(one: string, other: string): number {
  let left = other
  let missing = 0
  for (const letter of one) {
    if (!left.includes(letter)) missing++
    left = left.replace(letter, '')
  }
  return missing + left.length
}

const isLoopback = (host: string) => host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'))

function defaultDataDir(env: NodeJS.ProcessEnv): string {
  if (process.geteuid?.() === 0) return '/var/lib/1ctl'
  return join(env['XDG_DATA_HOME'] || join(env['HOME'] || userInfo().homedir, '.local', 'share'), '1ctl')
}

function integer(problems: string[], { name, text }: Setting, min: number, max: number): number | undefined {
  if (text === undefined) return undefined
  const value = Number(text)
  if (!/^\d+$/.test(text) || value < min || value > max)
    problems.push(`${name} must be a whole number from ${min} to ${max}, not "${text}"`)
  return value
}

function oneOf(problems: string[], { name, text }: Setting, allowed: string[]): string | undefined {
  if (text !== undefined && !allowed.includes(text))
    problems.push(`${name} must be one of ${allowed.join(', ')}, not "${text}"`)
  return text
}

// The text of a URL is not repeated: a password may be in it.

function databaseUrl(problems: string[], { name, text }: Setting): string | undefined {
  if (text !== undefined && !isUrl(text, ['postgres:', 'postgresql:']))
    problems.push(
      `${name} must be a URL like postgres://user:password@host:5432/database, special characters of the password written as %23`,
    )
  return text
}

function publicUrl(problems: string[], { name, text }: Setting): string | undefined {
  if (text !== undefined && !isUrl(text, ['http:', 'https:']))
    problems.push(`${name} must be a URL like https://1ctl.example.test`)
  // The origin: browsers, cookies and HSTS compare it letter by letter.
  return text !== undefined && URL.canParse(text) ? new URL(text).origin : text
}

const isUrl = (text: string, protocols: string[]) => URL.canParse(text) && protocols.includes(new URL(text).protocol)

function readSeal(problems: string[], setting: (flag: FlagName) => Setting, dataDir: string): Seal {
  const given = setting('seal')
  const source = oneOf(problems, given, ['file', 'env', 'manual']) ?? 'file'
  const belongsTo = (wanted: Seal['source'], ...flags: FlagName[]) => {
    for (const { name, text } of flags.map(setting))
      if (source !== wanted && text !== undefined) problems.push(`${name} goes with --seal ${wanted}`)
  }
  belongsTo('file', 'master-key-file')
  belongsTo('env', 'master-key', 'master-key-previous')
  belongsTo('manual', 'seal-shares', 'seal-threshold', 'shares-file')
  // The text is not repeated: it is a key, or was meant to be one.
  const key = ({ name, text }: Setting) => {
    const parsed = text === undefined ? undefined : parseKey(text)
    if (text !== undefined && !parsed)
      problems.push(`${name} must be a random key of 32 bytes in base64 or hex: openssl rand -base64 32`)
    return parsed
  }
  if (source === 'env') {
    if (setting('master-key').text === undefined) problems.push(`${given.name} env needs the key in SATUSKY_MASTER_KEY`)
    return {
      source,
      key: key(setting('master-key')) ?? Buffer.alloc(32),
      previous: key(setting('master-key-previous')),
    }
  }
  if (source === 'manual') {
    const shares = integer(problems, setting('seal-shares'), 1, limits.sharesMax) ?? 5
    const threshold = integer(problems, setting('seal-threshold'), 1, limits.sharesMax) ?? 3
    if (threshold > shares)
      problems.push(`${setting('seal-threshold').name} ${threshold} is more than there are shares (${shares})`)
    const file = setting('shares-file').text
    return { source, shares, threshold, sharesFile: file && resolve(file) }
  }
  return { source: 'file', path: resolve(setting('master-key-file').text ?? join(dataDir, 'master.key')) }
}

function readCluster(problems: string[], setting: (flag: FlagName) => Setting): ClusterChoice {
  const given = setting('cluster')
  const kind = oneOf(problems, given, ['embedded', 'kubeconfig', 'in-cluster']) ?? 'embedded'
  const { name, text } = setting('kubeconfig')
  if (kind === 'kubeconfig') {
    if (text === undefined) problems.push(`${given.name} kubeconfig needs its file: --kubeconfig or KUBECONFIG`)
    else if (text.includes(delimiter)) problems.push(`${name} must be one file, not a list of them`)
    return { kind, path: resolve(text ?? '') }
  }
  // A KUBECONFIG that is there for kubectl names no cluster for us.
  if (text !== undefined && name !== 'KUBECONFIG') problems.push(`${name} goes with --cluster kubeconfig`)
  return { kind: kind === 'in-cluster' ? 'in-cluster' : 'embedded' }
}

function readTls(problems: string[], cert: Setting, key: Setting): Config['tls'] {
  if (cert.text === undefined && key.text === undefined) return undefined
  if (cert.text === undefined || key.text === undefined) {
    problems.push(`${cert.name} and ${key.name} go together`)
    return undefined
  }
  const read = (name: string, file: string) => {
    try {
      return readFileSync(file)
    } catch (error) {
      const why = error instanceof Error && 'code' in error ? String(error.code) : 'unknown reason'
      problems.push(`${name}: cannot read ${file} (${why})`)
      return undefined
    }
  }
  const pem = { cert: read(cert.name, cert.text), key: read(key.name, key.text) }
  if (!pem.cert || !pem.key) return undefined
  const tls = { cert: pem.cert, key: pem.key }
  try {
    createSecureContext(tls)
  } catch {
    problems.push(
      `${cert.name} ${cert.text} and ${key.name} ${key.text} are no PEM certificate and key that belong together`,
    )
  }
  return tls
}

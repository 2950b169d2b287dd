import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { crypto } from './crypto.ts'
import { CliError } from './errors.ts'

/** What `auth login` stores. */
export type Context = { url: string; token: string; email: string; organization: string | null }

export type Profiles = { active: string | null; profiles: Record<string, { url: string; token: string }> }

/** `~/.satusky`: what this machine remembers. Tokens are in it, so others must not read it. */
export type Home = {
  context(): Context | undefined
  saveContext(context: Context | undefined): void
  profiles(): Profiles
  saveProfiles(profiles: Profiles): void
  /** answers that completion keeps for a minute */
  cache(name: string): { ageMs: number; value: unknown } | undefined
  saveCache(name: string, value: unknown): void
  /** those that are there, as people write them */
  files(): string[]
}

export function createHome(env: NodeJS.ProcessEnv, warn: (text: string) => void): Home {
  const folder = join(env.HOME || homedir(), '.satusky')
  const at = (file: string) => join(folder, file)

  const read = (file: string): unknown => {
    let text: string
    try {
      text = readFileSync(at(file), 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw error
    }
    tighten(folder, '~/.satusky', 0o700)
    tighten(at(file), `~/.satusky/${file}`, 0o600)
    try {
      return JSON.parse(text)
    } catch {
      // Not the parser's own words: they quote the text, and with it a token.
      throw damaged(file)
    }
  }
  const tighten = (path: string, name: string, mode: number) => {
    const found = statSync(path).mode & 0o777
    if (process.platform === 'win32' || (found & ~mode) === 0) return
    try {
      chmodSync(path, mode)
      warn(`${name} was open to others (mode ${octal(found)}): it is ${octal(mode)} now.`)
    } catch {
      // Mounted read-only, or somebody else's: no reason to stop.
      warn(`Warning: ${name} is open to others (mode ${octal(found)}), and that could not be changed.`)
    }
  }
  const save = (file: string, value: unknown) => {
    mkdirSync(dirname(at(file)), { recursive: true, mode: 0o700 })
    tighten(folder, '~/.satusky', 0o700)
    writePrivately(at(file), `${JSON.stringify(value, null, 2)}\n`)
  }

  return {
    context() {
      const context = read('context.json')
      if (context === undefined || isEmpty(context)) return undefined
      if (!isAccount(context)) throw damaged('context.json')
      return { email: '', organization: null, ...context }
    },
    saveContext: (context) => save('context.json', context ?? {}),
    profiles() {
      const stored = read('profiles.json')
      if (stored === undefined || isEmpty(stored)) return { active: null, profiles: {} }
      if (!isProfiles(stored)) throw damaged('profiles.json')
      return { active: stored.active ?? null, profiles: stored.profiles }
    },
    saveProfiles: (profiles) => save('profiles.json', profiles),
    cache(name) {
      const file = `cache/${name}.json`
      const stored = read(file)
      return stored === undefined ? undefined : { ageMs: Date.now() - statSync(at(file)).mtimeMs, value: stored }
    },
    saveCache: (name, value) => save(`cache/${name}.json`, value),
    files: () =>
      ['context.json', 'profiles.json'].filter((file) => existsSync(at(file))).map((file) => `~/.satusky/${file}`),
  }
}

/** Under another name first, then renamed: a reader sees the old file or the new one, and nobody else either of them. */
export function writePrivately(path: string, text: string): void {
  const temporary = `${path}.${crypto().randomBytes(6).toString('hex')}`
  try {
    const file = openSync(temporary, 'wx', 0o600)
    try {
      writeFileSync(file, text)
    } finally {
      closeSync(file)
    }
    renameSync(temporary, path)
  } catch (error) {
    rmSync(temporary, { force: true })
    throw error
  }
}

const damaged = (file: string) =>
  new CliError('failed', 'file_damaged', `~/.satusky/${file} is damaged: it is not what 1ctl writes.`, {
    fix: `Repair it, or move it away and ${file === 'context.json' ? 'sign in' : 'create the profiles'} again.`,
  })

const octal = (mode: number) => mode.toString(8).padStart(4, '0')

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const isEmpty = (value: unknown) => isObject(value) && Object.keys(value).length === 0

const isAccount = (value: unknown): value is { url: string; token: string } =>
  isObject(value) && typeof value.url === 'string' && typeof value.token === 'string'

const isProfiles = (value: unknown): value is Profiles =>
  isObject(value) &&
  (value.active == null || typeof value.active === 'string') &&
  isObject(value.profiles) &&
  Object.values(value.profiles).every(isAccount)

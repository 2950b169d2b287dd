import { tokenHint } from '@1ctl/contract/token-format'
import { defaultUrl } from './address.ts'
import { CliError } from './errors.ts'
import type { Home, Profiles } from './home.ts'
import { nearest } from './words.ts'

/** A token and the one address it may go to. */
export type Account = { url: string; token: string; source: Source }

export type Source =
  | { kind: 'flag' | 'environment' | 'active'; profile: string }
  | { kind: 'key' }
  | { kind: 'context' }
  | { kind: 'given' }

type Question = {
  /** --profile */
  flag: string | undefined
  env: NodeJS.ProcessEnv
  home: Pick<Home, 'context' | 'profiles'>
  /** whether a person reads the notices; a function, because opening a stream that is not needed costs a millisecond */
  tty: () => boolean
}

/**
 * --profile, then SATUSKY_API_KEY, then SATUSKY_PROFILE or the active profile, then context.json: the first that is there decides, and
 * brings its own address. What it names must exist; it never falls through to another credential.
 */
export function resolveAccount(question: Question): { account: Account | undefined; notices: string[] } {
  const account = firstOf(question)
  return { account, notices: noticesOf(account, question) }
}

function firstOf({ flag, env, home }: Question): Account | undefined {
  if (flag !== undefined) return fromProfile(home, { kind: 'flag', profile: flag })
  // Trimmed, because a secret of a CI system easily ends in a newline.
  const key = env.SATUSKY_API_KEY?.trim()
  if (key) return { token: key, url: env.SATUSKY_API_URL || defaultUrl, source: { kind: 'key' } }
  if (env.SATUSKY_PROFILE) return fromProfile(home, { kind: 'environment', profile: env.SATUSKY_PROFILE })
  const { active } = home.profiles()
  if (active !== null) return fromProfile(home, { kind: 'active', profile: active })
  const context = home.context()
  return context && { url: context.url, token: context.token, source: { kind: 'context' } }
}

function fromProfile(home: Question['home'], source: Source & { profile: string }): Account {
  return { ...profileNamed(home.profiles(), source.profile), source }
}

export function profileNamed({ profiles }: Profiles, name: string): { url: string; token: string } {
  const profile = Object.hasOwn(profiles, name) ? profiles[name] : undefined
  if (profile) return profile
  const guess = nearest(name, Object.keys(profiles))
  throw new CliError('notFound', 'profile_not_found', `There is no profile "${name}" in ~/.satusky/profiles.json.`, {
    fix: guess ? `Did you mean "${guess}"?` : '1ctl profile list',
  })
}

function noticesOf(account: Account | undefined, { flag, env, home, tty }: Question): string[] {
  const notices = []
  const isKey = account?.source.kind === 'key'
  if (flag === undefined && env.SATUSKY_API_KEY !== undefined && env.SATUSKY_API_KEY.trim() === '') {
    notices.push('SATUSKY_API_KEY is set, but empty: it does not count.')
  }
  if (env.SATUSKY_API_URL && !isKey) {
    notices.push(
      'SATUSKY_API_URL is ignored: it goes with SATUSKY_API_KEY, and a stored token only to the address stored with it.',
    )
  }
  if (isKey && env.SATUSKY_PROFILE) {
    notices.push(`SATUSKY_API_KEY comes before SATUSKY_PROFILE: the profile "${env.SATUSKY_PROFILE}" is not used.`)
  } else if (isKey && tty()) {
    const active = activeOrNothing(home)
    if (active !== null) notices.push(`SATUSKY_API_KEY comes before the active profile "${active}".`)
  }
  return notices
}

// With SATUSKY_API_KEY no file matters, so a damaged one is no reason to fail.
function activeOrNothing(home: Question['home']): string | null {
  try {
    return home.profiles().active
  } catch {
    return null
  }
}

export function sourceOf({ source }: Account): string {
  if (source.kind === 'key') return 'SATUSKY_API_KEY'
  if (source.kind === 'context') return '~/.satusky/context.json'
  if (source.kind === 'given') return 'this login'
  const profile = {
    flag: `--profile ${source.profile}`,
    environment: `SATUSKY_PROFILE=${source.profile}`,
    active: `the active profile "${source.profile}"`,
  }[source.kind]
  return `${profile} (~/.satusky/profiles.json)`
}

/** What may be shown of a token: its beginning and its end, and of a short one not even that. */
export function masked(token: string): { prefix: string; last4: string; text: string } {
  const { prefix, last4 } = tokenHint(token)
  if (token.length < prefix.length + 12) return { prefix: '', last4: '', text: '(too short to show a part of it)' }
  return { prefix, last4, text: `${prefix}...${last4} (last 4: ${last4})` }
}

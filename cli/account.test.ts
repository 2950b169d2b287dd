import { describe, expect, test } from 'vitest'
import { masked, resolveAccount, sourceOf } from './account.ts'
import type { Context, Profiles } from './home.ts'

const profiles: Profiles = {
  active: 'dev',
  profiles: {
    dev: { url: 'https://dev.example.test', token: 'sat_dev' },
    prod: { url: 'https://prod.example.test', token: 'sat_prod' },
  },
}
const context: Context = {
  url: 'https://context.example.test/v1/cli',
  token: 'sat_context',
  email: '',
  organization: null,
}
const key = { SATUSKY_API_KEY: 'sat_key' }

function resolve(given: {
  flag?: string
  env?: Record<string, string>
  profiles?: Profiles
  context?: Context
  tty?: boolean
}) {
  const { flag, env = {}, tty = false } = given
  const home = { context: () => given.context, profiles: () => given.profiles ?? { active: null, profiles: {} } }
  const { account, notices } = resolveAccount({ flag, env, home, tty: () => tty })
  return { from: account && [account.token, account.url], notices, says: account && sourceOf(account) }
}

describe('the token comes from', () => {
  test('--profile, before everything else', () => {
    const { from, says } = resolve({ flag: 'prod', env: { ...key, SATUSKY_PROFILE: 'dev' }, profiles, context })
    expect(from).toEqual(['sat_prod', 'https://prod.example.test'])
    expect(says).toBe('--profile prod (~/.satusky/profiles.json)')
  })

  test('SATUSKY_API_KEY, before the active profile, and goes to the default address', () => {
    const { from, says } = resolve({ env: key, profiles, context })
    expect(from).toEqual(['sat_key', 'https://api.satusky.com/v1/cli'])
    expect(says).toBe('SATUSKY_API_KEY')
  })

  test('SATUSKY_API_KEY with the address in SATUSKY_API_URL', () => {
    const { from, notices } = resolve({
      env: { ...key, SATUSKY_API_URL: 'https://ci.example.test' },
      profiles,
      context,
    })
    expect(from).toEqual(['sat_key', 'https://ci.example.test'])
    expect(notices).toEqual([])
  })

  test('SATUSKY_API_KEY without the newline that a CI system left at its end', () => {
    expect(resolve({ env: { SATUSKY_API_KEY: 'sat_key\n' } }).from?.[0]).toBe('sat_key')
  })

  test('SATUSKY_PROFILE in place of the active profile', () => {
    const { from, says } = resolve({ env: { SATUSKY_PROFILE: 'prod' }, profiles, context })
    expect(from).toEqual(['sat_prod', 'https://prod.example.test'])
    expect(says).toBe('SATUSKY_PROFILE=prod (~/.satusky/profiles.json)')
  })

  test('the active profile, before the context', () => {
    const { from, says } = resolve({ profiles, context })
    expect(from).toEqual(['sat_dev', 'https://dev.example.test'])
    expect(says).toBe('the active profile "dev" (~/.satusky/profiles.json)')
  })

  test('the context, when no profile is active', () => {
    const { from, says } = resolve({ profiles: { ...profiles, active: null }, context })
    expect(from).toEqual(['sat_context', 'https://context.example.test/v1/cli'])
    expect(says).toBe('~/.satusky/context.json')
  })

  test('nowhere, when there is none', () => expect(resolve({}).from).toBeUndefined())
})

describe('a profile that does not exist is an error, though another credential is there', () => {
  test.each([
    ['--profile', { flag: 'prdo' }],
    ['SATUSKY_PROFILE', { env: { SATUSKY_PROFILE: 'prdo' } }],
    ['the active profile', { profiles: { ...profiles, active: 'prdo' } }],
    ['a name that every object has', { flag: 'constructor' }],
  ])('%s', (_, given) => {
    expect(() => resolve({ profiles, context, ...given })).toThrow('There is no profile "')
  })

  test('and the likely name is told', () => {
    expect(() => resolve({ flag: 'prdo', profiles })).toThrow(
      expect.objectContaining({ exit: 'notFound', fix: 'Did you mean "prod"?' }),
    )
  })
})

describe('it is said', () => {
  test('that SATUSKY_API_URL alone is ignored', () => {
    const { from, notices } = resolve({ env: { SATUSKY_API_URL: 'https://evil.example.test' }, profiles })
    expect(from).toEqual(['sat_dev', 'https://dev.example.test'])
    expect(notices).toEqual([expect.stringContaining('SATUSKY_API_URL is ignored')])
  })

  test('that the key comes before SATUSKY_PROFILE', () => {
    expect(resolve({ env: { ...key, SATUSKY_PROFILE: 'prod' }, profiles }).notices).toEqual([
      'SATUSKY_API_KEY comes before SATUSKY_PROFILE: the profile "prod" is not used.',
    ])
  })

  test('to a person only, that the key comes before the active profile', () => {
    expect(resolve({ env: key, profiles, tty: true }).notices).toEqual([
      'SATUSKY_API_KEY comes before the active profile "dev".',
    ])
    expect(resolve({ env: key, profiles, tty: false }).notices).toEqual([])
  })

  test('that an empty SATUSKY_API_KEY does not count', () => {
    const { from, notices } = resolve({ env: { SATUSKY_API_KEY: '' }, context })
    expect(from?.[0]).toBe('sat_context')
    expect(notices).toEqual(['SATUSKY_API_KEY is set, but empty: it does not count.'])
  })
})

test('with SATUSKY_API_KEY the files are not even looked at', () => {
  const home = { context: damaged, profiles: damaged }
  expect(resolveAccount({ flag: undefined, env: key, home, tty: () => true }).account?.token).toBe('sat_key')
})

test('of a token its beginning and its last four characters are shown, and of a short one nothing', () => {
  expect(masked('sat_prod_Ab12567890123456789012345678wxyz').text).toBe('sat_prod_Ab12...wxyz (last 4: wxyz)')
  expect(masked('sat_Ab125678901234567890wxyz').text).toBe('sat_Ab12...wxyz (last 4: wxyz)')
  expect(masked('sat_dev_xxxxyyyy')).toEqual({ prefix: '', last4: '', text: '(too short to show a part of it)' })
})

function damaged(): never {
  throw new Error('damaged')
}

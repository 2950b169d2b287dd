import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { expiry } from './commands/token.ts'
import { day, duration, moment, nearest, oneOf, relative } from './words.ts'

beforeEach(() => vi.useFakeTimers({ now: new Date('2026-04-27T15:30:00Z'), toFake: ['Date'] }))
afterEach(() => vi.useRealTimers())

describe('--expires', () => {
  test.each([
    ['90', 90],
    ['90d', 90],
    ['never', 'never'],
    ['2026-04-28', 1],
    ['2026-12-31', 248],
    ['3650', 3650],
  ])('takes %s', (text, days) => expect(expiry(text)).toBe(days))

  test.each(['0', '-1', '3651', '2026-04-27', '2020-01-01', '2026-13-01', '1.5', 'soon', ''])('refuses %j', (text) => {
    expect(() => expiry(text)).toThrow(/Write|future|At most/)
  })
})

describe('durations', () => {
  test.each([
    ['0', 0],
    ['30m', 1_800_000],
    ['24h', 86_400_000],
    ['7d', 604_800_000],
    ['2', 7_200_000],
    ['1.5h', 5_400_000],
  ])('--grace takes %s', (text, ms) => expect(duration('h')(text)).toBe(ms))

  test.each(['', 'h', '-1h', '1 week', '1e3'])('refuses %j', (text) => {
    expect(() => duration('h')(text)).toThrow('Write a number with a unit')
  })
})

describe('--since', () => {
  test.each([
    ['24h', '2026-04-26T15:30:00.000Z'],
    ['2026-04-01', '2026-04-01T00:00:00.000Z'],
    ['2026-04-01T10:00:00+02:00', '2026-04-01T08:00:00.000Z'],
  ])('takes %s', (text, time) => expect(moment(text)).toBe(time))

  test.each(['yesterday', '7', '2026-99-01', '01/02/2026'])('refuses %j', (text) => {
    expect(() => moment(text)).toThrow('Write 24h')
  })
})

test('a time is shown as its day in UTC, and as its distance', () => {
  expect(day('2026-07-26T23:59:59.123456+00:00')).toBe('2026-07-26')
  expect(day(null)).toBe('never')
  expect(relative('2026-04-27T12:30:00Z')).toBe('3 h ago')
  expect(relative('2026-05-02T16:00:00Z')).toBe('in 5 d')
  expect(relative('2026-04-27T15:30:00Z')).toBe('now')
})

test('a mistyped word finds what was meant, and a strange one nothing', () => {
  expect(nearest('prdo', ['dev', 'prod'])).toBe('prod')
  expect(nearest('Prod', ['dev', 'prod'])).toBe('prod')
  expect(nearest('staging', ['dev', 'prod'])).toBeUndefined()
  expect(nearest('x', ['y'])).toBeUndefined()
  expect(nearest('prod', [])).toBeUndefined()
})

test('a word outside of a closed set is refused with the set and the likely word', () => {
  expect(oneOf(['read', 'deploy'])('deploy')).toBe('deploy')
  expect(() => oneOf(['read', 'deploy'])('deply')).toThrow('Did you mean "deploy"? It is one of: read, deploy.')
})

import { randomBytes } from 'node:crypto'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { checksum, formatToken, isTokenWhole, tokenHint, tokenPattern } from './token-format.ts'

const random = fc.uint8Array({ minLength: 64, maxLength: 64 })
const tag = fc.option(fc.stringMatching(/^[a-z0-9]{1,16}$/), { nil: undefined })

// CRC32 in base62 at the end, as in GitHub's tokens: a published example of those.
test('the checksum is the published one', () => {
  expect(checksum('zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ')).toBe('0mLq17')
})

test('a token is sat_, a tag if wanted, and 32 characters, and is whole', () => {
  fc.assert(
    fc.property(tag, (tag) => {
      const token = formatToken(randomBytes(64), tag)
      expect(token).toMatch(tag ? new RegExp(`^sat_${tag}_[0-9A-Za-z]{32}$`) : /^sat_[0-9A-Za-z]{32}$/)
      expect(token).toMatch(tokenPattern)
      expect(isTokenWhole(token)).toBe(true)
    }),
  )
})

const whole = (text: string) => isTokenWhole(`sat_${text}`)

test('one wrong, missing, swapped or added character shows', () => {
  fc.assert(
    fc.property(fc.nat(31), fc.stringMatching(/^[0-9A-Za-z]$/), (place, character) => {
      const body = formatToken(randomBytes(64)).slice(4)
      const [before, here, after] = [body.slice(0, place), body[place] ?? '', body.slice(place + 1)]
      expect(whole(before + character + after)).toBe(here === character)
      expect(whole(before + after)).toBe(false)
      expect(whole(body + character)).toBe(false)
      const next = after[0]
      if (next && next !== here) expect(whole(before + next + here + after.slice(1))).toBe(false)
    }),
  )
})

test('every character is equally likely: bytes that would favor some are skipped', () => {
  expect(formatToken(new Uint8Array(64).fill(247)).slice(4, 30)).toBe('z'.repeat(26))
  expect(() => formatToken(new Uint8Array(64).fill(248))).toThrow('not enough random bytes')
  const skipping = Uint8Array.from({ length: 64 }, (_, index) => (index % 2 ? 255 : 0))
  expect(formatToken(skipping).slice(4, 30)).toBe('0'.repeat(26))
})

test('too little randomness is an error, not a shorter token', () => {
  expect(() => formatToken(new Uint8Array(25))).toThrow('not enough random bytes')
})

test('what may be shown of a token is its beginning and its end', () => {
  expect(tokenHint('sat_prod_Ab12cdefghijklmnopqrstuvwxyz0123')).toEqual({ prefix: 'sat_prod_Ab12', last4: '0123' })
  fc.assert(
    fc.property(
      random.filter((bytes) => bytes.filter((byte) => byte < 248).length >= 26),
      tag,
      (bytes, tag) => {
        const token = formatToken(bytes, tag)
        const { prefix, last4 } = tokenHint(token)
        expect([token.startsWith(prefix), token.endsWith(last4)]).toEqual([true, true])
        expect(token.length - prefix.length - last4.length).toBe(24)
      },
    ),
  )
})

import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { fingerprintOfKey, newKey } from './envelope.ts'
import { BadShare, parseShare, shareBox, splitKey } from './shares.ts'

const counts = fc.tuple(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 20 })).map(([a, b]) => ({
  shares: Math.max(a, b),
  threshold: Math.min(a, b),
}))

const enterAll = async (texts: string[], wanted: { fingerprint: string; threshold: number }, box = shareBox()) => {
  let key: Buffer | undefined
  for (const text of texts) key = await box.add(parseShare(text), wanted)
  return key
}

describe('the shares of a key', () => {
  test('give it back, any of them and in any order, when there are enough', () =>
    fc.assert(
      fc.asyncProperty(counts, fc.nat(), async ({ shares, threshold }, seed) => {
        const key = newKey()
        const texts = await splitKey(key, shares, threshold)
        expect(new Set(texts).size).toBe(shares)
        const chosen = shuffled(texts, seed).slice(0, threshold)
        expect(await enterAll(chosen, { fingerprint: fingerprintOfKey(key), threshold })).toEqual(key)
      }),
      { numRuns: 40 },
    ))

  test('give nothing when there is one too few', async () => {
    const key = newKey()
    const texts = await splitKey(key, 5, 3)
    const box = shareBox()
    const wanted = { fingerprint: fingerprintOfKey(key), threshold: 3 }
    expect(await enterAll(texts.slice(0, 2), wanted, box)).toBeUndefined()
    // Not even to someone who lowers the threshold.
    await expect(enterAll(texts.slice(0, 2), { ...wanted, threshold: 2 })).rejects.toThrow('do not give the key')
  })

  test('do not have the key in them, unless one is enough', async () => {
    const key = newKey()
    const texts = await splitKey(key, 5, 2)
    expect(texts.join()).not.toContain(key.toString('hex'))
  })
})

describe('a share as text', () => {
  test('is read whatever the case and the space around it', async () => {
    const [text = ''] = await splitKey(newKey(), 3, 2)
    expect(text).toMatch(/^1ctl-share-[0-9a-f]{8}-2-[0-9a-f]{66}-[0-9a-f]{8}$/)
    expect(parseShare(`  ${text.toUpperCase()}\n`)).toEqual(parseShare(text))
  })

  test('is refused when any character of it is another, missing or there twice', async () => {
    const [text = ''] = await splitKey(newKey(), 3, 2)
    for (let place = 0; place < text.length; place++) {
      const [before, character, after] = [text.slice(0, place), text[place] ?? '', text.slice(place + 1)]
      const other = character === '0' ? '1' : '0'
      for (const mistyped of [before + other + after, before + after, before + character + character + after])
        if (mistyped !== text) expect(() => parseShare(mistyped), mistyped).toThrow(BadShare)
    }
  })

  test('is refused when it is anything else, without saying what it was', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        expect(() => parseShare(text)).toThrow(/^This is no share, or one that was mistyped or cut\.$/)
      }),
    )
  })
})

describe('a box of shares', () => {
  test('counts different ones', async () => {
    const key = newKey()
    const wanted = { fingerprint: fingerprintOfKey(key), threshold: 3 }
    const [one = '', two = '', three = ''] = await splitKey(key, 5, 3)
    const box = shareBox()
    expect(await enterAll([one, one, two, one], wanted, box)).toBeUndefined()
    expect(box.count(wanted)).toBe(2)
    expect(await enterAll([three], wanted, box)).toEqual(key)
    box.clear()
    expect(box.count(wanted)).toBe(0)
  })

  test('refuses one of another key, and keeps those it has', async () => {
    const [key, other] = [newKey(), newKey()]
    const wanted = { fingerprint: fingerprintOfKey(key), threshold: 2 }
    const [one = '', two = ''] = await splitKey(key, 3, 2)
    const [foreign = ''] = await splitKey(other, 3, 2)
    const box = shareBox()
    await enterAll([one], wanted, box)
    await expect(enterAll([foreign], wanted, box)).rejects.toThrow(
      `of the set ${fingerprintOfKey(other).slice(0, 8)}, which another master key had or will have; wanted is ${wanted.fingerprint.slice(0, 8)}`,
    )
    expect(box.count(wanted)).toBe(1)
    expect(await enterAll([two], wanted, box)).toEqual(key)
  })

  test('tells forged ones by what they give, and begins anew', async () => {
    const key = newKey()
    const wanted = { fingerprint: fingerprintOfKey(key), threshold: 2 }
    const [one = '', two = ''] = await splitKey(key, 3, 2)
    const box = shareBox()
    const forged = parseShare(two)
    forged.bytes[3] = (forged.bytes[3] ?? 0) ^ 1
    await enterAll([one], wanted, box)
    await expect(box.add(forged, wanted)).rejects.toThrow('begin again')
    expect(box.count(wanted)).toBe(0)
    expect(await enterAll([one, two], wanted, box)).toEqual(key)
  })
})

function shuffled<T>(items: T[], seed: number): T[] {
  return items
    .map((item, place) => ({ item, order: (seed * (place + 7)) % 101 }))
    .toSorted((a, b) => a.order - b.order)
    .map(({ item }) => item)
}

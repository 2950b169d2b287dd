import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  Damaged,
  fingerprint,
  fingerprintOfKey,
  newKey,
  open,
  seal,
  sealedOverhead,
  unwrap,
  type ValueAddress,
  versionProof,
  Wiped,
  wrap,
} from './envelope.ts'

const dataKey = newKey()
const address: ValueAddress = {
  organization: '0190163d-8694-739b-aea5-966c26f8ad91',
  bag: '0190163d-8694-739b-aea5-966c26f8ad92',
  key: 'DATABASE_URL',
  version: 7,
}
const anyBytes = fc.uint8Array({ maxLength: 2000 }).map((bytes) => Buffer.from(bytes))
const anyKey = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes))
const anyAddress = fc.record({
  organization: fc.uuid(),
  bag: fc.uuid(),
  key: fc.string({ unit: 'binary', maxLength: 200 }),
  version: fc.nat(),
})

describe('a sealed value', () => {
  test('opens with its key and address, whatever they are', () => {
    fc.assert(
      fc.property(anyKey, anyAddress, anyBytes, (key, address, value) => {
        fc.pre(key.some((byte) => byte !== 0))
        const sealed = seal(key, address, value)
        expect(sealed.length).toBe(value.length + sealedOverhead)
        expect(open(key, address, sealed)).toEqual(value)
      }),
    )
  })

  test('says nothing of the value but its length, and never looks the same twice', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 8 }), (bytes) => {
        const value = Buffer.from(bytes)
        const [one, other] = [seal(dataKey, address, value), seal(dataKey, address, value)]
        expect(one.includes(value)).toBe(false)
        expect(one.equals(other)).toBe(false)
      }),
    )
  })

  test('does not open when a single bit of it is another', () => {
    const sealed = seal(dataKey, address, Buffer.from('postgres://u:p@host/db'))
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const damaged = Buffer.from(sealed)
      damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      expect(() => open(dataKey, address, damaged), `bit ${bit}`).toThrow(Damaged)
    }
  })

  test('does not open when it is longer or shorter', () => {
    const sealed = seal(dataKey, address, Buffer.from('a value'))
    for (let length = 0; length < sealed.length; length++)
      expect(() => open(dataKey, address, sealed.subarray(0, length)), `${length} bytes`).toThrow(Damaged)
    expect(() => open(dataKey, address, Buffer.concat([sealed, Buffer.of(0)]))).toThrow(Damaged)
    expect(() => open(dataKey, address, sealed.subarray(1))).toThrow(Damaged)
  })

  test('does not open in another place: organization, bag, key or version', () => {
    const sealed = seal(dataKey, address, Buffer.from('a value'))
    for (const elsewhere of [
      { organization: '0190163d-8694-739b-aea5-966c26f8ad93' },
      { bag: '0190163d-8694-739b-aea5-966c26f8ad93' },
      { key: 'DATABASE_UR' },
      { key: 'database_url' },
      { version: 6 },
      { version: 70 },
    ])
      expect(() => open(dataKey, { ...address, ...elsewhere }, sealed), JSON.stringify(elsewhere)).toThrow(Damaged)
  })

  test('does not open where the parts of its address are shifted against each other', () => {
    const plain = { organization: 'ab', bag: 'c', key: 'd', version: 1 }
    const sealed = seal(dataKey, plain, Buffer.from('a value'))
    for (const shifted of [
      { ...plain, organization: 'a', bag: 'bc' },
      { ...plain, bag: '', key: 'cd' },
      { ...plain, key: '', bag: 'cd' },
      { ...plain, key: 'd1', version: 0 },
    ])
      expect(() => open(dataKey, shifted, sealed)).toThrow(Damaged)
  })

  test('does not open with another key, or as a wrapped key', () => {
    const sealed = seal(dataKey, address, newKey())
    expect(() => open(newKey(), address, sealed)).toThrow(Damaged)
    const { organization, bag, key, version } = address
    expect(() => unwrap(dataKey, [organization, bag, key, String(version)], sealed)).toThrow(Damaged)
  })

  test('tells nothing of itself or its key in the error', () => {
    const sealed = seal(dataKey, address, Buffer.from('hunter2'))
    sealed[20] = (sealed[20] ?? 0) ^ 1
    const error = caught(() => open(dataKey, address, sealed))
    expect(Object.keys(error)).toEqual(['name'])
    expect(`${error.stack}`).not.toMatch(/hunter2|DATABASE_URL/)
  })
})

describe('a wrapped key', () => {
  const label = ['organization', 'data', 'id']

  test('unwraps under its label, and under no other', () => {
    const [wrapping, key] = [newKey(), newKey()]
    const wrapped = wrap(wrapping, label, key)
    expect(unwrap(wrapping, label, wrapped)).toEqual(key)
    for (const other of [
      ['other', 'data', 'id'],
      ['organization', 'fingerprint', 'id'],
      ['organization', 'data', 'x'],
      [],
    ])
      expect(() => unwrap(wrapping, other, wrapped)).toThrow(Damaged)
    expect(() => unwrap(newKey(), label, wrapped)).toThrow(Damaged)
  })

  test('does not unwrap when a single bit of it is another', () => {
    const wrapping = newKey()
    const wrapped = wrap(wrapping, label, newKey())
    for (let bit = 0; bit < wrapped.length * 8; bit++) {
      const damaged = Buffer.from(wrapped)
      damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      expect(() => unwrap(wrapping, label, damaged)).toThrow(Damaged)
    }
  })
})

const fingerprintOf = (value: Buffer, { key = dataKey, bag = 'bag', name = 'KEY' } = {}) =>
  fingerprint(key, bag, name, value)
const proof = (version: number, values: [string, number][]) =>
  versionProof(dataKey, 'bag', version, new Map(values)).toString('hex')

describe('a fingerprint', () => {
  test('is the same for the same value in the same place, and no other', () => {
    fc.assert(
      fc.property(anyBytes, anyBytes, (one, other) => {
        expect(fingerprintOf(one).equals(fingerprintOf(other))).toBe(one.equals(other))
      }),
    )
    const here = fingerprintOf(Buffer.from('a'))
    for (const elsewhere of [{ key: newKey() }, { bag: 'other' }, { name: 'OTHER' }, { bag: 'bagK', name: 'EY' }])
      expect(fingerprintOf(Buffer.from('a'), elsewhere)).not.toEqual(here)
  })

  test('of a version tells which values it consists of, in whatever order they come', () => {
    const one = proof(3, [
      ['A', 1],
      ['B', 3],
    ])
    expect(
      proof(3, [
        ['B', 3],
        ['A', 1],
      ]),
    ).toBe(one)
    const others = [
      proof(4, [
        ['A', 1],
        ['B', 3],
      ]),
      proof(3, [
        ['A', 2],
        ['B', 3],
      ]),
      proof(3, [['A', 1]]),
    ]
    expect(
      new Set([
        one,
        ...others,
        versionProof(
          newKey(),
          'bag',
          3,
          new Map([
            ['A', 1],
            ['B', 3],
          ]),
        ).toString('hex'),
      ]).size,
    ).toBe(5)
  })

  test('of a key names it and is no part of it', () => {
    expect(fingerprintOfKey(dataKey)).toMatch(/^[0-9a-f]{16}$/)
    expect(fingerprintOfKey(dataKey)).toBe(fingerprintOfKey(Buffer.from(dataKey)))
    expect(fingerprintOfKey(dataKey)).not.toBe(fingerprintOfKey(newKey()))
  })
})

test('nothing is done with a key that was wiped', () => {
  const key = newKey()
  const sealed = seal(key, address, Buffer.from('a value'))
  key.fill(0)
  for (const use of [
    () => seal(key, address, Buffer.from('a value')),
    () => open(key, address, sealed),
    () => wrap(key, [], newKey()),
    () => unwrap(key, [], sealed),
    () => fingerprint(key, 'bag', 'KEY', Buffer.from('a value')),
    () => versionProof(key, 'bag', 1, new Map()),
    () => fingerprintOfKey(key),
  ])
    expect(use).toThrow(Wiped)
})

function caught(work: () => unknown): Error {
  try {
    work()
  } catch (error) {
    return error as Error
  }
  throw new Error('nothing was thrown')
}

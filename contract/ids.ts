/**
 * Ids are UUIDv7 in the database and read as `tok_01hx…` outside: TypeID, a bijection, so that a raw UUID is accepted
 * wherever an id is. https://github.com/jetify-com/typeid/tree/main/spec
 */
export const idPrefixes = {
  organization: 'org',
  user: 'usr',
  member: 'mem',
  session: 'ses',
  token: 'tok',
  vpc: 'vpc',
  app: 'dep',
  secret: 'sec',
  rollout: 'rol',
  wave: 'wav',
  event: 'evt',
} as const

export type Noun = keyof typeof idPrefixes

const alphabet = '0123456789abcdefghjkmnpqrstvwxyz'
const digitOf = new Map(Array.from(alphabet, (character, digit) => [character, digit]))
const digitPairs = Array.from({ length: 1024 }, (_, pair) => `${alphabet[pair >> 5]}${alphabet[pair & 31]}`)
const [dash, zero, nine, a] = ['-', '0', '9', 'a'].map((character) => character.charCodeAt(0)) as [
  number,
  number,
  number,
  number,
]
const uuidPattern = /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i
const suffixPattern = /^[0-7][0-9a-hjkmnp-tv-z]{25}$/

export function encodeId(noun: Noun, uuid: string): string {
  let suffix = ''
  // 128 bits in 26 digits of 5 bits: two bits of padding in front. Two digits at a time, because lists print many ids.
  let bits = 2
  let pending = 0
  for (let at = 0; at < uuid.length; at++) {
    const code = uuid.charCodeAt(at)
    if (code === dash) continue
    pending = (pending << 4) | (code <= nine ? code - zero : code - a + 10)
    bits += 4
    if (bits < 10) continue
    bits -= 10
    suffix += digitPairs[pending >> bits]
    pending &= (1 << bits) - 1
  }
  return `${idPrefixes[noun]}_${suffix}`
}

/** The UUID behind an id of this noun (of any noun, without one) or behind a raw UUID; undefined for anything else. */
export function decodeId(noun: Noun | undefined, id: string): string | undefined {
  if (uuidPattern.test(id)) return dashed(id.toLowerCase().replaceAll('-', ''))
  const prefix = noun ? idPrefixes[noun] : id.slice(0, id.indexOf('_'))
  const suffix = id.slice(prefix.length + 1)
  if (!id.startsWith(`${prefix}_`) || !suffixPattern.test(suffix)) return undefined
  let value = 0n
  for (const character of suffix) value = (value << 5n) | BigInt(digitOf.get(character) ?? 0)
  return dashed(value.toString(16).padStart(32, '0'))
}

const dashed = (hex: string) =>
  `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`

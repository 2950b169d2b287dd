/**
 * What an API token looks like: `sat_[tag_]` + 26 random base62 characters + 6 that are the CRC32 of those 26. The checksum lets a
 * scanner find leaked tokens without false alarms, and lets the CLI say "looks mistyped"; it never decides who gets in.
 */
export const tokenPattern = /^sat_(?:[a-z0-9]{1,16}_)?[0-9A-Za-z]{24}(?:[0-9A-Za-z]{8})?$/

const alphabet = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const checksumLength = 6
export const randomLength = 26

/** A token from random bytes (at least 64 of them: some are skipped so that every character is equally likely). */
export function formatToken(random: Uint8Array, tag?: string): string {
  let body = ''
  for (const byte of random) {
    if (body.length === randomLength) break
    if (byte < 248) body += alphabet[byte % 62] // 248 = 4 * 62
  }
  if (body.length < randomLength) throw new Error('not enough random bytes')
  return `sat_${tag ? `${tag}_` : ''}${body}${checksum(body)}`
}

/** Whether a token is whole: of the right shape and, in the issued length, with the right checksum. */
export function isTokenWhole(token: string): boolean {
  if (!tokenPattern.test(token)) return false
  const body = token.slice(token.lastIndexOf('_') + 1)
  if (body.length !== randomLength + checksumLength) return true
  return checksum(body.slice(0, randomLength)) === body.slice(randomLength)
}

/** What may be shown and stored of a token: `sat_prod_Ab12` and the last four characters. */
export function tokenHint(token: string): { prefix: string; last4: string } {
  return { prefix: token.slice(0, token.lastIndexOf('_') + 5), last4: token.slice(-4) }
}

export function checksum(text: string): string {
  let value = crc32(text)
  let digits = ''
  for (let place = 0; place < checksumLength; place++) {
    digits = alphabet[value % 62] + digits
    value = Math.floor(value / 62)
  }
  return digits
}

// zlib.crc32 is missing in browsers and before Node 20.15.
function crc32(text: string): number {
  let crc = 0xffffffff
  for (const byte of new TextEncoder().encode(text)) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1
  }
  return (crc ^ 0xffffffff) >>> 0
}

import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto'

/**
 * The cryptography of values, pure: bytes in, bytes out. A value is sealed with AES-256-GCM under a subkey of its organization's data key,
 * derived for this one value version, so no key ever meets its nonce limit; what it belongs to is bound as associated data, so a row
 * that was moved, swapped or rolled back by hand does not open.
 */
export type ValueAddress = { organization: string; bag: string; key: string; version: number }

/** Sealed bytes: format 1 | nonce 12 | ciphertext | tag 16. */
const format = 1
const nonceLength = 12
const tagLength = 16
/** How much longer a sealed value is. */
export const sealedOverhead = 1 + nonceLength + tagLength

export function seal(dataKey: Buffer, address: ValueAddress, value: Buffer): Buffer {
  const bound = boundTo(address)
  return encrypt(subkey(dataKey, bound), bound, value)
}

/** The value; throws `Damaged` when anything of it or its address is not as it was sealed. */
export function open(dataKey: Buffer, address: ValueAddress, sealed: Buffer): Buffer {
  const bound = boundTo(address)
  return decrypt(subkey(dataKey, bound), bound, sealed)
}

const boundTo = ({ organization, bag, key, version }: ValueAddress) =>
  bytesOf('value', organization, bag, key, String(version))

/** A key under another key: organization keys under the master key. */
export function wrap(wrappingKey: Buffer, label: string[], key: Buffer): Buffer {
  const bound = bytesOf('key', ...label)
  return encrypt(subkey(wrappingKey, bound), bound, key)
}

export function unwrap(wrappingKey: Buffer, label: string[], wrapped: Buffer): Buffer {
  const bound = bytesOf('key', ...label)
  return decrypt(subkey(wrappingKey, bound), bound, wrapped)
}

/** Names a key without telling anything of it. */
export const fingerprintOfKey = (key: Buffer) =>
  createHmac('sha256', present(key)).update('1ctl key fingerprint').digest('hex').slice(0, 16)

/**
 * The same value has the same fingerprint under the same key of a bag, and nowhere else: whoever may write could otherwise store guesses
 * under other keys and see which of them looks the same. Keyed, since an unkeyed hash of a short password can be guessed.
 */
export const fingerprint = (fingerprintKey: Buffer, bag: string, key: string, value: Buffer) =>
  createHmac('sha256', present(fingerprintKey))
    .update(bytesOf('fingerprint', bag, key))
    .update(value)
    .digest()
    .subarray(0, 16)

/** Proves of which values a version of a bag consists: by each key, the version that set it. */
export function versionProof(fingerprintKey: Buffer, bag: string, version: number, setIn: Map<string, number>): Buffer {
  const sorted = [...setIn].sort(([one], [other]) => (one < other ? -1 : 1))
  return createHmac('sha256', present(fingerprintKey))
    .update(JSON.stringify(['version', bag, version, sorted]))
    .digest()
}

export const same = (a: Buffer, b: Buffer) => a.length === b.length && timingSafeEqual(a, b)

export const newKey = () => randomBytes(32)

export class Damaged extends Error {
  override name = 'Damaged'
}

export class Wiped extends Error {
  override name = 'Wiped'
}

function encrypt(key: Buffer, bound: Buffer, plain: Buffer): Buffer {
  const nonce = randomBytes(nonceLength)
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: tagLength })
  cipher.setAAD(bound)
  return Buffer.concat([Buffer.of(format), nonce, cipher.update(plain), cipher.final(), cipher.getAuthTag()])
}

function decrypt(key: Buffer, bound: Buffer, sealed: Buffer): Buffer {
  if (sealed.length < sealedOverhead || sealed[0] !== format) throw new Damaged('not a sealed value of a known format')
  const nonce = sealed.subarray(1, 1 + nonceLength)
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: tagLength })
  decipher.setAAD(bound)
  decipher.setAuthTag(sealed.subarray(sealed.length - tagLength))
  try {
    return Buffer.concat([
      decipher.update(sealed.subarray(1 + nonceLength, sealed.length - tagLength)),
      decipher.final(),
    ])
  } catch {
    throw new Damaged('does not open: it was changed, or does not belong here')
  }
}

const subkey = (key: Buffer, bound: Buffer) => Buffer.from(hkdfSync('sha256', present(key), '', bound, 32))

/**
 * A key is wiped while requests still have it at hand; sealed with zeros, a value would be open to everyone. So the check is here, at the
 * use: nothing can come between.
 */
function present(key: Buffer): Buffer {
  if (key.equals(wiped)) throw new Wiped('this key was wiped from memory')
  return key
}
const wiped = Buffer.alloc(32)

/** Each part behind its length: no two different lists read the same. */
function bytesOf(...parts: string[]): Buffer {
  const chunks: Buffer[] = []
  for (const part of parts) {
    const text = Buffer.from(part, 'utf8')
    const length = Buffer.alloc(4)
    length.writeUInt32BE(text.length)
    chunks.push(length, text)
  }
  return Buffer.concat(chunks)
}

import { generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto'

/**
 * A certificate of our own, for loopback. kubectl sends a token over TLS only, Node makes no certificates, and not every machine has
 * openssl; so this writes the few fields of X.509 itself. It never ends (RFC 5280, 4.1.2.5), or a kubeconfig handed out would.
 */
export function selfSigned(name: string): { key: string; certificate: string } {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const body = toBeSigned(name, publicKey)
  const signature = sign('sha256', body, privateKey)
  const der = sequence(body, ecdsaWithSha256, encode(0x03, Buffer.from([0]), signature))
  const lines = der.toString('base64').match(/.{1,64}/g)!
  return {
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    certificate: `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`,
  }
}

/** Tag, length, content. */
function encode(tag: number, ...parts: Buffer[]): Buffer {
  const content = Buffer.concat(parts)
  const { length } = content
  const size = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 255]
  return Buffer.concat([Buffer.from([tag, ...size]), content])
}

const sequence = (...parts: Buffer[]) => encode(0x30, ...parts)
const oid = (...bytes: number[]) => encode(0x06, Buffer.from(bytes))
const text = (tag: number, value: string) => encode(tag, Buffer.from(value))
const isTrue = encode(0x01, Buffer.from([0xff]))
const ecdsaWithSha256 = sequence(oid(0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02))

function toBeSigned(commonName: string, publicKey: KeyObject): Buffer {
  const name = sequence(encode(0x31, sequence(oid(0x55, 0x04, 0x03), text(0x0c, commonName))))
  const serial = randomBytes(16)
  // Positive, and no zero in front.
  serial[0] = (serial[0]! & 0x7f) | 0x40
  return sequence(
    encode(0xa0, encode(0x02, Buffer.from([2]))),
    encode(0x02, serial),
    ecdsaWithSha256,
    name,
    sequence(text(0x17, '200101000000Z'), text(0x18, '99991231235959Z')),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    encode(0xa3, sequence(...extensions)),
  )
}

const extension = (id: number, value: Buffer, critical = false) =>
  sequence(oid(0x55, 0x1d, id), ...(critical ? [isTrue] : []), encode(0x04, value))

const extensions = [
  // An authority, for itself alone.
  extension(0x13, sequence(isTrue), true),
  // Signs, also certificates.
  extension(0x0f, encode(0x03, Buffer.from([2, 0x84])), true),
  extension(0x25, sequence(oid(0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01))),
  extension(
    0x11,
    sequence(
      text(0x82, 'localhost'),
      encode(0x87, Buffer.from([127, 0, 0, 1])),
      encode(0x87, Buffer.from([...Array<number>(15).fill(0), 1])),
    ),
  ),
]

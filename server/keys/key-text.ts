/** A key as people and files hold it: 32 bytes in base64, with or without padding, or in hex. Undefined for anything else. */
export function parseKey(text: string): Buffer | undefined {
  const trimmed = text.trim()
  const encoding = /^[0-9a-f]{64}$/i.test(trimmed) ? 'hex' : /^[\w+/-]{43}=?$/.test(trimmed) ? 'base64' : undefined
  const key = encoding && Buffer.from(trimmed, encoding)
  // A key of zeros is one that was wiped, and certainly not random.
  return key?.length === 32 && key.some((byte) => byte !== 0) ? key : undefined
}

export const printKey = (key: Buffer) => key.toString('base64')

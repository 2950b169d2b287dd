import { X509Certificate } from 'node:crypto'
import { valueHints } from '@1ctl/contract/value-hints'

/** What is learned of a value while it is at hand and kept instead of it: how long roughly, what looks like a mistake, when it ends. */
export type Learned = { length: LengthBucket; hints: string[]; expiresAt: Date | null }

const buckets = ['0', '1-7', '8-15', '16-31', '32-63', '64+'] as const
export type LengthBucket = (typeof buckets)[number]

export function learn(value: Buffer): Learned {
  const text = value.toString('utf8')
  return {
    length: bucketOf(text.length),
    hints: valueHints(text),
    expiresAt: certificateEnd(text) ?? jwtEnd(text),
  }
}

function bucketOf(length: number): LengthBucket {
  if (length === 0) return '0'
  return buckets[[8, 16, 32, 64, Number.POSITIVE_INFINITY].findIndex((bound) => length < bound) + 1] ?? '64+'
}

/** Values so short that comparing them, or showing that two are the same, would give them away. */
export const isGuessable = (length: string) => length === '0' || length === '1-7'

const begin = '-----BEGIN CERTIFICATE-----'
const end = '-----END CERTIFICATE-----'

function certificateEnd(text: string): Date | null {
  // By hand: a pattern would look for the end anew from each of thousands of beginnings, for seconds.
  const from = text.indexOf(begin)
  const to = from < 0 ? -1 : text.indexOf(end, from)
  if (to < 0) return null
  try {
    return validDate(Date.parse(new X509Certificate(text.slice(from, to + end.length)).validTo))
  } catch {
    return null
  }
}

function jwtEnd(text: string): Date | null {
  const [, payload] = /^eyJ[\w-]+\.(eyJ[\w-]+)\.[\w-]*$/.exec(text) ?? []
  if (!payload) return null
  try {
    const { exp } = JSON.parse(Buffer.from(payload, 'base64url').toString()) as { exp?: unknown }
    return typeof exp === 'number' ? validDate(exp * 1000) : null
  } catch {
    return null
  }
}

// PostgreSQL's years end before JavaScript's do.
const validDate = (ms: number) => (ms > 0 && ms < Date.UTC(9999, 0) ? new Date(ms) : null)

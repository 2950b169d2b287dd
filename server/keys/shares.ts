import { createHash } from 'node:crypto'
import { combine, split } from 'shamir-secret-sharing'
import { fingerprintOfKey } from './envelope.ts'

/**
 * A master key in the hands of several people: `threshold` of the shares give the key, fewer give nothing (Shamir). As text:
 * `1ctl-share-<set>-<threshold>-<share>-<checksum>`, hex throughout, so that it can be dictated. The set is the beginning of the key's
 * fingerprint, so a share of another key is told apart; the checksum tells a mistyped or cut one.
 */
export type Share = { set: string; index: number; bytes: Buffer }

export class BadShare extends Error {
  override name = 'BadShare'
}

export async function splitKey(key: Buffer, shares: number, threshold: number): Promise<string[]> {
  // The library wants two at least; with a threshold of one, each share is the key.
  const parts =
    threshold > 1
      ? await split(new Uint8Array(key), shares, threshold)
      : Array.from({ length: shares }, (_, index) => Buffer.of(...key, index + 1))
  return parts.map((part) => {
    const text = `1ctl-share-${setOf(fingerprintOfKey(key))}-${threshold}-${Buffer.from(part).toString('hex')}`
    return `${text}-${checksum(text)}`
  })
}

export function parseShare(text: string): Share {
  const [, share = '', set = '', hex = '', sum] =
    /^(1ctl-share-([0-9a-f]{8})-\d+-([0-9a-f]{66}))-([0-9a-f]{8})$/.exec(text.trim().toLowerCase()) ?? []
  if (sum === undefined || checksum(share) !== sum)
    throw new BadShare('This is no share, or one that was mistyped or cut.')
  const bytes = Buffer.from(hex, 'hex')
  return { set, index: bytes[32] ?? 0, bytes }
}

export const setOf = (fingerprint: string) => fingerprint.slice(0, 8)

const checksum = (text: string) => createHash('sha256').update(text).digest('hex').slice(0, 8)

/** Shares as they come in, until they are enough. Never more than a count leaves it, until they are the key. */
export type ShareBox = ReturnType<typeof shareBox>

export function shareBox() {
  let set = ''
  const entered = new Map<number, Buffer>()
  const clear = () => {
    for (const bytes of entered.values()) bytes.fill(0)
    entered.clear()
  }
  return {
    clear,
    /** how many different shares of this key are in */
    count: (wanted: { fingerprint: string }) => (setOf(wanted.fingerprint) === set ? entered.size : 0),
    /** The key, once there are enough; the shares then stay until `clear`. Wrong ones are all thrown away. */
    async add(share: Share, wanted: { fingerprint: string; threshold: number | null }): Promise<Buffer | undefined> {
      if (share.set !== setOf(wanted.fingerprint))
        throw new BadShare(
          `This share is of the set ${share.set}, which another master key had or will have; wanted is ${setOf(wanted.fingerprint)}.`,
        )
      if (set !== share.set) clear()
      set = share.set
      entered.set(share.index, share.bytes)
      if (entered.size < (wanted.threshold ?? 1)) return undefined
      const key = await combineKey([...entered.values()])
      if (fingerprintOfKey(key) === wanted.fingerprint) return key
      clear()
      throw new BadShare(
        'The shares do not give the key: one of them is wrong. All that were entered are forgotten; begin again.',
      )
    },
  }
}

async function combineKey(shares: Buffer[]): Promise<Buffer> {
  const [only] = shares
  if (only && shares.length === 1) return Buffer.from(only.subarray(0, 32))
  const key = await combine(shares.map((share) => new Uint8Array(share)))
  return Buffer.from(key.buffer)
}

import { z } from 'zod'
import { route } from './dsl.ts'
import { limits } from './limits.ts'
import { time } from './schemas.ts'

/** The keys that protect values: the master key, which wraps one data key per organization, and the seal, under which no server has any. */

const fingerprint = z.string().meta({ description: 'names a master key and tells nothing of it' })
const entered = z.int().meta({ description: 'how many different shares are in; not whose' })

const sealState = z.object({
  sealed: z.boolean(),
  source: z.enum(['file', 'env', 'manual']),
  masterKey: fingerprint,
  shares: z.int().nullable().meta({ description: 'with manual: how many there are' }),
  threshold: z.int().nullable().meta({ description: 'how many of them open' }),
  entered,
  next: z
    .object({ masterKey: fingerprint, shares: z.int().nullable(), threshold: z.int().nullable(), entered })
    .nullable()
    .meta({ description: 'a master key that is in use once enough of its shares were entered' }),
})

const share = z.string().max(500).meta({ description: '1ctl-share-…' })
const count = z.int().min(1).max(limits.sharesMax)

const rotation = z.object({
  running: z.boolean(),
  total: z.int().meta({ description: 'values of the organization, all versions' }),
  done: z.int().meta({ description: 'those sealed with the newest data key' }),
  since: time.nullable().meta({ description: 'when that was made; null before the first value' }),
})

export const keys = {
  sealView: route({
    method: 'GET',
    path: '/admin/seal',
    summary: 'Whether this server is sealed, and how many shares are in',
    access: 'operator',
    output: sealState,
  }),
  seal: route({
    method: 'POST',
    path: '/admin/seal',
    summary:
      'Wipe the keys from the memory of this server, and of all others within seconds; running pods do not notice',
    access: 'operator',
    output: sealState,
    errors: ['wrong_key_source'],
  }),
  unseal: route({
    method: 'POST',
    path: '/admin/unseal',
    summary: 'Give one share to this server; the last one needed opens it',
    access: 'operator',
    body: z.strictObject({ share }),
    output: sealState,
    errors: ['invalid_share', 'wrong_key_source'],
  }),
  masterRotate: route({
    method: 'POST',
    path: '/admin/keys/master/rotate',
    summary:
      'A new master key. From a file it is in use when this answers; in shares (always with manual) they are in the answer, once, and it is in use when enough of them were entered at …/prove',
    access: 'operator',
    needsKeys: true,
    body: z.strictObject({ shares: count.optional(), threshold: count.optional() }).check(({ value, issues }) => {
      const { shares, threshold } = value
      const message =
        (shares === undefined) !== (threshold === undefined)
          ? 'goes with shares'
          : (threshold ?? 0) > (shares ?? 0) && 'is more than there are shares'
      if (message) issues.push({ code: 'custom', message, path: ['threshold'], input: threshold })
    }),
    output: z.object({
      masterKey: fingerprint,
      inUse: z.boolean(),
      rewrapped: z.int().meta({ description: 'how many keys of organizations' }),
      shares: z.array(z.string()).optional().meta({ description: 'shown this once' }),
    }),
    errors: ['rotation_running', 'wrong_key_source', 'value_damaged'],
  }),
  masterProve: route({
    method: 'POST',
    path: '/admin/keys/master/prove',
    summary: 'Give one share of the next master key; the last one needed puts it in use',
    access: 'operator',
    needsKeys: true,
    body: z.strictObject({ share }),
    output: sealState,
    errors: ['invalid_share', 'rotation_running', 'value_damaged'],
  }),
  keysView: route({
    method: 'GET',
    path: '/keys',
    summary: "The organization's data key: since when, and how far a rotation is",
    access: 'read',
    output: rotation,
  }),
  keysRotate: route({
    method: 'POST',
    path: '/keys/rotate',
    summary: 'A new data key; values are sealed anew in the background, readable and writable meanwhile',
    access: 'admin',
    needsKeys: true,
    status: 202,
    output: rotation,
    errors: ['rotation_running', 'value_damaged'],
  }),
}

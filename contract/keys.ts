import { z } from 'zod'
import { route } from './dsl.ts'
import { time } from './schemas.ts'

const sealState = z.object({
  sealed: z.boolean(),
  source: z.enum(['file', 'env', 'manual']),
  masterKey: z.string().nullable().meta({ description: 'the fingerprint of the key in use' }),
  threshold: z.int().nullable().meta({ description: 'how many shares open it' }),
  shares: z.int().nullable(),
  entered: z.int().meta({ description: 'how many different shares are in; not whose' }),
})

const rotation = z.object({
  running: z.boolean(),
  total: z.int(),
  done: z.int(),
  startedAt: time.nullable(),
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
    summary: 'Wipe the keys from the memory of this server; running pods do not notice',
    access: 'operator',
    output: sealState,
    errors: ['not_sealable'],
  }),
  unseal: route({
    method: 'POST',
    path: '/admin/unseal',
    summary: 'Give one share; the last one needed opens this server',
    access: 'operator',
    body: z.strictObject({ share: z.string().min(1).max(500) }),
    output: sealState,
    errors: ['invalid_share', 'not_sealable'],
  }),
  masterKeyRotate: route({
    method: 'POST',
    path: '/admin/keys/master/rotate',
    summary:
      'A new master key: every organization key is wrapped anew; with manual seal the answer holds the new shares, once',
    access: 'operator',
    needsKeys: true,
    body: z.strictObject({ shares: z.int().min(1).max(20).optional(), threshold: z.int().min(1).max(20).optional() }),
    output: z.object({ masterKey: z.string(), rewrapped: z.int(), shares: z.array(z.string()).optional() }),
    errors: ['rotation_running', 'not_sealable'],
  }),
  sharesRekey: route({
    method: 'POST',
    path: '/admin/keys/shares/rekey',
    summary: 'New shares of the same master key; the old ones stop working',
    access: 'operator',
    needsKeys: true,
    body: z.strictObject({ shares: z.int().min(1).max(20), threshold: z.int().min(1).max(20) }),
    output: z.object({ shares: z.array(z.string()).optional() }),
    errors: ['not_sealable'],
  }),
  organizationKeyRotate: route({
    method: 'POST',
    path: '/keys/rotate',
    summary:
      'A new data key of the organization; values are re-encrypted in the background, readable and writable meanwhile',
    access: 'admin',
    needsKeys: true,
    output: rotation,
  }),
  organizationKeyView: route({
    method: 'GET',
    path: '/keys',
    summary: "The organization's data key: since when, and how far a rotation is",
    access: 'read',
    output: rotation.extend({ since: time.nullable() }),
  }),
}

import { rmSync } from 'node:fs'
import { installationChain } from '../audit/append.ts'
import { change } from '../change.ts'
import type { Api, Ctx } from '../context.ts'
import { reasonOf } from '../private-file.ts'
import { Refusal } from '../refusal.ts'
import type { Tx } from '../store/database.ts'
import { newKey } from './envelope.ts'
import { settleFiles, stageKey } from './key-file.ts'
import { insertMaster, lockMasterKeys, type Master, masterKeys, masterOf, notInUse, promote, settle } from './master.ts'
import { enter, mastersOf, stateOf } from './seal.ts'
import { splitKey } from './shares.ts'

/**
 * A new master key: staged and proven where it will be found again, then put in use together with everything it wraps, in one transaction.
 * Killed before the commit, the old one is in use and the rotation begins anew; after it, the new one is. (A server cannot write to its
 * environment: there a start with both keys does it, see boot.ts.)
 */
export const masterRotate: Api['masterRotate'] = async (ctx, { shares, threshold }) => {
  const { active } = await mastersOf(ctx)
  const { seal } = ctx.keys
  if (active.source === 'manual' || shares !== undefined)
    return stageShares(ctx, { shares: shares ?? active.shares ?? 1, threshold: threshold ?? active.threshold ?? 1 })
  if (seal.source === 'file') return rotateFile(ctx, seal.path)
  throw new Refusal('wrong_key_source', 'The master key is in the environment, where this server cannot change it.', {
    hint: 'Start again with the new key in SATUSKY_MASTER_KEY and the one until now in SATUSKY_MASTER_KEY_PREVIOUS.',
  })
}

/**
 * The file is written within the transaction, because its lock keeps everyone else from the files. First the key in use gets its name, if
 * it has not yet: it may be in the file that the new one is written to.
 */
async function rotateFile(ctx: Ctx<'operator'>, path: string) {
  const next = masterOf('file', newKey())
  const rotated = await putInUse(
    ctx,
    next,
    async (tx, before) => {
      await insertMaster(tx, 'next', next)
      stage(path, before, next)
    },
    (rewrapped) => ({ masterKey: next.fingerprint, inUse: true, rewrapped }),
  )
  // The new key is in use, and found where it is; the next start or rotation does this as well.
  await settle(ctx.db, path).catch((error: unknown) => ctx.log.warn({ code: reasonOf(error) }, 'key files not settled'))
  return rotated
}

function stage(path: string, before: Master, next: Master): void {
  try {
    settleFiles(path, before.fingerprint)
    stageKey(path, next.key)
  } catch (error) {
    throw new Refusal('wrong_key_source', `The new key cannot be written beside ${path} (${reasonOf(error)}).`, {
      hint: 'Let the server write there, or hold the key in the environment (--seal env) and change it at a start.',
    })
  }
}

/**
 * The answer is the only place where the new shares are, and it may get lost. So the new key protects nothing before enough of them
 * have come back; whoever lost them begins anew, and the old key is still the one in use.
 */
async function stageShares(ctx: Ctx<'operator'>, wanted: { shares: number; threshold: number }) {
  const before = ctx.keys.master()
  const next = masterOf('manual', newKey())
  const shares = await splitKey(next.key, wanted.shares, wanted.threshold)
  const staged = await change(ctx, async (tx) => {
    await lockMasterKeys(tx)
    await insertMaster(tx, 'next', next, wanted)
    const detail = { ...wanted, next: next.fingerprint, inUse: before.fingerprint }
    return {
      result: { masterKey: next.fingerprint, inUse: false, rewrapped: 0 },
      audit: { chain: installationChain, detail },
    }
  })
  next.key.fill(0)
  return { ...staged, shares }
}

export const masterProve: Api['masterProve'] = async (ctx, { share }) => {
  const masters = await mastersOf(ctx)
  const { next } = masters
  if (!next)
    throw new Refusal('invalid_share', 'No new master key waits for its shares.', {
      hint: 'Make one first: 1ctl admin rekey',
    })
  const key = await enter(ctx, ctx.keys.proving, share, next)
  if (!key)
    return change(ctx, async () => {
      const result = stateOf(ctx, masters)
      const detail = { next: next.fingerprint, entered: result.next?.entered, threshold: next.threshold }
      return { result, audit: { chain: installationChain, detail } }
    })
  const state = await putInUse(ctx, { ...next, key }, undefined, () => stateOf(ctx, { active: next }))
  const { seal } = ctx.keys
  // Held by people from now on.
  if (seal.source === 'file') rmSync(seal.path, { force: true })
  return state
}

async function putInUse<Result>(
  ctx: Ctx<'operator'>,
  next: Master,
  stageIt: ((tx: Tx, before: Master) => Promise<void>) | undefined,
  resultOf: (rewrapped: number) => Result,
): Promise<Result> {
  const before = ctx.keys.master()
  return ctx.keys.replace(next, () =>
    change(ctx, async (tx) => {
      await lockMasterKeys(tx)
      if ((await masterKeys(tx)).active?.id !== before.id) throw notInUse()
      await stageIt?.(tx, before)
      const rewrapped = await promote(tx, before, next)
      const detail = { masterKey: next.fingerprint, before: before.fingerprint, rewrapped }
      return { result: resultOf(rewrapped), audit: { chain: installationChain, detail } }
    }),
  )
}

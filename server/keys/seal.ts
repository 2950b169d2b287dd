import { appendEvents, installationChain } from '../audit/append.ts'
import { change } from '../change.ts'
import type { Api, Ctx } from '../context.ts'
import { Refusal } from '../refusal.ts'
import { execute, statement } from '../store/database.ts'
import { type MasterRow, masterKeys } from './master.ts'
import { BadShare, parseShare, type ShareBox } from './shares.ts'

/**
 * Sealing and opening one server. Each is opened by shares given to itself: a master key handed from one to the other, through the database or
 * the network, would be worth stealing there. Sealing is the safe direction, so that one reaches all of them (`seals`, see keyring.ts).
 */
export const sealView: Api['sealView'] = async (ctx) => stateOf(ctx, await mastersOf(ctx))

const countSeal = statement('seal.count', "update master_keys set seals = seals + 1 where state = 'active'")
export const seal: Api['seal'] = async (ctx) => {
  const masters = await mastersOf(ctx)
  refuseUnlessManual(masters.active)
  const state = await change(ctx, async (tx) => {
    await execute(tx, countSeal)
    const result = { ...stateOf(ctx, masters), sealed: true, entered: 0 }
    return { result, audit: { chain: installationChain, detail: { masterKey: masters.active.fingerprint } } }
  })
  ctx.keys.wipe()
  return state
}

export const unseal: Api['unseal'] = async (ctx, { share }) => {
  const masters = await mastersOf(ctx)
  const { active } = masters
  refuseUnlessManual(active)
  if (!ctx.keys.sealed) return stateOf(ctx, masters)
  const key = await enter(ctx, ctx.keys.opening, share, active)
  const state = await change(ctx, async () => {
    const result = { ...stateOf(ctx, masters), ...(key ? { sealed: false, entered: 0 } : {}) }
    const { sealed, entered, threshold, masterKey } = result
    return { result, audit: { chain: installationChain, detail: sealed ? { entered, threshold } : { masterKey } } }
  })
  if (key) {
    ctx.keys.open({ ...active, key }, active.seals)
    // What was written while nothing could be delivered.
    ctx.announcer.announceAll()
  }
  return state
}

function refuseUnlessManual({ source }: MasterRow): void {
  if (source !== 'manual')
    throw new Refusal(
      'wrong_key_source',
      `The master key is in ${places[source]}: a restart would open the server again.`,
      {
        hint: 'To hold it in shares instead: 1ctl admin rekey --shares 5 --threshold 3',
      },
    )
}
const places = { file: 'a file', env: 'the environment' }

/** One share more; the key when they are enough. Wrong ones are counted by address and audited, what they are is not. */
export async function enter(
  ctx: Ctx<'operator'>,
  box: ShareBox,
  text: string,
  wanted: MasterRow,
): Promise<Buffer | undefined> {
  const { address } = ctx.request
  await ctx.attempts.count('share', address)
  try {
    const key = await box.add(parseShare(text), wanted)
    await ctx.attempts.takeBack('share', address)
    return key
  } catch (error) {
    if (!(error instanceof BadShare)) throw error
    await appendEvents(ctx.db, ctx, { chain: installationChain, outcome: 'refused', code: 'invalid_share' })
    throw new Refusal('invalid_share', error.message)
  }
}

export async function mastersOf({ db }: Pick<Ctx, 'db'>): Promise<{ active: MasterRow; next?: MasterRow }> {
  const { active, ...rest } = await masterKeys(db)
  if (!active) throw new Error('no master key is in use')
  return { active, ...rest }
}

export function stateOf({ keys }: Pick<Ctx, 'keys'>, { active, next }: { active: MasterRow; next?: MasterRow }) {
  return {
    sealed: keys.sealed,
    source: active.source,
    ...present(active),
    entered: keys.opening.count(active),
    next: next ? { ...present(next), entered: keys.proving.count(next) } : null,
  }
}

const present = ({ fingerprint, shares, threshold }: MasterRow) => ({ masterKey: fingerprint, shares, threshold })

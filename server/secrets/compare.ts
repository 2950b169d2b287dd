import { change } from '../change.ts'
import type { Api, Ctx } from '../context.ts'
import { fingerprint, same } from '../keys/envelope.ts'
import { Refusal } from '../refusal.ts'
import { rows, statement } from '../store/database.ts'
import { type Bag, bagFor } from './bags.ts'
import { isGuessable } from './learn.ts'

/**
 * Is this the value? Compared here by keyed fingerprint, so that nothing is opened. Counted and audited, and for short values refused:
 * someone could try them all.
 */
type Stored = { key: string; fingerprint: Buffer; length: string }
const stored = statement<Stored>(
  'compare.stored',
  `select k.key, v.fingerprint, v.length from secret_keys k join secret_values v using (secret_id, key, version)
   where k.secret_id = $1 and ($2::text is null or k.key = $2)`,
)

export const secretVerify: Api['secretVerify'] = async (ctx, { ref, appId, vpc, key, value }) => {
  const bag = await bagFor(ctx, ref, { appId, vpc })
  await countComparison(ctx, bag)
  const [found] = await rows(ctx.db, stored, [bag.id, key])
  if (!found) throw new Refusal('key_not_found', `"${bag.name}" has no key "${key}".`, { details: { missing: [key] } })
  if (isGuessable(found.length))
    throw new Refusal(
      'not_comparable',
      `"${key}" is shorter than 8 characters: whether a guess is right would give it away.`,
    )
  const { fingerprintKey } = await ctx.keys.organization(ctx.caller.organization.id)
  const match = same(found.fingerprint, fingerprint(fingerprintKey, bag.id, key, Buffer.from(value)))
  return record(ctx, bag, { key, match }, { match })
}

export const secretDiff: Api['secretDiff'] = async (ctx, { ref, appId, vpc, data }) => {
  const bag = await bagFor(ctx, ref, { appId, vpc })
  await countComparison(ctx, bag)
  const { fingerprintKey } = await ctx.keys.organization(ctx.caller.organization.id)
  const before = new Map((await rows(ctx.db, stored, [bag.id, null])).map((value) => [value.key, value]))
  const names = { added: [], changed: [], unchanged: [], removed: [], notCompared: [] } as Record<Outcome, string[]>
  for (const [key, text] of data) names[outcomeOf(bag, before.get(key), text, fingerprintKey)].push(key)
  names.removed = [...before.keys()].filter((key) => !data.has(key))
  for (const list of Object.values(names)) list.sort()
  return record(ctx, bag, { keys: data.size }, names)
}

type Outcome = 'added' | 'changed' | 'unchanged' | 'removed' | 'notCompared'

function outcomeOf(bag: Bag, before: Stored | undefined, text: string, fingerprintKey: Buffer): Outcome {
  if (!before) return 'added'
  if (isGuessable(before.length)) return 'notCompared'
  const given = fingerprint(fingerprintKey, bag.id, before.key, Buffer.from(text))
  return same(before.fingerprint, given) ? 'unchanged' : 'changed'
}

const countComparison = (ctx: Ctx<'secrets:write'>, bag: Bag) =>
  ctx.attempts.count('compare', `${bag.id} ${ctx.caller.token?.id ?? ctx.caller.userId}`)

const record = <Result>(ctx: Ctx<'secrets:write'>, bag: Bag, detail: Record<string, unknown>, result: Result) =>
  change(ctx, async () => ({ result, audit: { object: { type: 'secret', id: bag.id, name: bag.name }, detail } }))

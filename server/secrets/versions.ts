import type { Api, Ctx, Granted } from '../context.ts'
import { invalidCursor } from '../http/view.ts'
import { Damaged, open } from '../keys/envelope.ts'
import { Refusal } from '../refusal.ts'
import { rfc3339, rows, statement } from '../store/database.ts'
import { type Bag, bagFor } from './bags.ts'

type VersionRow = {
  version: number
  created_at: string
  created_by: string
  note: string | null
  added: string[]
  changed: string[]
  removed: string[]
}
const history = statement<VersionRow>(
  'versions.list',
  `select version, created_at, created_by, note, added, changed, removed from secret_versions
   where secret_id = $1 and ($2::int is null or version < $2) order by version desc limit $3`,
)
export const secretVersionList: Api['secretVersionList'] = async (ctx, { ref, appId, vpc, cursor, limit }) => {
  if (cursor !== undefined && !/^\d{1,9}$/.test(cursor)) throw invalidCursor()
  const bag = await bagFor(ctx, ref, { appId, vpc })
  const found = await rows(ctx.db, history, [bag.id, cursor ?? null, limit + 1])
  const shown = found.slice(0, limit)
  return {
    items: shown.map(({ created_at, created_by, ...row }) => ({
      ...row,
      current: row.version === bag.version,
      createdAt: rfc3339(created_at),
      createdBy: created_by,
    })),
    nextCursor: found.length > limit ? String(shown.at(-1)?.version) : null,
  }
}

type ValueRow = { key: string | null; version: number; key_id: string; sealed: Buffer }
// One row without a key says that the version exists though it was empty.
const valuesAt = statement<ValueRow>(
  'versions.values',
  `select v.key, v.version, v.key_id, v.sealed
   from secret_versions at
   left join secret_values v on v.secret_id = at.secret_id and v.version <= at.version and (v.until is null or v.until > at.version)
     and ($3::text[] is null or v.key = any($3))
   where at.secret_id = $1 and at.version = $2`,
)
/** The values of an old version (or of some of its keys), opened to be sealed again as a new one. */
export async function openVersion(
  ctx: Ctx<'secrets:write'>,
  bag: Granted<Bag, 'secrets:write'>,
  version: number,
  names: string[] | undefined,
): Promise<Map<string, Buffer>> {
  const found = await rows(ctx.db, valuesAt, [bag.id, version, names ?? null])
  if (found.length === 0)
    throw new Refusal('version_not_found', `"${bag.name}" has no version ${version} any more.`, {
      hint: `See them with: 1ctl secret history ${bag.name}`,
    })
  const keyOf = await dataKeys(ctx, found)
  const values = new Map<string, Buffer>()
  for (const { key, version: setIn, key_id, sealed } of found)
    if (key !== null) values.set(key, openValue(ctx, bag, keyOf(key_id), { key, version: setIn, sealed }))
  const missing = names?.filter((name) => !values.has(name)) ?? []
  if (missing.length > 0)
    throw new Refusal(
      'key_not_found',
      `Version ${version} of "${bag.name}" has no key ${missing.map((key) => `"${key}"`).join(', ')}.`,
      {
        details: { missing },
      },
    )
  return values
}

async function dataKeys(ctx: Ctx<'secrets:write'>, values: ValueRow[]) {
  const { id } = ctx.caller.organization
  const { byId } = await ctx.keys.organization(id)
  if (values.every(({ key, key_id }) => key === null || byId(key_id))) return byId
  // Sealed anew by a rotation elsewhere, which is not known here yet.
  ctx.keys.forget(id)
  return (await ctx.keys.organization(id)).byId
}

function openValue(
  ctx: Ctx<'secrets:write'>,
  bag: Pick<Bag, 'id' | 'name'>,
  dataKey: Buffer | undefined,
  { key, version, sealed }: { key: string; version: number; sealed: Buffer },
): Buffer {
  const organization = ctx.caller.organization.id
  try {
    if (!dataKey) throw new Damaged('sealed under a key that is not there')
    return open(dataKey, { organization, bag: bag.id, key, version }, sealed)
  } catch (error) {
    if (!(error instanceof Damaged)) throw error
    const where = { requestId: ctx.request.id, organization, secret: bag.id, key, version }
    ctx.log.error(where, `a stored value is damaged: ${error.message}`)
    throw new Refusal(
      'value_damaged',
      `The stored value of "${key}" in "${bag.name}" does not open: it was changed in the database, or does not belong there.`,
      {
        hint: 'Unset it and set it again, or restore the database. The same value again would count as unchanged.',
        details: { key, version },
      },
    )
  }
}

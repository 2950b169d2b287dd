import type { Api, Ctx, Granted } from '../context.ts'
import { invalidCursor } from '../http/view.ts'
import { Damaged, open, same, versionProof } from '../keys/envelope.ts'
import type { OrganizationKeys } from '../keys/keyring.ts'
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

type ValueRow = { key: string | null; version: number; key_id: string; sealed: Buffer | null; proof: Buffer }
// One row without a key says that the version exists though it was empty.
const valuesAt = statement<ValueRow>(
  'versions.values',
  `select v.key, v.version, v.key_id, case when $3::text[] is null or v.key = any($3) then v.sealed end as sealed, at.proof
   from secret_versions at
   left join secret_values v on v.secret_id = at.secret_id and v.version <= at.version and (v.until is null or v.until > at.version)
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
  const keys = await keysFor(ctx, found)
  refuseOtherValues(ctx, bag, version, found, keys)
  const values = new Map<string, Buffer>()
  for (const { key, version: setIn, key_id, sealed } of found)
    if (key !== null && sealed) values.set(key, openValue(ctx, bag, keys.byId(key_id), { key, version: setIn, sealed }))
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

async function keysFor(ctx: Ctx<'secrets:write'>, values: ValueRow[]): Promise<OrganizationKeys> {
  const { id } = ctx.caller.organization
  const keys = await ctx.keys.organization(id)
  if (values.every(({ key, key_id }) => key === null || keys.byId(key_id))) return keys
  // Sealed anew by a rotation elsewhere, which is not known here yet.
  ctx.keys.forget(id)
  return ctx.keys.organization(id)
}

/** Each value proves where it belongs; that it belongs to this version, and none is missing, is proven by the version. */
function refuseOtherValues(
  ctx: Ctx<'secrets:write'>,
  bag: Pick<Bag, 'id' | 'name'>,
  version: number,
  values: ValueRow[],
  { fingerprintKey }: OrganizationKeys,
): void {
  const setIn = new Map(values.flatMap(({ key, version }) => (key === null ? [] : [[key, version] as const])))
  const proof = versionProof(fingerprintKey, bag.id, version, setIn)
  if (values.length === Math.max(setIn.size, 1) && values.every((value) => same(value.proof, proof))) return
  throw damaged(
    ctx,
    { bag, version },
    `Version ${version} of "${bag.name}" does not consist of the values it was made of: rows were changed in the database.`,
    'its values are not those it was made of',
  )
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
    throw damaged(
      ctx,
      { bag, key, version },
      `The stored value of "${key}" in "${bag.name}" does not open: it was changed in the database, or does not belong there.`,
      error.message,
    )
  }
}

function damaged(
  ctx: Ctx<'secrets:write'>,
  { bag, ...where }: { bag: Pick<Bag, 'id' | 'name'>; key?: string; version: number },
  sentence: string,
  cause: string,
): Refusal {
  const organization = ctx.caller.organization.id
  ctx.log.error(
    { requestId: ctx.request.id, organization, secret: bag.id, ...where },
    `a stored value is damaged: ${cause}`,
  )
  return new Refusal('value_damaged', sentence, {
    hint: 'Unset it and set it again, or restore the database. The same value again would count as unchanged.',
    details: where,
  })
}

import { randomBytes } from 'node:crypto'
import { encodeId } from '@1ctl/contract/ids'
import {
  scopes as allScopes,
  limitable,
  type Permission,
  type Role,
  roleAllows,
  type Scope,
  scopeAllows,
} from '@1ctl/contract/permissions'
import { formatToken, tokenHint } from '@1ctl/contract/token-format'
import { demand, isLimited, type Token, tokenFor } from '../access.ts'
import { change } from '../change.ts'
import type { Api, Ctx, Granted } from '../context.ts'
import { pageValues, toPage, view } from '../http/view.ts'
import { invalid, Refusal } from '../refusal.ts'
import { execute, foreignKeyViolation, rfc3339, row, rows, sqlState, statement, type Tx } from '../store/database.ts'
import { uuidv7 } from '../store/uuid.ts'
import { hashOf } from './callers.ts'

type TokenRow = {
  id: string
  name: string
  prefix: string
  last4: string
  status: 'active' | 'disabled' | 'expired'
  scopes: Scope[] | null
  vpcs: string[] | null
  apps: string[] | null
  created_at: string
  created_by: string
  expires_at: string | null
  last_used_at: string | null
  last_used_address: string | null
}

const shown = `
  select t.id, t.name, t.prefix, t.last4, t.scopes, t.apps, t.created_at, t.expires_at, t.last_used_at, t.last_used_address,
    case when t.disabled then 'disabled' when t.expires_at <= now() then 'expired' else 'active' end as status,
    case when t.vpcs is not null then array(select v.name from vpcs v where v.id = any(t.vpcs) order by v.name) end as vpcs,
    u.email as created_by
  from api_tokens t join users u on u.id = t.created_by`

const present = (row: TokenRow) => ({
  id: encodeId('token', row.id),
  name: row.name,
  prefix: row.prefix,
  last4: row.last4,
  status: row.status,
  scopes: row.scopes,
  vpcs: row.vpcs,
  apps: row.apps,
  createdAt: rfc3339(row.created_at),
  createdBy: row.created_by,
  expiresAt: row.expires_at && rfc3339(row.expires_at),
  lastUsedAt: row.last_used_at && rfc3339(row.last_used_at),
  lastUsedAddress: row.last_used_address,
})

export const tokenList = view('tokenList', {
  sql: `${shown} where t.organization_id = caller.organization_id and ($2::uuid is null or t.id < $2) order by t.id desc limit $3`,
  values: (input) => pageValues('token', input),
  present: (rows: TokenRow[], input) => toPage('token', rows, input, present),
})

const shownById = statement<TokenRow>('tokens.shown', `${shown} where t.id = $1`)

export const tokenView: Api['tokenView'] = async (ctx, { id }) => {
  const token = await tokenFor(ctx, id)
  return presentNow(ctx, token.id)
}

export const tokenCreate: Api['tokenCreate'] = async (ctx, input) => {
  const inherited = grantable(ctx, input.scopes ?? null)
  const limits = await resolveLimits(ctx, input.vpcs ?? null, input.apps ?? null)
  if (isLimited(limits)) refuseUnlimitable(input.scopes ?? [])
  const scopes = isLimited(limits) && !input.scopes ? limitedScopes(inherited) : inherited
  const value = formatToken(randomBytes(64), input.tag)
  const lifetime = input.expiresInDays === undefined ? null : `${input.expiresInDays} days`
  const created = await change(ctx, async (tx) => {
    const id = await insertToken(tx, ctx.caller, {
      name: input.name,
      scopes,
      ...limits,
      lifetime,
      value,
    })
    const detail = { scopes, vpcs: input.vpcs ?? null, apps: limits.apps, expiresInDays: input.expiresInDays ?? null }
    return {
      result: await presentNow({ db: tx }, id),
      audit: { object: { type: 'token', id, name: input.name }, detail },
    }
  })
  return { ...created, token: value }
}

const patch = statement(
  'tokens.patch',
  'update api_tokens set disabled = coalesce($2, disabled), name = coalesce($3, name) where id = $1',
)
export const tokenPatch: Api['tokenPatch'] = async (ctx, { id, enabled, name }) => {
  const token = await tokenFor(ctx, id)
  return change(ctx, async (tx) => {
    await execute(tx, patch, [token.id, enabled === undefined ? null : !enabled, name ?? null])
    return {
      result: await presentNow({ db: tx }, token.id),
      audit: { object: { type: 'token', id: token.id, name: token.name }, detail: { enabled, name } },
    }
  })
}

const remove = statement('tokens.delete', 'delete from api_tokens where id = $1')
export const tokenDelete: Api['tokenDelete'] = async (ctx, { id }) => {
  const token = await tokenFor(ctx, id)
  await change(ctx, async (tx) => {
    if ((await execute(tx, remove, [token.id])) === 0) throw gone()
    return { result: undefined, audit: { object: { type: 'token', id: token.id, name: token.name } } }
  })
  return {}
}

/**
 * A successor that belongs to the caller, with no more than the old one had, so that neither the token nor the caller gains by it; the
 * old one simply expires, which costs the check of every request nothing.
 */
export const tokenRotate: Api['tokenRotate'] = async (ctx, { id, graceHours }) => {
  const old = await tokenFor(ctx, id)
  const scopes = grantable(ctx, await heldScopes(ctx, old))
  const [, tag] = /^sat_([^_]+)_/.exec(old.prefix) ?? []
  const value = formatToken(randomBytes(64), tag)
  const rotated = await change(ctx, async (tx) => {
    const ends = await endSoon(tx, old, graceHours)
    const { name, vpcs, apps } = old
    const successor = await insertToken(tx, ctx.caller, {
      name,
      scopes,
      vpcs,
      apps,
      lifetime: ends.lifetime,
      value,
    })
    return {
      result: {
        ...(await presentNow({ db: tx }, successor)),
        replaces: encodeId('token', old.id),
        replacedEndsAt: ends.expires_at,
      },
      audit: {
        object: { type: 'token', id: old.id, name },
        detail: { successor: encodeId('token', successor), graceHours },
      },
    }
  })
  return { ...rotated, token: value }
}

const roleOf = statement<{ role: Role }>(
  'tokens.roleOf',
  'select role from members where organization_id = $1 and user_id = $2',
)
/** What a token has now. Without scopes of its own that hangs on its creator's role, which its successor, another's, must not outgrow. */
async function heldScopes(ctx: Ctx<'tokens:admin'>, { scopes, created_by }: Token): Promise<Scope[] | null> {
  if (created_by === ctx.caller.userId) return scopes
  const creator = await row(ctx.db, roleOf, [ctx.caller.organization.id, created_by])
  const ofRole: readonly Permission[] = creator ? roleAllows[creator.role] : []
  // The scope admin is as much as its creator's role, and an owner's is more than an admin's: it becomes what is below it.
  const named = (scopes ?? ['admin']).flatMap((scope) =>
    scope === 'admin' && creator?.role !== 'owner' ? belowAdmin : [scope],
  )
  return [...new Set(named)].filter((scope) => ofRole.includes(scope))
}
const belowAdmin = allScopes.filter((scope) => scope !== 'admin' && scope !== 'operator')

const end = statement<{ expires_at: string; lifetime: string | null }>(
  'tokens.end',
  `update api_tokens set expires_at = least(expires_at, now() + $2 * interval '1 hour') where id = $1
   returning expires_at, lifetime::text`,
)
async function endSoon(tx: Tx, token: Granted<{ id: string }, 'tokens:admin'>, graceHours: number) {
  const ended = await row(tx, end, [token.id, graceHours])
  if (!ended) throw gone()
  return ended
}

const insert = statement(
  'tokens.insert',
  `insert into api_tokens (id, organization_id, created_by, name, hash, prefix, last4, scopes, vpcs, apps, lifetime, expires_at)
   values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::interval, now() + $11::interval)`,
)
export type NewToken = {
  name: string
  scopes: readonly Scope[] | null
  vpcs: string[] | null
  apps: string[] | null
  lifetime: string | null
  value: string
}
/** Its id. The value is hashed here and not kept. */
export async function insertToken(
  tx: Tx,
  creator: { userId: string; organization: { id: string } },
  { name, scopes, vpcs, apps, lifetime, value }: NewToken,
): Promise<string> {
  const id = uuidv7()
  const { prefix, last4 } = tokenHint(value)
  const { userId, organization } = creator
  await execute(tx, insert, [
    id,
    organization.id,
    userId,
    name,
    hashOf(value),
    prefix,
    last4,
    scopes,
    vpcs,
    apps,
    lifetime,
  ]).catch((error: unknown) => {
    // The schema ties a token to its creator's membership.
    if (sqlState(error) === foreignKeyViolation)
      throw new Refusal('insufficient_role', 'You are no member of this organization any more.')
    throw error
  })
  return id
}

/** The scopes a new token gets: those asked for, each of which the caller must have, or else what the caller has in the organization. */
function grantable(ctx: Ctx<'tokens:admin'>, scopes: Scope[] | null): Scope[] | null {
  for (const scope of scopes ?? []) demand(ctx, scope)
  return scopes ?? ctx.caller.token?.scopes?.filter((scope) => scope !== 'operator') ?? null
}

const vpcsByName = statement<{ id: string; name: string }>(
  'tokens.vpcs',
  'select id, name from vpcs where organization_id = $1 and name = any($2)',
)
async function resolveLimits(ctx: Ctx<'tokens:admin'>, vpcs: string[] | null, apps: string[] | null) {
  if (!vpcs) return { vpcs, apps }
  const found = await rows(ctx.db, vpcsByName, [ctx.caller.organization.id, vpcs])
  const missing = vpcs.filter((name) => !found.some((vpc) => vpc.name === name))
  if (missing.length > 0)
    throw new Refusal(
      'vpc_not_found',
      `No VPC ${missing.map((name) => `"${name}"`).join(', ')} in this organization.`,
      {
        details: { missing },
      },
    )
  return { vpcs: found.map(({ id }) => id), apps }
}

/** Of what is inherited, the part that a limited token can use: it should show no more than it has. */
const limitedScopes = (scopes: Scope[] | null) =>
  scopes &&
  limitable.filter((scope) => scopes.some((held) => (scopeAllows[held] as readonly Permission[]).includes(scope)))

function refuseUnlimitable(scopes: Scope[]): void {
  const beyond = scopes.filter((scope) => !(limitable as readonly Permission[]).includes(scope))
  if (beyond.length > 0)
    throw invalid('invalid_body', [
      {
        path: 'scopes',
        message: `${beyond.join(', ')} reaches the whole organization and cannot be limited to VPCs or apps`,
      },
    ])
}

async function presentNow({ db }: { db: Ctx['db'] | Tx }, id: string) {
  const found = await row(db, shownById, [id])
  if (!found) throw gone()
  return present(found)
}

const gone = () => new Refusal('token_not_found', 'The token was deleted meanwhile.')

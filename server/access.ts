import type { Access, Route } from '@1ctl/contract'
import { decodeId } from '@1ctl/contract/ids'
import { limitable, type Permission, roleAllows, type Scope, scopeAllows } from '@1ctl/contract/permissions'
import type { Caller, Ctx, Granted, MemberCaller, Platform } from './context.ts'
import { Refusal } from './refusal.ts'
import { row, statement } from './store/database.ts'

/**
 * Who may do what to which object. `admit` opens a route, the `…For` functions look an object up within the caller's reach and return
 * it as `Granted`: not found, another tenant's and out of reach are one answer.
 */
export function admit<A extends Access>(
  platform: Platform,
  route: Pick<Route, 'honorsLimits'> & { access: A },
  caller: Caller | null,
  rest: Pick<Ctx, 'request' | 'answer'>,
): Ctx<A> {
  const { access } = route
  if (access !== 'public') {
    if (!caller) throw new Refusal('missing_token', 'This needs a token or a browser session.', { hint: signInHint })
    if (caller.token && isLimited(caller.token) && !route.honorsLimits)
      throw new Refusal(
        'insufficient_scope',
        `Token "${caller.token.name}" is limited to some VPCs or apps, and this reaches the whole organization.`,
      )
    if (access === 'session' && !caller.session)
      throw new Refusal('session_required', 'Only a browser session can do this, not a token.')
    if (access !== 'caller' && access !== 'session') check(caller, access)
  }
  // Named one by one: spreading two objects is dear on the path of every request.
  const { db, log, attempts, keys, announcer, cluster } = platform
  return {
    db,
    log,
    attempts,
    keys,
    announcer,
    cluster,
    request: rest.request,
    answer: rest.answer,
    caller,
  } as unknown as Ctx<A>
}

const signInHint = 'Sign in with: 1ctl auth login --token <token>'

/** The same request, let in for more; refused if the caller has less. */
export function demand<P extends Permission>(ctx: Ctx, permission: P): Ctx<P> {
  check(ctx.caller as Caller, permission)
  return ctx as unknown as Ctx<P>
}

function check(caller: Caller, permission: Permission): void {
  if (caller.permissions.has(permission)) return
  // Say which of the two was too little: a wider token helps only someone whose role is enough.
  const roleIsEnough = permission === 'operator' ? caller.operator : roleGives(caller, permission)
  if (roleIsEnough)
    throw new Refusal(
      'insufficient_scope',
      `Token "${caller.token?.name}" lacks the scope for this: it needs ${permission}.`,
      {
        hint: `Use a token with ${scopesFor(permission)}.`,
        details: { needs: permission },
      },
    )
  if (permission === 'operator')
    throw new Refusal('insufficient_role', 'Only an operator of this installation can do this.', {
      details: { needs: permission },
    })
  const standing = caller.organization
    ? `Your role in "${caller.organization.name}" is ${caller.role}`
    : 'You are no member of the organization'
  throw new Refusal('insufficient_role', `${standing}, and this needs the permission ${permission}.`, {
    details: { needs: permission },
  })
}

const scopesFor = (permission: Permission) =>
  permission === 'operator'
    ? 'the scope operator'
    : `the scope ${permission in scopeAllows ? permission : 'admin'}, or without scopes`

const roleGives = (caller: Caller, permission: Permission) =>
  caller.role
    ? (roleAllows[caller.role] as readonly Permission[]).includes(permission)
    : permission === 'account' && caller.session !== null

/** Scopes and role now, whichever is less; a token limited to VPCs or apps keeps only what can be limited. */
export function permissionsOf(
  role: keyof typeof roleAllows | null,
  operator: boolean,
  token: { scopes: readonly Scope[] | null; vpcs: unknown; apps: unknown } | null,
): ReadonlySet<Permission> {
  const limited = token !== null && isLimited(token)
  const key = `${role}${operator}${token ? (token.scopes?.join() ?? 'all') : 'session'}${limited}`
  const known = permissionSets.get(key)
  if (known) return known
  const allowed = new Set<Permission>(role ? roleAllows[role] : token ? [] : ['account'])
  if (operator) allowed.add('operator')
  if (token) {
    // A token without scopes gets what its creator has in the organization; running the installation must be given by name.
    const scoped = new Set<Permission>(
      token.scopes ? token.scopes.flatMap((scope) => scopeAllows[scope]) : scopeAllows.admin,
    )
    for (const permission of allowed)
      if (!scoped.has(permission) || (limited && !(limitable as readonly Permission[]).includes(permission)))
        allowed.delete(permission)
  }
  permissionSets.set(key, allowed)
  return allowed
}
// Few combinations exist (roles x scope lists), so each set is made once.
const permissionSets = new Map<string, ReadonlySet<Permission>>()

export const isLimited = (token: { vpcs: unknown; apps: unknown }) => token.vpcs !== null || token.apps !== null

/** The current organization of someone who was let in for `account` only, where membership is not implied. */
export function memberOf<A extends Access>(ctx: Ctx<A>): MemberCaller {
  const { caller } = ctx
  if (!caller?.organization || !caller.role)
    throw new Refusal('insufficient_role', 'You are no member of an organization here. Switch to one of yours first.')
  return caller as MemberCaller
}

export type Token = {
  id: string
  name: string
  created_by: string
  scopes: Scope[] | null
  vpcs: string[] | null
  apps: string[] | null
  prefix: string
  created_at: string
  expires_at: string | null
}
const tokenById = statement<Token>(
  'access.token',
  `select id, name, created_by, scopes, vpcs, apps, prefix, created_at, expires_at
   from api_tokens where organization_id = $1 and id = $2`,
)
export async function tokenFor<P extends Permission>(ctx: Ctx<P>, ref: string): Promise<Granted<Token, P>> {
  const id = decodeId('token', ref)
  const found = id && (await row(ctx.db, tokenById, [memberOf(ctx).organization.id, id]))
  if (!found)
    throw new Refusal('token_not_found', `No API token "${ref}" in this organization.`, {
      hint: 'See them with: 1ctl token list',
    })
  return found as Granted<Token, P>
}

export type Member = {
  id: string
  user_id: string | null
  email: string
  role: keyof typeof roleAllows
  created_at: string
  invited_until: string | null
}
const memberById = statement<Member>(
  'access.member',
  'select id, user_id, email, role, created_at, invited_until from members where organization_id = $1 and id = $2',
)
export async function memberFor<P extends Permission>(ctx: Ctx<P>, ref: string): Promise<Granted<Member, P>> {
  const id = decodeId('member', ref)
  const found = id && (await row(ctx.db, memberById, [memberOf(ctx).organization.id, id]))
  if (!found)
    throw new Refusal('member_not_found', `No member "${ref}" in this organization.`, {
      hint: 'See them with: 1ctl member list',
    })
  return found as Granted<Member, P>
}

export type Vpc = { id: string; name: string; namespace: string; protected: boolean; created_at: string }
const vpcByRef = statement<Vpc>(
  'access.vpc',
  `select id, name, namespace, protected, created_at from vpcs
   where organization_id = $1 and (name = $2 or id = $3) and ($4::uuid[] is null or id = any($4))`,
)
export async function vpcFor<P extends Permission>(ctx: Ctx<P>, ref: string): Promise<Granted<Vpc, P>> {
  const caller = memberOf(ctx)
  const found = await row(ctx.db, vpcByRef, [
    caller.organization.id,
    ref,
    decodeId('vpc', ref) ?? null,
    caller.token?.vpcs ?? null,
  ])
  if (!found)
    throw new Refusal('vpc_not_found', `No VPC "${ref}" in this organization.`, {
      hint: 'See them with: 1ctl vpc list',
    })
  return found as Granted<Vpc, P>
}

const sessionById = statement<{ id: string }>(
  'access.session',
  'select id from sessions where user_id = $1 and id = $2',
)
export async function sessionFor<P extends Permission>(ctx: Ctx<P>, ref: string): Promise<Granted<{ id: string }, P>> {
  const id = decodeId('session', ref)
  const found = id && (await row(ctx.db, sessionById, [ctx.caller?.userId, id]))
  if (!found)
    throw new Refusal('session_not_found', `No browser session "${ref}".`, {
      hint: 'See them with: 1ctl user sessions list',
    })
  return found as Granted<{ id: string }, P>
}

import { randomBytes } from 'node:crypto'
import { decodeId } from '@1ctl/contract/ids'
import { change } from '../change.ts'
import type { Api, Ctx } from '../context.ts'
import { cleared, sessionCookie } from '../http/cookie.ts'
import { Refusal } from '../refusal.ts'
import { execute, row, statement, type Tx } from '../store/database.ts'
import { uuidv7 } from '../store/uuid.ts'
import { findCaller, hashOf, toCaller } from './callers.ts'
import { describeCaller } from './me.ts'
import { organizationNotFound } from './organizations.ts'
import { hashPassword, isPassword } from './passwords.ts'

/** Signing in and out, and what a person does with a password. Browser sessions themselves: sessions.ts. */

const userByEmail = statement<{ id: string; password_hash: string }>(
  'signIn.user',
  'select id, password_hash from users where email = $1',
)

export const sessionCreate: Api['sessionCreate'] = async (ctx, { email, password }) => {
  const userId = await provePassword(ctx, email, password)
  const session = newSession(ctx)
  await change(ctx, async (tx) => ({
    result: undefined,
    audit: await startSession(tx, session, { id: userId, email }),
  }))
  return signedIn(ctx, session)
}

export const sessionEnd: Api['sessionEnd'] = async (ctx) => {
  await change(ctx, async (tx) => {
    await tx.query('delete from sessions where id = $1', [ctx.caller.session?.id])
    return { result: undefined, audit: {} }
  })
  ctx.answer.cookie = cleared(ctx.request.secure)
  return {}
}

const membershipIn = statement<{ id: string; name: string }>(
  'signIn.membership',
  `select o.id, o.name from members m join organizations o on o.id = m.organization_id
   where m.user_id = $1 and (o.name = $2 or o.id::text = $2)`,
)
const switchTo = statement<{ hash: Buffer }>(
  'signIn.switch',
  'update sessions set organization_id = $2 where id = $1 returning hash',
)
export const sessionSwitch: Api['sessionSwitch'] = async (ctx, { organization: ref }) => {
  const organization = await row(ctx.db, membershipIn, [ctx.caller.userId, decodeId('organization', ref) ?? ref])
  if (!organization) throw organizationNotFound(ref)
  const hash = await change(ctx, async (tx) => {
    const switched = await row(tx, switchTo, [ctx.caller.session?.id, organization.id])
    return {
      result: switched?.hash,
      audit: { chain: organization.id, object: { type: 'organization', ...organization } },
    }
  })
  if (!hash) throw new Refusal('session_expired', 'This browser session has ended. Sign in again.')
  return describeSession(ctx, hash)
}

const invitationByHash = statement<{ id: string; organization_id: string; email: string; role: string }>(
  'signIn.invitation',
  'select id, organization_id, email, role from members where invitation_hash = $1 and invited_until > now()',
)
const insertUser = statement(
  'signIn.insertUser',
  'insert into users (id, email, password_hash) values ($1, $2, $3) on conflict do nothing',
)
const joinOrganization = statement(
  'signIn.join',
  'update members set user_id = $2, invitation_hash = null, invited_until = null where id = $1 and invitation_hash = $3',
)
export const invitationAccept: Api['invitationAccept'] = async (ctx, { invitation: code, password }) => {
  await ctx.attempts.count('address', ctx.request.address)
  const hash = hashOf(code)
  const invitation = await row(ctx.db, invitationByHash, [hash])
  if (!invitation) throw invitationGone()
  const known = await row(ctx.db, userByEmail, [invitation.email])
  const userId = known ? await provePassword(ctx, invitation.email, password) : uuidv7()
  const passwordHash = known ? undefined : await hashPassword(password)
  const session = newSession(ctx)
  await change(ctx, async (tx) => {
    // Both fail only when someone else was quicker with this code, or made the account meanwhile.
    if (passwordHash && (await execute(tx, insertUser, [userId, invitation.email, passwordHash])) === 0)
      throw invitationGone()
    if ((await execute(tx, joinOrganization, [invitation.id, userId, hash])) === 0) throw invitationGone()
    const user = { id: userId, email: invitation.email }
    const started = await startSession(tx, session, user, invitation.organization_id)
    const accepted = {
      object: { type: 'member' as const, id: invitation.id, name: user.email },
      detail: { role: invitation.role },
    }
    return { result: undefined, audit: { ...started, ...accepted } }
  })
  await ctx.attempts.takeBack('address', ctx.request.address)
  return signedIn(ctx, session)
}

const setPassword = statement('signIn.setPassword', 'update users set password_hash = $2 where id = $1')
const endOthers = statement('signIn.endOthers', 'delete from sessions where user_id = $1 and id <> $2')
export const passwordChange: Api['passwordChange'] = async (ctx, { current, new: next }) => {
  const { userId, email, session } = ctx.caller
  await provePassword(ctx, email, current).catch((error: unknown) => {
    if (error instanceof Refusal && error.code === 'invalid_credentials')
      throw new Refusal('wrong_password', 'The current password is not this one.')
    throw error
  })
  const passwordHash = await hashPassword(next)
  return change(ctx, async (tx) => {
    await execute(tx, setPassword, [userId, passwordHash])
    const sessionsEnded = await execute(tx, endOthers, [userId, session?.id])
    return {
      result: { sessionsEnded },
      audit: { object: { type: 'user', id: userId, name: email }, detail: { sessionsEnded } },
    }
  })
}

/** The user's id if the password is theirs; counted, and as slow for an account that does not exist. */
async function provePassword(ctx: Ctx, email: string, password: string): Promise<string> {
  const { address } = ctx.request
  await ctx.attempts.count('address', address)
  const left = await ctx.attempts.count('account', email)
  const user = await row(ctx.db, userByEmail, [email])
  const proven = await isPassword(user?.password_hash, password)
  if (!user || !proven)
    throw new Refusal('invalid_credentials', 'Email and password do not match.', {
      ...(left <= 5
        ? {
            hint:
              left === 0 ? 'The next try has to wait.' : `${left} more ${left === 1 ? 'try' : 'tries'}, then a pause.`,
          }
        : {}),
      audit: { object: { type: 'user', name: email } },
    })
  await Promise.all([ctx.attempts.takeBack('address', address), ctx.attempts.forget('account', email)])
  return user.id
}

const sessionDays = 30
type NewSession = { id: string; value: string; hash: Buffer; address: string; agent: string }

function newSession(ctx: Ctx): NewSession {
  const value = randomBytes(32).toString('base64url')
  return { id: uuidv7(), value, hash: hashOf(value), address: ctx.request.address, agent: ctx.request.agent }
}

// Where the person was last, if they still belong there; otherwise where they belong longest.
const insertSession = statement<{ organization_id: string | null }>(
  'signIn.insertSession',
  `insert into sessions (id, hash, user_id, organization_id, address, agent, expires_at)
   values ($1, $2, $3, coalesce($6, (
     select m.organization_id from members m where m.user_id = $3
     order by (select max(s.last_seen_at) from sessions s where s.user_id = $3 and s.organization_id = m.organization_id)
       desc nulls last, m.id limit 1)), $4, $5, now() + interval '${sessionDays} days')
   returning organization_id`,
)
async function startSession(tx: Tx, session: NewSession, user: { id: string; email: string }, organizationId?: string) {
  const { id, hash, address, agent } = session
  const started = await row(tx, insertSession, [id, hash, user.id, address, agent, organizationId ?? null])
  return {
    actor: { type: 'user' as const, id: user.id, name: user.email },
    object: { type: 'session' as const, id },
    ...(started?.organization_id ? { chain: started.organization_id } : {}),
  }
}

async function signedIn(ctx: Ctx, { value, hash }: NewSession) {
  ctx.answer.cookie = sessionCookie(value, sessionDays, ctx.request.secure)
  return describeSession(ctx, hash)
}

async function describeSession(ctx: Ctx, hash: Buffer) {
  const found = await findCaller(ctx.db, { kind: 'session', hash, inOrganization: null })
  return describeCaller(ctx, toCaller('session', found))
}

const invitationGone = () =>
  new Refusal('invalid_invitation', 'This invitation does not exist, was used, or is older than 7 days.', {
    hint: 'Ask an admin of the organization to invite you again.',
  })

import { randomBytes } from 'node:crypto'
import { decodeId } from '@1ctl/contract/ids'
import { limits } from '@1ctl/contract/limits'
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
import { endSession } from './sessions.ts'

/** Signing in and out, and what a person does with a password. Browser sessions themselves: sessions.ts. */

export const sessionCreate: Api['sessionCreate'] = async (ctx, { email, password }) => {
  const user = await provePassword(ctx, email, password)
  const session = newSession(ctx)
  await change(ctx, async (tx) => ({ result: undefined, audit: await startSession(tx, session, user) }))
  return signedIn(ctx, session)
}

export const sessionEnd: Api['sessionEnd'] = async (ctx) => {
  const id = ctx.caller.session?.id
  await change(ctx, async (tx) => {
    await execute(tx, endSession, [id])
    return { result: undefined, audit: { object: { type: 'session', id: id ?? null } } }
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
    if (!switched) throw new Refusal('session_expired', 'This browser session has ended. Sign in again.')
    return {
      result: switched.hash,
      audit: { chain: organization.id, object: { type: 'organization', ...organization } },
    }
  })
  return describeSession(ctx, hash)
}

const invitationByHash = statement<{ id: string; organization_id: string; email: string; isKnown: boolean }>(
  'signIn.invitation',
  `select m.id, m.organization_id, m.email, u.id is not null as "isKnown"
   from members m left join users u on u.email = m.email where m.invitation_hash = $1 and m.invited_until > now()`,
)
const insertUser = statement(
  'signIn.insertUser',
  'insert into users (id, email, password_hash) values ($1, $2, $3) on conflict do nothing',
)
const joinOrganization = statement<{ role: string }>(
  'signIn.join',
  `update members set user_id = $2, invitation_hash = null, invited_until = null
   where id = $1 and invitation_hash = $3 returning role`,
)
export const invitationAccept: Api['invitationAccept'] = async (ctx, { invitation: code, password }) => {
  const { address } = ctx.request
  await ctx.attempts.count('address', address)
  const hash = hashOf(code)
  const invitation = await row(ctx.db, invitationByHash, [hash])
  if (!invitation) throw invitationGone()
  await ctx.attempts.takeBack('address', address)
  const { id, email, isKnown, organization_id } = invitation
  const user = isKnown
    ? await provePassword(ctx, email, password)
    : { id: uuidv7(), email, passwordHash: await hashPassword(password) }
  const session = newSession(ctx)
  await change(ctx, async (tx) => {
    // Both find nothing only when someone was quicker with this code, or made the account meanwhile.
    if (!isKnown && (await execute(tx, insertUser, [user.id, email, user.passwordHash])) === 0) throw invitationGone()
    const joined = await row(tx, joinOrganization, [id, user.id, hash])
    if (!joined) throw invitationGone()
    const started = await startSession(tx, session, user, organization_id)
    return { result: undefined, audit: { ...started, object: { type: 'member', id, name: email }, detail: joined } }
  })
  return signedIn(ctx, session)
}

const setPassword = statement(
  'signIn.setPassword',
  'update users set password_hash = $2 where id = $1 and password_hash = $3',
)
const endOthers = statement('signIn.endOthers', 'delete from sessions where user_id = $1 and id <> $2')
export const passwordChange: Api['passwordChange'] = async (ctx, { current, new: next }) => {
  const { userId, email, session } = ctx.caller
  const user = await provePassword(ctx, email, current).catch((error: unknown) => {
    throw error instanceof Refusal && error.code === 'invalid_credentials' ? wrongPassword() : error
  })
  const passwordHash = await hashPassword(next)
  return change(ctx, async (tx) => {
    if ((await execute(tx, setPassword, [userId, passwordHash, user.passwordHash])) === 0) throw wrongPassword()
    const sessionsEnded = await execute(tx, endOthers, [userId, session?.id])
    return {
      result: { sessionsEnded },
      audit: { object: { type: 'user', id: userId, name: email }, detail: { sessionsEnded } },
    }
  })
}

/** `passwordHash` is the one the password was found right against: what is done for that reason holds only as long as it stays. */
type User = { id: string; email: string; passwordHash: string }

const userByEmail = statement<User>(
  'signIn.user',
  'select id, email, password_hash as "passwordHash" from users where email = $1',
)
/** The user, if the password is theirs; counted, and as slow for an account that does not exist. */
async function provePassword(ctx: Ctx, email: string, password: string): Promise<User> {
  const { address } = ctx.request
  await ctx.attempts.count('address', address)
  const left = await ctx.attempts.count('account', email)
  const user = await row(ctx.db, userByEmail, [email])
  const proven = await isPassword(user?.passwordHash, password)
  if (!user || !proven) throw noMatch(email, left)
  await Promise.all([ctx.attempts.takeBack('address', address), ctx.attempts.forget('account', email)])
  return user
}

const sessionDays = 30
type NewSession = { id: string; value: string; hash: Buffer; address: string; agent: string }

function newSession(ctx: Ctx): NewSession {
  const value = randomBytes(32).toString('base64url')
  return { id: uuidv7(), value, hash: hashOf(value), address: ctx.request.address, agent: ctx.request.agent }
}

// Where the person was last, if they still belong there; otherwise where they belong longest. A change of the password that ends
// sessions and this insert wait for each other (`for share`), so that none slips through that was let in by the old one.
const insertSession = statement<{ organization_id: string | null }>(
  'signIn.insertSession',
  `insert into sessions (id, hash, user_id, organization_id, address, agent, expires_at)
   select $1, $2, u.id, coalesce($6, (
     select m.organization_id from members m where m.user_id = u.id
     order by (select max(s.last_seen_at) from sessions s where s.user_id = u.id and s.organization_id = m.organization_id)
       desc nulls last, m.id limit 1)), $4, $5, now() + interval '${sessionDays} days'
   from users u where u.id = $3 and u.password_hash = $7 for share of u
   returning organization_id`,
)
async function startSession(tx: Tx, session: NewSession, user: User, organizationId: string | null = null) {
  const { id, hash, address, agent } = session
  const started = await row(tx, insertSession, [id, hash, user.id, address, agent, organizationId, user.passwordHash])
  if (!started) throw noMatch(user.email)
  return {
    actor: { type: 'user' as const, id: user.id, name: user.email },
    object: { type: 'session' as const, id },
    ...(started.organization_id ? { chain: started.organization_id } : {}),
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

function noMatch(email: string, left?: number): Refusal {
  const hints = ['The next try has to wait.', '1 more try, then a pause.']
  const hint = left !== undefined && left <= 5 && (hints[left] ?? `${left} more tries, then a pause.`)
  return new Refusal('invalid_credentials', 'Email and password do not match.', {
    ...(hint ? { hint } : {}),
    audit: { object: { type: 'user', name: email } },
  })
}

const wrongPassword = () => new Refusal('wrong_password', 'The current password is not this one.')

const invitationGone = () =>
  new Refusal(
    'invalid_invitation',
    `This invitation does not exist, was used, or is older than ${limits.invitationDays} days.`,
    { hint: 'Ask an admin of the organization to invite you again.' },
  )

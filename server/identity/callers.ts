import { createHash } from 'node:crypto'
import type { Role, Scope } from '@1ctl/contract/permissions'
import { permissionsOf } from '../access.ts'
import type { Caller } from '../context.ts'
import { Refusal } from '../refusal.ts'
import { type Database, execute, rfc3339, type Statement, statement } from '../store/database.ts'

/**
 * From a credential to a caller: one statement, on every request, without a cache, so that a disabled token, a revoked session or a lost
 * role counts from the next request on. A view's rows come with the same statement (`withRows`).
 */
export type Credential = { kind: 'token' | 'session'; hash: Buffer; inOrganization: string | null }

export type CallerRow = {
  is_token: boolean
  user_id: string
  email: string
  operator: boolean
  organization_id: string | null
  organization_name: string | null
  role: Role | null
  id: string
  name: string | null
  scopes: Scope[] | null
  vpcs: string[] | null
  apps: string[] | null
  disabled: boolean
  expired: boolean
  expires_at: string | null
  /** not noted as used within the last minute */
  stale: boolean
}

/** Which rows of `sessions` count no more: 30 days after signing in (expires_at), or 7 without use. */
export const sessionEnded = "(expires_at <= now() or last_seen_at <= now() - interval '7 days')"

const byToken = `
  select true as is_token, u.id as user_id, u.email, u.operator, o.id as organization_id, o.name as organization_name, m.role, t.id, t.name, t.scopes,
    t.vpcs, t.apps, t.disabled, coalesce(t.expires_at <= now(), false) as expired, t.expires_at,
    coalesce(t.last_used_at < now() - interval '1 minute', true) as stale
  from api_tokens t
  join users u on u.id = t.created_by
  join organizations o on o.id = t.organization_id
  join members m on m.user_id = t.created_by and m.organization_id = t.organization_id
  where t.hash = $1`

// $2 names the organization of the path (name or id), otherwise the session's current one counts.
const bySession = (organization: string) => `
  select false as is_token, u.id as user_id, u.email, u.operator, o.id as organization_id, o.name as organization_name, m.role, s.id, null as name,
    null::text[] as scopes, null::uuid[] as vpcs, null::text[] as apps, false as disabled,
    ${sessionEnded} as expired, s.expires_at,
    s.last_seen_at < now() - interval '1 minute' as stale
  from sessions s
  join users u on u.id = s.user_id
  left join (members m join organizations o on o.id = m.organization_id)
    on m.user_id = s.user_id and m.organization_id = ${organization}
  where s.hash = $1`

const statements = {
  token: statement<CallerRow>('caller.token', byToken),
  session: statement<CallerRow>('caller.session', bySession('s.organization_id')),
  sessionIn: statement<CallerRow>(
    'caller.sessionIn',
    bySession('(select id from organizations where name = $2 or id::text = $2)'),
  ),
}

export async function findCaller(db: Database, credential: Credential): Promise<CallerRow | undefined> {
  const { kind, hash, inOrganization } = credential
  const named = kind === 'session' && inOrganization !== null
  const { name, text } = named ? statements.sessionIn : statements[kind]
  const { rows } = await db.query<CallerRow>({ name, text, values: named ? [hash, inOrganization] : [hash] })
  return rows[0]
}

// As JSON, like the rows: twenty columns cost more to take apart than one text.
export type CallerWithRows = { caller: CallerRow; rows: unknown[] }

/** A statement that answers caller and rows together: `rows` is a select that may use `caller.organization_id` and so on, and $2, $3 … */
export function withRows(name: string, rows: string): Record<Credential['kind'], Statement<CallerWithRows>> {
  const combined = (kind: Credential['kind'], caller: string) =>
    statement<CallerWithRows>(
      `${name}.${kind}`,
      `with caller as materialized (${caller})
       select row_to_json(caller) as caller, (select coalesce(json_agg(page), '[]') from (${rows}) page) as rows from caller`,
    )
  return { token: combined('token', byToken), session: combined('session', bySession('s.organization_id')) }
}

/** The caller behind a row, or the refusal that says why it does not count. */
export function toCaller(kind: Credential['kind'], row: CallerRow | undefined): Caller {
  if (!row)
    throw kind === 'token'
      ? new Refusal('invalid_token', 'This token does not exist; it may have been deleted.', {
          hint: 'Someone who is signed in can create one: 1ctl token create --name <name>',
        })
      : new Refusal('session_expired', 'This browser session has ended. Sign in again.')
  // Its organization's admins should see who still uses it, so it is named though it does not count.
  const actor = { type: 'token' as const, id: row.id, name: row.name ?? '', user: row.email }
  const audit = { object: { type: kind, id: row.id, name: row.name }, actor, chain: row.organization_id ?? undefined }
  if (row.expired)
    throw kind === 'token'
      ? new Refusal('token_expired', `Token "${row.name}" expired at ${row.expires_at}.`, {
          hint: 'Create a new one, or rotate before it ends.',
          audit,
        })
      : new Refusal('session_expired', 'This browser session has ended. Sign in again.')
  if (row.disabled)
    throw new Refusal('token_disabled', `Token "${row.name}" is disabled.`, {
      hint: 'An admin can enable it: 1ctl token enable <id>',
      audit,
    })
  const token =
    kind === 'token'
      ? {
          id: row.id,
          name: row.name ?? '',
          scopes: row.scopes,
          vpcs: row.vpcs,
          apps: row.apps,
          expiresAt: row.expires_at && rfc3339(row.expires_at),
        }
      : null
  return {
    userId: row.user_id,
    email: row.email,
    operator: row.operator,
    organization:
      row.role && row.organization_id && row.organization_name
        ? { id: row.organization_id, name: row.organization_name }
        : null,
    role: row.role,
    permissions: permissionsOf(row.role, row.operator, token),
    session: kind === 'session' ? { id: row.id, expiresAt: rfc3339(row.expires_at ?? '') } : null,
    token,
  }
}

const tokenUsed = statement(
  'caller.tokenUsed',
  `update api_tokens set last_used_at = now(), last_used_address = $2
   where id = $1 and (last_used_at is null or last_used_at < now() - interval '1 minute')`,
)
const sessionSeen = statement(
  'caller.sessionSeen',
  `update sessions set last_seen_at = now(), address = $2 where id = $1 and last_seen_at < now() - interval '1 minute'`,
)
/** Notes the use, at most once a minute however many processes see it. */
export const noteUse = (db: Database, kind: Credential['kind'], id: string, address: string) =>
  execute(db, kind === 'token' ? tokenUsed : sessionSeen, [id, address])

export const hashOf = (secret: string) => createHash('sha256').update(secret).digest()

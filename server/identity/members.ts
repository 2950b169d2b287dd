import { randomBytes } from 'node:crypto'
import { encodeId } from '@1ctl/contract/ids'
import { limits } from '@1ctl/contract/limits'
import { demand, type Member, memberFor, memberOf } from '../access.ts'
import { change } from '../change.ts'
import type { Api, Granted } from '../context.ts'
import { pageValues, toPage, view } from '../http/view.ts'
import { Refusal } from '../refusal.ts'
import { execute, rfc3339, row, rows, statement, type Tx } from '../store/database.ts'
import { uuidv7 } from '../store/uuid.ts'
import { hashOf } from './callers.ts'
import { lockOrganization } from './organizations.ts'

const columns = 'id, user_id, email, role, created_at, invited_until'

const present = (row: Member) => ({
  id: encodeId('member', row.id),
  email: row.email,
  role: row.role,
  status: row.user_id ? ('active' as const) : ('invited' as const),
  createdAt: rfc3339(row.created_at),
  invitationExpiresAt: row.invited_until && rfc3339(row.invited_until),
})

export const memberList = view('memberList', {
  sql: `select m.id, m.user_id, m.email, m.role, m.created_at, m.invited_until from members m
        where m.organization_id = caller.organization_id and ($2::uuid is null or m.id < $2) order by m.id desc limit $3`,
  values: (input) => pageValues('member', input),
  present: (rows: Member[], input) => toPage('member', rows, input, present),
})

// An open invitation is replaced, one of an owner's ($6: by who may) as well; a member is not.
const invite = statement<Member>(
  'members.invite',
  `insert into members (id, organization_id, email, role, invitation_hash, invited_until)
   values ($1, $2, $3, $4, $5, now() + interval '${limits.invitationDays} days')
   on conflict (organization_id, email) do update
     set role = excluded.role, invitation_hash = excluded.invitation_hash, invited_until = excluded.invited_until
     where members.user_id is null and (members.role <> 'owner' or $6)
   returning ${columns}`,
)
const byEmail = statement<Member>(
  'members.byEmail',
  `select ${columns} from members where organization_id = $1 and email = $2`,
)
export const memberInvite: Api['memberInvite'] = async (ctx, { email, role }) => {
  if (role === 'owner') demand(ctx, 'owner')
  const { organization, permissions } = ctx.caller
  const code = `inv_${randomBytes(24).toString('base64url')}`
  const invited = await change(ctx, async (tx) => {
    const values = [uuidv7(), organization.id, email, role, hashOf(code), permissions.has('owner')]
    const member = await row(tx, invite, values)
    if (!member) {
      const before = await row(tx, byEmail, [organization.id, email])
      if (before?.user_id === null) demand(ctx, 'owner')
      throw new Refusal('already_member', `${email} is a member already.`, {
        hint: 'Change the role: 1ctl member role <id> <role>',
      })
    }
    return {
      result: present(member),
      audit: { object: { type: 'member', id: member.id, name: email }, detail: { role } },
    }
  })
  return { ...invited, invitation: code }
}

const setRole = statement<Member>('members.setRole', `update members set role = $2 where id = $1 returning ${columns}`)
export const memberPatch: Api['memberPatch'] = async (ctx, { id, role }) => {
  const found = await memberFor(ctx, id)
  const organizationId = ctx.caller.organization.id
  return change(ctx, async (tx) => {
    const member = await lockMember(tx, organizationId, found)
    if (member.role === 'owner' || role === 'owner') demand(ctx, 'owner')
    const [changed = member] = await Promise.all([row(tx, setRole, [member.id, role]), keepAnOwner(tx, organizationId)])
    return {
      result: present(changed),
      audit: {
        object: { type: 'member', id: member.id, name: member.email },
        detail: { before: member.role, role },
      },
    }
  })
}

const endTokens = statement<{ name: string }>(
  'members.endTokens',
  'delete from api_tokens where organization_id = $1 and created_by = $2 returning name',
)
const remove = statement('members.delete', 'delete from members where id = $1')
export const memberDelete: Api['memberDelete'] = async (ctx, { id }) => {
  const found = await memberFor(ctx, id)
  const organizationId = memberOf(ctx).organization.id
  await change(ctx, async (tx) => {
    const member = await lockMember(tx, organizationId, found)
    // Everyone may leave; removing someone else takes an admin, an owner only an owner.
    if (member.user_id !== ctx.caller.userId) demand(ctx, member.role === 'owner' ? 'owner' : 'admin')
    const [tokens] = await Promise.all([
      rows(tx, endTokens, [organizationId, member.user_id]),
      execute(tx, remove, [member.id]),
      keepAnOwner(tx, organizationId),
    ])
    return {
      result: undefined,
      audit: {
        object: { type: 'member', id: member.id, name: member.email },
        detail: { role: member.role, tokensEnded: tokens.map(({ name }) => name) },
      },
    }
  })
  return {}
}

const byId = statement<Member>('members.byId', `select ${columns} from members where id = $1`)
/** The member as they are now that nobody else changes members: they may have become an owner since they were looked up. */
async function lockMember(
  tx: Tx,
  organizationId: string,
  found: Granted<Member, 'admin' | 'account'>,
): Promise<Member> {
  const [, member] = await Promise.all([lockOrganization(tx, organizationId), row(tx, byId, [found.id])])
  if (!member) throw new Refusal('member_not_found', `${found.email} left meanwhile.`)
  return member
}

const owners = statement(
  'members.owners',
  "select from members where organization_id = $1 and role = 'owner' and user_id is not null limit 1",
)
async function keepAnOwner(tx: Tx, organizationId: string): Promise<void> {
  if ((await execute(tx, owners, [organizationId])) === 0)
    throw new Refusal('last_owner', 'An organization keeps at least one owner.', {
      hint: 'Make someone else an owner first: 1ctl member role <id> owner',
    })
}

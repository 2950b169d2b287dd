import type { me } from '@1ctl/contract/auth'
import { encodeId } from '@1ctl/contract/ids'
import type { Role } from '@1ctl/contract/permissions'
import type { z } from 'zod'
import type { Api, Caller, Ctx } from '../context.ts'
import { type Database, rows, statement } from '../store/database.ts'

type Me = z.output<typeof me>

export const meView: Api['meView'] = (ctx) => describeCaller(ctx, ctx.caller)

const organizationsOfUser = statement<{ id: string; name: string; role: Role }>(
  'me.organizations',
  `select o.id, o.name, m.role from members m join organizations o on o.id = m.organization_id
   where m.user_id = $1 order by o.name`,
)
const vpcNames = statement<{ name: string }>('me.vpcs', 'select name from vpcs where id = any($1) order by name')

export async function describeCaller(ctx: Pick<Ctx, 'db'>, caller: Caller): Promise<Me> {
  const { token, session } = caller
  const [organizations, limitedTo] = await Promise.all([
    token ? ofToken(caller) : rows(ctx.db, organizationsOfUser, [caller.userId]),
    token?.vpcs ? namesOf(ctx.db, token.vpcs) : null,
  ])
  return {
    user: { id: encodeId('user', caller.userId), email: caller.email, operator: caller.operator },
    organization: caller.organization && {
      id: encodeId('organization', caller.organization.id),
      name: caller.organization.name,
    },
    role: caller.role,
    permissions: [...caller.permissions],
    session: session && { id: encodeId('session', session.id), expiresAt: session.expiresAt },
    token: token && {
      id: encodeId('token', token.id),
      name: token.name,
      scopes: token.scopes,
      vpcs: limitedTo,
      apps: token.apps,
      expiresAt: token.expiresAt,
    },
    organizations: organizations.map(({ id, name, role }) => ({ id: encodeId('organization', id), name, role })),
  }
}

/** It belongs to one, and does not tell of its creator's others. */
const ofToken = ({ organization, role }: Caller) => (organization && role ? [{ ...organization, role }] : [])

const namesOf = async (db: Database, ids: string[]) => (await rows(db, vpcNames, [ids])).map(({ name }) => name)

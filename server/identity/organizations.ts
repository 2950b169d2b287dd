import { randomBytes } from 'node:crypto'
import { encodeId } from '@1ctl/contract/ids'
import { namespaceOf } from '@1ctl/contract/names'
import type { Role, Scope } from '@1ctl/contract/permissions'
import { formatToken } from '@1ctl/contract/token-format'
import { installationChain } from '../audit/append.ts'
import { change } from '../change.ts'
import type { Api } from '../context.ts'
import { pageValues, toPage, view } from '../http/view.ts'
import { Refusal } from '../refusal.ts'
import {
  constraintOf,
  execute,
  foreignKeyViolation,
  rfc3339,
  row,
  sqlState,
  statement,
  type Tx,
  uniqueViolation,
} from '../store/database.ts'
import { uuidv7 } from '../store/uuid.ts'
import { insertToken } from './tokens.ts'

type OrganizationRow = { id: string; name: string; created_at: string; role: Role }

const present = ({ id, name, created_at, role }: OrganizationRow) => ({
  id: encodeId('organization', id),
  name,
  createdAt: rfc3339(created_at),
  role,
})

export const organizationList = view('organizationList', {
  sql: `select o.id, o.name, o.created_at, m.role from members m join organizations o on o.id = m.organization_id
        where m.user_id = caller.user_id and (not caller.is_token or o.id = caller.organization_id)
          and ($2::uuid is null or o.id < $2)
        order by o.id desc limit $3`,
  values: (input) => pageValues('organization', input),
  present: (rows: OrganizationRow[], input) => toPage('organization', rows, input, present),
})

// The organization of the path is the caller's here: callers.ts looked the membership up in it.
const byId = statement<{ id: string; name: string; created_at: string }>(
  'organizations.byId',
  'select id, name, created_at from organizations where id = $1',
)
export const organizationView: Api['organizationView'] = async (ctx) => {
  const found = await row(ctx.db, byId, [ctx.caller.organization.id])
  if (!found) throw organizationNotFound(ctx.caller.organization.name)
  return present({ ...found, role: ctx.caller.role })
}

export const organizationCreate: Api['organizationCreate'] = async (ctx, { name }) => {
  const { userId, email } = ctx.caller
  const token = formatToken(randomBytes(64))
  const founded = await change(ctx, async (tx) => {
    const organization = await found(tx, {
      name,
      owner: { id: userId, email },
      token: { value: token, scopes: ['admin'] },
    })
    return {
      result: present(organization),
      audit: { chain: organization.id, object: { type: 'organization', id: organization.id, name } },
    }
  }).catch(nameTaken(name))
  return { ...founded, token }
}

const rename = statement<{ id: string; name: string; created_at: string }>(
  'organizations.rename',
  'update organizations set name = $2 where id = $1 returning id, name, created_at',
)
export const organizationPatch: Api['organizationPatch'] = (ctx, { name }) =>
  change(ctx, async (tx) => {
    const { organization, role } = ctx.caller
    const renamed = await row(tx, rename, [organization.id, name])
    if (!renamed) throw organizationNotFound(organization.name)
    const audit = { object: { type: 'organization' as const, ...organization }, detail: { name } }
    return { result: present({ ...renamed, role }), audit }
  }).catch(nameTaken(name))

const hold = statement('organizations.hold', 'select from organizations where id = $1 for update')
const holdBags = statement('organizations.holdBags', 'select from secrets where organization_id = $1 for update')
const remove = statement('organizations.delete', 'delete from organizations where id = $1')
export const organizationDelete: Api['organizationDelete'] = async (ctx, { confirm }) => {
  const { organization } = ctx.caller
  if (confirm !== organization.name)
    throw new Refusal('confirmation_needed', `Deleting "${organization.name}" deletes everything in it.`, {
      hint: `Confirm with its name: ?confirm=${organization.name}`,
    })
  await change(ctx, async (tx) => {
    // Whoever is writing into a bag of it comes to an end first, and nobody begins: they need rows that would be half gone.
    const holding = [execute(tx, hold, [organization.id]), execute(tx, holdBags, [organization.id])]
    const [, , removed] = await Promise.all([...holding, execute(tx, remove, [organization.id])])
    if (removed === 0) throw organizationNotFound(organization.name)
    const object = { type: 'organization' as const, ...organization }
    // Without its keys its values cannot be read any more, not even in a copy of them.
    const entry = { object, detail: { keys: 'destroyed' } }
    // Where someone will look for an organization that is gone, and in its own chain, which stays.
    return { result: undefined, audit: [{ ...entry, chain: installationChain }, entry] }
  }).catch(notEmpty(`Organization "${organization.name}"`))
  ctx.keys.destroy(organization.id)
  return {}
}

const insertOrganization = statement<{ created_at: string }>(
  'organizations.insert',
  `with chain as (insert into audit_heads (chain) values ($1)),
     vpc as (insert into vpcs (id, organization_id, name, namespace) values ($3, $1, 'default', $4)),
     owner as (insert into members (id, organization_id, user_id, email, role) values ($5, $1, $6, $7, 'owner'))
   insert into organizations (id, name) values ($1, $2) returning created_at`,
)
/** An organization as it starts: its audit chain, the VPC `default`, an owner and one token. */
export async function found(
  tx: Tx,
  {
    name,
    owner,
    token,
  }: { name: string; owner: { id: string; email: string }; token: { value: string; scopes: Scope[] } },
): Promise<OrganizationRow> {
  const id = uuidv7()
  const namespace = namespaceOf(name, 'default')
  const created = await row(tx, insertOrganization, [id, name, uuidv7(), namespace, uuidv7(), owner.id, owner.email])
  const unlimited = { vpcs: null, apps: null, lifetime: null }
  const creator = { userId: owner.id, organization: { id } }
  await insertToken(tx, creator, { name: 'admin', ...token, ...unlimited })
  return { id, name, created_at: created?.created_at ?? '', role: 'owner' }
}

export const nameTaken =
  (name: string) =>
  (error: unknown): never => {
    if (sqlState(error) !== uniqueViolation) throw error
    // A namespace keeps the name its organization had when the VPC was made.
    const byNamespace = constraintOf(error) === 'vpcs_namespace_key'
    throw new Refusal('name_taken', `The name "${name}" is taken.`, {
      hint: byNamespace
        ? 'A VPC of an organization that was renamed has its namespace. Choose another.'
        : 'Choose another.',
    })
  }

export const notEmpty =
  (what: string) =>
  (error: unknown): never => {
    if (sqlState(error) === foreignKeyViolation)
      throw new Refusal('vpc_not_empty', `${what} is not empty.`, { hint: 'Delete what is in it first.' })
    throw error
  }

// Who counts what is left (owners, VPCs) before taking one away does so alone: two at once would both find the other still there. So does
// who decides what pods run.
const lock = statement('organizations.lock', 'select from organizations where id = $1 for no key update')
export async function lockOrganization(tx: Tx, id: string): Promise<void> {
  if ((await execute(tx, lock, [id])) === 0)
    throw new Refusal('organization_not_found', 'The organization was deleted meanwhile; nothing was changed.')
}

export const organizationNotFound = (ref: string) =>
  new Refusal('organization_not_found', `No organization "${ref}" of yours.`, { hint: 'See them with: 1ctl org list' })

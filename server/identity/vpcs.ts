import { encodeId } from '@1ctl/contract/ids'
import { namespaceOf } from '@1ctl/contract/names'
import { type Vpc, vpcFor } from '../access.ts'
import { change } from '../change.ts'
import type { Api } from '../context.ts'
import { pageValues, toPage, view } from '../http/view.ts'
import { Refusal } from '../refusal.ts'
import { execute, rfc3339, row, statement } from '../store/database.ts'
import { uuidv7 } from '../store/uuid.ts'
import { lockOrganization, nameTaken, notEmpty } from './organizations.ts'

const columns = 'id, name, namespace, protected, created_at'

const present = (row: Vpc) => ({
  id: encodeId('vpc', row.id),
  name: row.name,
  namespace: row.namespace,
  protected: row.protected,
  createdAt: rfc3339(row.created_at),
})

export const vpcList = view('vpcList', {
  sql: `select v.id, v.name, v.namespace, v.protected, v.created_at from vpcs v
        where v.organization_id = caller.organization_id and (caller.vpcs is null or v.id = any(caller.vpcs))
          and ($2::uuid is null or v.id < $2) order by v.id desc limit $3`,
  values: (input) => pageValues('vpc', input),
  present: (rows: Vpc[], input) => toPage('vpc', rows, input, present),
})

export const vpcView: Api['vpcView'] = async (ctx, { name }) => present(await vpcFor(ctx, name))

const insert = statement<Vpc>(
  'vpcs.insert',
  `insert into vpcs (id, organization_id, name, namespace) values ($1, $2, $3, $4) returning ${columns}`,
)
export const vpcCreate: Api['vpcCreate'] = (ctx, { name }) =>
  change(ctx, async (tx) => {
    const { organization } = ctx.caller
    const vpc = await row(tx, insert, [uuidv7(), organization.id, name, namespaceOf(organization.name, name)])
    if (!vpc) throw new Error('vpcs.insert returned no row')
    return { result: present(vpc), audit: { object: { type: 'vpc', id: vpc.id, name } } }
  }).catch(nameTaken(name))

const protect = statement<Vpc>('vpcs.protect', `update vpcs set protected = $2 where id = $1 returning ${columns}`)
export const vpcPatch: Api['vpcPatch'] = async (ctx, input) => {
  const vpc = await vpcFor(ctx, input.name)
  return change(ctx, async (tx) => {
    const changed = await row(tx, protect, [vpc.id, input.protected])
    if (!changed) throw gone(vpc)
    return {
      result: present(changed),
      audit: { object: { type: 'vpc', id: vpc.id, name: vpc.name }, detail: { protected: input.protected } },
    }
  })
}

const others = statement('vpcs.others', 'select from vpcs where organization_id = $1 and id <> $2 limit 1')
const remove = statement('vpcs.delete', 'delete from vpcs where id = $1 and (not protected or name = $2)')
// That a bag's VPC is there is looked at when its transaction ends, with the end of the chain already held: who takes the VPC away first
// and the chain then would wait for the other, and the other for it.
const holdChain = statement('vpcs.holdChain', 'select from audit_heads where chain = $1 for update')
export const vpcDelete: Api['vpcDelete'] = async (ctx, { name, confirm }) => {
  const vpc = await vpcFor(ctx, name)
  if (vpc.protected && confirm !== vpc.name)
    throw new Refusal('confirmation_needed', `VPC "${vpc.name}" is protected.`, {
      hint: `Confirm with its name: ?confirm=${vpc.name}`,
    })
  await change(ctx, async (tx) => {
    const organizationId = ctx.caller.organization.id
    const [, , kept] = await Promise.all([
      lockOrganization(tx, organizationId),
      execute(tx, holdChain, [organizationId]),
      execute(tx, others, [organizationId, vpc.id]),
    ])
    if (kept === 0)
      throw new Refusal('last_vpc', 'An organization keeps at least one VPC.', {
        hint: 'Create another first: 1ctl vpc create <name>',
      })
    if ((await execute(tx, remove, [vpc.id, confirm ?? ''])) === 0) throw gone(vpc)
    return { result: undefined, audit: { object: { type: 'vpc', id: vpc.id, name: vpc.name } } }
  }).catch(notEmpty(`VPC "${vpc.name}"`))
  return {}
}

const gone = ({ name }: Vpc) => new Refusal('vpc_not_found', `VPC "${name}" was deleted or protected meanwhile.`)

import type { Command } from 'commander'
import { examples } from '../command.ts'
import type { Deps, Run } from '../deps.ts'
import { everyPage } from '../pages.ts'
import { day } from '../words.ts'

export function vpcCommands(vpc: Command, run: Run): void {
  vpc
    .command('list')
    .alias('ls')
    .description('List the VPCs of the organization')
    .addHelpText('before', examples('1ctl vpc list', '1ctl vpc list --wide'))
    .action(run(vpcList))

  vpc
    .command('create')
    .description('Create a VPC')
    .argument('<name>')
    .addHelpText('before', examples('1ctl vpc create staging'))
    .action(run(vpcCreate))

  vpc
    .command('get')
    .description('Show a VPC')
    .argument('<vpc>', 'name or id')
    .addHelpText('before', examples('1ctl vpc get staging'))
    .action(run(vpcView))

  vpc
    .command('protect')
    .description('Let only admins change a VPC; deleting it then asks for its name')
    .argument('<vpc>', 'name or id')
    .addHelpText('before', examples('1ctl vpc protect production'))
    .action(run(vpcProtect))

  vpc
    .command('unprotect')
    .description('Lift the protection of a VPC')
    .argument('<vpc>', 'name or id')
    .addHelpText('before', examples('1ctl vpc unprotect production'))
    .action(run(vpcUnprotect))

  vpc
    .command('delete')
    .alias('rm')
    .description('Delete an empty VPC')
    .argument('<vpc>', 'name or id')
    .option('--confirm <name>', 'for a protected VPC: its name, instead of being asked for it')
    .addHelpText('before', examples('1ctl vpc delete staging', '1ctl vpc delete production --confirm=production'))
    .action(run(vpcDelete))
}

export async function vpcList(_: object, { client, out }: Deps): Promise<void> {
  out.list(
    await everyPage(client().vpcList),
    [
      { header: 'NAME', cell: ({ name }) => name },
      { header: 'NAMESPACE', cell: ({ namespace }) => namespace },
      { header: 'PROTECTED', cell: (vpc) => yesNo(vpc.protected) },
      { header: 'ID', cell: ({ id }) => id, wide: true },
      { header: 'CREATED', cell: ({ createdAt }) => day(createdAt), wide: true },
    ],
    ({ name }) => name,
  )
}

export async function vpcCreate({ name }: { name: string }, { client, out }: Deps): Promise<void> {
  const vpc = await client().vpcCreate({ name })
  out.one(vpc, vpc.name, [`VPC "${vpc.name}" created (namespace ${vpc.namespace}).`])
}

export async function vpcView({ vpc }: VpcRef, { client, out }: Deps): Promise<void> {
  const found = await client().vpcView({ name: vpc })
  out.one(found, found.name, [
    `ID: ${found.id}`,
    `Name: ${found.name}`,
    `Namespace: ${found.namespace}`,
    `Protected: ${yesNo(found.protected)}`,
    `Created: ${day(found.createdAt)}`,
  ])
}

export async function vpcProtect({ vpc }: VpcRef, { client, out }: Deps): Promise<void> {
  const changed = await client().vpcPatch({ name: vpc, protected: true })
  out.one(changed, changed.name, [`VPC "${changed.name}" is protected: only admins change it.`])
}

export async function vpcUnprotect({ vpc }: VpcRef, { client, out }: Deps): Promise<void> {
  const changed = await client().vpcPatch({ name: vpc, protected: false })
  out.one(changed, changed.name, [`VPC "${changed.name}" is not protected anymore.`])
}

export async function vpcDelete(
  { vpc, confirm }: VpcRef & { confirm?: string },
  { client, out, prompt }: Deps,
): Promise<void> {
  const api = client()
  const found = await api.vpcView({ name: vpc })
  const question = `Delete the ${found.protected ? 'protected ' : ''}VPC "${found.name}" (namespace ${found.namespace})?`
  if (found.protected || confirm !== undefined) await prompt.confirmName(question, found.name, confirm)
  else await prompt.confirm(question)
  await api.vpcDelete({ name: found.name, confirm: found.name })
  out.one({ id: found.id, name: found.name, deleted: true }, found.name, [`VPC "${found.name}" deleted.`])
}

type VpcRef = { vpc: string }

const yesNo = (value: boolean) => (value ? 'yes' : 'no')

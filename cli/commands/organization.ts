import type { Command } from 'commander'
import { examples } from '../command.ts'
import type { Deps, Run } from '../deps.ts'
import { CliError } from '../errors.ts'
import { keepOnce } from '../once.ts'
import { everyPage } from '../pages.ts'
import { day } from '../words.ts'

export function organizationCommands(organization: Command, run: Run): void {
  organization
    .command('list')
    .alias('ls')
    .description('List your organizations; a token belongs to one')
    .addHelpText('before', examples('1ctl org list'))
    .action(run(organizationList))

  organization
    .command('create')
    .description('Found an organization and own it; an admin token of it is shown once')
    .argument('<name>')
    .option('--output-file <path>', 'write the token to this file (mode 0600) and do not show it')
    .addHelpText('before', examples('1ctl org create acme-eu', '1ctl org create acme-eu --output-file ./token'))
    .action(run(organizationCreate))

  organization
    .command('show')
    .description('Show an organization, by default that of the token')
    .argument('[organization]', 'name or id')
    .addHelpText('before', examples('1ctl org show', '1ctl org show acme-eu -o json'))
    .action(run(organizationView))

  organization
    .command('rename')
    .description('Rename an organization; the namespaces of existing VPCs keep their names')
    .argument('<organization>', 'name or id')
    .argument('<new-name>')
    .addHelpText('before', examples('1ctl org rename acme-eu acme-europe'))
    .action(run(organizationPatch))

  organization
    .command('delete')
    .alias('rm')
    .description('Delete an organization with everything in it, for good')
    .argument('<organization>', 'name or id')
    .option('--confirm <name>', 'its name, instead of being asked for it')
    .addHelpText('before', examples('1ctl org delete acme-eu', '1ctl org delete acme-eu --confirm=acme-eu'))
    .action(run(organizationDelete))
}

export async function organizationList(_: object, { client, out }: Deps): Promise<void> {
  out.list(
    await everyPage(client().organizationList),
    [
      { header: 'ID', cell: ({ id }) => id },
      { header: 'NAME', cell: ({ name }) => name },
      { header: 'ROLE', cell: ({ role }) => role },
      { header: 'CREATED', cell: ({ createdAt }) => day(createdAt), wide: true },
    ],
    ({ name }) => name,
  )
}

export async function organizationCreate({ name, outputFile }: { name: string; outputFile?: string }, deps: Deps) {
  const show = keepOnce(deps, outputFile)
  const { token, ...created } = await deps.client().organizationCreate({ name })
  show({
    value: token,
    data: created,
    field: 'token',
    lines: [`Organization created: ${created.name}`, `ID: ${created.id}`],
    heading: 'Token value (shown once — save it now)',
    undo: 'Sign in to the dashboard and create a token there',
  })
  deps.note(`To work in it: 1ctl profile create ${created.name} --url ${deps.account().url}`)
}

export async function organizationView(
  { organization }: { organization?: string },
  { client, out }: Deps,
): Promise<void> {
  const api = client()
  const ref = organization ?? (await api.meView()).organization?.id
  if (ref === undefined) throw new CliError('notFound', 'organization_not_found', 'You belong to no organization.')
  const { id, name, role, createdAt } = await api.organizationView({ organization: ref })
  out.one({ id, name, role, createdAt }, name, [
    `ID: ${id}`,
    `Name: ${name}`,
    `Your role: ${role}`,
    `Created: ${day(createdAt)}`,
  ])
}

export async function organizationPatch(
  { organization, newName }: { organization: string; newName: string },
  { client, out }: Deps,
): Promise<void> {
  const renamed = await client().organizationPatch({ organization, name: newName })
  out.one(renamed, renamed.name, [`Organization "${organization}" is called "${renamed.name}" now.`])
}

export async function organizationDelete(
  { organization, confirm }: { organization: string; confirm?: string },
  { client, out, prompt }: Deps,
): Promise<void> {
  const api = client()
  const { id, name } = await api.organizationView({ organization })
  await prompt.confirmName(
    `Delete the organization "${name}" with all its VPCs, members and tokens? Its key is destroyed: nothing can be restored.`,
    name,
    confirm,
  )
  await api.organizationDelete({ organization: id, confirm: name })
  out.one({ id, name, deleted: true }, name, [`Organization "${name}" deleted.`])
}

import type { Client } from '@1ctl/contract/client'
import { type Role, roles } from '@1ctl/contract/permissions'
import type { Command } from 'commander'
import { rootOf } from '../address.ts'
import { choiceArgument, choiceOption, examples } from '../command.ts'
import type { Deps, Run } from '../deps.ts'
import { keepOnce } from '../once.ts'
import { everyPage, idOf } from '../pages.ts'
import { day } from '../words.ts'

export function memberCommands(member: Command, run: Run): void {
  member
    .command('list')
    .alias('ls')
    .description('List members and open invitations')
    .addHelpText('before', examples('1ctl member list', '1ctl member list --wide'))
    .action(run(memberList))

  member
    .command('invite')
    .description('Invite someone: a one-time code is shown, which you hand to them')
    .argument('<email>')
    .addOption(choiceOption('--role <role>', 'what they will be', roles).makeOptionMandatory())
    .option('--output-file <path>', 'write the code to this file (mode 0600) and do not show it')
    .addHelpText('before', examples('1ctl member invite owner@example.test --role developer'))
    .action(run(memberInvite))

  member
    .command('role')
    .description('Change the role of a member, on their next request')
    .argument('<member-id>', 'id or address')
    .addArgument(choiceArgument('<role>', 'the new role', roles))
    .addHelpText('before', examples('1ctl member role owner@example.test admin'))
    .action(run(memberPatch))

  member
    .command('remove')
    .alias('rm')
    .description('Remove a member or an invitation, or leave; tokens they made stop working at once')
    .argument('<member-id>', 'id or address')
    .addHelpText('before', examples('1ctl member remove owner@example.test', '1ctl member remove mem_abc123 -y'))
    .action(run(memberDelete))
}

export async function memberList(_: object, { client, out }: Deps): Promise<void> {
  out.list(
    await everyPage(client().memberList),
    [
      { header: 'ID', cell: ({ id }) => id },
      { header: 'EMAIL', cell: ({ email }) => email },
      { header: 'ROLE', cell: ({ role }) => role },
      { header: 'STATUS', cell: ({ status }) => status },
      { header: 'SINCE', cell: ({ createdAt }) => day(createdAt), wide: true },
      {
        header: 'INVITATION-ENDS',
        cell: (member) => (member.invitationExpiresAt ? day(member.invitationExpiresAt) : ''),
        wide: true,
      },
    ],
    ({ id }) => id,
  )
}

export async function memberInvite(
  options: { email: string; role: Role; outputFile?: string },
  deps: Deps,
): Promise<void> {
  const { email, role, outputFile } = options
  const show = keepOnce(deps, outputFile)
  const { invitation, ...member } = await deps.client().memberInvite({ email, role })
  show({
    value: invitation,
    data: member,
    field: 'invitation',
    lines: [
      `Invitation created: ${member.email}`,
      `ID: ${member.id}`,
      `Role: ${member.role}`,
      `Expires: ${day(member.invitationExpiresAt)}`,
    ],
    heading: 'Invitation code (shown once — hand it over privately)',
    undo: `1ctl member remove ${member.id} -y`,
  })
  deps.note(`${member.email} accepts it in the dashboard: ${rootOf(deps.account().url)}/invitation`)
}

export async function memberPatch(
  { memberId, role }: { memberId: string; role: Role },
  { client, out }: Deps,
): Promise<void> {
  const api = client()
  const member = await api.memberPatch({ id: await memberIdOf(api, memberId), role })
  out.one(member, member.id, [`${member.email} is ${member.role} now.`])
}

export async function memberDelete({ memberId }: { memberId: string }, { client, out, prompt }: Deps): Promise<void> {
  const api = client()
  const id = await memberIdOf(api, memberId)
  await prompt.confirm(`Remove ${memberId} from the organization? Tokens they made stop working at once.`)
  await api.memberDelete({ id })
  out.one({ id, removed: true }, id, [`${memberId} removed.`])
}

const memberIdOf = (api: Client, typed: string) => idOf('member', typed, api.memberList, ({ email }) => email)

import type { Command } from 'commander'
import { examples } from '../command.ts'
import type { Deps, Run } from '../deps.ts'
import { usage } from '../errors.ts'
import { everyPage } from '../pages.ts'
import { plural } from '../words.ts'

export function userCommands(user: Command, run: Run): void {
  const sessions = user
    .command('sessions')
    .description('Browser sessions')
    .usage('<command> [flags]')
    .helpCommand(false)

  sessions
    .command('list')
    .alias('ls')
    .description('List your browser sessions (those of its creator, for a token)')
    .addHelpText('before', examples('1ctl user sessions list', '1ctl user sessions list --wide'))
    .action(run(sessionList))

  sessions
    .command('revoke')
    .description('End all your browser sessions, or one; tokens keep working')
    .argument('[session-id]', 'only this one')
    .option('--all-except-current', 'keep the session that asks')
    .addHelpText('before', examples('1ctl user sessions revoke', '1ctl user sessions revoke ses_abc123'))
    .action(run(sessionRevoke))
}

export async function sessionList(_: object, { client, out, note }: Deps): Promise<void> {
  const sessions = await everyPage(client().sessionList)
  out.list(
    sessions,
    [
      { header: 'ID', cell: ({ id }) => id },
      { header: 'CREATED', cell: ({ createdAt }) => out.time(createdAt) },
      { header: 'LAST-SEEN', cell: ({ lastSeenAt }) => out.time(lastSeenAt) },
      { header: 'EXPIRES', cell: ({ expiresAt }) => out.time(expiresAt) },
      { header: 'ADDRESS', cell: ({ address }) => address },
      { header: 'BROWSER', cell: ({ agent }) => agent, wide: true },
    ],
    ({ id }) => id,
  )
  if (sessions.length === 0) note('No browser sessions.')
}

export async function sessionRevoke(
  { sessionId, allExceptCurrent }: { sessionId?: string; allExceptCurrent?: boolean },
  { client, out }: Deps,
): Promise<void> {
  if (sessionId !== undefined) {
    if (allExceptCurrent) throw usage('Name a session or use --all-except-current, not both.')
    await client().sessionRevoke({ id: sessionId })
    out.one({ id: sessionId, revoked: 1 }, sessionId, [`Browser session ${sessionId} ended.`])
    return
  }
  const { revoked } = await client().sessionRevokeAll({ keepCurrent: allExceptCurrent })
  out.one({ revoked }, String(revoked), [`${plural(revoked, 'browser session')} ended.`])
}

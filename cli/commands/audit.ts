import { limits } from '@1ctl/contract/limits'
import { type Command, InvalidArgumentError } from 'commander'
import { examples } from '../command.ts'
import type { Deps, Run } from '../deps.ts'
import { CliError } from '../errors.ts'
import { everyPage } from '../pages.ts'
import { exact, moment, plural } from '../words.ts'

export function auditCommands(audit: Command, run: Run): void {
  const installation = ['--installation', "the installation's own chain; needs an operator's token"] as const

  audit
    .command('list')
    .alias('ls')
    .description('List what was done and what was refused, newest first')
    .option('--actor <actor>', "an address, a token's name or an id")
    .option('--action <action>', 'token.create, or token.* for all of tokens')
    .option('--object <object>', 'a name or an id')
    .option('--since <time>', '24h, 7d, 2026-12-31 or 2026-12-31T08:00:00Z', moment)
    .option('--until <time>', 'in the same forms', moment)
    .option('--limit <count>', `at most so many (default: ${limits.pageSize})`, count)
    .option(...installation)
    .addHelpText(
      'before',
      examples(
        '1ctl audit list --since 24h',
        "1ctl audit list --actor github-actions --action 'token.*' --wide",
        '1ctl audit list --since 7d --limit 1000 -o json',
      ),
    )
    .action(run(auditList))

  audit
    .command('verify')
    .description('Prove that no entry was changed or removed; exit 10 if one was')
    .option(...installation)
    .addHelpText('before', examples('1ctl audit verify'))
    .action(run(auditVerify))
}

type AuditListOptions = {
  actor?: string
  action?: string
  object?: string
  since?: string
  until?: string
  limit?: number
  installation?: boolean
}

export async function auditList(options: AuditListOptions, { client, out, note }: Deps): Promise<void> {
  const { installation, limit = limits.pageSize, ...filters } = options
  const api = client()
  const load = installation ? api.adminAuditList : api.auditList
  const events = await everyPage((page) => load({ ...filters, ...page }), limit)
  out.list(
    events,
    [
      { header: 'TIME', cell: ({ at }) => exact(at) },
      { header: 'ACTOR', cell: ({ actor }) => actor.name },
      { header: 'ACTION', cell: ({ action }) => action },
      { header: 'OBJECT', cell: ({ object }) => object?.name ?? object?.id ?? '-' },
      { header: 'OUTCOME', cell: ({ outcome }) => outcome },
      { header: 'REASON', cell: ({ code }) => code ?? '-', wide: true },
      { header: 'ADDRESS', cell: ({ address }) => address ?? '-', wide: true },
      { header: 'REQUEST', cell: ({ requestId }) => requestId ?? '-', wide: true },
      { header: 'ID', cell: ({ id }) => id, wide: true },
    ],
    ({ id }) => id,
  )
  if (events.length === 0) note('Nothing was recorded that fits.')
  if (events.length === limit) note(`These are the newest ${limit}. For more: --limit, or --until ${events.at(-1)?.at}`)
}

export async function auditVerify({ installation }: { installation?: boolean }, { client, out }: Deps): Promise<void> {
  const api = client()
  const verdict = await (installation ? api.adminAuditVerify() : api.auditVerify())
  if (!verdict.ok) {
    throw new CliError('differs', 'audit_broken', `The audit is not intact: entry ${verdict.brokenAt} does not fit.`, {
      why: 'An entry was changed or removed after it was written.',
      fix: 'Keep the database as it is and compare it with a backup.',
    })
  }
  out.one(verdict, String(verdict.rows), [
    `The audit is intact: ${plural(verdict.rows, 'entry', 'entries')}, through ${verdict.through}.`,
  ])
}

function count(text: string): number {
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new InvalidArgumentError('Write a whole number, 1 or more.')
  return Number(text)
}

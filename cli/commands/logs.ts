import { StringDecoder } from 'node:string_decoder'
import { limits } from '@1ctl/contract/limits'
import type { Command } from 'commander'
import { type AppOptions, addAppOptions, appFor } from '../app.ts'
import type { Deps, Run } from '../deps.ts'
import { count } from '../words.ts'

export function logsCommand(command: Command, run: Run): void {
  command
    .argument('[app]', 'name or id (default: that of satusky.toml)')
    .option('-f, --follow', 'go on with what they write, until Ctrl-C')
    .option('--service <service>', 'only this service')
    .option('--tail <lines>', 'how many lines of each pod', count(0, limits.logLinesMax), 100)
  addAppOptions(command, { isArgument: true }).action(run(logs))
}

type LogsOptions = AppOptions & { follow?: boolean; service?: string; tail: number }

export async function logs({ app, follow, service, tail, ...options }: LogsOptions, deps: Deps): Promise<void> {
  const { ref, vpc } = await appFor(app, options, deps)
  const query = new URLSearchParams({
    tail: String(tail),
    ...(follow ? { follow: 'true' } : {}),
    ...(service === undefined ? {} : { service }),
    ...(vpc === undefined ? {} : { vpc }),
  })
  const decoder = new StringDecoder('utf8')
  const isTerminal = process.stdout.isTTY
  await deps.stream(`/apps/${encodeURIComponent(ref)}/logs?${query.toString()}`, (bytes) =>
    write(isTerminal ? harmless(decoder.write(bytes)) : bytes),
  )
}

/** What a container writes must not steer the terminal, apart from coloring it. */
const harmless = (text: string) =>
  // oxlint-disable-next-line no-control-regex -- these are what it is about
  text.replaceAll(/\u001b\[[\d;]*m|[^\P{Cc}\n\t]/gu, (found) => (found.length > 1 ? found : found === '\r' ? '' : '�'))

/** As fast as it is read. */
const write = (text: string | Buffer) =>
  new Promise<void>((written) => {
    if (process.stdout.write(text)) written()
    else process.stdout.once('drain', written)
  })

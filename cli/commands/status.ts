import type { Command } from 'commander'
import { sourceOf } from '../account.ts'
import { baseOf, defaultUrl, rootOf } from '../address.ts'
import { examples } from '../command.ts'
import type { Deps, Run } from '../deps.ts'
import { CliError } from '../errors.ts'
import { createSend } from '../http.ts'
import { version } from '../version.ts'

export function statusCommand(program: Command, run: Run): void {
  program
    .command('status')
    .description('Show whether the API can be reached, its version, and what this machine signs in with')
    .addHelpText('before', examples('1ctl status', '1ctl --profile prod status'))
    .action(run(status))
}

export async function status(_: object, deps: Deps): Promise<void> {
  const { flags, home, out, note } = deps
  const account = deps.findAccount()
  const url = baseOf(account?.url ?? defaultUrl)
  // No token: this asks the server, not who we are.
  const send = createSend({ base: rootOf(url), token: undefined, timeoutMs: flags.timeout, debug: flags.debug, note })
  const answer = await send({ method: 'GET', path: '/readyz', headers: {}, body: undefined })
  const server = readyBody(answer.text)
  if (!server) {
    throw new CliError('failed', 'unexpected_answer', `${rootOf(url)} does not answer like a 1ctl server.`, {
      fix: 'Is this its address? See: 1ctl config show --sources',
    })
  }
  const state = answer.status === 200 ? 'ready' : (server.error?.code ?? server.status ?? 'unavailable')
  const files = home.files()

  out.one(
    { apiUrl: url, state, serverVersion: server.version, version, source: account ? sourceOf(account) : null, files },
    state,
    [
      `API URL: ${url}`,
      `State: ${state}`,
      `Version: ${server.version ? `${server.version} (server), ` : ''}${version} (1ctl)`,
      `Token: ${account ? `from ${sourceOf(account)}` : 'none: not logged in'}`,
      `Files: ${files.join(', ') || 'none'}`,
    ],
  )
  if (state !== 'ready') throw new CliError('unavailable', state, server.error?.message ?? 'The server is not ready.')
}

type ReadyBody = { status?: string; version?: string; error?: { code: string; message: string } }

function readyBody(text: string): ReadyBody | undefined {
  try {
    const body = JSON.parse(text) as ReadyBody | null
    return body?.status || body?.error ? body : undefined
  } catch {
    return undefined
  }
}

import type { Deps } from './deps.ts'
import { usage } from './errors.ts'
import { plural } from './words.ts'

export type TokenInput = { token?: string; tokenStdin?: boolean }

/** A token from `--token`, from stdin, or asked for without showing it. */
export async function readToken({ token, tokenStdin }: TokenInput, deps: Deps): Promise<string> {
  if (token !== undefined && tokenStdin) throw usage('--token and --token-stdin cannot be used together.')
  const given = (await read()).trim()
  if (given === '') throw usage('The token is empty.')
  return given

  async function read(): Promise<string> {
    if (token !== undefined) {
      if (process.stdin.isTTY && !deps.env.SATUSKY_NO_ARGV_WARNING) {
        deps.note(
          'Warning: --token leaves the token in the shell history and in `ps`. Leave it out to be asked, or use --token-stdin.',
        )
      }
      return token
    }
    if (!tokenStdin) {
      const typed = await deps.prompt.secret('Token', '--token-stdin or --token')
      deps.note(`Read ${plural(typed.trim().length, 'character')}.`)
      return typed
    }
    if (process.stdin.isTTY) deps.note('Waiting for the token on stdin; Ctrl-D ends it.')
    return readStdin()
  }
}

async function readStdin(): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}

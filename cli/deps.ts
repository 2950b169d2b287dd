import { type Client, createClient } from '@1ctl/contract/client'
import { table } from '@1ctl/contract/table'
import type { Command } from 'commander'
import { type Account, resolveAccount } from './account.ts'
import { baseOf } from './address.ts'
import { notLoggedIn } from './errors.ts'
import { createHome, type Home } from './home.ts'
import { createSend, createStream, type Stream } from './http.ts'
import { createOutput, type Output } from './output.ts'
import { createPrompt, type Prompt } from './prompt.ts'

/** The flags that every command has. */
export type Flags = {
  profile?: string
  output: 'table' | 'json' | 'yaml' | 'name'
  wide: boolean
  quiet: boolean
  yes: boolean
  input: boolean
  color: boolean
  debug: boolean
  timeout: number
}

/** All that a command may touch. The functions do their work when called, so that a command pays for what it uses. */
export type Deps = {
  flags: Flags
  env: NodeJS.ProcessEnv
  home: Home
  out: Output
  /** A hint or a warning on stderr. */
  note: (text: string) => void
  prompt: Prompt
  /** Whose token goes where, if there is one. */
  findAccount: () => Account | undefined
  /** The same for a command that needs one. */
  account: () => Account
  client: () => Client
  clientFor: (account: Account) => Client
  stream: Stream
  /** For messages: the account of the last client, if one was made. */
  accountUsed: () => Account | undefined
}

const defaults = { wide: false, quiet: false, yes: false, input: true, color: true, debug: false, timeout: 30_000 }

/** Parsing gives these, `run` turns them into an action of commander's. */
export type Handler<Options> = (options: Options, deps: Deps) => void | Promise<void>
export type Run = <Options>(handler: Handler<Options>) => (...args: unknown[]) => Promise<void>

export function createDeps(parsed: Partial<Flags> & { json?: boolean }): Deps {
  const flags = { ...defaults, ...parsed, output: parsed.json ? 'json' : (parsed.output ?? 'table') } as const
  const { env } = process
  const out = createOutput(flags)
  const note = (text: string) => out.note(text)
  const home = createHome(env, note)
  let resolved: ReturnType<typeof resolveAccount> | undefined
  let used: Account | undefined

  const findAccount = () => {
    if (!resolved) {
      resolved = resolveAccount({ flag: flags.profile, env, home, tty: () => process.stderr.isTTY })
      resolved.notices.forEach(note)
    }
    return resolved.account
  }
  const account = () => {
    const found = findAccount()
    if (!found) throw notLoggedIn()
    return found
  }
  const connection = (account: Account) => {
    used = account
    const { timeout: timeoutMs, debug } = flags
    return { base: baseOf(account.url), token: account.token, timeoutMs, debug, note }
  }
  const clientFor = (account: Account) => createClient(table, createSend(connection(account)))
  return {
    flags,
    env,
    home,
    out,
    note,
    prompt: createPrompt(flags),
    findAccount,
    account,
    client: () => clientFor(account()),
    clientFor,
    stream: (path, onText) => createStream(connection(account()))(path, onText),
    accountUsed: () => used,
  }
}

/** Flags and positional arguments as one object, the latter under their names: `<token-id>` is `tokenId`. */
export function optionsOf(command: Command): Record<string, unknown> {
  const positional = command.registeredArguments.map((argument, place) => [
    argument.name().replaceAll(/-(\w)/g, (_, letter: string) => letter.toUpperCase()),
    command.processedArgs[place],
  ])
  return { ...command.opts(), ...Object.fromEntries(positional) }
}

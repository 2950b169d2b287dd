/** The exit codes of every command. */
export const exitCodes = {
  ok: { code: 0, means: 'done, or nothing had to change' },
  failed: { code: 1, means: 'something unexpected, or an error that no other code stands for' },
  usage: { code: 2, means: 'wrong usage, an input is missing or not valid, or a confirmation is needed' },
  notFound: { code: 3, means: 'what was named does not exist' },
  notAuthenticated: { code: 4, means: 'not signed in, or the token is invalid, disabled or expired' },
  notPermitted: { code: 5, means: 'the scopes of the token or your role do not allow it' },
  conflict: { code: 6, means: 'a conflict with what is there: a name is taken, something is still in use' },
  rolloutFailed: { code: 7, means: 'the rollout failed: what ran before is still serving' },
  stillRunning: { code: 8, means: 'not live within --wait-timeout; the rollout goes on' },
  unavailable: { code: 9, means: 'the server is sealed or unavailable, or cannot be reached' },
  differs: { code: 10, means: 'a verification found a difference' },
  interrupted: { code: 130, means: 'interrupted' },
} as const

export type Exit = keyof typeof exitCodes

/** What went wrong, for the person at the terminal: what, why, and the command that helps. */
export class CliError extends Error {
  override name = 'CliError'
  readonly exit: Exit
  /** one of the contract's codes where one fits */
  readonly code: string
  readonly why: string | undefined
  readonly fix: string | undefined
  /** what others said of it, such as a container */
  readonly lines: string[]
  /** for programs */
  readonly details: Record<string, unknown> | undefined

  constructor(exit: Exit, code: string, message: string, { why, fix, lines = [], details }: More = {}) {
    super(message)
    this.exit = exit
    this.code = code
    this.why = why
    this.fix = fix
    this.lines = lines
    this.details = details
  }
}
type More = {
  why?: string | undefined
  fix?: string | undefined
  lines?: string[]
  details?: Record<string, unknown>
}

export const usage = (message: string, fix?: string) => new CliError('usage', 'usage', message, { fix })

export const notLoggedIn = () =>
  new CliError('notAuthenticated', 'missing_token', 'Not logged in. Run: 1ctl auth login --token <token>')

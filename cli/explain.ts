import { ApiError } from '@1ctl/contract/client'
import type { ErrorCode } from '@1ctl/contract/errors'
import { isTokenWhole } from '@1ctl/contract/token-format'
import { CommanderError } from 'commander'
import { type Account, sourceOf } from './account.ts'
import { CliError, type Exit, exitCodes } from './errors.ts'
import { clean, painter } from './output.ts'

export type Failure = { text: string; exitCode: number }

/** What an error means to the person at the terminal, or to the program that asked for JSON. */
export function explain(
  error: unknown,
  flags: { output?: string; json?: boolean; debug?: boolean; color?: boolean },
  account: Account | undefined,
): Failure {
  const report = reportOf(error, account)
  const exitCode = exitCodes[report.exit].code
  if (report.message === '') return { text: '', exitCode }
  if (flags.json || flags.output === 'json' || flags.output === 'yaml') {
    const { code, message, requestId, details } = report
    const hint = [report.why, report.fix].filter(Boolean).join(' ') || undefined
    return { text: `${JSON.stringify({ error: { code, message, hint, requestId, details } }, null, 2)}\n`, exitCode }
  }
  const paint = painter(process.stderr, flags.color !== false)
  const lines = [
    `${paint('red', 'Error:')} ${clean(report.message)}`,
    report.why && `${paint('bold', 'Cause:')} ${clean(report.why)}`,
    ...(report.lines ?? []).map((line) => paint('dim', `  ${clean(line)}`)),
    report.fix && `${paint('bold', 'Fix:')} ${clean(report.fix)}`,
    report.requestId && `${paint('bold', 'Request:')} ${clean(report.requestId)}`,
    // What is wrong with a line of arguments is above, without the value that may be in it; a stack begins with it.
    flags.debug && error instanceof Error && !(error instanceof CommanderError) && error.stack,
  ]
  return { text: lines.filter(Boolean).join('\n').concat('\n'), exitCode }
}

type Report = {
  exit: Exit
  code: string
  message: string
  why?: string | undefined
  fix?: string | undefined
  lines?: string[]
  requestId?: string | undefined
  details?: Record<string, unknown> | undefined
}

function reportOf(error: unknown, account: Account | undefined): Report {
  if (error instanceof CliError) {
    const { exit, code, message, why, fix, lines, details } = error
    return { exit, code, message, why, fix, lines, details }
  }
  if (error instanceof CommanderError) return usageReport(error)
  if (error instanceof ApiError) return apiReport(error, account)
  return { exit: 'failed', code: 'unexpected', message: error instanceof Error ? error.message : String(error) }
}

function usageReport({ code, message, exitCode }: CommanderError): Report {
  // Help and version have been printed already; so has the help of a group that was called without a command.
  if (exitCode === 0) return { exit: 'ok', code, message: '' }
  if (code === 'commander.help') return { exit: 'usage', code: 'usage', message: '' }
  const [, suggestion] = /\n\((Did you mean [^\n]+)\)$/.exec(message) ?? []
  // A mistyped `--kw=KEY=VALUE` must not be shown: from the first "=" on there may be a secret.
  const what = message
    .replace(/^error: /, '')
    .replace(/\n\(Did you mean [^\n]+$/, '')
    .replace(/('[^'=]*)=.*'/s, "$1'")
  return { exit: 'usage', code: 'usage', message: sentence(what), fix: suggestion && sentence(suggestion) }
}

const sentence = (text: string) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.?!]$/.test(text) ? '' : '.')

function apiReport(error: ApiError, account: Account | undefined): Report {
  const { status, code, message, requestId, details } = error
  const exit = exitOf(status, code)
  const common = { exit, code: code ?? 'unexpected_answer', message, requestId, details }
  if (code === undefined) {
    const fix = account && `Is ${account.url} the right address? See: 1ctl config show --sources`
    return { ...common, why: 'The answer does not come from a 1ctl server.', fix }
  }
  if (code === 'too_many_attempts' && error.retryAfterSeconds !== undefined) {
    return { ...common, why: error.hint, fix: `Try again in ${error.retryAfterSeconds} s.` }
  }
  if (!account || (status !== 401 && status !== 403)) return { ...common, fix: error.hint }
  const mistyped = exit === 'notAuthenticated' && !isTokenWhole(account.token)
  const why = [`The token comes from ${sourceOf(account)}.`, mistyped && 'It looks mistyped or cut.']
  return {
    ...common,
    why: why.filter(Boolean).join(' '),
    fix: error.hint ?? (exit === 'notAuthenticated' ? newToken(account) : undefined),
  }
}

const exitOfCode: Partial<Record<ErrorCode, Exit>> = {
  invalid_token: 'notAuthenticated',
  invalid_credentials: 'notAuthenticated',
  invalid_body: 'usage',
  invalid_query: 'usage',
  confirmation_needed: 'usage',
  invalid_share: 'usage',
  unknown_secret: 'notFound',
  invalid_env_key: 'usage',
}

function exitOf(status: number, code: ErrorCode | undefined): Exit {
  if (status === 502 || status === 503 || status === 504) return 'unavailable'
  if (code === undefined) return 'failed'
  if (exitOfCode[code]) return exitOfCode[code]
  if (status === 401) return 'notAuthenticated'
  if (status === 403) return 'notPermitted'
  if (status === 404) return 'notFound'
  return status === 409 || status === 412 ? 'conflict' : 'failed'
}

function newToken({ source, url }: Account): string {
  if (source.kind === 'given')
    return 'Copy the token again, or create another in the dashboard under Settings → API Tokens.'
  if (source.kind === 'key') return 'Set SATUSKY_API_KEY to a valid token.'
  if (source.kind === 'context') return '1ctl auth login --token <token>'
  return `1ctl profile create ${source.profile} --url ${url} --token <token> -y`
}

import type { ErrorBody, ErrorCode } from '@1ctl/contract/errors'
import type { Logger } from 'pino'
import { Wiped } from '../keys/envelope.ts'
import { Refusal } from '../refusal.ts'
import { sqlState } from '../store/database.ts'

/** Anything thrown while answering, as a refusal: ours stays, the framework's and PostgreSQL's are translated, the rest is a 500. */
export function toRefusal(error: unknown, log: Pick<Logger, 'error'>, requestId: string): Refusal {
  if (error instanceof Refusal) return error
  if (error instanceof Wiped) return new Refusal('sealed', 'The server was sealed meanwhile; nothing was changed.')
  const code = codeOf(error) ?? ''
  const known = translations[code] ?? (sqlState(error) ? translations[code.slice(0, 2)] : undefined)
  if (known) return new Refusal(...known)
  // The framework's other complaints about a request (a bad URL, a wrong length): its fault is the client's, its words are not ours.
  if (isClientFault(error)) return new Refusal('invalid_request', 'This is not a well-formed request.')
  // The error's own text goes to the log only: it may quote what a client sent.
  log.error({ err: describe(error), requestId }, 'request failed')
  return new Refusal('internal_error', 'Something went wrong here.', {
    hint: "The server's log says more under this request id.",
  })
}

/** Where an error comes from, never what it says about data: messages of PostgreSQL and of parsers quote their input. */
const describe = (error: unknown) =>
  error instanceof Error
    ? {
        type: error.name,
        code: codeOf(error),
        stack: error.stack
          ?.split('\n')
          .filter((line) => /^\s+at /.test(line))
          .join('\n'),
      }
    : { type: typeof error }

// Neither says "nothing was changed": a connection lost during the commit leaves that open.
const busy = 'The database does not answer at the moment. Try again.'
const slow = 'This took too long and was given up. Try again.'
const translations: Record<string, [ErrorCode, string]> = {
  FST_ERR_CTP_INVALID_MEDIA_TYPE: ['unsupported_media_type', 'Send JSON, with content-type: application/json.'],
  FST_ERR_CTP_INVALID_JSON_BODY: ['malformed_json', 'The body is not JSON.'],
  FST_ERR_CTP_EMPTY_JSON_BODY: ['malformed_json', 'The body is empty; send a JSON object.'],
  FST_ERR_CTP_BODY_TOO_LARGE: ['body_too_large', 'The body is larger than 1 MiB.'],
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: [
    'invalid_request',
    'The body does not have the length that content-length says.',
  ],
  FST_ERR_MAX_PARAM_LENGTH: ['url_too_long', 'The URL is too long.'],
  // Two characters are a class: https://www.postgresql.org/docs/current/errcodes-appendix.html
  '08': ['unavailable', busy],
  '25006': ['unavailable', busy], // read-only: a standby that is not promoted yet
  '28': ['unavailable', busy],
  '3D': ['unavailable', busy],
  '40': ['unavailable', slow],
  '53': ['unavailable', busy],
  '55000': ['unavailable', busy],
  '55P03': ['unavailable', slow],
  '57': ['unavailable', busy],
  '57014': ['unavailable', slow],
  ECONNREFUSED: ['unavailable', busy],
  ECONNRESET: ['unavailable', busy],
  ENOENT: ['unavailable', busy],
  EPIPE: ['unavailable', busy],
  ETIMEDOUT: ['unavailable', busy],
  EHOSTUNREACH: ['unavailable', busy],
  ENOTFOUND: ['unavailable', busy],
  EAI_AGAIN: ['unavailable', busy],
  DATABASE_AWAY: ['unavailable', busy],
  // A NUL character, which JSON can say and PostgreSQL's text cannot hold.
  '22021': ['invalid_request', 'Text must not contain the character NUL.'],
  '22P05': ['invalid_request', 'Text must not contain the character NUL.'],
}

function codeOf(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined
  // pg reports a lost or missing connection in words only.
  if (
    /^(Connection terminated|Query read timeout|timeout exceeded when trying to connect|Client has encountered a connection error)/.test(
      error.message,
    )
  )
    return 'DATABASE_AWAY'
  return sqlState(error) ?? ('code' in error && typeof error.code === 'string' ? error.code : undefined)
}

const isClientFault = (error: unknown) =>
  error instanceof Error &&
  'statusCode' in error &&
  typeof error.statusCode === 'number' &&
  error.statusCode >= 400 &&
  error.statusCode < 500

export function errorText({ code, message, hint, details }: Refusal, requestId: string): string {
  const body: ErrorBody = {
    error: { code, message, ...(hint ? { hint } : {}), ...(details ? { details } : {}), requestId },
  }
  return withoutTokens(JSON.stringify(body))
}

/** For log and audit: without the query, in which a person may have put anything. */
export const shownPath = (url: string) => withoutTokens(url.split('?', 1)[0] ?? '')

/** A token or an invitation that someone gave where a name or an id belongs is not repeated. */
const withoutTokens = (text: string) => text.replace(/(sat|inv)_[\w-]{16,}/g, '$1_…')

import { ApiError, apiBase, createClient, type Send } from '@1ctl/contract/client'
import type { ErrorCode, Problem } from '@1ctl/contract/errors'
import { table } from '@1ctl/contract/table'

/** The whole API, typed by the contract: `await api.tokenCreate({ name: 'ci' })`. What it refuses is thrown as `ApiError`. */
export const api = createClient(table, send)

async function send({ method, path, headers, body }: Parameters<Send>[0]) {
  const answer = await fetch(apiBase + path, { method, headers, body: body ?? null }).catch(() => {
    throw new ApiError(0, { message: 'This browser cannot reach 1ctl. Check the connection, then try again.' })
  })
  return { status: answer.status, headers: answer.headers, text: await answer.text() }
}

/** The session behind the cookie is over, or there never was one: only signing in helps. */
export const isSignedOut = (error: unknown): error is ApiError =>
  error instanceof ApiError && (error.code === 'session_expired' || error.code === 'missing_token')

/** Where a refusal belongs in a form, if one field is what is wrong. */
const fieldOf: Partial<Record<ErrorCode, string>> = {
  invalid_credentials: 'password',
  invalid_invitation: 'invitation',
  wrong_password: 'current',
}

/** What a refusal says about each field by name; what belongs to no field is under `form`. */
export function problemsOf(error: Error, fields: readonly string[]): Record<string, string> {
  const problems = listOf(error).map(({ path, message }) =>
    fields.includes(path) ? [path, sentence(message)] : ['form', inWords(error)],
  )
  return Object.fromEntries(problems)
}

function listOf(error: Error): Problem[] {
  const details = error instanceof ApiError ? error.details : undefined
  if (Array.isArray(details?.['problems'])) return details['problems']
  const code = error instanceof ApiError ? error.code : undefined
  return [{ path: (code && fieldOf[code]) ?? '', message: inWords(error) }]
}

/** An error for the person at the screen. The API's own are sentences for readers already: what is so, then what to do. */
export function inWords(error: Error): string {
  if (!(error instanceof ApiError)) return `This page failed: ${error.message}`
  const { status, message, hint, requestId } = error
  return [message, hint, status >= 500 && requestId && `(${requestId})`].filter(Boolean).join(' ')
}

const sentence = (text: string) => text.replace(/^./u, (letter) => letter.toUpperCase()).replace(/[^.!?]$/u, '$&.')

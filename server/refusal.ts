import { type ErrorCode, errors, type Problem } from '@1ctl/contract/errors'
import type { AuditEntry } from './audit/append.ts'

/**
 * "No", with a code of the contract's table and a sentence for the person who asked. Thrown from any depth; http/errors.ts turns it
 * into the answer, once.
 */
export class Refusal extends Error {
  override name = 'Refusal'
  readonly code: ErrorCode
  readonly hint: string | undefined
  readonly details: Record<string, unknown> | undefined
  readonly headers: Record<string, string>
  /** what the audit says of it beyond caller, code and route */
  readonly audit: RefusalMore['audit']

  constructor(code: ErrorCode, message: string, more: RefusalMore = {}) {
    super(message)
    this.code = code
    this.hint = more.hint
    this.details = more.details
    this.headers = more.headers ?? {}
    this.audit = more.audit
  }

  get status(): number {
    return errors[this.code]
  }
}

type RefusalMore = {
  hint?: string
  details?: Record<string, unknown>
  headers?: Record<string, string>
  audit?: AuditEntry
}

const problemsMax = 100

export function invalid(code: 'invalid_body' | 'invalid_query', all: Problem[]): Refusal {
  // Bounded, or a megabyte of wrong keys would be answered with several.
  const problems = all.slice(0, problemsMax)
  if (all.length > problemsMax) problems.push({ path: '', message: `and ${all.length - problemsMax} more` })
  return new Refusal(code, problems.map(({ path, message }) => (path ? `${path}: ${message}` : message)).join('; '), {
    details: { problems },
  })
}

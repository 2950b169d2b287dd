import { type Kind, qualified } from './kinds.ts'

/** What the API answers when it refuses: a Status object. Messages name fields and objects, never a value of a Secret. */
export class ApiError extends Error {
  override name = 'ApiError'
  code: number
  reason: string
  details?: Details

  constructor(code: number, reason: string, message: string, details?: Details) {
    super(message)
    this.code = code
    this.reason = reason
    this.details = details
  }
}

export type Cause = { reason: string; message: string; field?: string }
type Details = {
  name?: string
  group?: string
  kind?: string
  uid?: string
  causes?: Cause[]
  retryAfterSeconds?: number
}

export const statusOf = ({ code, reason, message, details }: ApiError) => ({
  kind: 'Status',
  apiVersion: 'v1',
  metadata: {},
  status: 'Failure',
  message,
  ...(reason && { reason }),
  ...(details && { details }),
  code,
})

const detailsOf = ({ group, plural }: Kind, name?: string): Details => ({
  ...(name && { name }),
  ...(group && { group }),
  kind: plural,
})

export const notFound = (kind: Kind, name: string) =>
  new ApiError(404, 'NotFound', `${qualified(kind)} "${name}" not found`, detailsOf(kind, name))

export const alreadyExists = (kind: Kind, name: string) =>
  new ApiError(409, 'AlreadyExists', `${qualified(kind)} "${name}" already exists`, detailsOf(kind, name))

export const conflict = (kind: Kind, name: string, why: string) =>
  new ApiError(
    409,
    'Conflict',
    `Operation cannot be fulfilled on ${qualified(kind)} "${name}": ${why}`,
    detailsOf(kind, name),
  )

export const badRequest = (message: string) => new ApiError(400, 'BadRequest', message)

export const forbidden = (kind: Kind, name: string, why: string) =>
  new ApiError(403, 'Forbidden', `${qualified(kind)} "${name}" is forbidden: ${why}`, detailsOf(kind, name))

/** Every problem of an object at once, as the real one lists them. */
export function invalid({ group, kind }: Pick<Kind, 'group' | 'kind'>, name: string, causes: Cause[]): ApiError {
  const lines = causes.map(({ field, message }) => `${field}: ${message}`)
  const text = lines.length === 1 ? lines[0] : `[${lines.join(', ')}]`
  return new ApiError(422, 'Invalid', `${kind}${group ? `.${group}` : ''} "${name}" is invalid: ${text}`, {
    ...(name && { name }),
    ...(group && { group }),
    kind,
    causes,
  })
}

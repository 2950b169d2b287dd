import type { Output, Request, Route, Table } from './dsl.ts'
import type { ErrorBody, ErrorCode } from './errors.ts'
import type { ApiContract } from './index.ts'

/** Where the API lives: below this path, on every server. */
export const apiBase = '/v1/cli'

/** `client.tokenCreate({ name: 'ci' })`: one method per route, its types those of the contract. */
export type Client = {
  [K in keyof ApiContract as ApiContract[K] extends { stream: string } ? never : K]: (
    ...input: {} extends Request<ApiContract[K]>
      ? [Request<ApiContract[K]>?, CallOptions?]
      : [Request<ApiContract[K]>, CallOptions?]
  ) => Promise<Output<ApiContract[K]>>
}

export type CallOptions = { headers?: Record<string, string> }

/** One HTTP exchange. The CLI brings `node:http`, the dashboard `fetch`: both are a few lines, and neither pays for the other. */
export type Send = (request: {
  method: Route['method']
  path: string
  headers: Record<string, string>
  body: string | undefined
}) => Promise<{ status: number; headers: { get(name: string): string | null | undefined }; text: string }>

/** A refusal of the server, or an answer that is not from one (`code` is then undefined). */
export class ApiError extends Error {
  override name = 'ApiError'
  readonly status: number
  readonly code: ErrorCode | undefined
  readonly hint: string | undefined
  readonly details: Record<string, unknown> | undefined
  readonly requestId: string | undefined
  readonly retryAfterSeconds: number | undefined

  constructor(status: number, error: Partial<ErrorBody['error']>, retryAfterSeconds?: number) {
    super(error.message ?? `The server answered with status ${status}.`)
    this.status = status
    this.code = error.code
    this.hint = error.hint
    this.details = error.details
    this.requestId = error.requestId
    this.retryAfterSeconds = retryAfterSeconds
  }
}

export function createClient(table: Table, send: Send): Client {
  const methods = Object.entries(table).map(([name, { method, path, query = [] }]) => [
    name,
    async (input: Record<string, unknown> = {}, options: CallOptions = {}) => {
      const rest = { ...input }
      const take = (key: string) => {
        const value = rest[key]
        delete rest[key]
        return value
      }
      const filled = path.replaceAll(/\{(\w+)\}/g, (_, key: string) => segment(String(take(key))))
      const search = new URLSearchParams()
      for (const key of query) {
        const value = take(key)
        if (value !== undefined) search.set(key, `${value as string | number | boolean}`)
      }
      const hasBody = method === 'POST' || method === 'PATCH'
      const answer = await send({
        method,
        path: search.size > 0 ? `${filled}?${search.toString()}` : filled,
        headers: { ...(hasBody ? { 'content-type': 'application/json' } : {}), ...options.headers },
        body: hasBody ? JSON.stringify(rest) : undefined,
      })
      const body = parse(answer.text)
      if (answer.status >= 200 && answer.status < 300 && body !== undefined) return body
      const retryAfter = Number(answer.headers.get('retry-after') ?? Number.NaN)
      throw new ApiError(answer.status, errorOf(body), Number.isNaN(retryAfter) ? undefined : retryAfter)
    },
  ])
  return Object.fromEntries(methods)
}

function segment(name: string): string {
  // A URL takes these for steps, however they are written, and would lead to another endpoint. Nothing is named so.
  if (name === '.' || name === '..')
    throw new ApiError(404, { code: 'endpoint_not_found', message: `Nothing is named "${name}".` })
  return encodeURIComponent(name)
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function errorOf(body: unknown): Partial<ErrorBody['error']> {
  const error = typeof body === 'object' && body !== null && 'error' in body ? body.error : undefined
  return typeof error === 'object' && error !== null ? error : {}
}

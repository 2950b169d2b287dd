import type { z } from 'zod'
import type { ErrorCode } from './errors.ts'
import type { Permission } from './permissions.ts'

/**
 * One endpoint as data. Path, query and body share one name space, so that a handler and a client take one flat object;
 * a test holds that no name stands in two of them.
 */
export type Route = {
  method: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  /** below `/v1/cli`; `{name}` is a string the handler looks up, so that a malformed id is "not found", never a 400 */
  path: `/${string}`
  summary: string
  access: Access
  /** the handler itself narrows its answer to the VPCs and apps a token is limited to; without it, limited tokens are refused */
  honorsLimits?: true
  /** answered 503 `sealed` while the keys are not in memory */
  needsKeys?: true
  query?: z.ZodObject
  body?: z.ZodObject
  output: z.ZodType
  /** answered bit by bit in this content type, until the client goes away: not for the typed client */
  stream?: 'text/event-stream' | 'text/plain'
  /** 200 unless said otherwise */
  status?: 201 | 202
  /** its own refusals, beside `commonErrors` */
  errors?: readonly ErrorCode[]
}

/**
 * `public`: anyone. `caller`: anyone who is signed in or sends a valid token. `session`: a browser session, no token.
 * Otherwise a permission, which role and scopes must both give.
 */
export type Access = 'public' | 'caller' | 'session' | Permission

export type Contract = Record<string, Route>

/** Keeps the literal types of a route while checking it. */
export const route = <const R extends Route>(r: R): R => r

/** What a handler receives: parsed, with defaults filled in. */
export type Input<R extends Route> = PathInput<R> & Parsed<R['query'], 'output'> & Parsed<R['body'], 'output'>
/** What a client sends. */
export type Request<R extends Route> = PathInput<R> & Parsed<R['query'], 'input'> & Parsed<R['body'], 'input'>
export type Output<R extends Route> = z.output<R['output']>

type PathInput<R extends Route> = { [K in PathNames<R['path']>]: string }
type PathNames<P extends string> = P extends `${string}{${infer Name}}${infer Rest}` ? Name | PathNames<Rest> : never
type Parsed<S, Side extends 'input' | 'output'> = S extends z.ZodType
  ? Side extends 'input'
    ? z.input<S>
    : z.output<S>
  : unknown

/** All a client needs to send a request: the contract without its schemas, small enough for a browser and a CLI's start. */
export type Table = Record<string, { method: Route['method']; path: string; query?: string[] }>

export function tableOf(contract: Contract): Table {
  return Object.fromEntries(
    Object.entries(contract).map(([name, { method, path, query }]) => [
      name,
      { method, path, ...(query ? { query: Object.keys(query.shape) } : {}) },
    ]),
  )
}

import type { Access, ApiContract, Input, Output } from '@1ctl/contract'
import type { Permission, Role, Scope } from '@1ctl/contract/permissions'
import type { Logger } from 'pino'
import type { Announcer } from './announce.ts'
import type { Attempts } from './identity/attempts.ts'
import type { Keyring } from './keys/keyring.ts'
import type { Kubernetes } from './kubernetes/client.ts'
import type { Database } from './store/database.ts'

/** What lives as long as the process; the cluster only where this server delivers to one. */
export type Platform = {
  db: Database
  log: Logger
  attempts: Attempts
  keys: Keyring
  announcer: Announcer
  cluster: { kubernetes: Kubernetes | undefined }
}

/** Who is calling: a person by browser session, or a token on behalf of its creator. */
export type Caller = {
  userId: string
  email: string
  operator: boolean
  /** null when the membership is gone: a session may then only switch, found or sign out */
  organization: { id: string; name: string } | null
  role: Role | null
  /** what role and scopes allow together, now */
  permissions: ReadonlySet<Permission>
  session: { id: string; expiresAt: string } | null
  token: {
    id: string
    name: string
    scopes: Scope[] | null
    /** ids; null is all */
    vpcs: string[] | null
    apps: string[] | null
    expiresAt: string | null
  } | null
}

/** A caller who acts within an organization. */
export type MemberCaller = Caller & { organization: { id: string; name: string }; role: Role }

type CallerOf<A extends Access> = A extends 'public'
  ? null
  : A extends 'caller' | 'session' | 'account' | 'operator'
    ? Caller
    : MemberCaller

declare const granted: unique symbol

/**
 * One request that was let in for `A`. Only `admit` and `demand` in access.ts make one, so an operation that asks for `Ctx<'admin'>` or
 * for something looked up with it cannot be reached with less.
 */
export type Ctx<A extends Access = Access> = Platform & {
  readonly [granted]: A
  caller: CallerOf<A>
  request: RequestFacts
  answer: AnswerParts
}

export type RequestFacts = {
  id: string
  route: string
  address: string
  agent: string
  /** came by https, directly or as a trusted proxy says */
  secure: boolean
  /** the key a POST was sent with, and what it is for: endpoint and object */
  idempotency: { key: string; of: string } | undefined
  ifMatch: string | undefined
  /** of a route that streams: the client went away, or the server stops */
  ended: AbortSignal | undefined
  /** of such a route: whether the caller may still do this, asked again */
  stillCounts?: () => Promise<boolean>
}

/** What a handler may set beside its output. */
export type AnswerParts = { status?: number; cookie?: string; etag?: string }

/** Something looked up by someone who may do `P` with it. Operations that write take this, not a row. */
export type Granted<Row, P extends Permission> = Row & { readonly [granted]: P }

/** The contract as the server implements it: one function per route, its context carrying what the route lets in for. */
export type Api = {
  [K in keyof ApiContract]: (
    ctx: Ctx<ApiContract[K]['access']>,
    input: Input<ApiContract[K]>,
  ) => Promise<ApiContract[K] extends { stream: string } ? AsyncIterable<string> : Output<ApiContract[K]>>
}

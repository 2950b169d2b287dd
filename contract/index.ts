import { apps } from './apps.ts'
import { audit } from './audit.ts'
import { auth } from './auth.ts'
import type { Contract } from './dsl.ts'
import { events } from './events.ts'
import { keys } from './keys.ts'
import { organizations } from './organizations.ts'
import { rollouts } from './rollouts.ts'
import { secrets } from './secrets.ts'
import { sessions } from './sessions.ts'
import { tokens } from './tokens.ts'
import { vpcs } from './vpcs.ts'

/** Everything a client may call. Start here: the server implements this object, the clients are derived from it. */
export const contract = {
  ...auth,
  ...tokens,
  ...sessions,
  ...organizations,
  ...vpcs,
  ...secrets,
  ...apps,
  ...rollouts,
  ...events,
  ...keys,
  ...audit,
} satisfies Contract

export type ApiContract = typeof contract

export { apiBase } from './client.ts'
export type { Access, Input, Output, Request, Route } from './dsl.ts'

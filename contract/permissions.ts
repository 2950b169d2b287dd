/**
 * Who may do what: the one table of roles and scopes. Server, CLI help and dashboard read it from here.
 *
 * A permission is what an endpoint asks for (`access` in its route). A role is what a member has in an organization, a scope
 * is what a token was given. A token may do what its scopes *and* its creator's role allow, looked up on every request.
 */
export const permissions = {
  read: 'see everything of the organization except values, which nobody can see',
  deploy: 'deploy apps, change their env, start rollouts',
  'secrets:write': 'store, change, verify and delete secrets',
  'tokens:admin': 'create, change and delete API tokens',
  admin: 'manage members, VPCs and everything else of the organization',
  owner: 'manage owners and the organization itself',
  account: 'act for oneself: end own sessions, leave, found an organization',
  operator: 'run the installation: seal, unseal, its own audit',
} as const

export type Permission = keyof typeof permissions

export const roles = ['owner', 'admin', 'developer', 'viewer'] as const
export type Role = (typeof roles)[number]

/** A viewer reads; a developer also deploys and stores secrets; an admin does all but owners; an owner does all. */
export const roleAllows = {
  viewer: ['read', 'account'],
  developer: ['read', 'account', 'deploy', 'secrets:write'],
  admin: ['read', 'account', 'deploy', 'secrets:write', 'tokens:admin', 'admin'],
  owner: ['read', 'account', 'deploy', 'secrets:write', 'tokens:admin', 'admin', 'owner'],
} as const satisfies Record<Role, readonly Permission[]>

export const scopes = ['read', 'deploy', 'secrets:write', 'tokens:admin', 'admin', 'operator'] as const
export type Scope = (typeof scopes)[number]

/** Every scope of the organization includes `read`; `admin` is everything its creator's role allows. */
export const scopeAllows = {
  read: ['read'],
  deploy: ['read', 'deploy'],
  'secrets:write': ['read', 'secrets:write'],
  'tokens:admin': ['read', 'tokens:admin'],
  admin: ['read', 'account', 'deploy', 'secrets:write', 'tokens:admin', 'admin', 'owner'],
  operator: ['operator'],
} as const satisfies Record<Scope, readonly Permission[]>

/** What a token limited to VPCs or apps may still do: the rest of the table reaches the whole organization. */
export const limitable = ['read', 'deploy', 'secrets:write'] as const satisfies readonly Permission[]

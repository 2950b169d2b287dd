-- Who is calling, for whom, and what they did.

create table organizations (
  id uuid primary key,
  name text not null unique,
  created_at timestamptz not null default now()
);

create table users (
  id uuid primary key,
  email text not null unique check (email = lower(email)),
  password_hash text not null,
  -- runs the installation (seal, its own audit), apart from any organization
  operator boolean not null default false,
  created_at timestamptz not null default now()
);

-- A member without a user is an open invitation.
create table members (
  id uuid primary key,
  organization_id uuid not null references organizations on delete cascade,
  user_id uuid references users on delete cascade,
  email text not null,
  role text not null check (role in ('owner', 'admin', 'developer', 'viewer')),
  invitation_hash bytea unique,
  invited_until timestamptz,
  created_at timestamptz not null default now(),
  unique (organization_id, email),
  unique (user_id, organization_id),
  check ((user_id is null) = (invitation_hash is not null)),
  check ((user_id is null) = (invited_until is not null))
);

create table sessions (
  id uuid primary key,
  hash bytea not null unique,
  user_id uuid not null references users on delete cascade,
  -- the current organization; null when it was deleted meanwhile
  organization_id uuid references organizations on delete set null,
  address text not null,
  agent text not null,
  created_at timestamptz not null default now(),
  last_seen_at timestamptz not null default now(),
  expires_at timestamptz not null
);
create index sessions_by_user on sessions (user_id);
create index sessions_by_organization on sessions (organization_id);

create table vpcs (
  id uuid primary key,
  organization_id uuid not null references organizations on delete cascade,
  name text not null,
  -- stays when the organization is renamed: pods live in it
  namespace text not null unique,
  protected boolean not null default false,
  created_at timestamptz not null default now(),
  unique (organization_id, name)
);

create table api_tokens (
  id uuid primary key,
  organization_id uuid not null,
  created_by uuid not null,
  name text not null,
  -- SHA-256 is enough for 155 random bits; the value itself is stored nowhere
  hash bytea not null unique,
  prefix text not null,
  last4 text not null,
  -- null means: all that its creator may do
  scopes text[],
  -- null means: all. VPC ids, not names: a VPC made anew under an old name is another one
  vpcs uuid[],
  apps text[],
  disabled boolean not null default false,
  created_at timestamptz not null default now(),
  -- how long it was given, which a rotation gives its successor again; null: for good
  lifetime interval,
  -- earlier than the lifetime says once it was rotated
  expires_at timestamptz,
  last_used_at timestamptz,
  last_used_address text,
  -- a removed member's tokens end with the membership, and do not come back with a new one
  foreign key (created_by, organization_id) references members (user_id, organization_id) on delete cascade
);
create index api_tokens_by_organization on api_tokens (organization_id, id);
create index api_tokens_by_creator on api_tokens (created_by, organization_id);

-- Failed sign-ins and bad tokens, counted across all processes. Unlogged: losing the counts in a crash is harmless.
create unlogged table attempts (
  key text primary key,
  failures integer not null,
  until timestamptz not null
);

-- Answers to repeated POSTs, kept for a day. What is shown once is not in them.
create table idempotency_keys (
  caller uuid not null,
  key text not null,
  route text not null,
  answer jsonb,
  created_at timestamptz not null default now(),
  primary key (caller, key)
);
create index idempotency_keys_by_age on idempotency_keys (created_at);

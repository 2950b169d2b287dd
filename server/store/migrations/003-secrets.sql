-- Keys, and what they protect. No column holds a value in the clear.
--
-- References that keep a row from being deleted are looked at when the transaction ends: deleting an organization deletes both sides, in an
-- order that is PostgreSQL's own affair.

-- Master keys by fingerprint; the key itself is in a file, the environment, or in memory only.
create table master_keys (
  id uuid primary key,
  fingerprint text not null unique,
  -- `next` while a rotation is on its way: both may be needed then
  state text not null check (state in ('active', 'next', 'retired')),
  source text not null check (source in ('file', 'env', 'manual')),
  -- with `manual`: how many shares there are, and how many open
  shares integer,
  threshold integer,
  -- how often an operator has sealed: a server that was opened before the last time seals itself
  seals integer not null default 0,
  created_at timestamptz not null default now()
);
create unique index master_keys_active on master_keys (state) where state <> 'retired';

create table organization_keys (
  id uuid primary key,
  organization_id uuid not null references organizations on delete cascade,
  master_key_id uuid not null references master_keys,
  -- data keys seal values and are rotated; the fingerprint key never is, or equal values would stop looking equal
  purpose text not null check (purpose in ('data', 'fingerprint')),
  wrapped bytea not null,
  -- of data keys: new values are sealed with the active one
  active boolean not null default true,
  created_at timestamptz not null default now()
);
create unique index organization_keys_active on organization_keys (organization_id, purpose) where active;
create index organization_keys_by_master on organization_keys (master_key_id);
-- Data keys on their way out: a rotation seals their values anew.
create index organization_keys_old on organization_keys (organization_id) where not active;

-- An app as far as references need it.
create table apps (
  id uuid primary key,
  organization_id uuid not null references organizations on delete cascade,
  vpc_id uuid not null references vpcs deferrable initially deferred,
  name text not null,
  created_at timestamptz not null default now(),
  unique (vpc_id, name)
);
create index apps_by_organization on apps (organization_id, id);

create table secrets (
  id uuid primary key,
  organization_id uuid not null references organizations on delete cascade,
  -- both null: of the organization; only vpc: of the VPC; both: of the app of this name there, which need not exist yet
  vpc_id uuid references vpcs deferrable initially deferred,
  app text,
  name text not null,
  type text not null default 'custom' check (type in ('custom', 'database', 'registry')),
  version integer not null,
  -- the names in secret_keys, sorted, so that a list need not gather them
  keys text[] not null default '{}',
  created_at timestamptz not null default now(),
  created_by text not null,
  updated_at timestamptz not null default now(),
  updated_by text not null,
  check (app is null or vpc_id is not null),
  -- the name before the scope: bags are looked up by it
  unique nulls not distinct (organization_id, name, vpc_id, app)
);
create index secrets_by_organization on secrets (organization_id, id);

create table secret_versions (
  secret_id uuid not null references secrets on delete cascade,
  version integer not null,
  created_at timestamptz not null default now(),
  created_by text not null,
  note text,
  added text[] not null,
  changed text[] not null,
  removed text[] not null,
  -- of which values this version consists, keyed (envelope.ts): one that is put back by hand shows
  proof bytea not null,
  primary key (secret_id, version)
);

-- A value counts from the version that set it until (not including) the one that replaced or removed it.
create table secret_values (
  secret_id uuid not null references secrets on delete cascade,
  key text not null,
  version integer not null,
  until integer,
  key_id uuid not null references organization_keys deferrable initially deferred,
  sealed bytea not null,
  fingerprint bytea not null,
  length text not null,
  -- learned at writing and kept instead of the value
  hints text[] not null,
  expires_at timestamptz,
  created_at timestamptz not null default now(),
  created_by text not null,
  primary key (secret_id, key, version)
);
create index secret_values_by_key on secret_values (key_id, secret_id);

-- The keys a bag has now. Links refer to them, so that PostgreSQL itself keeps a linked key from being removed.
create table secret_keys (
  secret_id uuid not null references secrets on delete cascade,
  key text not null,
  version integer not null,
  primary key (secret_id, key),
  foreign key (secret_id, key, version) references secret_values on delete cascade
);

-- Who uses a bag as a whole, and who uses one key under a name of its own. No cascade from secrets: what is used cannot be deleted.
create table secret_uses (
  app_id uuid not null references apps on delete cascade,
  -- '' is every service of the app
  service text not null default '',
  secret_id uuid not null references secrets deferrable initially deferred,
  mode text not null check (mode in ('envFrom', 'secretFiles')),
  position integer not null,
  primary key (app_id, service, mode, secret_id)
);
create index secret_uses_by_secret on secret_uses (secret_id);

create table secret_links (
  app_id uuid not null references apps on delete cascade,
  service text not null default '',
  variable text not null,
  secret_id uuid not null,
  key text not null,
  primary key (app_id, service, variable),
  foreign key (secret_id, key) references secret_keys deferrable initially deferred
);
create index secret_links_by_key on secret_links (secret_id, key);

-- A repeated POST is answered with the status of the first one, too.
alter table idempotency_keys add column status smallint;

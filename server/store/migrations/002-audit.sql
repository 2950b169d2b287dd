-- The audit trail: one chain an organization, and one of the installation itself (chain 00000000-…). Each row's hash covers the row
-- and the hash before it, so that a removed or edited row shows.

create table audit_events (
  chain uuid not null,
  seq bigint not null,
  at timestamptz not null,
  id uuid not null,
  actor_type text not null,
  actor_id uuid,
  actor_name text not null,
  actor_user text,
  address text,
  action text not null,
  object_type text,
  object_id uuid,
  object_name text,
  outcome text not null,
  code text,
  detail jsonb not null,
  request_id text,
  hash bytea not null,
  primary key (chain, seq, at)
) partition by range (at);

-- A net under the monthly partitions, which the server makes ahead of time: a missing one must not stop every write.
create table audit_events_default partition of audit_events default;

-- The end of each chain. Writers of one organization queue at this row until they commit; those of different ones do not meet.
-- `first_seq` and `first_hash` are what came before the oldest row kept: retention moves them forward.
create table audit_heads (
  chain uuid primary key,
  seq bigint not null default 0,
  at timestamptz not null default '-infinity',
  hash bytea not null default '\x',
  first_seq bigint not null default 0,
  first_hash bytea not null default '\x'
);

insert into audit_heads (chain) values ('00000000-0000-0000-0000-000000000000');

-- A JSON array, not concatenation: no two different rows read the same. (`stable`, because only so does PostgreSQL inline it.)
create function audit_hash(previous bytea, e audit_events) returns bytea language sql stable parallel safe
return sha256(previous || convert_to(jsonb_build_array(
  e.chain, e.seq, extract(epoch from e.at), e.id, e.actor_type, e.actor_id, e.actor_name, e.actor_user, e.address, e.action,
  e.object_type, e.object_id, e.object_name, e.outcome, e.code, e.detail, e.request_id)::text, 'UTF8'));

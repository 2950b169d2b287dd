-- Apps, what was deployed of them, and what their pods were told to run.

alter table apps
  -- as deploys declare it: the app's own fields and its services, without variables and secrets, which have tables of their own
  add column spec jsonb not null default '{}',
  -- what should run, and the last release that every pod ran
  add column release integer,
  add column live_release integer,
  -- saved, but in no release yet
  add column staged boolean not null default false,
  -- the release that the pods did not take, until another is live
  add column rejected_release integer,
  -- how many pods of each service are ready, on whatever release, as the delivery loop saw it last
  add column serving jsonb not null default '{}',
  add column on_failure text not null default 'rollback' check (on_failure in ('rollback', 'keep')),
  add column updated_at timestamptz not null default now(),
  add column updated_by text not null default '',
  -- When the delivery loop looks next; null: when something happens. A claim is a lease: what a dead server held is free again.
  add column due_at timestamptz,
  add column claimed_until timestamptz,
  add column claimed_by uuid,
  -- errors in a row, for the back-off
  add column tries integer not null default 0;
create index apps_due on apps (due_at) where due_at is not null;

-- Plain variables; links are in secret_links. `declared`: by a deploy, so the next deploy may leave it out. Others were set by themselves.
create table app_env (
  app_id uuid not null references apps on delete cascade,
  service text not null default '',
  variable text not null,
  value text not null,
  declared boolean not null,
  primary key (app_id, service, variable)
);
alter table secret_uses add column declared boolean not null default false;
alter table secret_links add column declared boolean not null default false;

-- How many services use a bag. Counted by PostgreSQL, so that it holds whatever deletes the references; the bag's row is locked meanwhile,
-- so that who changes a bag knows whether anyone uses it.
alter table secrets add column used_by integer not null default 0;
create function count_users() returns trigger language plpgsql as $$
declare
  ids uuid[];
begin
  if tg_op = 'INSERT' then select array_agg(distinct secret_id order by secret_id) into ids from new_rows;
  elsif tg_op = 'DELETE' then select array_agg(distinct secret_id order by secret_id) into ids from old_rows;
  else
    select array_agg(distinct secret_id order by secret_id) into ids
    from (select secret_id from new_rows union select secret_id from old_rows) both_rows;
  end if;
  -- Two statements: the second sees what the first had to wait for.
  perform from secrets where id = any(ids) order by id for no key update;
  update secrets s set used_by = (
    select count(*) from (
      select app_id, service from secret_uses where secret_id = s.id
      union select app_id, service from secret_links where secret_id = s.id) users)
  where id = any(ids);
  return null;
end $$;
create trigger count_users_in after insert on secret_uses referencing new table as new_rows for each statement execute function count_users();
create trigger count_users_out after delete on secret_uses referencing old table as old_rows for each statement execute function count_users();
create trigger count_users_moved after update on secret_uses
  referencing old table as old_rows new table as new_rows for each statement execute function count_users();
create trigger count_links_moved after update on secret_links
  referencing old table as old_rows new table as new_rows for each statement execute function count_users();
create trigger count_links_in after insert on secret_links referencing new table as new_rows for each statement execute function count_users();
create trigger count_links_out after delete on secret_links referencing old table as old_rows for each statement execute function count_users();

-- The frozen answer to "what does this app run": from which declarations (`inputs`), and what came of them (`services`).
create table releases (
  app_id uuid not null references apps on delete cascade,
  number integer not null,
  inputs jsonb not null,
  services jsonb not null,
  -- in words: deploy, secret db-creds v8, rollback to 3
  cause text not null,
  note text,
  created_at timestamptz not null default now(),
  created_by text not null,
  primary key (app_id, number)
);

-- The version of each bag that a release is pinned to. A bag that nothing refers to any more may go; the release is then incomplete.
create table release_bags (
  app_id uuid not null,
  release integer not null,
  secret_id uuid not null references secrets on delete cascade,
  version integer not null,
  primary key (app_id, release, secret_id),
  foreign key (app_id, release) references releases on delete cascade
);
create index release_bags_by_secret on release_bags (secret_id, version);

-- A shared bag on its way through the apps that use it: one first, then `size` at a time.
create table waves (
  id uuid primary key,
  organization_id uuid not null references organizations on delete cascade,
  secret_id uuid references secrets on delete set null,
  secret text not null,
  version integer not null,
  state text not null check (state in ('running', 'stopped', 'done', 'aborted')),
  size integer not null,
  message text,
  created_at timestamptz not null default now(),
  created_by text not null
);
create index waves_running on waves (organization_id) where state = 'running';

create table rollouts (
  id uuid primary key,
  organization_id uuid not null references organizations on delete cascade,
  app_id uuid not null references apps on delete cascade,
  release integer not null,
  -- what runs again if the pods do not take this one
  previous_release integer,
  state text not null,
  -- [{state, at}], and per service {name, state, ready, wanted, reason, message, logs}
  steps jsonb not null default '[]',
  services jsonb not null default '[]',
  cause text not null,
  message text,
  on_failure text not null,
  -- counts changes of the receipt, for those who wait for the next
  revision integer not null default 0,
  wave_id uuid references waves on delete set null,
  superseded_by uuid,
  created_at timestamptz not null default now(),
  created_by text not null,
  finished_at timestamptz
);
create index rollouts_by_organization on rollouts (organization_id, id);
create index rollouts_by_app on rollouts (app_id, id);
create unique index rollouts_open on rollouts (app_id) where finished_at is null;

create table wave_apps (
  wave_id uuid not null references waves on delete cascade,
  app_id uuid not null references apps on delete cascade,
  position integer not null,
  rollout_id uuid references rollouts on delete set null,
  primary key (wave_id, app_id)
);

-- What is gone here and must go in the cluster: the objects of an app, or a VPC's namespace. By trigger, so that it holds for whatever
-- deleted the row.
create table departures (
  id uuid primary key default gen_random_uuid(),
  namespace text not null,
  -- null: the whole namespace
  app_id uuid,
  app text,
  due_at timestamptz not null default now(),
  claimed_until timestamptz,
  tries integer not null default 0,
  created_at timestamptz not null default now()
);
create index departures_due on departures (due_at);
create function app_departs() returns trigger language plpgsql as $$
begin
  insert into departures (namespace, app_id, app) select v.namespace, old.id, old.name from vpcs v where v.id = old.vpc_id;
  return null;
end $$;
create trigger app_departs after delete on apps for each row execute function app_departs();
create function vpc_departs() returns trigger language plpgsql as $$
begin
  insert into departures (namespace) values (old.namespace);
  return null;
end $$;
create trigger vpc_departs after delete on vpcs for each row execute function vpc_departs();

-- Whether pods run a bag's version of now: of the apps that use it, the one that is worst off counts. A function, since a list asks for it only
-- where a bag is used, and the plan of a query would be made ready for it in any case.
create function status_of_used(bag uuid, current integer) returns text language plpgsql stable as $$
begin
  return coalesce((
    select (array['live', 'redeploy_needed', 'rolling_out', 'pending', 'rejected'])[max(case
      when a.rejected_release is not null and (
        select b.version from release_bags b where b.app_id = a.id and b.release = a.rejected_release and b.secret_id = bag) = current then 5
      when o.state = 'pending' then 4
      when p.version is distinct from current then 2
      when o.state is not null then 3
      else 1 end)]
    from apps a
    left join release_bags p on p.app_id = a.id and p.release = a.release and p.secret_id = bag
    left join rollouts o on o.app_id = a.id and o.finished_at is null
    where a.id in (select app_id from secret_uses where secret_id = bag union select app_id from secret_links where secret_id = bag)
  ), 'redeploy_needed');
end $$;

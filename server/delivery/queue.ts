import type { RolloutState } from '@1ctl/contract/rollouts'
import type { ServiceReceipt } from '../apps/apps.ts'
import type { FrozenService } from '../apps/releases.ts'
import { type Database, execute, rows, statement } from '../store/database.ts'
import type { AppAt, BagObject } from './desired.ts'

/**
 * Which apps are due, and who works on them. A claim is a lease: what a server that died had claimed is free again after a while. Nothing here
 * is held during a call to the cluster.
 */

export const leaseSeconds = 30

/** An app as it should be, with its open rollout. */
export type DueApp = AppAt & {
  claim: Claim
  tries: number
  release: number
  liveRelease: number | null
  services: FrozenService[]
  serving: Record<string, number>
  bags: Omit<BagObject, 'object'>[]
  rollout: OpenRollout | null
}
/** `due`: as it was when claimed; `until`: by our clock, moved on by renewals. */
export type Claim = { id: string; due: string; until: number }
export type OpenRollout = {
  id: string
  release: number
  previous: number | null
  state: RolloutState
  onFailure: 'rollback' | 'keep'
  services: ServiceReceipt[]
  message: string | null
}

const claim = statement<Omit<Claim, 'until'>>(
  'delivery.claim',
  `update apps set claimed_by = $1, claimed_until = now() + interval '${leaseSeconds} seconds'
   where id in (
     select id from apps where due_at <= now() and (claimed_until is null or claimed_until < now())
     order by due_at limit $2 for no key update skip locked)
   returning id, due_at as due`,
)
export async function claimDue(db: Database, me: string, count: number): Promise<Claim[]> {
  // From before it was asked for: ours must not be the longer one.
  const until = leaseEnd()
  return (await rows(db, claim, [me, count])).map((row) => ({ ...row, until }))
}
const leaseEnd = () => Date.now() + leaseSeconds * 1000

const load = statement<Omit<DueApp, 'claim'>>(
  'delivery.load',
  `select a.id, a.name, a.organization_id as "organizationId", a.vpc_id as "vpcId", v.namespace, a.tries, a.release,
     a.live_release as "liveRelease", a.serving, r.services,
     (select coalesce(json_agg(json_build_object('id', s.id, 'name', s.name, 'version', b.version,
        'scope', case when s.app is not null then 'app' when s.vpc_id is not null then 'vpc' else 'org' end,
        'fingerprint', left(encode(sha256(convert_to(coalesce((
           select string_agg(x.key || ' ' || encode(x.fingerprint, 'hex'), ',' order by x.key collate "C") from secret_values x
           where x.secret_id = s.id and x.version <= b.version and (x.until is null or x.until > b.version)), '')
           || s.id::text, 'UTF8')), 'hex'), 32))), '[]')
      from release_bags b join secrets s on s.id = b.secret_id where b.app_id = a.id and b.release = a.release) as bags,
     (select json_build_object('id', o.id, 'release', o.release, 'previous', o.previous_release, 'state', o.state,
        'onFailure', o.on_failure, 'services', o.services, 'message', o.message)
      from rollouts o where o.app_id = a.id and o.finished_at is null) as rollout
   from apps a join vpcs v on v.id = a.vpc_id left join releases r on r.app_id = a.id and r.number = a.release
   where a.id = any($1) and a.claimed_by = $2`,
)
/** As they are now: after the claim, so that whatever changes later finds them due again. */
export async function loadClaimed(db: Database, me: string, claims: Claim[]): Promise<DueApp[]> {
  const found = new Map((await rows(db, load, [claims.map(({ id }) => id), me])).map((app) => [app.id, app]))
  return claims.flatMap((claim) => {
    const app = found.get(claim.id)
    return app ? [{ ...app, services: app.services ?? [], claim }] : []
  })
}

// Made due again while we worked on it: it stays so, and its back-off begins anew.
const release = statement(
  'delivery.release',
  `update apps set claimed_by = null, claimed_until = null,
     tries = case when due_at is distinct from $3::timestamptz then 0 else $5 end,
     due_at = case when due_at is distinct from $3::timestamptz then due_at else now() + $4::int * interval '1 millisecond' end
   where id = $1 and claimed_by = $2`,
)
/** `nextMs`: when to look again if nothing happens; null: not by time. */
export const releaseClaim = (
  db: Database,
  me: string,
  { claim: { id, due } }: Pick<DueApp, 'claim'>,
  nextMs: number | null,
  tries: number,
) => execute(db, release, [id, me, due, nextMs, tries])

const renew = statement<{ id: string }>(
  'delivery.renew',
  `update apps set claimed_until = now() + interval '${leaseSeconds} seconds'
   where id in (select id from apps where id = any($1) and claimed_by = $2 for no key update skip locked)
   returning id`,
)
export async function renewClaims(db: Database, me: string, claims: Claim[]): Promise<void> {
  const until = leaseEnd()
  const renewed = new Set((await rows(db, renew, [claims.map(({ id }) => id), me])).map(({ id }) => id))
  for (const claim of claims) if (renewed.has(claim.id)) claim.until = until
}

// In the order in which all who lock several apps lock them.
const mark = statement(
  'delivery.mark',
  `with want as (select v.id, w.app from unnest($1::text[], $2::text[]) as w (namespace, app) join vpcs v on v.namespace = w.namespace),
     ids as (
       select a.id from want w join apps a on a.vpc_id = w.id and a.name = w.app
       union select a.id from want w join apps a on a.vpc_id = w.id where w.app = '')
   update apps set due_at = now()
   where id in (
     select a.id from apps a where a.id in (select id from ids) and a.release is not null order by a.id for no key update)`,
)
export const markDue = (db: Database, places: { namespace: string; app: string }[]) =>
  execute(db, mark, [places.map(({ namespace }) => namespace), places.map(({ app }) => app)])

const lockedInOrder = (condition: string) =>
  `update apps set due_at = now() where id in (select id from apps a where ${condition} order by id for no key update) returning id`
const markAll = statement<{ id: string }>('delivery.markAll', lockedInOrder('release is not null'))
export const markAllDue = async (db: Database) => idsIn(await rows(db, markAll))

const all = statement<{ id: string }>('delivery.apps', 'select id from apps')
export const idsOfApps = async (db: Database) => idsIn(await rows(db, all))
const idsIn = (found: { id: string }[]) => new Set(found.map(({ id }) => id))

const markWaiting = statement<{ id: string }>(
  'delivery.markWaiting',
  lockedInOrder(
    `release is not null and (due_at > now() or exists (select from rollouts o where o.app_id = a.id and o.finished_at is null))`,
  ),
)
/** Those whose back-off can end, because something happened that they may have waited for. */
export const markWaitingDue = (db: Database) => execute(db, markWaiting)

const due = statement<{ count: number }>('delivery.due', 'select count(*) as count from apps where due_at <= now()')
export const countDue = async (db: Database) => (await rows(db, due))[0]?.count ?? 0

import { encodeId } from '@1ctl/contract/ids'
import { limits } from '@1ctl/contract/limits'
import type { RolloutState } from '@1ctl/contract/rollouts'
import { actorOf } from '../audit/append.ts'
import type { Caller } from '../context.ts'
import { Refusal } from '../refusal.ts'
import { type Database, execute, rfc3339, row, rows, statement, type Tx } from '../store/database.ts'
import { uuidv7 } from '../store/uuid.ts'
import {
  type EffectiveService,
  effectiveServices,
  type Inputs,
  type PinnedBag,
  type Spec,
  type Workload,
} from './effective.ts'

/**
 * Releases: what an app's pods are told to run, frozen and pinned to versions of bags, so that nothing saved later reaches a pod by
 * accident. Whoever makes one holds the organization's lock (`lockOrganization`): all that decides what pods run is decided in turn.
 */

export type AppRow = {
  id: string
  organization_id: string
  vpc_id: string
  vpc: string
  name: string
  spec: Spec
  release: number | null
  live_release: number | null
  staged: boolean
  on_failure: 'rollback' | 'keep'
}

/** A service as it is frozen: which variable comes from where. `secret` is a bag's id, its version that of the release. */
export type FrozenService = Workload & {
  name: string
  image: string
  replicas: number
  security: 'baseline' | 'restricted'
  env: ({ name: string; value: string } | { name: string; secret: string; key: string })[]
  files: { secret: string; key: string }[]
  /** another value starts the pods anew though nothing else changed */
  restart?: number
}

const freeze = ({ name, workload, variables, files }: EffectiveService): FrozenService => ({
  name,
  ...workload,
  env: variables.map(({ name, value, bag, key }) =>
    bag && key !== null ? { name, secret: bag.id, key } : { name, value: value ?? '' },
  ),
  files: files.map(({ bag, key }) => ({ secret: bag.id, key })),
})

/**
 * Which versions of its bags a release takes: those of now, or those of the release before but for some bags (their version of now, or the one
 * that is said), or those of an earlier release. A bag that is new in it comes with its version of now.
 */
export type Pins =
  | 'current'
  | { current: string[] }
  | { exactly: { id: string; version: number } }
  | { release: number }

export type Making = {
  cause: string
  note?: string | undefined
  pins: Pins
  inputs: Inputs
  /** start the pods anew though nothing else changed */
  restart?: boolean
  onFailure?: 'rollback' | 'keep' | undefined
  waveId?: string | null
  /** only compute what it would be */
  isDry?: boolean
}

export type Rollout = {
  id: string
  app_id: string
  app: string
  vpc: string
  release: number
  state: RolloutState
  cause: string
  created_at: string
  created_by: string
  finished_at: string | null
}

export const presentRollout = (rollout: Rollout) => ({
  id: encodeId('rollout', rollout.id),
  app: rollout.app,
  appId: encodeId('app', rollout.app_id),
  vpc: rollout.vpc,
  release: rollout.release,
  state: rollout.state,
  cause: rollout.cause,
  createdAt: rfc3339(rollout.created_at),
  createdBy: rollout.created_by,
  finishedAt: rollout.finished_at && rfc3339(rollout.finished_at),
})

type ReleaseRow = { number: number; inputs: Inputs; services: FrozenService[]; pins: Record<string, number> }
const releaseByNumber = statement<ReleaseRow>(
  'releases.byNumber',
  `select number, inputs, services,
     (select coalesce(json_object_agg(secret_id, version), '{}') from release_bags b where b.app_id = r.app_id and b.release = r.number) as pins
   from releases r where app_id = $1 and number = $2`,
)
export const releaseOf = async (tx: Tx, app: Pick<AppRow, 'id'>, number: number | null) =>
  number === null ? undefined : row(tx, releaseByNumber, [app.id, number])

/** Makes a release and its rollout, or nothing if the pods are told nothing new. */
export async function makeRelease(tx: Tx, by: Caller | null, app: AppRow, making: Making) {
  const before = await releaseOf(tx, app, app.release)
  const bags = await pinnedBags(tx, app, making, before)
  const effective = effectiveServices(app.name, making.inputs, bags)
  const restart = making.restart ? (app.release ?? 0) : before?.services[0]?.restart
  const services = effective.map((service) => ({ ...freeze(service), ...(restart === undefined ? {} : { restart }) }))
  const pins = Object.fromEntries([...bags.values()].map(({ id, version }) => [id, version]))
  if (making.isDry) return { number: app.release, rollout: null, effective }
  const isSame =
    before !== undefined &&
    isEqual(before.services, services) &&
    isEqual(before.pins, pins) &&
    (app.live_release === app.release || (await row(tx, underWay, [app.id])) !== undefined)
  if (isSame) return { number: before.number, rollout: null, effective }

  const number = (await row(tx, nextNumber, [app.id]))?.number ?? 1
  const who = by ? actorOf(by).name : '1ctl'
  const rolloutId = uuidv7()
  const onFailure = making.onFailure ?? app.on_failure
  const sent = [
    execute(tx, insertRelease, [
      app.id,
      number,
      JSON.stringify(making.inputs),
      JSON.stringify(services),
      making.cause,
      making.note ?? null,
      who,
      Object.keys(pins),
      Object.values(pins),
    ]),
    execute(tx, supersede, [app.id, rolloutId]),
    row(tx, insertRollout, [
      rolloutId,
      app.organization_id,
      app.id,
      number,
      app.live_release,
      making.cause,
      onFailure,
      making.waveId ?? null,
      who,
    ]),
    execute(tx, pointTo, [app.id, number, who, onFailure]),
    execute(tx, forget, [app.id, number]),
  ] as const
  const [, , inserted] = await Promise.all(sent)
  if (!inserted) throw new Error('releases.insertRollout returned no row')
  const rollout: Rollout = {
    id: rolloutId,
    app_id: app.id,
    app: app.name,
    vpc: app.vpc,
    release: number,
    state: 'stored',
    cause: making.cause,
    created_at: inserted.created_at,
    created_by: who,
    finished_at: null,
  }
  return { number, rollout, effective }
}

// A release that failed, or was never delivered, is worth another try.
const underWay = statement<object>(
  'releases.underWay',
  'select from rollouts where app_id = $1 and finished_at is null',
)

/** The same text for the same content. */
export const canonical = (value: unknown) => JSON.stringify(sorted(value))
const isEqual = (one: unknown, other: unknown) => canonical(one) === canonical(other)
/** PostgreSQL's jsonb keeps names in an order of its own. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).filter(([, inner]) => inner !== undefined)
  return entries.sort(([one], [other]) => (one < other ? -1 : 1)).map(([name, inner]) => [name, sorted(inner)])
}

const nextNumber = statement<{ number: number }>(
  'releases.nextNumber',
  'select coalesce(max(number), 0) + 1 as number from releases where app_id = $1',
)
const insertRelease = statement(
  'releases.insert',
  `with release as (
     insert into releases (app_id, number, inputs, services, cause, note, created_by) values ($1, $2, $3, $4, $5, $6, $7)
     returning app_id, number)
   insert into release_bags (app_id, release, secret_id, version)
   select app_id, number, id, version from release, unnest($8::uuid[], $9::int[]) as pin (id, version)`,
)
// Whoever waits for the old receipt sees at once that another took its place.
const supersede = statement(
  'releases.supersede',
  `update rollouts set state = 'superseded', superseded_by = $2, finished_at = now(), revision = revision + 1,
     steps = steps || jsonb_build_array(jsonb_build_object('state', 'superseded', 'at', now()))
   where app_id = $1 and finished_at is null`,
)
const insertRollout = statement<{ created_at: string }>(
  'releases.insertRollout',
  `insert into rollouts (id, organization_id, app_id, release, previous_release, state, steps, cause, on_failure, wave_id, created_by)
   values ($1, $2, $3, $4, $5, 'stored', jsonb_build_array(jsonb_build_object('state', 'stored', 'at', now())), $6, $7, $8, $9)
   returning created_at`,
)
const pointTo = statement(
  'releases.pointTo',
  `update apps set release = $2, due_at = now(), tries = 0, updated_at = now(), updated_by = $3, on_failure = $4 where id = $1`,
)
// Not the one that is live, however old.
const forget = statement(
  'releases.forget',
  `delete from releases r using apps a
   where r.app_id = $1 and a.id = $1 and r.number <= $2 - ${limits.releasesKept} and r.number is distinct from a.live_release`,
)

const current = statement<PinnedBag>(
  'releases.currentBags',
  `select id, name, case when app is not null then 'app' when vpc_id is not null then 'vpc' else 'org' end as scope, version, keys
   from secrets where id = any($1) order by id for no key update`,
)
const unlocked = statement<PinnedBag>('releases.bagsOfNow', current.text.replace(/ order by.*/, ''))
/** To look at. */
export async function bagsOfNow(db: Database, inputs: Inputs): Promise<Map<string, PinnedBag>> {
  const found = await rows(db, unlocked, [bagIdsOf(inputs)])
  return new Map(found.map((bag) => [bag.id, bag]))
}
const bagIdsOf = ({ uses, links }: Inputs) => [...new Set([...uses, ...links].map(({ secret }) => secret))].sort()

const atVersion = statement<PinnedBag>(
  'releases.bagsAt',
  `select s.id, s.name, case when s.app is not null then 'app' when s.vpc_id is not null then 'vpc' else 'org' end as scope, at.version,
     array(select v.key from secret_values v
           where v.secret_id = s.id and v.version <= at.version and (v.until is null or v.until > at.version) order by v.key) as keys
   from unnest($1::uuid[], $2::int[]) as at (id, version) join secrets s on s.id = at.id`,
)
async function pinnedBags(tx: Tx, app: AppRow, { pins, inputs }: Making, before: ReleaseRow | undefined) {
  const ids = bagIdsOf(inputs)
  const kept: Record<string, number> = {
    ...(pins === 'current' ? {} : 'release' in pins ? (await releaseOf(tx, app, pins.release))?.pins : before?.pins),
  }
  if (pins !== 'current' && 'exactly' in pins) kept[pins.exactly.id] = pins.exactly.version
  const fresh = pins !== 'current' && 'current' in pins ? pins.current : []
  const old = ids.filter((id) => Object.hasOwn(kept, id) && !fresh.includes(id))
  const [now, then] = await Promise.all([
    rows(tx, current, [ids.filter((id) => !old.includes(id))]),
    rows(tx, atVersion, [old, old.map((id) => kept[id])]),
  ])
  const bags = new Map([...now, ...then].map((bag) => [bag.id, bag]))
  const gone = ids.filter((id) => !bags.has(id))
  if (gone.length > 0)
    throw new Refusal('release_incomplete', `A secret of this release of "${app.name}" has been deleted since.`, {
      hint: 'Choose a later release, or deploy anew.',
    })
  return bags
}

const declared = {
  variables: statement<Inputs['variables'][0]>(
    'releases.variables',
    'select service, variable, value from app_env where app_id = $1 order by service, variable',
  ),
  links: statement<Inputs['links'][0]>(
    'releases.links',
    'select service, variable, secret_id as secret, key from secret_links where app_id = $1 order by service, variable',
  ),
  uses: statement<Inputs['uses'][0]>(
    'releases.uses',
    'select service, mode, secret_id as secret from secret_uses where app_id = $1 order by service, mode, position, secret_id',
  ),
}
/** What is declared now. */
export async function inputsOf(tx: Tx | Database, app: AppRow): Promise<Inputs> {
  const [variables, links, uses] = await Promise.all([
    rows(tx, declared.variables, [app.id]),
    rows(tx, declared.links, [app.id]),
    rows(tx, declared.uses, [app.id]),
  ])
  return { spec: app.spec, variables, links, uses }
}

// A bag of a narrower scope that came later takes the place of its namesake, whole; a link stays where its key is.
const repoint = statement(
  'releases.repoint',
  `with best as (
     select u.secret_id as old, (
       select s.id from secrets s, secrets mine
       where mine.id = u.secret_id and s.organization_id = mine.organization_id and s.name = mine.name
         and (s.vpc_id is null or (s.vpc_id = a.vpc_id and (s.app is null or s.app = a.name)))
       order by s.app is not null desc, s.vpc_id is not null desc limit 1) as new
     from (select distinct secret_id from secret_uses where app_id = $1 union select distinct secret_id from secret_links where app_id = $1) u,
       apps a where a.id = $1),
   linked as (
     update secret_links l set secret_id = best.new from best
     where l.app_id = $1 and l.secret_id = best.old and best.new <> best.old
       and exists (select from secret_keys k where k.secret_id = best.new and k.key = l.key)),
   twice as (
     delete from secret_uses u using best where u.app_id = $1 and u.secret_id = best.old and best.new <> best.old
       and exists (select from secret_uses o where (o.app_id, o.service, o.mode, o.secret_id) = (u.app_id, u.service, u.mode, best.new)))
   update secret_uses u set secret_id = best.new from best
   where u.app_id = $1 and u.secret_id = best.old and best.new <> best.old
     and not exists (select from secret_uses o where (o.app_id, o.service, o.mode, o.secret_id) = (u.app_id, u.service, u.mode, best.new))`,
)
/** Bags named by what is declared, as their scopes are now. */
export const repointBags = (tx: Tx, app: Pick<AppRow, 'id'>) => execute(tx, repoint, [app.id])

const staged = statement<{ is: boolean }>(
  'releases.staged',
  `select exists (
     select from release_bags b join secrets s on s.id = b.secret_id
     where b.app_id = $1 and b.release = $2 and b.version <> s.version) as is`,
)
const markStaged = statement('releases.markStaged', 'update apps set staged = $2 where id = $1')
/** Of bags the order decides who wins, of variables it does not. */
const inAnyOrder = ({ variables, links, ...inputs }: Inputs) => ({
  ...inputs,
  variables: variables.map(canonical).toSorted(),
  links: links.map(canonical).toSorted(),
})

/** Notes whether a release made of what is declared now would tell the pods something new. */
export async function noteStaged(tx: Tx, app: AppRow, release: number | null): Promise<boolean> {
  const made = await releaseOf(tx, app, release)
  const inputs = await inputsOf(tx, app)
  const isStaged =
    !made ||
    !isEqual(inAnyOrder(made.inputs), inAnyOrder(inputs)) ||
    ((await row(tx, staged, [app.id, release]))?.is ?? false)
  await execute(tx, markStaged, [app.id, isStaged])
  return isStaged
}

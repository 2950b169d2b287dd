import { encodeId } from '@1ctl/contract/ids'
import type { RolloutChoice } from '@1ctl/contract/rollouts'
import { actorOf } from '../audit/append.ts'
import type { Caller } from '../context.ts'
import { execute, rows, statement, type Tx } from '../store/database.ts'
import { uuidv7 } from '../store/uuid.ts'
import { type App, appsById } from './apps.ts'
import type { Inputs } from './effective.ts'
import {
  canonical,
  inputsOf,
  makeRelease,
  noteStaged,
  presentRollout,
  type Rollout,
  releaseOf,
  repointBags,
} from './releases.ts'

/** A bag that has just got another version, in the same transaction. */
export type ChangedBag = { id: string; name: string; version: number; scope: 'org' | 'vpc' | 'app' }

export type Followed = {
  rollouts: ReturnType<typeof presentRollout>[]
  wave: string | null
  stale: { app: string; appId: string; vpc: string }[]
}
export const nothingFollows: Followed = { rollouts: [], wave: null, stale: [] }

/**
 * What it means for the apps that use a bag. One of an app rolls out at once, unless it is staged; a shared one is staged, unless it is to be
 * rolled out: then one app comes first, and the others follow when its pods have taken it (waves). Under the organization's lock.
 */
export async function followBag(
  tx: Tx,
  by: Caller,
  bag: ChangedBag,
  choice: RolloutChoice = bag.scope === 'app' ? 'now' : 'stage',
): Promise<Followed> {
  const ids = (await rows(tx, users, [bag.id])).map(({ app_id }) => app_id)
  for (const id of ids) await repointBags(tx, { id })
  const apps = (await appsById(tx, ids)).filter(({ release }) => release !== null)
  // What is in a protected VPC is changed by admins alone.
  const mayChange = (app: App) => choice !== 'stage' && (!app.protected || by.permissions.has('admin'))
  const [first, ...rest] = apps.filter(mayChange)
  const waveId = rest.length > 0 ? uuidv7() : null
  if (first && waveId) await execute(tx, insertWave, waveValues(waveId, by, bag, choice, [first, ...rest]))
  const rollout = first ? await rollOutBag(tx, by, first, bag, waveId) : null
  const stale = apps.filter((app) => app !== first)
  for (const app of stale) {
    // What no release could be made of is refused now, and not when it is rolled out.
    await makeBagRelease(tx, by, app, bag, { isDry: true })
    await noteStaged(tx, app, app.release)
  }
  return {
    rollouts: rollout ? [presentRollout(rollout)] : [],
    wave: waveId && encodeId('wave', waveId),
    stale: stale.map(present),
  }
}

const present = ({ id, name, vpc }: App) => ({ app: name, appId: encodeId('app', id), vpc })

/** An app's release of before with this version of the bag; whatever else is staged stays so. */
export async function rollOutBag(
  tx: Tx,
  by: Caller | null,
  app: App,
  bag: Pick<ChangedBag, 'id' | 'name' | 'version'>,
  waveId: string | null,
): Promise<Rollout | null> {
  const { number, rollout } = await makeBagRelease(tx, by, app, bag, { waveId })
  if (rollout && waveId) await execute(tx, noteWave, [waveId, app.id, rollout.id])
  await noteStaged(tx, app, number)
  return rollout
}

async function makeBagRelease(
  tx: Tx,
  by: Caller | null,
  app: App,
  bag: Pick<ChangedBag, 'id' | 'name' | 'version'>,
  how: { waveId?: string | null; isDry?: boolean },
) {
  const released = await releaseOf(tx, app, app.release)
  const now = await inputsOf(tx, app)
  const namesakes = (await rows(tx, namesakesOf, [bag.id])).map(({ id }) => id)
  return makeRelease(tx, by, app, {
    cause: `secret ${bag.name} v${bag.version}`,
    pins: { exactly: { id: bag.id, version: bag.version } },
    inputs: released ? withBag(released.inputs, now, bag.id, namesakes) : now,
    ...how,
  })
}

/** As released, but the references to this bag as they are now: it may have just been attached, or have taken a namesake's place. */
function withBag(released: Inputs, now: Inputs, bag: string, namesakes: string[]): Inputs {
  const merge = <Row extends { secret: string }>(before: Row[], after: Row[]) => {
    const released = new Set(before.map((row) => canonical(row)))
    const present = new Set(after.map((row) => canonical(row)))
    // In the order of now, which decides who wins.
    return [
      ...after.filter((row) => row.secret === bag || released.has(canonical(row))),
      ...before.filter((row) => !present.has(canonical(row)) && !namesakes.includes(row.secret)),
    ]
  }
  return { ...released, uses: merge(released.uses, now.uses), links: merge(released.links, now.links) }
}
const namesakesOf = statement<{ id: string }>(
  'follow.namesakes',
  `select n.id from secrets s join secrets n on n.organization_id = s.organization_id and n.name = s.name where s.id = $1`,
)

// Those that do not run its version of now, and refer to the bag itself or to a namesake of a wider scope that it may have just put in the shade.
const users = statement<{ app_id: string }>(
  'follow.users',
  `select distinct r.app_id
   from secrets s
   join secrets namesake on namesake.organization_id = s.organization_id and namesake.name = s.name
   join (select app_id, secret_id from secret_uses union select app_id, secret_id from secret_links) r on r.secret_id = namesake.id
   join apps a on a.id = r.app_id
   where s.id = $1 and not exists (
       select from release_bags b where b.app_id = a.id and b.release = a.release and b.secret_id = s.id and b.version = s.version)
     and (s.vpc_id is null or (s.vpc_id = a.vpc_id and (s.app is null or s.app = a.name)))
     and (namesake.id = s.id
       or (s.app is not null and namesake.app is null) or (s.vpc_id is not null and namesake.vpc_id is null))
   order by r.app_id`,
)

const insertWave = statement(
  'follow.insertWave',
  `with older as (
     update waves set state = 'aborted', message = 'a newer version took its place'
     where secret_id = $3 and state in ('running', 'stopped')),
   wave as (
     insert into waves (id, organization_id, secret_id, secret, version, state, size, created_by)
     values ($1, $2, $3, $4, $5, 'running', $6, $7) returning id)
   insert into wave_apps (wave_id, app_id, position) select wave.id, app.id, at from wave, unnest($8::uuid[]) with ordinality as app (id, at)`,
)
const noteWave = statement('follow.noteWave', 'update wave_apps set rollout_id = $3 where wave_id = $1 and app_id = $2')

const sizeDefault = 5
function waveValues(waveId: string, by: Caller, bag: ChangedBag, choice: RolloutChoice, apps: App[]): unknown[] {
  const size = typeof choice === 'object' ? (choice.waves.size ?? sizeDefault) : sizeDefault
  const ids = apps.map(({ id }) => id)
  return [waveId, apps[0]?.organization_id, bag.id, bag.name, bag.version, size, actorOf(by).name, ids]
}

import { isFinal, type RolloutState } from '@1ctl/contract/rollouts'
import { startWaveRollouts } from '../apps/waves.ts'
import type { Platform } from '../context.ts'
import { type Database, execute, row, rows, statement, type Tx, transaction } from '../store/database.ts'

/** Waves: a shared secret on its way through the apps that use it. One first; when its pods have taken it, `size` at a time; until one fails. */

type WaveApp = {
  app_id: string
  app: string
  vpc: string
  started: boolean
  state: RolloutState | null
  message: string | null
}
type Wave = { id: string; organization_id: string; size: number; apps: WaveApp[] }

const running = statement<{ id: string }>(
  'waves.allRunning',
  `select id from waves where state = 'running' order by id`,
)
const find = statement<Wave>(
  'waves.whole',
  `select w.id, w.organization_id, w.size, (
     select coalesce(json_agg(json_build_object('app_id', a.id, 'app', a.name, 'vpc', v.name, 'started', wa.rollout_id is not null,
       'state', o.state, 'message', o.message) order by wa.position), '[]')
     from wave_apps wa join apps a on a.id = wa.app_id join vpcs v on v.id = a.vpc_id left join rollouts o on o.id = wa.rollout_id
     where wa.wave_id = w.id) as apps
   from waves w where w.id = $1 and w.state = 'running'`,
)
// One server at a time moves a wave on. Not a row's lock: whoever starts the next app takes that.
const alone = statement<{ is: boolean }>(
  'waves.alone',
  `select pg_try_advisory_xact_lock(hashtextextended('wave ' || $1, 0)) as is`,
)
const over = statement('waves.over', `update waves set state = $2, message = $3 where id = $1 and state = 'running'`)

export async function moveWaves(platform: Platform): Promise<void> {
  for (const { id } of await rows(platform.db, running))
    await transaction(platform.db, (tx) => moveWave(platform, tx, id))
}

async function moveWave(platform: Platform, tx: Tx, id: string): Promise<void> {
  if (!(await row(tx, alone, [id]))?.is) return
  const wave = await row(tx, find, [id])
  if (!wave) return
  const next = nextOf(wave)
  if ('apps' in next) {
    if (next.apps.length > 0) await startWaveRollouts(platform, wave.organization_id, id, next.apps)
  } else await end(platform, platform.db, wave, next)
}

async function end({ announcer }: Platform, db: Database, wave: Wave, { state, message }: Ending): Promise<void> {
  if ((await execute(db, over, [wave.id, state, message])) > 0) announcer.announce(wave.organization_id, 'wave')
}

type Ending = { state: 'stopped' | 'done'; message: string | null }

/** What happens next: pure. */
export function nextOf({ size, apps }: Pick<Wave, 'size' | 'apps'>): { apps: string[] } | Ending {
  const failed = apps.find(({ state }) => state === 'failed' || state === 'rolled_back')
  if (failed)
    return {
      state: 'stopped',
      message: `${failed.app} (${failed.vpc}): ${failed.message ?? 'its pods did not take it'}`,
    }
  const waiting = apps.filter(({ started }) => !started)
  const open = apps.filter(({ started, state }) => started && state !== null && !isFinal(state))
  if (waiting.length === 0 && open.length === 0) return { state: 'done', message: null }
  // Until one has shown that it can live with it. One that was superseded has shown nothing.
  const atOnce = apps.some(({ state }) => state === 'live') ? size : 1
  return { apps: waiting.slice(0, Math.max(0, atOnce - open.length)).map(({ app_id }) => app_id) }
}

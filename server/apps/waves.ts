import { appendEvents, system } from '../audit/append.ts'
import type { Platform } from '../context.ts'
import { lockOrganization } from '../identity/organizations.ts'
import { Refusal } from '../refusal.ts'
import { execute, row, statement, type Tx, transaction } from '../store/database.ts'
import { appsById } from './apps.ts'
import { rollOutBag } from './follow.ts'

type WaveRow = { secret_id: string | null; secret: string; version: number }
const running = statement<WaveRow>(
  'waves.running',
  `select secret_id, secret, version from waves where id = $1 and state = 'running' for update`,
)
const skip = statement('waves.skip', 'delete from wave_apps where wave_id = $1 and app_id = any($2)')

/** The next apps of a wave, called by the delivery loop when their turn has come. One that runs the version already leaves the wave. */
export async function startWaveRollouts(
  { db, announcer }: Pick<Platform, 'db' | 'announcer'>,
  organization: string,
  waveId: string,
  appIds: string[],
): Promise<void> {
  try {
    await transaction(db, (tx) => startNext(tx, organization, waveId, appIds))
  } catch (error) {
    // No release can be made of it for one of them: the wave waits for people, and holds up no other.
    if (!(error instanceof Refusal)) throw error
    await execute(db, stop, [waveId, error.message])
    announcer.announce(organization, 'wave')
  }
  announcer.announce(organization, 'rollout')
}

const stop = statement(
  'waves.stop',
  `update waves set state = 'stopped', message = $2 where id = $1 and state = 'running'`,
)

async function startNext(tx: Tx, organization: string, waveId: string, appIds: string[]): Promise<void> {
  await lockOrganization(tx, organization)
  const wave = await row(tx, running, [waveId])
  if (!wave) return
  const { secret_id: id, secret: name, version } = wave
  const apps = id === null ? [] : await appsById(tx, appIds)
  const started = new Set<string>()
  for (const app of apps) {
    const rollout = await rollOutBag(tx, null, app, { id: id ?? '', name, version }, waveId).catch((error: unknown) => {
      throw error instanceof Refusal ? new Refusal(error.code, `${app.name}: ${error.message}`) : error
    })
    if (!rollout) continue
    started.add(app.id)
    const detail = { vpc: app.vpc, secret: name, version, release: rollout.release }
    const object = { type: 'app' as const, id: app.id, name: app.name }
    const entry = { action: 'rollout.start', actor: system, chain: organization, object, detail }
    await appendEvents(tx, { caller: null, request: null }, entry)
  }
  await execute(tx, skip, [waveId, appIds.filter((appId) => !started.has(appId))])
}

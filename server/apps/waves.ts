import { appendEvents, system } from '../audit/append.ts'
import type { Platform } from '../context.ts'
import { lockOrganization } from '../identity/organizations.ts'
import { execute, row, statement, transaction } from '../store/database.ts'
import { appsById } from './apps.ts'
import { rollOutBag } from './follow.ts'

type WaveRow = { secret_id: string | null; secret: string; version: number | null }
const running = statement<WaveRow>(
  'waves.running',
  `select w.secret_id, w.secret, s.version
   from waves w left join secrets s on s.id = w.secret_id where w.id = $1 and w.state = 'running' for update of w`,
)
const skip = statement('waves.skip', 'delete from wave_apps where wave_id = $1 and app_id = $2')

/** The next app of a wave, called by the delivery loop when its turn has come. An app that runs the version already leaves the wave. */
export async function startWaveRollout(
  { db, announcer }: Pick<Platform, 'db' | 'announcer'>,
  organization: string,
  waveId: string,
  appId: string,
): Promise<void> {
  await transaction(db, async (tx) => {
    await lockOrganization(tx, organization)
    const wave = await row(tx, running, [waveId])
    if (!wave) return
    const [app] = await appsById(tx, [appId])
    const { secret_id: id, secret: name, version } = wave
    const rollout =
      app && id !== null && version !== null && (await rollOutBag(tx, null, app, { id, name, version }, waveId))
    if (!app || !rollout) {
      await execute(tx, skip, [waveId, appId])
      return
    }
    const detail = { vpc: app.vpc, secret: name, version, release: rollout.release }
    const object = { type: 'app' as const, id: app.id, name: app.name }
    const entry = { action: 'rollout.start', actor: system, chain: organization, object, detail }
    await appendEvents(tx, { caller: null, request: null }, entry)
  })
  announcer.announce(organization, 'rollout')
}

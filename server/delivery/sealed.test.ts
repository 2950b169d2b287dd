import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { unseal } from '../testing/shares.ts'
import { deployed, embeddedPlace, eventually, receipt, startDelivering } from './testing.ts'

const namespace = 'main--default'

test('sealed, what needs values waits and says so, the rest goes on; unsealed, it is delivered', async () => {
  const folder = mkdtempSync(join(tmpdir(), '1ctl-test-'))
  const place = await embeddedPlace()
  const sharesFile = join(folder, 'shares')
  const server = await startDelivering(place, { seal: { source: 'manual', shares: 1, threshold: 1, sharesFile } })
  const shares = readFileSync(sharesFile, 'utf8').trim().split('\n')
  try {
    await unseal(server, shares)
    await server.client().secretPut({ name: 'creds', data: { KEY: 'canary-value' } })
    await deployed(server, { name: 'api', image: 'acme/api:1', port: 80, envFrom: ['creds'] })
    const { rollout } = await server.client().deploy({ name: 'next', image: 'acme/crash:1' })
    await receipt(server, rollout!.id)

    const sealed = await server.call('/admin/seal', { as: { token: server.token }, body: {} })
    expect(sealed.status, sealed.text).toBe(200)
    // Needs no value.
    const before = await place.kubernetes.get('Service', { namespace, name: 'api' })
    await place.kubernetes.delete('Service', { namespace, name: 'api' })
    await eventually(async () => {
      const again = await place.kubernetes.get('Service', { namespace, name: 'api' }).catch(() => undefined)
      return again && again.metadata.uid !== before.metadata.uid
    })
    // Does: a rollout that was saved before, and one of values that are in the cluster no more.
    await place.kubernetes.delete('Secret', { namespace, name: 'org.creds.v1' })
    await server.db.query(`update rollouts set state = 'stored', finished_at = null where release = 1
      and app_id = (select id from apps where name = 'api')`)
    const { id } = await eventually(async () => {
      await server.db.query('update apps set due_at = now()')
      const { items } = await server.client().rolloutList({ app: 'api' })
      return items[0]?.state === 'pending' && items[0]
    })
    const waiting = await server.client().rolloutView({ id })
    expect(waiting.message).toContain('sealed')

    await unseal(server, shares)
    expect(await receipt(server, id)).toMatchObject({ state: 'live' })
    expect((await place.kubernetes.get('Secret', { namespace, name: 'org.creds.v1' })).data).toEqual({
      KEY: Buffer.from('canary-value').toString('base64'),
    })
  } finally {
    await server.close()
    await place.stop()
    rmSync(folder, { recursive: true })
  }
})

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { startTestServer } from '../testing/server.ts'
import { deliver } from './start.ts'
import { deployed, eventually } from './testing.ts'

const undo: (() => unknown)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

async function start(database?: string) {
  const server = await startTestServer(database ? { database } : {})
  const dataDir = mkdtempSync(join(tmpdir(), '1ctl-test-'))
  const said: string[] = []
  const stop = await deliver(
    server.platform,
    server.metrics.delivery,
    { cluster: { kind: 'embedded' }, dataDir },
    (line) => said.push(line),
  )
  let isStopped = false
  const end = async () => {
    if (isStopped) return
    isStopped = true
    await stop()
    await server.close()
    rmSync(dataDir, { recursive: true })
  }
  undo.push(end)
  return { server, said, end, dataDir }
}

test('of two servers on one database one has the embedded cluster, the other says so and takes over when it ends', async () => {
  const first = await start()
  expect(first.said).toEqual([
    `apps run in the embedded cluster: simulated, no container runs; kubectl --kubeconfig ${first.dataDir}/kubeconfig`,
  ])
  const second = await start(first.server.database)
  expect(second.said.join()).toContain('another server on this database has the embedded cluster')
  const as = { token: first.server.token }
  expect(await deployed(second.server, { name: 'one', image: 'acme/api:1' }, as)).toMatchObject({ state: 'live' })

  await first.end()
  await eventually(async () => second.said.some((line) => line.includes(`--kubeconfig ${second.dataDir}`)))
  expect(await deployed(second.server, { name: 'two', image: 'acme/api:1' }, as)).toMatchObject({ state: 'live' })
})

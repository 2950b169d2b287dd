import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'vitest'
import type { Seal } from '../config.ts'
import { startTestServer, type TestServer } from './server.ts'

/** A server that has just been started for the first time with `--seal manual`, and the shares that were handed out. */
export async function startSealed({
  shares = 5,
  threshold = 3,
} = {}): Promise<TestServer & { seal: Seal; shares: string[] }> {
  const folder = mkdtempSync(join(tmpdir(), '1ctl-test-'))
  const seal: Seal = { source: 'manual', shares, threshold, sharesFile: join(folder, 'shares') }
  const server = await startTestServer({ seal })
  const texts = readFileSync(join(folder, 'shares'), 'utf8').trim().split('\n')
  rmSync(folder, { recursive: true })
  return { ...server, seal, shares: texts }
}

/** Another one, or the same again after a restart. */
export async function startAgain(server: TestServer & { seal: Seal }): Promise<TestServer & { seal: Seal }> {
  const { token } = server
  return { ...(await startTestServer({ seal: server.seal, database: server.database })), token, seal: server.seal }
}

export async function unseal(server: TestServer, shares: string[], as = { token: server.token }): Promise<void> {
  for (const share of shares) {
    const answer = await server.call('/admin/unseal', { as, body: { share } })
    expect(answer.status, answer.text).toBe(200)
  }
  expect(server.platform.keys.sealed).toBe(false)
}

import { isTokenWhole } from '@1ctl/contract/token-format'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { newToken } from '../testing/actors.ts'
import { startTestServer, type TestServer } from '../testing/server.ts'

let server: TestServer
beforeAll(async () => {
  server = await startTestServer()
})
afterAll(() => server.close())

test('a token is answered once, whole, and nothing of it but a hash, the first and the last characters is stored', async () => {
  const { token, id } = await newToken(server)
  expect(token).toMatch(/^sat_[0-9A-Za-z]{32}$/)
  expect(isTokenWhole(token)).toBe(true)
  const view = await server.call(`/tokens/${id}`, { as: { token: server.token } })
  expect(view.text).not.toContain(token)
})

import { decodeId } from '@1ctl/contract/ids'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { newOrganization } from '../testing/actors.ts'
import { startTestServer, type TestServer, testSeal } from '../testing/server.ts'
import { openKeyring } from './boot.ts'

let server: TestServer
beforeAll(async () => {
  server = await startTestServer()
})
afterAll(() => server.close())

const openAnother = () => openKeyring({ db: server.db, log: server.platform.log, seal: testSeal, say: () => undefined })

test('many processes that need the keys of a new organization at once get the same ones', async () => {
  const { id } = await newOrganization(server)
  const organization = decodeId('organization', id) ?? ''
  const keyrings = await Promise.all(Array.from({ length: 10 }, openAnother))
  const keys = await Promise.all(
    keyrings.flatMap((keyring) => [keyring.organization(organization), keyring.organization(organization)]),
  )
  expect(new Set(keys.map(({ current }) => current.id)).size).toBe(1)
  expect(new Set(keys.map(({ current }) => current.key.toString('hex'))).size).toBe(1)
  expect(new Set(keys.map(({ fingerprintKey }) => fingerprintKey.toString('hex'))).size).toBe(1)
  expect(keys[0]?.byId(keys[0].current.id)).toEqual(keys[0]?.current.key)
})

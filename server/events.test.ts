import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { newMember, newOrganization, newToken, signIn } from './testing/actors.ts'
import { type Credential, startTestServer, type TestServer } from './testing/server.ts'

let server: TestServer
beforeAll(async () => {
  server = await startTestServer()
})
afterAll(() => server.close())

/** Connects and collects what is told. */
async function listen(as: Credential, at = server) {
  const stop = new AbortController()
  const headers: Record<string, string> = 'token' in as ? { 'x-satusky-api-key': as.token } : { cookie: as.cookie }
  const answer = await fetch(`${at.apiUrl}/events`, { headers, signal: stop.signal })
  const heard = { text: '', isOver: false, stop: () => stop.abort(), status: answer.status, headers: answer.headers }
  const read = async () => {
    for await (const chunk of answer.body ?? []) heard.text += Buffer.from(chunk).toString()
  }
  void read()
    .catch(() => undefined)
    .finally(() => (heard.isOver = true))
  return heard
}

test('what changes in the organization is told by its kind, to sessions and tokens, and nothing else of it', async () => {
  const viewer = await newMember(server, 'viewer')
  const listeners = [await listen(viewer), await listen({ token: server.token })]
  const other = await newOrganization(server)
  const stranger = await listen({ token: other.token })
  await vi.waitFor(() => expect(stranger.text).toContain('connected'))
  await server.client().secretPut({ name: 'told', data: { KEY: 'a value that is not told' } })
  for (const heard of listeners) {
    await vi.waitFor(() => expect(heard.text).toContain('event: change\ndata: {"noun":"secret"}\n\n'))
    expect(heard.headers.get('content-type')).toBe('text/event-stream; charset=utf-8')
    expect(heard.text).not.toMatch(/told|value/)
    heard.stop()
  }
  expect(stranger.text).not.toContain('secret')
  stranger.stop()
})

test('who may not read, or only part of the organization, hears nothing', async () => {
  expect((await listen(await newToken(server, { apps: ['one'] }))).status).toBe(403)
  expect((await listen({ token: 'sat_nothing' })).status).toBe(403)
})

test('a server that stops ends it at once, and leaves no listener behind', async () => {
  const second = await startTestServer({ database: server.database })
  const owner = await signIn(server, server.email, server.password)
  const heard = await listen(owner, second)
  await vi.waitFor(() => expect(heard.text).toContain('connected'))
  await second.close()
  await vi.waitFor(() => expect(heard.isOver).toBe(true))
})

import { beforeAll, describe, expect, test, vi } from 'vitest'
import { newToken } from '../testing/actors.ts'
import { codeOf } from '../testing/raw.ts'
import { startTestServer, type TestServer } from '../testing/server.ts'
import { deployed, embeddedPlace, startDelivering } from './testing.ts'

let place: Awaited<ReturnType<typeof embeddedPlace>>
let server: TestServer
beforeAll(async () => {
  place = await embeddedPlace()
  server = await startDelivering(place)
  const client = server.client()
  // A simulated container says "started … with n environment variables: …".
  await client.secretPut({ name: 'words', data: { WORD: 'environment' } })
  await client.secretPut({ name: 'old', data: { OLD: 'variables' }, appId: 'api' })
  const services = [{ name: 'web', replicas: 2 }, { name: 'worker' }]
  await deployed(server, { name: 'api', image: 'acme/api:1.0', services, envFrom: ['words', 'old'] })
  return async () => {
    await server.close()
    await place.stop()
  }
})
const as = () => ({ token: server.token })
const logs = (query = '') => server.call(`/apps/api/logs${query}`, { as: as() })

describe('logs', () => {
  test('are lines of all pods behind their names, with values of secrets blotted out', async () => {
    const { status, headers, text } = await logs()
    expect(status).toBe(200)
    expect(headers.get('content-type')).toBe('text/plain; charset=utf-8')
    const lines = text.trim().split('\n')
    for (const line of lines) expect(line).toMatch(/^(?:web\/api--web-\S+|worker\/api--worker-\S+) ./)
    expect(new Set(lines.map((line) => line.split(' ')[0])).size).toBe(3)
    expect(text).toContain('with 2 *** ***: OLD, WORD')
    expect(text).not.toMatch(/environment|variables/)
  })

  test('are of one service, and so many lines, if that is asked for', async () => {
    const { text } = await logs('?service=worker&tail=1')
    expect(text.trim().split('\n')).toEqual([expect.stringMatching(/^worker\//)])
    const unknown = await logs('?service=nothing')
    expect(codeOf(unknown)).toBe('service_not_found')
    expect(unknown.body.error.hint).toContain('web, worker')
    expect(codeOf(await logs('?tail=99999'))).toBe('invalid_query')
  })

  test('still hide a value that pods may run with though it was replaced', async () => {
    await server.client().secretPatch({ ref: 'old', appId: 'api', set: { OLD: 'another' }, rollout: 'stage' })
    expect((await logs()).text).not.toContain('variables')
  })

  test('follow what comes, from pods that come too, until the reader goes', async () => {
    const stop = new AbortController()
    const answer = await fetch(`${server.apiUrl}/apps/api/logs?follow=true&tail=0`, {
      headers: { 'x-satusky-api-key': server.token },
      signal: stop.signal,
    })
    let text = ''
    const reading = (async () => {
      for await (const chunk of answer.body ?? []) text += Buffer.from(chunk).toString()
    })().catch(() => undefined)
    await server.client().appRedeploy({ ref: 'api' })
    await vi.waitFor(() => expect(text).toMatch(/^web\/\S+ .*started/m), { timeout: 15_000 })
    stop.abort()
    await reading
    expect(text).not.toMatch(/environment/)
  })

  test('are not for those who may not see the app', async () => {
    expect(codeOf(await server.call('/apps/api/logs', { as: await newToken(server, { apps: ['other'] }) }))).toBe(
      'app_not_found',
    )
    expect(codeOf(await server.call('/apps/nothing/logs', { as: as() }))).toBe('app_not_found')
  })

  test('of a server that delivers to no cluster, or to one that is away, are refused by a sentence', async () => {
    const other = await startTestServer({ database: server.database })
    expect(codeOf(await other.call('/apps/api/logs', { as: as() }))).toBe('cluster_away')
    await other.close()
    await place.pause()
    expect(codeOf(await logs())).toBe('cluster_away')
    await place.restart()
    await vi.waitFor(async () => expect((await logs()).status).toBe(200), { timeout: 10_000 })
  })
})

import { createHash } from 'node:crypto'
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { contract, type Route } from '@1ctl/contract'
import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest'
import { deployed, embeddedPlace, receipt, startDelivering } from '../server/delivery/testing.ts'
import { newMember, newOrganization, newToken, signIn } from '../server/testing/actors.ts'
import { newApp } from '../server/testing/apps.ts'
import { dump } from '../server/testing/dump.ts'
import { sendRaw } from '../server/testing/raw.ts'
import {
  type Answer,
  type CallInit,
  type Credential,
  startTestServer,
  type TestServer,
} from '../server/testing/server.ts'
import { bytesOf, control, filesIn, hunt, longValue, mark, sent, value } from './hunt.ts'
import { commandNames, driveCommandLine, waysIn } from './hunt-cli.ts'

/**
 * The hunt: marked values are sent through every door that takes one, well and badly, by those who may and by those who may not; then
 * everything that leaves the server or stays behind is searched for the mark. A new endpoint fails here until it is sorted in below.
 */
vi.setConfig({ testTimeout: 120_000 })

const takesValues = ['secretPut', 'secretPatch', 'secretVerify', 'secretDiff']
const movesValues = ['secretRestore', 'secretDeploy']
const takesNone = words(`
  sessionCreate, sessionSwitch, invitationAccept, passwordChange, organizationCreate, organizationPatch, tokenCreate, tokenPatch,
  tokenRotate, memberInvite, memberPatch, vpcCreate, vpcPatch, seal, unseal, masterRotate, masterProve, keysRotate, deploy, appRollback,
  appRedeploy, envPatch, waveResume, waveAbort`)

/** Those that take values are found by the doors in `hunt-cli.ts`. */
const commandsWithoutValues = words(`
  admin prove, admin rekey, admin rotate-master, admin seal, admin status, admin unseal, audit list, audit verify, auth login,
  auth logout, auth status, completion, config show, deploy delete, deploy deploy, deploy env, deploy list, deploy redeploy,
  deploy releases, deploy rollback, deploy status, env attach, env detach, env import, env list, env set, env unset, help, logs, member invite, member list, member remove, member role, org create,
  org delete, org list, org rename, org show, profile create, profile delete, profile list, profile show, profile use,
  secret delete, secret deploy, secret get, secret history, secret keys, secret list, secret unset, secret usage, status, token create,
  token delete, token disable, token enable, token get, token list, token rotate, user sessions list, user sessions revoke,
  vpc create, vpc delete, vpc get, vpc list, vpc protect, vpc unprotect`)

const routes = Object.entries<Route>(contract)
const namesOf = (chosen: [string, Route][]) => chosen.map(([name]) => name).toSorted()

const allAnswers: string[] = []
const visited = new Set<string>()
const rolledOut: string[] = []
// A folder of our own, so that whatever is written to a temporary file is found in it.
const temporary = mkdtempSync(join(tmpdir(), '1ctl-test-'))
const temporaryBefore = process.env.TMPDIR

let place: Awaited<ReturnType<typeof embeddedPlace>>
let server: TestServer
let sealed: TestServer
let owner: Credential
let callers: Record<string, CallInit>
let commandLine: Awaited<ReturnType<typeof driveCommandLine>>

beforeAll(async () => {
  process.env.TMPDIR = temporary
  place = await embeddedPlace()
  server = await startDelivering(place)
  sealed = await startTestServer({ seal: { source: 'manual', shares: 3, threshold: 2, sharesFile: undefined } })
  owner = await signIn(server, server.email, server.password)
  callers = {
    'nobody known': {},
    'a token that never was': { as: { token: `sat_${'0'.repeat(32)}` } },
    'a viewer': { as: await newMember(server, 'viewer') },
    'a token that reads': { as: await newToken(server, { scopes: ['read'] }) },
    'a token of another app': { as: await newToken(server, { apps: ['another'] }) },
    'another tenant': { as: await newOrganization(server) },
    'an owner from a foreign page': { as: owner, headers: { origin: 'https://evil.example' } },
    'an owner': { as: owner },
    'a token': { as: { token: server.token } },
  }
})
afterAll(async () => {
  await Promise.all([server.close(), sealed.close()])
  await place.stop()
  if (temporaryBefore === undefined) delete process.env.TMPDIR
  else process.env.TMPDIR = temporaryBefore
  rmSync(temporary, { recursive: true, force: true })
})

test('every endpoint that changes something is known to take values or not', () => {
  const known = [...takesValues, ...movesValues, ...takesNone].toSorted()
  expect(known).toEqual(namesOf(routes.filter(([, { method }]) => method === 'POST' || method === 'PATCH')))
})

test('every value is sent', async () => {
  const app = await newApp(server, 'web')
  const client = server.client()
  await client.vpcCreate({ name: 'prod' })
  await client.vpcPatch({ name: 'prod', protected: true })

  const statuses = new Set<string>()
  const send = async (path: string, init: CallInit, to = server) => {
    const answer = await record(path, init, to)
    statuses.add(`${answer.status} ${answer.body?.error?.code ?? ''}`.trim())
    return answer
  }

  for (const [who, caller] of Object.entries(callers)) {
    const bag = { name: 'stored', data: { KEY: value(who), LINKED: value(`${who}, linked`) }, note: control }
    await send('/secrets', { ...caller, body: bag })
    await send('/secrets', { ...caller, body: { ...bag, vpc: 'prod' } })
    await send('/secrets', { ...caller, body: { ...bag, appId: 'later' } })
    const keyValues = [{ key: 'KEY', value: value(`${who}, attached`) }]
    await send('/secrets', { ...caller, body: { deploymentId: app.id, keyValues } })
    await send('/secrets/stored', { ...caller, method: 'PATCH', body: { set: { KEY: value(`${who}, patched`) } } })
    for (const secret of ['stored', 'none-such']) {
      await send(`/secrets/${secret}/verify`, { ...caller, body: { key: 'KEY', value: value(`${who}, patched`) } })
      await send(`/secrets/${secret}/verify`, { ...caller, body: { key: 'KEY', value: value(`${who} guesses`) } })
      await send(`/secrets/${secret}/diff`, { ...caller, body: { data: { KEY: value(`${who} compares`) } } })
      await send(`/secrets/${secret}/restore`, { ...caller, body: { version: 1 } })
    }
  }

  // From here on by someone who may, in ways that are refused.
  const as = { token: server.token }
  const { id } = await client.secretView({ ref: 'stored' })
  await app.link('VARIABLE', id, 'LINKED')
  await client.secretPut({ name: 'managed', data: { KEY: value('managed') } })
  await server.db.query("update secrets set type = 'database' where name = 'managed'")
  for (const [path, init] of refusedRequests(app.id)) await send(path, { as, ...init })
  for (const path of ['/secrets/stored/verify', '/secrets/stored/diff'])
    for (let n = 0; n < 31; n++)
      await send(path, { as, body: path.endsWith('verify') ? { key: 'KEY', value: value('again') } : { data: {} } })

  // While sealed, and when the database does not do as it should.
  const other = { token: sealed.token }
  for (const [path, init] of refusedRequests(app.id)) await send(path, { as: other, ...init }, sealed)
  await server.db.query('alter table secret_values rename to secret_values_away')
  await send('/secrets', { as, body: { name: 'broken', data: { KEY: value('a broken database') } } })
  await send('/secrets/stored', { as, method: 'PATCH', body: { set: { KEY: value('a broken database') } } })
  await send('/secrets/managed/diff', { as, body: { data: { KEY: value('a broken database') } } })
  await server.db.query('alter table secret_values_away rename to secret_values')

  // Not even HTTP.
  for (const bytes of brokenRequests(server.token)) {
    const { status, text } = await sendRaw(server.url, bytes)
    allAnswers.push(`${status} ${text}`)
  }

  // Each kind of refusal was there.
  const expected = words(`
    200, 201, 400 bag_too_large, 400 invalid_body, 400 invalid_query, 400 invalid_request, 400 malformed_json, 401 missing_token,
    403 foreign_origin, 403 insufficient_role, 403 insufficient_scope, 403 invalid_token, 404 app_not_found, 404 key_not_found,
    404 secret_not_found, 404 version_not_found, 404 vpc_not_found, 409 idempotency_key_reused, 409 secret_in_use,
    409 secret_managed, 412 version_conflict, 413 body_too_large, 415 unsupported_media_type, 429 too_many_attempts,
    500 internal_error, 503 sealed`)
  expect([...statuses].toSorted()).toEqual(expected.toSorted())
})

test('every command is known to take values or not, and those that do are given them by each of their flags', async () => {
  const { commands, known, driven } = await waysIn()
  expect([...commands, ...commandsWithoutValues].toSorted()).toEqual(commandNames().toSorted())
  expect(driven.toSorted()).toEqual(known.toSorted())
})

test('every value goes through the command line', async () => {
  commandLine = await driveCommandLine(server, sealed, temporary)
})

test('every value is delivered, in a rollout that succeeds and in one that fails', async () => {
  const client = server.client()
  const data = { KEY: value('delivered'), FILE: value('delivered as a file') }
  await client.secretPut({ name: 'delivered', data })
  const how = { envFrom: ['delivered'], secretFiles: ['delivered'], env: { SIMULATE_CRASH_IF: 'BAD' } }
  const live = await deployed(server, { name: 'delivered', image: 'acme/api:1.0', ...how })
  expect(live?.state).toBe('live')
  await deployed(server, { name: 'delivered-too', image: 'acme/api:1.0', envFrom: ['delivered'] })
  const { rollouts, wave } = await client.secretPatch({ ref: 'delivered', set: { BAD: value('bad') }, rollout: 'now' })
  const failed = await receipt(server, rollouts[0]?.id ?? '')
  expect(failed).toMatchObject({ state: 'rolled_back', services: [{ reason: 'CrashLoopBackOff' }] })
  rolledOut.push(failed.id, wave ?? '')
})

test('everything that can be read is read', async () => {
  const { items } = await server.client().secretList({ limit: 200 })
  expect(items.length).toBeGreaterThan(4)
  const token = await newToken(server)
  const refs: Record<string, string[]> = {
    organization: ['main'],
    name: ['default', 'prod', 'none'],
    id: [token.id, ...rolledOut, 'none'],
    ref: [
      'delivered',
      ...items.map(({ id }) => id),
      'stored',
      'stored?vpc=prod',
      'stored?appId=later',
      'none',
      control,
    ],
  }
  for (const [name, { path, query }] of routes.filter(([, { method }]) => method === 'GET')) {
    const [, param] = /\{(\w+)\}/.exec(path) ?? []
    const values = param === undefined ? [''] : refs[param]
    if (!values) throw new Error(`say above what {${param}} is in ${path}`)
    for (const given of values) {
      const [ref = '', search] = given.split('?')
      const filled = `${path.replace(/\{\w+\}/, ref)}?${search ?? ''}`
      for (const caller of Object.values(callers))
        if ((await readAll(filled, caller, 'limit' in (query?.shape ?? {}))) === 200) visited.add(name)
    }
    await record(path.replace(/\{\w+\}/, values[0] ?? ''), { as: { token: sealed.token } }, sealed)
  }
  for (const path of ['/healthz', '/readyz', '/metrics', '/v1/cli/openapi.json', '/', '/secrets', '/nothing'])
    for (const { url } of [server, sealed]) await record(url + path, { headers: { accept: 'text/html' } })

  expect([...visited].toSorted()).toEqual(namesOf(routes.filter(([, { method }]) => method === 'GET')))
})

const expectHidden = (what: string | Buffer, isControlThere: boolean) => {
  expect(hunt(what, [control]).length > 0).toBe(isControlThere)
  expect(hunt(what)).toEqual([])
}

describe('the mark is not', () => {
  test('in any answer, its headers, the audit or the metrics', () => expectHidden(allAnswers.join('\n'), true))
  test('in what the command line says', () => expectHidden(commandLine.screens, true))
  test('in a file that the command line leaves behind', () => expectHidden(commandLine.files, true))
  test('in the log', () => expectHidden(server.log() + sealed.log(), true))
  test('in the database', async () => expectHidden(await dump(server.db), true))
  test('in the sealed database', async () => expectHidden(await dump(sealed.db), false))

  test('in the files of the database, nor in what it wrote ahead', async (context) => {
    const { rows } = await server.db.query<{ oid: string }>(
      'select oid::text from pg_database where datname = current_database()',
    )
    await server.db.query('checkpoint')
    // The socket is in the folder of the data.
    const { host } = inject('postgres')
    const folders = [join(host, 'base', rows[0]?.oid ?? ''), join(host, 'pg_wal')]
    if (!folders.every((folder) => statSync(folder, { throwIfNoEntry: false })))
      context.skip('the files of PostgreSQL are not in the folder of its socket')
    // A value may not be whole in a file; the mark is short, and in it three times.
    const found = folders.flatMap((folder) => filesIn(folder)).map((path) => [path, bytesOf(path)] as const)
    expect(found.flatMap(([path, bytes]) => hunt(bytes).map((hit) => `${path}: ${hit}`))).toEqual([])
    expect(found.some(([, bytes]) => hunt(bytes, [control]).length > 0)).toBe(true)
  })

  test.runIf(process.platform === 'linux')('in the arguments or the environment of a process', () => {
    expect(commandLine.shown).toEqual({ elsewhere: [], inOwnArguments: expect.toSatisfy((times) => times > 0) })
    const processes = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
    const said = processes.flatMap((pid) => [bytesOf(`/proc/${pid}/cmdline`), bytesOf(`/proc/${pid}/environ`)])
    expectHidden(Buffer.concat(said), false)
  })

  test('in a temporary file', () => {
    writeFileSync(join(temporary, 'control'), control)
    expectHidden(Buffer.concat(filesIn(temporary).map(bytesOf)), true)
  })

  test('in any of these as a hash that someone could compare with guesses', async () => {
    const hashes = [...new Set(sent)].flatMap((text) =>
      ['md5', 'sha1', 'sha256', 'sha512'].flatMap((algorithm) =>
        (['hex', 'base64'] as const).map((encoding) => createHash(algorithm).update(text).digest(encoding)),
      ),
    )
    // Half of one would do.
    const halves = new Set(hashes.map((hash) => hash.slice(0, 16)))
    const everything = `${allAnswers.join('\n')}${commandLine.screens}${server.log()}${await dump(server.db)}`
    const found = Array.from(everything, (_, at) => everything.slice(at, at + 16)).filter((part) => halves.has(part))
    expect(found).toEqual([])
  })
})

test('the hunt would find the mark in each form', () => {
  const bytes = Buffer.from(`before ${mark} after`)
  for (const shift of ['', 'x', 'xx'])
    for (const text of [
      bytes.toString(),
      JSON.stringify({ text: bytes.toString() }),
      Buffer.concat([Buffer.from(shift), bytes]).toString('base64'),
      Buffer.concat([Buffer.from(shift), bytes]).toString('base64url'),
      bytes.toString('hex'),
      bytes.toString('hex').toUpperCase(),
      encodeURIComponent(bytes.toString()),
      [...bytes].map((byte) => `%${byte.toString(16)}`).join(''),
    ])
      expect(hunt(text, [mark]), text).not.toEqual([])
})

/** Of a list as text. */
function words(text: string) {
  return text.trim().split(/,\s+/)
}

async function record(path: string, init: CallInit, to = server): Promise<Answer> {
  const answer = await to.call(path, init)
  allAnswers.push(`${path} ${answer.status} ${JSON.stringify([...answer.headers])} ${answer.text}`)
  return answer
}

/** All pages of a list. */
async function readAll(path: string, caller: CallInit, isList: boolean): Promise<number> {
  const first = await record(isList ? `${path}&limit=200` : path, caller)
  let next = isList && first.body?.nextCursor
  while (next) next = (await record(`${path}&limit=200&cursor=${next}`, caller)).body?.nextCursor
  return first.status
}

const put = (body: unknown, more: CallInit = {}): [string, CallInit] => ['/secrets', { body, ...more }]
const patch = (body: unknown, more: CallInit = {}): [string, CallInit] => [
  '/secrets/stored',
  { method: 'PATCH', body, ...more },
]

const good = () => ({ name: 'refused', data: { KEY: value('refused') } })
const pair = () => ({ key: 'KEY', value: value('refused pair') })

/** Wrong in one way each, with a value where values belong. */
function refusedRequests(deploymentId: string): [string, CallInit][] {
  const text = JSON.stringify(good())
  return [
    put({ ...good(), data: { KEY: longValue(300_000) } }),
    put(
      Object.assign(good(), {
        data: Object.fromEntries(['A', 'B', 'C', 'D', 'E'].map((key) => [key, longValue(203_000)])),
      }),
    ),
    put({ ...good(), data: { KEY: longValue(1_100_000) } }),
    put({ ...good(), data: Object.fromEntries(Array.from({ length: 501 }, (_, n) => [`K${n}`, value('many')])) }),
    put({ ...good(), data: { 'not a key': value('a bad name') } }),
    put({ ...good(), data: [value('a list')] }),
    put({ ...good(), data: value('text') }),
    put({ ...good(), data: { KEY: [value('a list')] } }),
    put({ ...good(), data: { KEY: { nested: value('an object') } } }),
    put({ ...good(), data: { KEY: `${value('half a pair')}\ud800` } }),
    put({ ...good(), name: 'Not a Name' }),
    put({ ...good(), more: 1 }),
    put({ ...good(), type: 'database' }),
    put({ ...good(), rollout: 'later' }),
    put({ ...good(), note: 'x'.repeat(141) }),
    put({ ...good(), note: 'x\0' }),
    put({ ...good(), appId: 'Not An App' }),
    put({ ...good(), appId: 'dep_00000000000000000000000000' }),
    put({ ...good(), vpc: 'none-such' }),
    put({ ...good(), deploymentId }),
    put({ data: good().data }),
    put({ ...good(), name: 'managed' }),
    put({ ...good(), name: 'stored' }),
    put({ deploymentId, keyValues: value('text') }),
    put({ deploymentId, keyValues: [value('text')] }),
    put({ deploymentId, keyValues: [{ ...pair(), more: 1 }] }),
    put({ deploymentId, keyValues: [{ ...pair(), value: [value('a list')] }] }),
    put({ deploymentId, keyValues: [{ ...pair(), key: 'not a key' }] }),
    put({ deploymentId, keyValues: [pair(), pair()] }),
    put({ deploymentId: 'dep_00000000000000000000000000', keyValues: [pair()] }),
    put({ keyValues: [pair()] }),
    put(good(), { headers: { 'idempotency-key': 'once' } }),
    put(good(), { headers: { 'idempotency-key': 'once' } }),
    ['/secrets/stored/diff', { body: { data: good().data }, headers: { 'idempotency-key': 'once' } }],
    put(good(), { headers: { 'if-match': '"9"' } }),
    put(text.slice(0, -2)),
    put(text.replace(`"${mark}`, mark)),
    put(`${text}${text}`),
    put(`${text}\u0000`),
    put(text, { headers: { 'content-type': 'text/plain' } }),
    put(text, { headers: { 'content-type': 'application/x-www-form-urlencoded' } }),
    patch({ set: good().data, unset: ['KEY'] }),
    patch({ set: good().data, unset: ['NONE'] }),
    patch({ set: good().data, unset: ['LINKED'] }),
    patch({ set: good().data, more: 1 }),
    patch({ set: [value('a list')] }),
    patch({ set: value('text') }),
    patch({ set: good().data, note: 'x\0' }),
    patch({ set: good().data }, { headers: { 'if-match': '"0"' } }),
    ['/secrets/stored?nonsense=1', { method: 'PATCH', body: { set: good().data } }],
    ['/secrets/stored?vpc=none-such', { method: 'PATCH', body: { set: good().data } }],
    ['/secrets/managed', { method: 'PATCH', body: { set: good().data } }],
    ['/secrets/stored/restore', { body: { version: 1, keys: ['NONE'] } }],
    ['/secrets/stored/restore', { body: { version: 1, more: good() } }],
    ['/secrets/stored/restore', { body: { version: 2_147_483_647 } }],
    ['/secrets/stored/verify', { body: { key: 'NONE', value: value('no key') } }],
    ['/secrets/stored/verify', { body: { key: 'KEY', value: [value('a list')] } }],
    ['/secrets/stored/verify', { body: { key: 'not a key', value: value('a bad name') } }],
    ['/secrets/stored/diff', { body: { data: { KEY: [value('a list')] } } }],
    ['/secrets/stored/diff', { body: { data: { 'not a key': value('a bad name') } } }],
  ]
}

function brokenRequests(token: string): string[] {
  const body = JSON.stringify({ name: 'raw', data: { KEY: value('raw') } })
  const head = ['host: x', `x-satusky-api-key: ${token}`, 'content-type: application/json']
  const request = (first: string, ...more: string[]) => `${[first, ...head, ...more].join('\r\n')}\r\n\r\n${body}`
  return [
    request('POST /v1/cli/secrets HTTP/9.9'),
    request('NONSENSE /v1/cli/secrets HTTP/1.1', `content-length: ${body.length}`),
    request('POST /v1/cli/secrets HTTP/1.1', 'content-length: ten'),
    request('POST /v1/cli/secrets HTTP/1.1', 'transfer-encoding: chunked'),
  ]
}

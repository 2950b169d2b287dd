import { decodeId } from '@1ctl/contract/ids'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { newMember, newOrganization, newToken } from '../testing/actors.ts'
import { codeOf } from '../testing/raw.ts'
import { startTestServer, type TestServer } from '../testing/server.ts'
import { startWaveRollouts } from './waves.ts'

/** What is deployed, as it is stored: the delivery loop does not run here. */
let server: TestServer
beforeAll(async () => {
  server = await startTestServer()
})
afterAll(() => server.close())

let counter = 0
const fresh = (stem = 'app') => `${stem}-${++counter}`
const image = 'acme/api:1.0'
const images = ({ services }: { services: { image: string }[] }) => services.map((service) => service.image)
const put = (name: string, data: Record<string, string>, where: object = {}) =>
  server.client().secretPut({ name, data, ...where })
const effective = async (ref: string) => (await server.client().effectiveEnv({ ref })).items[0]
const variable = async (ref: string, name: string) =>
  (await effective(ref))?.variables.find((entry) => entry.name === name)

describe('POST /deploy as its users write it', () => {
  test('the request of the documentation makes an app, a release and a rollout', async () => {
    await put('db-creds', { DATABASE_URL: 'postgres://u:p@host/db' })
    await put('tls-bundle', { 'tls.crt': 'a certificate', 'tls.key': 'a private key' })
    const body = { name: 'api', image, port: 3000, envFrom: ['db-creds'], secretFiles: ['tls-bundle'] }
    const answer = await server.call('/deploy', { headers: { authorization: `Bearer ${server.token}` }, body })
    expect(answer.status, answer.text).toBe(202)
    expect(answer.body).toMatchObject({
      app: { name: 'api', vpc: 'default', namespace: 'main--default', release: 1, liveRelease: null, staged: false },
      release: 1,
      rollout: { app: 'api', release: 1, state: 'stored', cause: 'deploy' },
      unchanged: false,
    })
    expect(answer.body.app.services).toEqual([{ name: 'api', image, port: 3000, replicas: 1, ready: 0, state: null }])
    expect(answer.body.effectiveEnv).toEqual([
      {
        service: 'api',
        variables: [
          expect.objectContaining({ name: 'DATABASE_URL', source: 'envFrom', secret: 'db-creds', version: 1 }),
        ],
        files: [
          expect.objectContaining({ path: '/run/secrets/tls.crt', secret: 'tls-bundle' }),
          expect.objectContaining({ path: '/run/secrets/tls.key' }),
        ],
      },
    ])
    expect(answer.text).not.toContain('postgres://')
  })

  test('names of secrets that are not there fail all at once, before anything is stored', async () => {
    const name = fresh()
    await put('there', { KEY: 'a value' })
    const body = {
      name,
      image,
      envFrom: ['there', 'nowhere'],
      secretFiles: ['nor-here'],
      env: { LINK: { secret: 'neither', key: 'KEY' } },
      services: [{ name: 'web', envFrom: ['not-this'] }],
    }
    const answer = await server.call('/deploy', { as: { token: server.token }, body })
    expect(codeOf(answer)).toBe('unknown_secret')
    expect(answer.body.error.details.missing).toEqual(['neither', 'nor-here', 'not-this', 'nowhere'])
    expect(codeOf(await server.call(`/apps/${name}`, { as: { token: server.token } }))).toBe('app_not_found')
    const linked = { name, image, env: { LINK: { secret: 'there', key: 'OTHER' } } }
    expect(codeOf(await server.call('/deploy', { as: { token: server.token }, body: linked }))).toBe('key_not_found')
  })

  test('the same again changes nothing; fields that are not given stay', async () => {
    const name = fresh()
    await server.client().deploy({ name, image, port: 80, env: { A: '1' } })
    await server.db.query('update apps set live_release = release')
    const again = await server.client().deploy({ name, image, port: 80, env: { A: '1' } })
    expect(again).toMatchObject({ release: 1, rollout: null, unchanged: true })
    const next = await server.client().deploy({ name, image: 'acme/api:1.1' })
    expect(next).toMatchObject({ release: 2, app: { services: [{ image: 'acme/api:1.1', port: 80 }] } })
    expect(await variable(name, 'A')).toMatchObject({ value: '1' })
  })

  test('null takes a field away', async () => {
    const name = fresh()
    const client = server.client()
    await client.deploy({ name, image, port: 80, command: ['run'], services: [{ name: 'web' }, { name: 'worker' }] })
    await client.envPatch({ ref: name, service: 'worker', set: { A: '1' } })
    const { app } = await client.deploy({ name, port: null, command: null, services: null })
    expect(app.services).toMatchObject([{ name, image, port: null }])
    expect((await client.envView({ ref: name })).items).toEqual([])
    await expect(client.deploy({ name, image: null as never })).rejects.toMatchObject({ code: 'invalid_body' })
  })

  test('a dry run says what would be and changes nothing', async () => {
    const name = fresh()
    const dry = await server.client().deploy({ name, image, env: { A: '1' }, dryRun: true })
    expect(dry).toMatchObject({ release: 1, effectiveEnv: [{ variables: [{ name: 'A' }] }] })
    await expect(server.client().appView({ ref: name })).rejects.toMatchObject({ code: 'app_not_found' })
    expect((await server.client().auditList({ object: name })).items).toEqual([])
    await server.client().deploy({ name, image })
    const before = await server.client().appView({ ref: name })
    const dryRun = true
    const would = await server.client().envPatch({ ref: name, set: { B: '2' }, dryRun })
    expect(would).toMatchObject({ release: 2, effectiveEnv: [{ variables: [{ name: 'B', value: '2' }] }] })
    await server.client().appRedeploy({ ref: name, dryRun })
    await server.client().appRollback({ ref: name, release: 1, dryRun })
    expect(await server.client().appView({ ref: name })).toEqual(before)
  })

  test.each([
    ['without an image', { image: undefined }, 'image'],
    ['with a service that has no image', { image: undefined, services: [{ name: 'web' }] }, 'services.0.image'],
    ['with a service twice', { services: [{ name: 'web' }, { name: 'web' }] }, 'services'],
    ['with an image that is none', { image: 'UPPER CASE' }, 'image'],
    ['with a port that is none', { port: 70_000 }, 'port'],
    ['with a variable that has no name', { env: { '1A': 'x' } }, 'env.1A'],
    ['with a variable that is no text', { env: { A: 1 } }, 'env.A'],
    ['with a field nobody knows', { imgae: 'x' }, 'imgae'],
    ['with a quantity that is none', { resources: { limits: { memory: 'much' } } }, 'resources.limits.memory'],
  ])('%s is refused with the path of the field', async (_, wrong, path) => {
    const body = { name: fresh(), image, ...wrong }
    const answer = await server.call('/deploy', { as: { token: server.token }, body })
    expect(codeOf(answer)).toBe('invalid_body')
    expect(answer.body.error.details.problems.map((problem: { path: string }) => problem.path)).toContain(path)
  })

  test('a token limited to apps or VPCs, and a protected VPC, are respected', async () => {
    const client = server.client()
    const [mine, yours] = [fresh(), fresh()]
    const as = await newToken(server, { apps: [mine] })
    const deploy = (name: string, vpc = 'default', who = as) =>
      server.call('/deploy', { as: who, body: { name, image, vpc } })
    expect((await deploy(mine)).status).toBe(202)
    expect(codeOf(await deploy(yours))).toBe('insufficient_scope')
    await client.vpcCreate({ name: 'guarded' })
    await client.vpcPatch({ name: 'guarded', protected: true })
    const developer = await newMember(server, 'developer')
    const answer = await server.call('/deploy', { as: developer, body: { name: yours, image, vpc: 'guarded' } })
    expect(codeOf(answer)).toBe('insufficient_role')
    expect((await deploy(yours, 'guarded', { token: server.token } as never)).status).toBe(202)
    expect(codeOf(await deploy(yours, 'nowhere', { token: server.token } as never))).toBe('vpc_not_found')
  })
})

describe('when names collide', () => {
  test('later wins: bags of the app in order, bags of the service in order, inline; each says what it overrides', async () => {
    const [one, two, three] = [fresh('one'), fresh('two'), fresh('three')]
    await put(one, { A: 'of one', B: 'of one', C: 'of one', D: 'of one' })
    await put(two, { B: 'of two', C: 'of two', D: 'of two' })
    await put(three, { C: 'of three', D: 'of three' })
    const name = fresh()
    await server.client().deploy({
      name,
      image,
      envFrom: [one, two],
      env: { D: 'inline' },
      services: [{ name: 'web', envFrom: [three] }, { name: 'worker' }],
    })
    const [web, worker] = (await server.client().effectiveEnv({ ref: name })).items
    const winners = (service: typeof web) =>
      Object.fromEntries((service?.variables ?? []).map((entry) => [entry.name, entry.secret ?? entry.value]))
    expect(winners(web)).toEqual({ A: one, B: two, C: three, D: 'inline' })
    expect(winners(worker)).toEqual({ A: one, B: two, C: two, D: 'inline' })
    const d = web?.variables.find((entry) => entry.name === 'D')
    expect(d).toMatchObject({
      source: 'env',
      level: 'app',
      overrides: [{ secret: one }, { secret: two }, { secret: three }],
    })
  })

  test('a bag of the app beats one of the VPC, and that a shared one, whole', async () => {
    const [name, bag] = [fresh(), fresh('bag')]
    await put(bag, { SHARED: 'x', BOTH: 'x' })
    await put(bag, { VPC: 'x' }, { vpc: 'default' })
    await put(bag, { BOTH: 'y' }, { appId: name })
    await server.client().deploy({ name, image, envFrom: [bag] })
    expect((await effective(name))?.variables.map((entry) => [entry.name, entry.scope])).toEqual([['BOTH', 'app']])
    const other = fresh()
    await server.client().deploy({ name: other, image, envFrom: [bag] })
    expect((await effective(other))?.variables.map((entry) => [entry.name, entry.scope])).toEqual([['VPC', 'vpc']])
  })

  test('two bags that would be the same file are refused by both names', async () => {
    const [one, two] = [fresh('one'), fresh('two')]
    await put(one, { 'tls.crt': 'x' })
    await put(two, { 'tls.crt': 'y' })
    const name = fresh()
    const answer = await server.call('/deploy', {
      as: { token: server.token },
      body: { name, image, secretFiles: [one, two] },
    })
    expect(codeOf(answer)).toBe('file_key_collision')
    expect(answer.body.error.details).toMatchObject({ key: 'tls.crt', secrets: [one, two] })
    await expect(server.client().appView({ ref: name })).rejects.toMatchObject({ code: 'app_not_found' })
  })

  test('a key that no variable can be named is refused with its name, unless it is mounted or linked', async () => {
    const bag = fresh('bag')
    await put(bag, { 'tls.crt': 'x', GOOD: 'y' })
    const deploy = (how: object) =>
      server.call('/deploy', { as: { token: server.token }, body: { name: fresh(), image, ...how } })
    const refused = await deploy({ envFrom: [bag] })
    expect(codeOf(refused)).toBe('invalid_env_key')
    expect(refused.body.error.details.secrets).toEqual([{ secret: bag, keys: ['tls.crt'] }])
    expect((await deploy({ secretFiles: [bag] })).status).toBe(202)
    expect((await deploy({ env: { TLS: { secret: bag, key: 'tls.crt' } } })).status).toBe(202)
  })
})

describe('what is declared by a deploy, and what was set beside it', () => {
  test('the next deploy leaves out what the one before declared, and keeps what was set or attached by itself', async () => {
    const [name, bag, other] = [fresh(), fresh('bag'), fresh('other')]
    await put(bag, { OF_BAG: 'x' })
    await put(other, { OF_OTHER: 'x' })
    const { app } = await server.client().deploy({ name, image, env: { DECLARED: '1' }, envFrom: [bag] })
    await server.client().envPatch({ ref: name, set: { BY_HAND: '2' } })
    await server.client().secretPut({ deploymentId: app.id, keyValues: [{ key: 'ATTACHED', value: 'x' }] })
    await server.client().deploy({ name, env: { NEW: '3' }, envFrom: [other] })
    const names = (await effective(name))?.variables.map((entry) => entry.name)
    expect(names).toEqual(['ATTACHED', 'BY_HAND', 'NEW', 'OF_OTHER'])
    const listed = (await server.client().envView({ ref: name })).items
    expect(listed).toEqual([
      { name: 'BY_HAND', value: '2', secret: null, key: null, service: null, declared: false },
      { name: 'NEW', value: '3', secret: null, key: null, service: null, declared: true },
    ])
  })

  test('a service that goes takes its own variables with it', async () => {
    const name = fresh()
    await server.client().deploy({ name, image, services: [{ name: 'web' }, { name: 'worker', env: { A: '1' } }] })
    await server.client().envPatch({ ref: name, service: 'worker', set: { B: '2' } })
    await server.client().deploy({ name, services: [{ name: 'web' }] })
    expect((await server.client().envView({ ref: name })).items).toEqual([])
    await expect(server.client().envPatch({ ref: name, service: 'worker', set: { B: '2' } })).rejects.toMatchObject({
      code: 'service_not_found',
    })
  })
})

describe('variables', () => {
  test('are set, linked and unset; a link and a text take each other’s place', async () => {
    const [name, bag] = [fresh(), fresh('bag')]
    await put(bag, { KEY: 'a value' })
    await server.client().deploy({ name, image })
    const client = server.client()
    await client.envPatch({ ref: name, set: { LOG_LEVEL: 'info', URL: 'plain' } })
    await client.envPatch({ ref: name, set: { URL: { secret: bag, key: 'KEY' } } })
    expect(await variable(name, 'URL')).toMatchObject({
      source: 'link',
      secret: bag,
      key: 'KEY',
      value: null,
      version: 1,
    })
    await expect(client.secretPatch({ ref: bag, unset: ['KEY'] })).rejects.toMatchObject({ code: 'secret_in_use' })
    await expect(client.secretDelete({ ref: bag })).rejects.toMatchObject({ code: 'secret_in_use' })
    await client.envPatch({ ref: name, set: { URL: 'plain again' }, unset: ['LOG_LEVEL'] })
    expect((await effective(name))?.variables.map((entry) => [entry.name, entry.value])).toEqual([
      ['URL', 'plain again'],
    ])
    await expect(client.envPatch({ ref: name, unset: ['LOG_LEVEL'] })).rejects.toMatchObject({
      code: 'variable_not_found',
    })
    const both = client.envPatch({ ref: name, set: { A: '1' }, unset: ['A'] })
    await expect(both).rejects.toMatchObject({ code: 'invalid_body' })
  })

  test('names such as __proto__ and constructor are plain names', async () => {
    const name = fresh()
    const body = `{"name":"${name}","image":"${image}","env":{"__proto__":"a","constructor":"b"}}`
    expect((await server.call('/deploy', { as: { token: server.token }, body })).status).toBe(202)
    const names = (await effective(name))?.variables.map((entry) => [entry.name, entry.value])
    expect(names).toEqual([
      ['__proto__', 'a'],
      ['constructor', 'b'],
    ])
  })
})

describe('after a deploy that the pods rejected', () => {
  test('a variable and a secret go on from what runs; only a redeploy tries the rejected image again', async () => {
    const [name, bag] = [fresh(), fresh('bag')]
    const client = server.client()
    await put(bag, { KEY: 'one' }, { appId: name })
    await client.deploy({ name, image, envFrom: [bag] })
    await client.deploy({ name, image: 'acme/api:broken' })
    // As the delivery loop leaves it.
    await server.db.query('update apps set release = 1, live_release = 1, rejected_release = 2 where name = $1', [name])
    await server.db.query("update rollouts set state = 'rolled_back', finished_at = now() where finished_at is null")
    expect(images((await client.envPatch({ ref: name, set: { A: '1' } })).app)).toEqual([image])
    await client.secretPatch({ ref: bag, appId: name, set: { KEY: 'two' } })
    expect(images(await client.appView({ ref: name }))).toEqual([image])
    expect(await client.appView({ ref: name })).toMatchObject({ release: 4, staged: true })
    expect(images((await client.appRedeploy({ ref: name })).app)).toEqual(['acme/api:broken'])
  })
})

describe('a changed secret', () => {
  test('of an app rolls out at once: a new release with its version, superseding the rollout before', async () => {
    const [name, bag] = [fresh(), fresh('bag')]
    await put(bag, { KEY: 'one' }, { appId: name })
    const first = await server.client().deploy({ name, image, envFrom: [bag] })
    const { rollouts, stale } = await server
      .client()
      .secretPatch({ ref: bag, appId: name, set: { KEY: 'two', MORE: 'x' } })
    expect(rollouts).toMatchObject([{ app: name, release: 2, cause: `secret ${bag} v2` }])
    expect(stale).toEqual([])
    const before = await server.client().rolloutView({ id: first.rollout?.id ?? '' })
    expect(before).toMatchObject({ state: 'superseded', supersededBy: rollouts[0]?.id })
    const [release] = (await server.client().releaseList({ ref: name })).items
    expect(release).toMatchObject({
      number: 2,
      current: true,
      secrets: [{ name: bag, scope: 'app', version: 2 }],
      services: [{ variables: ['KEY', 'MORE'] }],
    })
  })

  test('the same value again makes no rollout', async () => {
    const [name, bag] = [fresh(), fresh('bag')]
    await put(bag, { KEY: 'one' }, { appId: name })
    await server.client().deploy({ name, image, envFrom: [bag] })
    const again = await server.client().secretPatch({ ref: bag, appId: name, set: { KEY: 'one' } })
    expect(again).toMatchObject({ unchanged: true, rollouts: [] })
  })

  test('that is staged reaches no release, also not by another change, until it is rolled out', async () => {
    const [name, bag, other] = [fresh(), fresh('bag'), fresh('other')]
    await put(bag, { KEY: 'one' }, { appId: name })
    await put(other, { OTHER: 'one' }, { appId: name })
    await server.client().deploy({ name, image, envFrom: [bag, other] })
    const client = server.client()
    const staged = await client.secretPatch({ ref: bag, appId: name, set: { KEY: 'two' }, rollout: 'stage' })
    expect(staged).toMatchObject({ rollouts: [], stale: [{ app: name }] })
    expect(await client.appView({ ref: name })).toMatchObject({ release: 1, staged: true })
    const versions = async () => {
      const [release] = (await client.releaseList({ ref: name })).items
      return Object.fromEntries((release?.secrets ?? []).map((secret) => [secret.name, secret.version]))
    }
    await client.secretPatch({ ref: other, appId: name, set: { OTHER: 'two' } })
    expect(await versions()).toEqual({ [bag]: 1, [other]: 2 })
    await client.envPatch({ ref: name, set: { PLAIN: '1' } })
    expect(await versions()).toEqual({ [bag]: 1, [other]: 2 })
    expect(await client.appView({ ref: name })).toMatchObject({ staged: true })
    expect(await client.secretView({ ref: bag, appId: name })).toMatchObject({ status: 'redeploy_needed' })
    expect(await client.secretDeploy({ ref: bag, appId: name })).toMatchObject({ rollouts: [{ app: name }] })
    expect(await versions()).toEqual({ [bag]: 2, [other]: 2 })
    expect(await client.appView({ ref: name })).toMatchObject({ staged: false })
    expect(await client.secretDeploy({ ref: bag, appId: name })).toMatchObject({ rollouts: [], stale: [] })
  })

  test('that is shared is staged, and names who is stale; rolled out, it goes to one app first', async () => {
    const [one, two, bag] = [fresh(), fresh(), fresh('bag')]
    await put(bag, { KEY: 'one' })
    for (const name of [one, two]) await server.client().deploy({ name, image, envFrom: [bag] })
    const client = server.client()
    const staged = await client.secretPatch({ ref: bag, set: { KEY: 'two' } })
    expect(staged.rollouts).toEqual([])
    expect(staged.stale.map(({ app }) => app)).toEqual([one, two])
    const usage = (await client.secretUsage({ ref: bag })).items
    expect(usage).toMatchObject([{ currentVersion: 2 }, { currentVersion: 2 }])
    const now = await client.secretPatch({ ref: bag, set: { KEY: 'three' }, rollout: { waves: { size: 3 } } })
    expect(now.rollouts).toMatchObject([{ app: one }])
    expect(now.stale).toMatchObject([{ app: two }])
    const wave = await client.waveView({ id: now.wave ?? '' })
    expect(wave).toMatchObject({
      state: 'running',
      size: 3,
      version: 3,
      apps: [
        { app: one, state: 'stored' },
        { app: two, state: null },
      ],
    })
    expect(await client.waveAbort({ id: wave.id })).toMatchObject({ state: 'aborted' })
    await expect(client.waveResume({ id: wave.id })).rejects.toMatchObject({ code: 'wave_over' })
  })

  test('whose new key no variable can be named is refused, and nothing is stored', async () => {
    const [name, bag] = [fresh(), fresh('bag')]
    await put(bag, { KEY: 'one' }, { appId: name })
    await server.client().deploy({ name, image, envFrom: [bag] })
    const wrong = server.client().secretPatch({ ref: bag, appId: name, set: { 'a.b': 'x' } })
    await expect(wrong).rejects.toMatchObject({ code: 'invalid_env_key' })
    expect(await server.client().secretView({ ref: bag, appId: name })).toMatchObject({ version: 1, keys: ['KEY'] })
    expect(await server.client().appView({ ref: name })).toMatchObject({ release: 1 })
  })

  test('a new one of the app takes the place of the shared namesake that the app uses, at once', async () => {
    const [name, bag] = [fresh(), fresh('bag')]
    await put(bag, { SHARED: 'x' })
    await server.client().deploy({ name, image, envFrom: [bag] })
    const { rollouts } = await put(bag, { OWN: 'x' }, { appId: name })
    expect(rollouts).toMatchObject([{ app: name }])
    expect((await effective(name))?.variables.map((entry) => entry.name)).toEqual(['OWN'])
    const [release] = (await server.client().releaseList({ ref: name })).items
    expect(release?.secrets).toEqual([{ name: bag, scope: 'app', version: 1 }])
    expect(await server.client().secretView({ ref: bag })).toMatchObject({ usedBy: 0, status: 'shadowed' })
  })

  test('of an app that is made for it later is attached when the app names it', async () => {
    const name = fresh()
    const made = await server.client().secretPut({ deploymentId: name, keyValues: [{ key: 'A', value: 'x' }] })
    expect(made).toMatchObject({ name: `${name}-secrets`, app: name, appId: null, rollouts: [], usedBy: 0 })
    await server.client().deploy({ name, image })
    const attached = await server.client().secretPut({ deploymentId: name, keyValues: [{ key: 'B', value: 'x' }] })
    expect(attached).toMatchObject({ name: `${name}-secrets`, keys: ['A', 'B'], rollouts: [{ app: name, release: 2 }] })
    expect(await server.client().appView({ ref: name })).toMatchObject({ staged: false })
    expect((await effective(name))?.variables.map((entry) => entry.name)).toEqual(['A', 'B'])
    const unset = await server.client().secretPatch({ ref: `${name}-secrets`, appId: name, unset: ['A'] })
    expect(unset).toMatchObject({ rollouts: [{ release: 3 }] })
    for (const id of ['dep_123abc', 'dep_01kjt0000000000000000000zz']) {
      const body = { deploymentId: id, keyValues: [{ key: 'A', value: 'x' }] }
      expect(codeOf(await server.call('/secrets', { as: { token: server.token }, body }))).toBe('app_not_found')
    }
  })
})

describe('what belongs to others, or is to stay', () => {
  test('a shared secret does not reach a protected VPC by the hand of a developer, and does by that of an admin', async () => {
    const [name, bag, vpc] = [fresh(), fresh('bag'), fresh('vpc')]
    await put(bag, { KEY: 'one' })
    await server.client().vpcCreate({ name: vpc })
    await server.client().deploy({ name, image, envFrom: [bag], vpc })
    await server.client().deploy({ name: `${name}-open`, image, envFrom: [bag] })
    await server.client().vpcPatch({ name: vpc, protected: true })
    const developer = server.client(await newMember(server, 'developer'))
    const changed = await developer.secretPatch({ ref: bag, set: { KEY: 'two' }, rollout: 'now' })
    expect(changed).toMatchObject({ rollouts: [{ app: `${name}-open` }], wave: null, stale: [{ app: name, vpc }] })
    expect(await server.client().appView({ ref: name, vpc })).toMatchObject({ release: 1, staged: true })
    expect(await server.client().secretDeploy({ ref: bag })).toMatchObject({ rollouts: [{ app: name, release: 2 }] })
  })

  test('a wave rolls out its own version, and gives way to a newer one', async () => {
    const [one, two, bag] = [fresh(), fresh(), fresh('bag')]
    await put(bag, { KEY: 'one' })
    for (const name of [one, two]) await server.client().deploy({ name, image, envFrom: [bag] })
    const first = await server.client().secretPatch({ ref: bag, set: { KEY: 'two' }, rollout: 'now' })
    await server.client().secretPatch({ ref: bag, set: { KEY: 'three' } })
    const { organization_id: organization, id } = (
      await server.db.query<{ organization_id: string; id: string }>(
        'select id, organization_id from apps where name = $1',
        [two],
      )
    ).rows[0] ?? { organization_id: '', id: '' }
    await startWaveRollouts(server.platform, organization, decodeId('wave', first.wave ?? '') ?? '', [id])
    const [release] = (await server.client().releaseList({ ref: two })).items
    expect(release).toMatchObject({ cause: `secret ${bag} v2`, secrets: [{ version: 2 }] })
    const next = await server.client().secretDeploy({ ref: bag })
    expect(next.wave).not.toBeNull()
    expect(await server.client().waveView({ id: first.wave ?? '' })).toMatchObject({ state: 'aborted' })
  })

  test('an app that no release can be made for refuses the change, and stops a wave that comes to it with the reason', async () => {
    const [one, two, bag, other] = [fresh(), fresh(), fresh('bag'), fresh('other')]
    await put(bag, { A: 'x' })
    await put(other, { B: 'x' })
    await server.client().deploy({ name: one, image, secretFiles: [bag] })
    await server.client().deploy({ name: two, image, secretFiles: [bag, other] })
    for (const rollout of ['now', 'stage'] as const) {
      const collides = server.client().secretPatch({ ref: bag, set: { B: 'y' }, rollout })
      await expect(collides).rejects.toMatchObject({ code: 'file_key_collision' })
    }
    const { wave } = await server.client().secretPatch({ ref: bag, set: { A: 'y' }, rollout: 'now' })
    const id = decodeId('wave', wave ?? '') ?? ''
    // It comes to lack an image, say by hand.
    await server.db.query(
      "update releases set inputs = jsonb_set(inputs, '{spec}', '{}') where app_id = (select id from apps where name = $1)",
      [two],
    )
    const { rows } = await server.db.query<{ id: string; organization_id: string }>(
      'select id, organization_id from apps where name = $1',
      [two],
    )
    await startWaveRollouts(server.platform, rows[0]?.organization_id ?? '', id, [rows[0]?.id ?? ''])
    expect(await server.client().waveView({ id: wave ?? '' })).toMatchObject({
      state: 'stopped',
      message: `${two}: image: is needed`,
    })
  })

  test('what is attached can be detached again, and then deleted', async () => {
    const [name, bag] = [fresh(), fresh('bag')]
    const client = server.client()
    const { app } = await client.deploy({ name, image })
    await client.secretPut({ deploymentId: app.id, name: bag, keyValues: [{ key: 'A', value: 'x' }] })
    const refused = client.secretDelete({ ref: bag, appId: name })
    await expect(refused).rejects.toMatchObject({
      code: 'secret_in_use',
      hint: expect.stringContaining('1ctl env detach') as string,
    })
    const detached = await client.envPatch({ ref: name, detach: [bag] })
    expect(detached).toMatchObject({ effectiveEnv: [{ variables: [] }], rollout: { release: 3 } })
    await expect(client.envPatch({ ref: name, detach: [bag] })).rejects.toMatchObject({ code: 'secret_not_found' })
    const attached = await client.envPatch({ ref: name, attach: [bag] })
    expect(attached).toMatchObject({ effectiveEnv: [{ variables: [{ name: 'A' }] }] })
    await client.envPatch({ ref: name, detach: [bag] })
    await server.db.query('update apps set live_release = release where name = $1', [name])
    await client.secretDelete({ ref: bag, appId: name })
  })

  test('a secret that an app links to, or mounts, is not injected whole by storing a key of it', async () => {
    const [name, linked, mounted] = [fresh(), fresh('linked'), fresh('mounted')]
    const client = server.client()
    await put(linked, { A: 'x', B: 'x' }, { appId: name })
    await put(mounted, { 'tls.crt': 'x' }, { appId: name })
    await client.deploy({ name, image, env: { LINK: { secret: linked, key: 'A' } }, secretFiles: [mounted] })
    await client.secretPut({ deploymentId: name, name: linked, keyValues: [{ key: 'A', value: 'y' }] })
    await client.secretPut({ deploymentId: name, name: mounted, keyValues: [{ key: 'tls.crt', value: 'y' }] })
    expect((await effective(name))?.variables.map((entry) => entry.name)).toEqual(['LINK'])
  })

  test('a rollback runs with the secrets that run now, not with what is staged', async () => {
    const [name, bag] = [fresh(), fresh('bag')]
    const client = server.client()
    await put(bag, { KEY: 'one' }, { appId: name })
    await client.deploy({ name, image, envFrom: [bag] })
    await client.deploy({ name, image: 'acme/api:2.0' })
    await client.secretPatch({ ref: bag, appId: name, set: { KEY: 'two' }, rollout: 'stage' })
    await client.appRollback({ ref: name, release: 1 })
    expect((await client.releaseList({ ref: name })).items[0]).toMatchObject({ secrets: [{ version: 1 }] })
  })

  test('a release that links to a key which is gone is not run again', async () => {
    const [name, bag] = [fresh(), fresh('bag')]
    const client = server.client()
    await put(bag, { A: 'x', B: 'x' }, { appId: name })
    await client.deploy({ name, image, env: { LINK: { secret: bag, key: 'A' } } })
    await client.deploy({ name, env: {} })
    await client.secretPatch({ ref: bag, appId: name, unset: ['A'] })
    await expect(client.appRollback({ ref: name, release: 1 })).rejects.toMatchObject({ code: 'key_not_found' })
    expect(await client.appRollback({ ref: name, release: 1, secrets: 'release' })).toMatchObject({ release: 3 })
  })
})

describe('releases', () => {
  test('roll back by number: with the secrets of now, or those of then', async () => {
    const [name, bag] = [fresh(), fresh('bag')]
    await put(bag, { KEY: 'one' }, { appId: name })
    const client = server.client()
    await client.deploy({ name, image, envFrom: [bag], env: { A: '1' } })
    await client.secretPatch({ ref: bag, appId: name, set: { KEY: 'two' } })
    await client.deploy({ name, image: 'acme/api:2.0', env: {} })
    const back = await client.appRollback({ ref: name, release: 1 })
    expect(back).toMatchObject({ release: 4, app: { services: [{ image }] }, rollout: { cause: 'rollback to 1' } })
    const pinned = async () => (await client.releaseList({ ref: name })).items[0]
    expect(await pinned()).toMatchObject({ secrets: [{ version: 2 }], services: [{ variables: ['A', 'KEY'] }] })
    await client.appRollback({ ref: name, release: 1, secrets: 'release' })
    expect(await pinned()).toMatchObject({ number: 5, secrets: [{ version: 1 }] })
    await expect(client.appRollback({ ref: name, release: 99 })).rejects.toMatchObject({ code: 'release_not_found' })
  })

  test('keep the versions they are pinned to, however many come after', async () => {
    const [name, bag] = [fresh(), fresh('bag')]
    await put(bag, { KEY: 'the first' }, { appId: name })
    const client = server.client()
    await client.deploy({ name, image, envFrom: [bag] })
    for (let n = 0; n < 25; n++)
      await client.secretPatch({ ref: bag, appId: name, set: { KEY: `value ${n}`, [`K${n}`]: 'x' }, rollout: 'stage' })
    const versions = (await client.secretVersionList({ ref: bag, appId: name, limit: 100 })).items
    expect(versions.map(({ version }) => version)).toContain(1)
    expect(versions.map(({ version }) => version)).not.toContain(3)
    await client.appRedeploy({ ref: name })
    const { app } = await client.appRollback({ ref: name, release: 1, secrets: 'release' })
    expect(app).toMatchObject({ staged: true })
  })

  test('are incomplete once one of their secrets was deleted', async () => {
    const [name, bag] = [fresh(), fresh('bag')]
    await put(bag, { KEY: 'one' })
    const client = server.client()
    await client.deploy({ name, image, envFrom: [bag] })
    await client.deploy({ name, envFrom: [] })
    await server.db.query('update apps set live_release = 1 where name = $1', [name])
    await expect(client.secretDelete({ ref: bag })).rejects.toMatchObject({ code: 'secret_in_use' })
    await server.db.query('update apps set live_release = release where name = $1', [name])
    await client.secretDelete({ ref: bag })
    await expect(client.appRollback({ ref: name, release: 1 })).rejects.toMatchObject({ code: 'release_incomplete' })
  })

  test('a redeploy takes what is staged; with nothing staged it starts the pods anew, unless told not to', async () => {
    const name = fresh()
    const client = server.client()
    await client.deploy({ name, image })
    await client.envPatch({ ref: name, set: { A: '1' }, rollout: 'stage' })
    expect(await client.appView({ ref: name })).toMatchObject({ release: 1, staged: true })
    expect(await client.appRedeploy({ ref: name })).toMatchObject({ release: 2, rollout: { cause: 'redeploy' } })
    await server.db.query('update apps set live_release = release where name = $1', [name])
    await expect(client.appRedeploy({ ref: name, restart: false })).rejects.toMatchObject({ code: 'nothing_staged' })
    expect(await client.appRedeploy({ ref: name })).toMatchObject({ release: 3, rollout: { cause: 'restart' } })
    await server.db.query('update apps set live_release = release where name = $1', [name])
    // What was started anew once is not started anew again by a deploy that changes nothing.
    expect(await client.deploy({ name, image })).toMatchObject({ unchanged: true })
  })
})

describe('a receipt', () => {
  test('that is waited for answers at its next change, and at once if that has come already', async () => {
    const name = fresh()
    const client = server.client()
    const id = (await client.deploy({ name, image })).rollout?.id ?? ''
    const { revision } = await client.rolloutView({ id })
    const waiting = client.rolloutView({ id, wait: 20, since: revision })
    await client.deploy({ name, image: 'acme/api:2.0' })
    expect(await waiting).toMatchObject({ state: 'superseded', revision: revision + 1 })
    const next = (await client.deploy({ name, image: 'acme/api:3.0' })).rollout?.id ?? ''
    const seen = await client.rolloutView({ id: next })
    await server.db.query("update rollouts set state = 'applied', revision = revision + 1 where finished_at is null")
    expect(await client.rolloutView({ id: next, wait: 20, since: seen.revision })).toMatchObject({ state: 'applied' })
  })
})

describe('deleting an app', () => {
  test('asks for its name, frees its secrets, and leaves a note of what must go in the cluster', async () => {
    const [name, bag] = [fresh(), fresh('bag')]
    await put(bag, { KEY: 'one' })
    await put('own', { KEY: 'one' }, { appId: name })
    const client = server.client()
    const { app } = await client.deploy({ name, image, envFrom: [bag, 'own'] })
    await expect(client.appDelete({ ref: name })).rejects.toMatchObject({ code: 'confirmation_needed' })
    await client.appDelete({ ref: app.id, confirm: name })
    await expect(client.appView({ ref: name })).rejects.toMatchObject({ code: 'app_not_found' })
    expect(await client.secretView({ ref: bag })).toMatchObject({ usedBy: 0, status: 'unused' })
    expect(await client.secretView({ ref: 'own', appId: name })).toMatchObject({ appId: null })
    const { rows } = await server.db.query('select namespace, app from departures where app = $1', [name])
    expect(rows).toEqual([{ namespace: 'main--default', app: name }])
    await client.secretDelete({ ref: bag })
  })
})

test('ten deploys and secrets at once leave one open rollout, dense releases, and the last of everything', async () => {
  const [name, bag] = [fresh(), fresh('bag')]
  await put(bag, { KEY: 'start' }, { appId: name })
  const client = server.client()
  await client.deploy({ name, image, envFrom: [bag] })
  const second = await startTestServer({ database: server.database })
  await Promise.all(
    Array.from({ length: 10 }, (_, n) =>
      n % 2
        ? second.client({ token: server.token }).envPatch({ ref: name, set: { [`N${n}`]: 'x' } })
        : client.secretPatch({ ref: bag, appId: name, set: { [`K${n}`]: 'x' } }),
    ),
  )
  await second.close()
  const releases = (await client.releaseList({ ref: name })).items
  expect(releases.map(({ number }) => number)).toEqual(Array.from({ length: 11 }, (_, n) => 11 - n))
  const expected = ['K0', 'K2', 'K4', 'K6', 'K8', 'KEY', 'N1', 'N3', 'N5', 'N7', 'N9']
  expect(releases[0]?.services[0]?.variables).toEqual(expected)
  const open = (await client.rolloutList({ app: name })).items.filter(({ state }) => state !== 'superseded')
  expect(open).toMatchObject([{ release: 11, state: 'stored' }])
})

test('another organization sees nothing of it, and may use the same names', async () => {
  const name = fresh()
  await server.client().deploy({ name, image })
  const other = server.client({ token: (await newOrganization(server)).token })
  expect((await other.appList()).items).toEqual([])
  expect(await other.deploy({ name, image })).toMatchObject({ release: 1 })
})

import { contract, type Route } from '@1ctl/contract'
import { type Role, roles, type Scope, scopes } from '@1ctl/contract/permissions'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { newMember, newOrganization, newToken, signIn } from '../testing/actors.ts'
import { deployInWaves } from '../testing/apps.ts'
import { type Credential, startTestServer, type TestServer } from '../testing/server.ts'

/**
 * Who may call what, in words, beside the contract and not derived from it: an endpoint that is missing here, or lets in someone else
 * than it says here, fails.
 */
const mayCall: Record<string, string> = {
  sessionCreate: 'anyone',
  sessionSwitch: 'a session',
  sessionEnd: 'a session',
  meView: 'whoever is known; limited tokens too',
  invitationAccept: 'anyone',
  passwordChange: 'a session',
  tokenList: 'a viewer, a token with read',
  tokenCreate: 'an admin, a token with tokens:admin',
  tokenView: 'a viewer, a token with read',
  tokenPatch: 'an admin, a token with tokens:admin',
  tokenDelete: 'an admin, a token with tokens:admin',
  tokenRotate: 'an admin, a token with tokens:admin',
  sessionList: 'a viewer, a token with read',
  sessionRevokeAll: 'a viewer, a token with admin',
  sessionRevoke: 'a viewer, a token with admin',
  organizationList: 'whoever is known',
  organizationCreate: 'a viewer, a token with admin',
  organizationView: 'a viewer, a token with read',
  organizationPatch: 'an owner, a token with admin',
  organizationDelete: 'an owner, a token with admin',
  memberList: 'a viewer, a token with read',
  memberInvite: 'an admin, a token with admin',
  memberPatch: 'an admin, a token with admin',
  memberDelete: 'a viewer, a token with admin', // to leave; removing someone else is tested below
  vpcList: 'a viewer, a token with read; limited tokens too',
  vpcCreate: 'an admin, a token with admin',
  vpcView: 'a viewer, a token with read; limited tokens too',
  vpcPatch: 'an admin, a token with admin',
  vpcDelete: 'an admin, a token with admin',
  secretList: 'a viewer, a token with read; limited tokens too',
  secretPut: 'a developer, a token with secrets:write; limited tokens too',
  secretView: 'a viewer, a token with read; limited tokens too',
  secretPatch: 'a developer, a token with secrets:write; limited tokens too',
  secretDelete: 'a developer, a token with secrets:write; limited tokens too',
  secretVersionList: 'a viewer, a token with read; limited tokens too',
  secretRestore: 'a developer, a token with secrets:write; limited tokens too',
  secretVerify: 'a developer, a token with secrets:write; limited tokens too',
  secretDiff: 'a developer, a token with secrets:write; limited tokens too',
  secretUsage: 'a viewer, a token with read; limited tokens too',
  appLogs: 'a viewer, a token with read; limited tokens too',
  eventStream: 'a viewer, a token with read',
  secretDeploy: 'a developer, a token with secrets:write; limited tokens too',
  deploy: 'a developer, a token with deploy; limited tokens too',
  appList: 'a viewer, a token with read; limited tokens too',
  appView: 'a viewer, a token with read; limited tokens too',
  appDelete: 'a developer, a token with deploy; limited tokens too',
  releaseList: 'a viewer, a token with read; limited tokens too',
  appRollback: 'a developer, a token with deploy; limited tokens too',
  appRedeploy: 'a developer, a token with deploy; limited tokens too',
  envView: 'a viewer, a token with read; limited tokens too',
  envPatch: 'a developer, a token with deploy; limited tokens too',
  effectiveEnv: 'a viewer, a token with read; limited tokens too',
  rolloutList: 'a viewer, a token with read; limited tokens too',
  rolloutView: 'a viewer, a token with read; limited tokens too',
  waveView: 'a viewer, a token with read; limited tokens too',
  waveResume: 'a developer, a token with deploy',
  waveAbort: 'a developer, a token with deploy',
  sealView: 'an operator, a token with operator',
  seal: 'an operator, a token with operator',
  unseal: 'an operator, a token with operator',
  masterRotate: 'an operator, a token with operator',
  masterProve: 'an operator, a token with operator',
  keysView: 'a viewer, a token with read',
  keysRotate: 'an admin, a token with admin',
  auditList: 'a viewer, a token with read',
  auditVerify: 'a viewer, a token with read',
  adminAuditList: 'an operator, a token with operator',
  adminAuditVerify: 'an operator, a token with operator',
}

const ranks: Role[] = ['viewer', 'developer', 'admin', 'owner']
const scopesWith: Record<string, Scope[]> = {
  read: ['read', 'deploy', 'secrets:write', 'tokens:admin', 'admin'],
  deploy: ['deploy', 'admin'],
  'secrets:write': ['secrets:write', 'admin'],
  'tokens:admin': ['tokens:admin', 'admin'],
  admin: ['admin'],
  operator: ['operator'],
}

type Actor = {
  as: Credential
  role: Role
  operator?: boolean
  scopes?: Scope[]
  isLimited?: boolean
}

/** What the sentence means for someone: the code of the refusal, or undefined for those it lets in. */
function refusalOf(sentence: string, { as, role, operator = false, scopes, isLimited }: Actor): string | undefined {
  const isToken = 'token' in as
  if (sentence === 'anyone') return undefined
  if (isLimited && !sentence.endsWith('limited tokens too')) return 'insufficient_scope'
  if (sentence === 'a session') return isToken ? 'session_required' : undefined
  if (sentence.startsWith('whoever')) return undefined
  const [, least = '', scope = ''] = /^an? (\w+), a token with ([\w:]+)/.exec(sentence) ?? []
  if (least === 'operator' ? !operator : ranks.indexOf(role) < ranks.indexOf(least as Role)) return 'insufficient_role'
  // Without scopes a token has all that its creator has, except the installation.
  const has = scopes ? scopes.some((given) => scopesWith[scope]?.includes(given)) : scope !== 'operator'
  return isToken && !has ? 'insufficient_scope' : undefined
}

const routes = Object.entries<Route>(contract)
const everywhere = (outcome: (name: string) => string) =>
  Object.fromEntries(routes.map(([name]) => [name, outcome(name)]))

let server: TestServer
let owner: Credential
beforeAll(async () => {
  server = await startTestServer()
  owner = await signIn(server, server.email, server.password)
})
afterAll(() => server.close())

/**
 * Calls every endpoint with a query and a body that are wrong, so that nothing is done and those who are let in get "400": everyone
 * else's 401 or 403 came first.
 */
async function callAll(as?: Credential, from?: string): Promise<Record<string, string>> {
  const outcomes = routes.map(async ([name, { method, path }]) => {
    const filled = path.replace('{organization}', 'main').replaceAll(/\{\w+\}/g, 'nothing')
    const answer = await server.call(`${filled}?nonsense=1`, {
      method,
      ...(method === 'GET' ? {} : { body: '{' }),
      ...(as ? { as } : {}),
      ...(from ? { from } : {}),
    })
    return [name, `${answer.status} ${answer.body.error.code}`]
  })
  return Object.fromEntries(await Promise.all(outcomes))
}
const letIn = '400 invalid_query'

async function expectAsWritten(actor: Actor) {
  const statusOf = (name: string) => refusalOf(mayCall[name] ?? '', actor)
  expect(await callAll(actor.as)).toEqual(everywhere((name) => (statusOf(name) ? `403 ${statusOf(name)}` : letIn)))
}

/** A token without scopes of someone who was an admin when making it and has another role now. */
async function tokenOf(role: Role): Promise<string> {
  const member = await newMember(server, role === 'owner' ? 'owner' : 'admin')
  const { token } = await newToken(server, {}, member)
  await server.client().memberPatch({ id: member.id, role })
  return token
}

test('the table above has every endpoint, and no other', () => {
  expect(Object.keys(mayCall).toSorted()).toEqual(Object.keys(contract).toSorted())
})

const expectRefusedEverywhere = async (refusal: string, from: string, as?: Credential) =>
  expect(await callAll(as, from)).toEqual(everywhere((name) => (mayCall[name] === 'anyone' ? letIn : refusal)))

describe('a credential that does not count is let in nowhere, before anything else is looked at', () => {
  test('none at all', () => expectRefusedEverywhere('401 missing_token', '203.0.113.1'))

  test('a token that never existed', () =>
    expectRefusedEverywhere('403 invalid_token', '203.0.113.2', { token: `sat_${'0'.repeat(32)}` }))

  test('a deleted token', async () => {
    const { id, token } = await newToken(server)
    await server.client().tokenDelete({ id })
    await expectRefusedEverywhere('403 invalid_token', '203.0.113.3', { token })
  })

  test('a disabled token, until it is enabled again', async () => {
    const { id, token } = await newToken(server)
    await server.client().tokenPatch({ id, enabled: false })
    await expectRefusedEverywhere('401 token_disabled', '203.0.113.4', { token })
    await server.client().tokenPatch({ id, enabled: true })
    expect((await server.call('/vpcs', { as: { token } })).status).toBe(200)
  })

  test('an expired token', async () => {
    const { id, token } = await newToken(server)
    await server.client().tokenRotate({ id, graceHours: 0 })
    await expectRefusedEverywhere('401 token_expired', '203.0.113.5', { token })
  })

  test('a session that never existed, and one that was ended', async () => {
    await expectRefusedEverywhere('401 session_expired', '203.0.113.6', { cookie: '1ctl_session=made-up' })
    const ended = await signIn(server, server.email, server.password)
    expect((await server.call('/auth/session', { method: 'DELETE', as: ended })).status).toBe(200)
    await expectRefusedEverywhere('401 session_expired', '203.0.113.7', ended)
  })
})

describe('each role may call what the table says, by session', () => {
  test.each(roles)('%s', async (role) => expectAsWritten({ as: await newMember(server, role), role }))

  test('the operator', () => expectAsWritten({ as: owner, role: 'owner', operator: true }))
})

describe('each role may call what the table says, by a token without scopes', () => {
  test.each(roles)('%s', async (role) => expectAsWritten({ as: { token: await tokenOf(role) }, role }))

  test('the operator, whose tokens do not run the installation unless that was given by name', async () =>
    expectAsWritten({ as: await newToken(server, {}, owner), role: 'owner', operator: true }))
})

describe('each scope alone allows what the table says', () => {
  test.each(scopes)('%s', async (scope) => {
    const as = await newToken(server, { scopes: [scope] }, owner)
    await expectAsWritten({ as, role: 'owner', operator: true, scopes: [scope] })
  })

  test('and no more than the role: a viewer with the scope admin', async () => {
    const member = await newMember(server, 'admin')
    const as = await newToken(server, { scopes: ['admin'] }, member)
    await server.client().memberPatch({ id: member.id, role: 'viewer' })
    await expectAsWritten({ as, role: 'viewer', scopes: ['admin'] })
  })
})

describe('a token limited to VPCs or apps is refused wherever the whole organization is meant', () => {
  test.each([{ vpcs: ['default'] }, { apps: ['api'] }, { vpcs: ['default'], apps: ['api'] }])('%o', async (limits) =>
    expectAsWritten({ as: await newToken(server, limits, owner), role: 'owner', operator: true, isLimited: true }),
  )

  test('and sees only its own VPCs, by name and by id', async () => {
    await server.client().vpcCreate({ name: 'staging' })
    const { id } = await server.client().vpcView({ name: 'default' })
    const as = await newToken(server, { vpcs: ['staging'] }, owner)
    const { items } = await server.client(as).vpcList()
    expect(items.map(({ name }) => name)).toEqual(['staging'])
    expect((await server.call('/vpcs/staging', { as })).status).toBe(200)
    expect((await server.call('/vpcs/default', { as })).body.error.code).toBe('vpc_not_found')
    expect((await server.call(`/vpcs/${id}`, { as })).body.error.code).toBe('vpc_not_found')
  })
})

test('whoever is let in is also answered: every list and view', async () => {
  const viewer = await newMember(server, 'viewer')
  const { id } = await newToken(server)
  const { rollout, wave } = await deployInWaves(server.client(), 'visited')
  const filled = (path: string) =>
    path
      .replace('{organization}', 'main')
      .replace('{name}', 'default')
      .replace('{id}', path.startsWith('/rollouts') ? rollout : path.startsWith('/waves') ? wave : id)
      .replace('{ref}', 'visited')
  for (const [name, { method, path }] of routes.filter(([, { method }]) => method === 'GET')) {
    const answer = await server.call(filled(path), { as: mayCall[name]?.includes('operator') ? owner : viewer })
    // No cluster here, so no logs.
    expect(answer.status, `${method} ${path}: ${answer.text}`).toBe(name === 'appLogs' ? 503 : 200)
  }
})

const without = (items: object[], ...keys: string[]) =>
  items.map((item) => Object.fromEntries(Object.entries(item).filter(([key]) => !keys.includes(key))))

async function everythingThere() {
  const client = server.client(owner)
  return {
    tokens: without((await client.tokenList()).items, 'lastUsedAt', 'lastUsedAddress'),
    sessions: without((await client.sessionList()).items, 'lastSeenAt'),
    members: (await client.memberList()).items,
    vpcs: (await client.vpcList()).items,
    organization: await client.organizationView({ organization: 'main' }),
    secrets: (await client.secretList()).items,
    apps: (await client.appList()).items,
    rollouts: (await client.rolloutList()).items,
  }
}

describe('what belongs to another organization is not there, and stays as it is', () => {
  // What an attacker would send: complete and correct, so that only the object is in question.
  const inputs: Record<string, { body?: object; query?: string }> = {
    tokenPatch: { body: { enabled: false } },
    tokenRotate: { body: { graceHours: 0 } },
    organizationPatch: { body: { name: 'mine-now' } },
    organizationDelete: { query: '?confirm=main' },
    memberPatch: { body: { role: 'viewer' } },
    vpcPatch: { body: { protected: true } },
    vpcDelete: { query: '?confirm=theirs' },
    secretPatch: { body: { set: { STOLEN: 'a stolen value' } } },
    secretRestore: { body: { version: 1 } },
    secretVerify: { body: { key: 'KEY', value: 'a guessed value' } },
    secretDiff: { body: { data: { KEY: 'a guessed value' } } },
    secretDeploy: { body: {} },
    appDelete: { query: '?confirm=theirs' },
    appRollback: { body: { release: 1 } },
    appRedeploy: { body: {} },
    envPatch: { body: { set: { STOLEN: 'a value' } } },
    waveResume: { body: {} },
    waveAbort: { body: {} },
  }
  const naming = routes.filter(([, { path }]) => path.includes('{'))

  let objects: Record<string, { there: string[]; missing: string[] }>
  let stranger: Credential
  let otherToken: Credential
  beforeAll(async () => {
    const other = await newOrganization(server)
    otherToken = { token: other.token }
    // A person of their own, who is in no other organization: the first owner founded it and belongs to both.
    stranger = await newMember(server, 'owner', otherToken)
    const member = await newMember(server, 'admin')
    const { id: token } = await newToken(server)
    const vpc = await server.client().vpcCreate({ name: 'theirs' })
    const { app, rollout, wave } = await deployInWaves(server.client(), 'theirs')
    const secret = await server.client().secretView({ ref: 'theirs' })
    const organization = await server.client().organizationView({ organization: 'main' })
    const session = (await server.client(owner).sessionList()).items[0]?.id ?? ''
    const nobody = '01kjt0000000000000000000zz'
    objects = {
      tokens: { there: [token], missing: [`tok_${nobody}`] },
      sessions: { there: [session], missing: [`ses_${nobody}`] },
      members: { there: [member.id], missing: [`mem_${nobody}`] },
      vpcs: { there: [vpc.name, vpc.id], missing: ['nobodys', `vpc_${nobody}`] },
      secrets: { there: [secret.name, secret.id], missing: ['nobodys', `sec_${nobody}`] },
      apps: { there: [app.name, app.id], missing: ['nobodys', `dep_${nobody}`] },
      rollouts: { there: [rollout], missing: [`rol_${nobody}`] },
      waves: { there: [wave], missing: [`wav_${nobody}`] },
      organizations: { there: ['main', organization.id], missing: ['nobodys', `org_${nobody}`] },
    }
  })

  /** The answer without what must differ: the name typed and the request's id. */
  async function answerTo(name: string, { method, path }: Route, ref: string, as: Credential) {
    const { body, query = '' } = inputs[name] ?? {}
    const url = path.replace(/\{\w+\}/, ref) + query
    const { status, body: answer } = await server.call(url, { method, as, ...(body ? { body } : {}) })
    const { requestId: _, message, ...error } = answer.error ?? {}
    return { status, ...error, message: message?.replace(`"${ref}"`, '"…"') }
  }

  test.each(naming)('%s', async (name, route) => {
    const kind = objects[route.path.split('/')[1] ?? '']
    if (!kind) throw new Error(`say above what ${route.path} names`)
    const before = await everythingThere()
    for (const as of [stranger, otherToken])
      for (const [index, ref] of kind.there.entries()) {
        // The first owner's token of the other organization is of the same person, who may see their own sessions.
        if (route.path.startsWith('/sessions') && as === otherToken) continue
        const theirs = await answerTo(name, route, ref, as)
        expect(theirs).toMatchObject({ status: 404, message: expect.stringContaining('"…"') as string })
        expect(theirs).toEqual(await answerTo(name, route, kind.missing[index] ?? '', as))
      }
    expect(await everythingThere()).toEqual(before)
  })

  test('nor can a list be made to show it by a cursor', async () => {
    for (const path of ['/tokens', '/members', '/vpcs', '/secrets', '/apps', '/rollouts', '/audit']) {
      const shown = (await server.call(`${path}?limit=200`, { as: { token: server.token } })).body.items as {
        id: string
      }[]
      const cursor = path === '/audit' ? '1000000' : shown[0]?.id
      const seen = (await server.call(`${path}?limit=200&cursor=${cursor}`, { as: otherToken })).body.items as {
        id: string
      }[]
      const known = new Set(shown.map(({ id }) => id))
      expect(seen.filter(({ id }) => known.has(id))).toEqual([])
    }
  })

  test('a session ends nobody else’s session, not even an owner a member’s', async () => {
    const member = await newMember(server, 'viewer')
    const [theirs] = (await server.client(member).sessionList()).items
    expect((await server.call(`/sessions/${theirs?.id}`, { method: 'DELETE', as: owner })).status).toBe(404)
    expect((await server.call('/auth/me', { as: member })).status).toBe(200)
    expect((await server.call(`/sessions/${theirs?.id}`, { method: 'DELETE', as: member })).status).toBe(200)
    expect((await server.call('/auth/me', { as: member })).status).toBe(401)
  })
})

describe('a role that changes counts from the next request', () => {
  test('a demoted member loses by session and by token what the role had, and keeps the rest', async () => {
    const member = await newMember(server, 'admin')
    const token = await newToken(server, {}, member)
    for (const [index, as] of [member, token].entries())
      expect((await server.call('/vpcs', { as, body: { name: `before-${index}` } })).status).toBe(201)
    await server.client().memberPatch({ id: member.id, role: 'viewer' })
    for (const [index, as] of [member, token].entries()) {
      const answer = await server.call('/vpcs', { as, body: { name: `after-${index}` } })
      expect([answer.status, answer.body.error.code]).toEqual([403, 'insufficient_role'])
      expect((await server.call('/vpcs', { as })).status).toBe(200)
    }
  })

  test('a removed member loses all of the organization, and the session remains only to go elsewhere', async () => {
    const member = await newMember(server, 'admin')
    const token = await newToken(server, {}, member)
    await server.client().memberDelete({ id: member.id })
    for (const as of [member, token])
      for (const [name, { path }] of routes.filter(([name]) =>
        mayCall[name]?.startsWith('a viewer, a token with read'),
      )) {
        const answer = await server.call(path.replace('{organization}', 'main').replaceAll(/\{\w+\}/g, 'default'), {
          as,
        })
        expect([403, 404], `${name}: ${answer.text}`).toContain(answer.status)
      }
    expect((await server.call('/auth/me', { as: member })).body).toMatchObject({
      organization: null,
      role: null,
      organizations: [],
    })
  })

  test('everyone may leave, but removing someone else takes an admin, and an owner only an owner', async () => {
    const [viewer, admin, another] = [
      await newMember(server, 'viewer'),
      await newMember(server, 'admin'),
      await newMember(server, 'owner'),
    ]
    const remove = async (id: string, as: Credential) =>
      (await server.call(`/members/${id}`, { method: 'DELETE', as })).status
    expect(await remove(admin.id, viewer)).toBe(403)
    expect(await remove(another.id, admin)).toBe(403)
    expect(await remove(admin.id, another)).toBe(200)
    expect(await remove(viewer.id, viewer)).toBe(200)
    expect(await remove(another.id, another)).toBe(200)
  })

  test('only an owner makes or unmakes owners', async () => {
    const [admin, another] = [await newMember(server, 'admin'), await newMember(server, 'owner')]
    const invite = { email: 'new@example.test', role: 'owner' }
    const tries = (as: Credential) => [
      server.call('/members', { as, body: invite }),
      server.call(`/members/${admin.id}`, { as, method: 'PATCH', body: { role: 'owner' } }),
      server.call(`/members/${another.id}`, { as, method: 'PATCH', body: { role: 'viewer' } }),
    ]
    expect((await Promise.all(tries(admin))).map(({ status }) => status)).toEqual([403, 403, 403])
    expect((await Promise.all(tries(owner))).map(({ status }) => status)).toEqual([201, 200, 200])
  })
})

const create = (as: Credential, input: object) => server.call('/tokens', { as, body: { name: 'more', ...input } })

describe('a token never gives more than its creator has', () => {
  // Creator -> the scopes it may give.
  const gives: Record<string, Scope[]> = {
    'tokens:admin': ['read', 'tokens:admin'],
    admin: ['read', 'deploy', 'secrets:write', 'tokens:admin', 'admin'],
  }

  test.each(Object.entries(gives))('a token with %s gives %j', async (scope, may) => {
    const creator = await newToken(server, { scopes: [scope as Scope] }, owner)
    for (const wanted of scopes)
      expect((await create(creator, { scopes: [wanted] })).status, wanted).toBe(may.includes(wanted) ? 201 : 403)
    // One scope too many refuses all of them.
    expect((await create(creator, { scopes: ['read', 'operator'] })).status).toBe(403)
    expect((await create(creator, {})).body).toMatchObject({ scopes: [scope] })
  })

  test('an admin gives all but the installation', async () => {
    const admin = await newMember(server, 'admin')
    for (const wanted of scopes)
      expect((await create(admin, { scopes: [wanted] })).status, wanted).toBe(wanted === 'operator' ? 403 : 201)
    expect((await create(admin, {})).body).toMatchObject({ scopes: null })
  })

  test('a limited one gives nothing, and a scope that reaches everything cannot be limited', async () => {
    const limited = await newToken(server, { vpcs: ['default'] }, owner)
    expect((await create(limited, {})).status).toBe(403)
    for (const wanted of scopes)
      expect((await create(owner, { scopes: [wanted], vpcs: ['default'] })).status, wanted).toBe(
        ['read', 'deploy', 'secrets:write'].includes(wanted) ? 201 : 400,
      )
  })

  test('rotating a stronger one is refused, and it goes on working', async () => {
    const strong = await newToken(server, { scopes: ['admin'] }, owner)
    const weak = await newToken(server, { scopes: ['tokens:admin'] }, owner)
    const answer = await server.call(`/tokens/${strong.id}/rotate`, { as: weak, body: { graceHours: 0 } })
    expect([answer.status, answer.body.error.code]).toEqual([403, 'insufficient_scope'])
    expect((await server.call('/vpcs', { as: strong })).status).toBe(200)
  })

  test('rotating one without scopes gives what the rotating one has', async () => {
    const { id } = await newToken(server, {}, owner)
    const weak = await newToken(server, { scopes: ['tokens:admin'] }, owner)
    const answer = await server.call(`/tokens/${id}/rotate`, { as: weak, body: {} })
    expect(answer.body).toMatchObject({ scopes: ['tokens:admin'] })
  })
})

describe('the installation is run by its operators alone', () => {
  test('only an operator gives the scope, by session or by a token that has it', async () => {
    const give = (as: Credential) => server.call('/tokens', { as, body: { name: 'ops', scopes: ['operator'] } })
    const other = await newMember(server, 'owner')
    expect((await give(other)).body.error.code).toBe('insufficient_role')
    expect((await give(await newToken(server, {}, owner))).body.error.code).toBe('insufficient_scope')
    const given = await give(owner)
    expect(given.status).toBe(201)
    const as = { token: given.body.token as string }
    expect((await server.call('/admin/audit', { as })).status).toBe(200)
    expect((await server.call('/vpcs', { as })).status).toBe(403)
  })

  test('an operator who is no member of an organization runs the installation and sees nothing of the organization', async () => {
    const second = await startTestServer()
    try {
      const operator = await signIn(second, second.email, second.password)
      const heir = await newMember(second, 'owner')
      const [first] = (await second.client(heir).memberList()).items.filter(({ email }) => email === second.email)
      await second.client(heir).memberDelete({ id: first?.id ?? '' })
      expect((await second.call('/admin/audit', { as: operator })).status).toBe(200)
      for (const path of ['/vpcs', '/tokens', '/members', '/audit', '/secrets', '/keys'])
        expect((await second.call(path, { as: operator })).status).toBe(403)
      expect((await second.call('/organizations/main', { as: operator })).status).toBe(404)
      expect((await second.call('/admin/audit', { as: heir })).status).toBe(403)
    } finally {
      await second.close()
    }
  })
})

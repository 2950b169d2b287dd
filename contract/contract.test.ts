import { describe, expect, test } from 'vitest'
import type { Route } from './dsl.ts'
import { commonErrors, errors } from './errors.ts'
import { contract } from './index.ts'
import { openapi, pathNames } from './openapi.ts'
import { limitable, permissions, roleAllows, roles, scopeAllows, scopes } from './permissions.ts'

const routes = Object.entries<Route>(contract)

describe.each(routes)('%s', (_, route) => {
  const { method, path, access, query, body, errors: own = [], honorsLimits } = route

  test('has no name in two of path, query and body', () => {
    const names = [...pathNames(path), ...Object.keys(query?.shape ?? {}), ...Object.keys(body?.shape ?? {})]
    expect(names).toEqual([...new Set(names)])
  })

  test('takes what is known and nothing else', () => {
    for (const schema of [query, body])
      if (schema)
        expect(schema.safeParse({ 'not-known': 1 }).error?.issues.map(({ code }) => code)).toContain(
          'unrecognized_keys',
        )
    // The client sends a body with these alone.
    if (body) expect(['POST', 'PATCH']).toContain(method)
  })

  test('refuses with codes of the table, each said once', () => {
    for (const code of own) expect(errors).toHaveProperty(code)
    expect([...new Set(own)]).toEqual(own)
    expect(commonErrors.filter((code) => (own as readonly string[]).includes(code))).toEqual([])
    // What names an object can name one that is not there.
    if (path.includes('{')) expect(own.filter((code) => code.endsWith('_not_found'))).not.toEqual([])
  })

  test('is open to someone', () => {
    expect(['public', 'caller', 'session', ...Object.keys(permissions)]).toContain(access)
    if (honorsLimits) expect(['caller', ...limitable]).toContain(access)
  })
})

test('each method and path is one endpoint', () => {
  const all = routes.map(([, { method, path }]) => `${method} ${path.replaceAll(/\{\w+\}/g, '{}')}`)
  expect(all).toEqual([...new Set(all)])
})

test('a list has pages', () => {
  const lists = routes.filter(([name]) => name.endsWith('List'))
  expect(lists.length).toBeGreaterThan(5)
  for (const [name, { query }] of lists)
    expect(Object.keys(query?.shape ?? {}), name).toEqual(expect.arrayContaining(['cursor', 'limit']))
})

describe('roles and scopes', () => {
  test('each role allows what the one below allows, and more', () => {
    const ladder = roles.toReversed()
    for (const [index, role] of ladder.entries()) {
      const below = ladder[index - 1]
      if (below) expect(roleAllows[role]).toEqual(expect.arrayContaining([...roleAllows[below]]))
    }
    expect(roleAllows.owner).not.toContain('operator')
  })

  test('every permission can be had, and by a token too', () => {
    for (const permission of Object.keys(permissions)) {
      const ofScopes = scopes.filter((scope) => (scopeAllows[scope] as readonly string[]).includes(permission))
      expect(ofScopes, permission).not.toEqual([])
    }
    for (const scope of scopes) if (scope !== 'operator') expect(scopeAllows[scope]).toContain('read')
  })
})

describe('the description as OpenAPI 3.1', () => {
  type Operation = {
    operationId: string
    parameters: { name: string; in: string; required?: boolean; schema: object }[]
    requestBody?: object
    responses: Record<string, { description: string; content: Record<string, { schema: object }> }>
    security?: Record<string, string[]>[]
  }
  const document = JSON.parse(JSON.stringify(openapi('1.2.3')))
  const operations = Object.entries<Record<string, Operation>>(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, ...operation })),
  )

  const securityOf = (id: string) => operations.find(({ operationId }) => operationId === id)?.security

  test('has every endpoint of the contract once', () => {
    expect(document).toMatchObject({ openapi: '3.1.0', info: { title: '1ctl', version: '1.2.3' } })
    expect(operations.map(({ operationId, method, path }) => [operationId, method.toUpperCase(), path])).toEqual(
      expect.arrayContaining(routes.map(([name, { method, path }]) => [name, method, path])),
    )
    expect(operations).toHaveLength(routes.length)
  })

  test('every operation says what it takes, what it answers and how it refuses', () => {
    for (const { operationId, path, parameters, responses, method } of operations) {
      const inPath = parameters.filter((parameter) => parameter.in === 'path')
      expect(inPath.map(({ name }) => name)).toEqual(pathNames(path))
      for (const parameter of inPath) expect(parameter.required).toBe(true)
      for (const { schema } of parameters) expect(schema).toBeTypeOf('object')
      const [done, ...refusals] = Object.entries(responses)
      expect(['200', '201', '202'], operationId).toContain(done?.[0])
      expect(refusals.map(([status]) => status)).toEqual(
        expect.arrayContaining(['400', '401', '403', '429', '500', '503']),
      )
      for (const { description, content } of Object.values(responses)) {
        expect(description).not.toBe('')
        expect(Object.values(content)[0]?.schema).toBeTypeOf('object')
      }
      expect(['get', 'post', 'patch', 'delete']).toContain(method)
    }
  })

  test('every reference leads somewhere', () => {
    const references = [...JSON.stringify(document).matchAll(/"\$ref":"([^"]*)"/g)].map(([, to = '']) => to)
    expect(references).not.toEqual([])
    for (const reference of new Set(references)) {
      const [root, ...steps] = reference.split('/')
      expect(root).toBe('#')
      expect(
        steps.reduce((node, step) => node?.[step], document),
        reference,
      ).toBeTypeOf('object')
    }
    const schemes = Object.keys(document.components.securitySchemes)
    for (const { security = [] } of [document as Operation, ...operations])
      for (const name of security.flatMap(Object.keys)) expect(schemes).toContain(name)
  })

  test('says where no credential is needed, and where a token is not enough', () => {
    expect(securityOf('sessionCreate')).toEqual([])
    expect(securityOf('passwordChange')).toEqual([{ session: [] }])
    expect(securityOf('tokenList')).toBeUndefined()
  })
})

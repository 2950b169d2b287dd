import { z } from 'zod'
import { apiBase } from './client.ts'
import type { Contract, Route } from './dsl.ts'
import { commonErrors, errors } from './errors.ts'
import { contract } from './index.ts'

/** The contract as OpenAPI 3.1, for people and tools that do not speak TypeScript. */
export function openapi(version: string) {
  return {
    openapi: '3.1.0',
    info: {
      title: '1ctl',
      version,
      description:
        'Every answer carries x-request-id. A POST with an idempotency-key seen in the last 24 hours from the same caller answers as it did then.',
    },
    servers: [{ url: apiBase }],
    security: [{ token: [] }, { bearer: [] }, { session: [] }],
    components: {
      securitySchemes: {
        token: { type: 'apiKey', in: 'header', name: 'x-satusky-api-key' },
        bearer: { type: 'http', scheme: 'bearer' },
        session: { type: 'apiKey', in: 'cookie', name: '1ctl_session' },
      },
      schemas: { Error: errorSchema },
    },
    paths: pathsOf(contract),
  }
}

const errorSchema = {
  type: 'object',
  required: ['error'],
  properties: {
    error: {
      type: 'object',
      required: ['code', 'message', 'requestId'],
      properties: {
        code: { enum: Object.keys(errors) },
        message: { type: 'string' },
        hint: { type: 'string' },
        details: { type: 'object' },
        requestId: { type: 'string' },
      },
    },
  },
}

function pathsOf(routes: Contract) {
  const paths: Record<string, Record<string, unknown>> = {}
  for (const [name, route] of Object.entries(routes)) {
    paths[route.path] ??= {}
    Object.assign(paths[route.path] ?? {}, { [route.method.toLowerCase()]: operation(name, route) })
  }
  return paths
}

function operation(name: string, route: Route) {
  const query = route.query && jsonSchema(route.query, 'input')
  return {
    operationId: name,
    summary: route.summary,
    'x-access': route.access,
    ...(route.access === 'public' ? { security: [] } : {}),
    ...(route.access === 'session' ? { security: [{ session: [] }] } : {}),
    parameters: [
      ...pathNames(route.path).map((key) => ({ name: key, in: 'path', required: true, schema: { type: 'string' } })),
      ...Object.entries(query?.properties ?? {}).map(([key, schema]) => ({ name: key, in: 'query', schema })),
    ],
    ...(route.body
      ? {
          requestBody: { required: true, content: { 'application/json': { schema: jsonSchema(route.body, 'input') } } },
        }
      : {}),
    responses: {
      [route.status ?? 200]: {
        description: 'done',
        content: { [route.stream ?? 'application/json']: { schema: jsonSchema(route.output, 'output') } },
      },
      ...refusals(route),
    },
  }
}

function refusals(route: Route) {
  const codes = [...commonErrors, ...(route.errors ?? [])]
  const statuses = [...new Set(codes.map((code) => errors[code]))].sort((a, b) => a - b)
  return Object.fromEntries(
    statuses.map((status) => [
      status,
      {
        description: codes.filter((code) => errors[code] === status).join(', '),
        content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } },
      },
    ]),
  )
}

export const pathNames = (path: string) => Array.from(path.matchAll(/\{(\w+)\}/g), ([, name]) => name ?? '')

type JsonSchema = { [key: string]: unknown; properties?: Record<string, JsonSchema>; anyOf?: JsonSchema[] }

export function jsonSchema(schema: z.ZodType, side: 'input' | 'output'): JsonSchema {
  const { $schema: _, ...json } = z.toJSONSchema(schema, { target: 'draft-7', io: side, unrepresentable: 'any' })
  return withPlainNulls(json) as JsonSchema
}

/** `anyOf: [string, null]` as `type: ['string', 'null']`: the same in fewer words, and a serializer needs not try both. */
function withPlainNulls(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(withPlainNulls)
  if (typeof node !== 'object' || node === null) return node
  const { anyOf, ...rest } = node as JsonSchema
  const [value, none] = anyOf ?? []
  if (anyOf?.length === 2 && none?.['type'] === 'null' && typeof value?.['type'] === 'string' && !value['enum'])
    return withPlainNulls({ ...rest, ...value, type: [value['type'], 'null'] })
  return Object.fromEntries(Object.entries(node).map(([key, child]) => [key, withPlainNulls(child)]))
}

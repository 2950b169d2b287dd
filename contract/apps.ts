import { z } from 'zod'
import { route } from './dsl.ts'
import { limits } from './limits.ts'
import { matches, nameRules } from './names.ts'
import { nowOrStage, rolloutSummary } from './rollouts.ts'
import { flag, id, name, page, pageQuery, time } from './schemas.ts'

/**
 * Apps and their services: what is deployed. A deploy declares; what was set by a command or the dashboard beside it (a variable, a bag that
 * was attached) stays until it is removed there.
 */

const link = z.strictObject({ secret: name('secret'), key: name('secretKey') })
const plainValue = z
  .string()
  .max(limits.envValueLengthMax)
  .refine((text) => text.isWellFormed() && !text.includes('\0'), { error: 'no Unicode text, or has a NUL in it' })
const envValue = z
  .union([plainValue, link], { error: 'a text, or { "secret": …, "key": … }' })
  .meta({ description: 'plain and visible; or a link to one key of a secret' })

/** Variables, as a Map: an object would make something else of one named `__proto__`. */
const env = z
  .custom<Record<string, unknown>>((given) => typeof given === 'object' && given !== null && !Array.isArray(given), {
    error: 'an object of variables',
  })
  .transform((given, context) => {
    const entries = Object.entries(given)
    const problem = (path: PropertyKey[], message: string) =>
      context.issues.push({ code: 'custom', message, path, input: undefined })
    if (entries.length > limits.envMax) problem([], `more than ${limits.envMax} variables`)
    return new Map(
      entries.flatMap(([variable, value]) => {
        if (!matches(nameRules.variable, variable)) problem([variable], nameRules.variable.says)
        const checked = envValue.safeParse(value)
        if (!checked.success)
          for (const { path, message } of checked.error.issues) problem([variable, ...path], message)
        return checked.success ? [[variable, checked.data] as const] : []
      }),
    )
  })
  .meta({ type: 'object', description: 'variables: a text, or { "secret": name, "key": key }' })

const quantity = z
  .string()
  .regex(/^\d+(?:\.\d+)?(?:m|k|M|G|T|Ki|Mi|Gi|Ti)?$/, { error: 'a quantity of Kubernetes: 250m, 0.5, 128Mi' })
const amounts = z.strictObject({ cpu: quantity.optional(), memory: quantity.optional() })
const words = z.array(z.string().max(4096)).max(limits.argumentsMax)
const bags = z.array(name('secret')).max(limits.bagsOfAppMax)

const workload = {
  // What a registry takes; it is passed on, never fetched by the server.
  image: z
    .string()
    .max(512)
    .regex(/^[a-z0-9][\w./:@-]*$/i, { error: 'an image: acme/api:1.0' })
    .optional(),
  port: z.int().min(1).max(65_535).nullable().optional(),
  replicas: z.int().min(0).max(limits.replicasMax).optional(),
  command: words.nullable().optional(),
  args: words.nullable().optional(),
  healthPath: z
    .string()
    .max(1024)
    .regex(/^\/[!-~]*$/, { error: 'a path: /healthz' })
    .nullable()
    .optional()
    .meta({ description: 'asked for on `port`: a pod counts as ready once it answers 200' }),
  resources: z.strictObject({ requests: amounts.optional(), limits: amounts.optional() }).nullable().optional(),
  env: env.optional(),
  envFrom: bags.optional().meta({ description: 'secrets: each key becomes a variable; later ones win' }),
  secretFiles: bags.optional().meta({ description: 'secrets: each key becomes a file /run/secrets/<KEY>' }),
}

const dryRun = z
  .boolean()
  .optional()
  .meta({ description: 'check everything and say what would be, but change nothing' })

// null takes a field away; one that is not given stays.
const deploy = z
  .strictObject({
    name: name('app'),
    ...workload,
    services: z
      .array(z.strictObject({ name: name('service'), ...workload }))
      .min(1)
      .max(limits.servicesMax)
      .nullable()
      .optional()
      .meta({ description: "several workloads; the app's own fields are their defaults, lists and env are merged" }),
    security: z.enum(['baseline', 'restricted']).optional(),
    vpc: z.string().max(100).optional().meta({ description: 'default' }),
    rollout: nowOrStage,
    onFailure: z.enum(['rollback', 'keep']).optional(),
    note: z.string().max(limits.noteLengthMax).optional(),
    dryRun,
  })
  .check((context) => {
    const names = (context.value.services ?? []).map(({ name }) => name)
    if (new Set(names).size < names.length)
      context.issues.push({ code: 'custom', message: 'names a service twice', path: ['services'], input: undefined })
  })

const where = z.strictObject({
  vpc: z.string().max(100).optional().meta({ description: 'where an app is looked for by name (default)' }),
})

/** What a pod of the service runs, and how many are ready. */
const service = z.object({
  name: z.string(),
  image: z.string(),
  port: z.int().nullable(),
  replicas: z.int(),
  ready: z.int().meta({ description: 'pods that are ready, on whatever release' }),
  state: rolloutSummary.shape.state.nullable().meta({ description: 'of its last rollout' }),
})

const app = z.object({
  id: id('app'),
  name: z.string(),
  vpc: z.string(),
  namespace: z.string(),
  release: z.int().nullable().meta({ description: 'what should run; null before the first deploy' }),
  liveRelease: z.int().nullable().meta({ description: 'the last release that every pod ran' }),
  staged: z.boolean().meta({ description: 'something was saved that its pods do not run yet: 1ctl deploy redeploy' }),
  rejected: z.string().nullable().meta({ description: 'what the pods did not take, in words' }),
  services: z.array(service),
  rollout: rolloutSummary.nullable(),
  createdAt: time,
  updatedAt: time,
  updatedBy: z.string(),
})

const source = z.enum(['envFrom', 'link', 'env'])
const entry = z.object({
  name: z.string(),
  value: z.string().nullable().meta({ description: 'of plain env only; a secret is never shown' }),
  source,
  level: z.enum(['app', 'service']),
  secret: z.string().nullable(),
  scope: z.enum(['org', 'vpc', 'app']).nullable(),
  key: z.string().nullable(),
  version: z.int().nullable().meta({ description: 'of the secret that would be injected' }),
})
const effective = z.object({
  service: z.string(),
  variables: z.array(entry.extend({ overrides: z.array(entry) })),
  files: z.array(
    z.object({ path: z.string(), secret: z.string(), scope: entry.shape.scope, key: z.string(), version: z.int() }),
  ),
})

const variable = z.object({
  name: z.string(),
  value: z.string().nullable(),
  secret: z.string().nullable(),
  key: z.string().nullable(),
  service: z.string().nullable().meta({ description: 'null: every service' }),
  declared: z.boolean().meta({ description: 'by a deploy; otherwise it was set by itself and stays' }),
})

const deployed = z.object({
  app,
  release: z.int().meta({ description: 'its number' }),
  rollout: rolloutSummary.nullable().meta({ description: 'null: nothing changed, or it was staged' }),
  unchanged: z.boolean(),
  effectiveEnv: z.array(effective),
})

const release = z.object({
  number: z.int(),
  current: z.boolean(),
  live: z.boolean(),
  createdAt: time,
  createdBy: z.string(),
  cause: z.string().meta({ description: 'in words: deploy, secret db-creds v8, rollback to 3 …' }),
  note: z.string().nullable(),
  services: z.array(
    z.object({ name: z.string(), image: z.string(), replicas: z.int(), variables: z.array(z.string()) }),
  ),
  secrets: z.array(
    z.object({
      name: z.string(),
      scope: z.enum(['org', 'vpc', 'app']),
      version: z.int(),
    }),
  ),
})

const settles = ['app_not_found', 'vpc_not_found', 'unknown_secret', 'invalid_env_key', 'file_key_collision'] as const

export const apps = {
  deploy: route({
    method: 'POST',
    path: '/deploy',
    summary: 'Create or update an app and roll it out; fields that are not given stay as they are',
    access: 'deploy',
    honorsLimits: true,
    needsKeys: true,
    body: deploy,
    output: deployed,
    status: 202,
    errors: [...settles, 'key_not_found', 'service_not_found', 'release_incomplete'],
  }),
  appList: route({
    method: 'GET',
    path: '/apps',
    summary: 'Apps of the organization',
    access: 'read',
    honorsLimits: true,
    query: z.strictObject({ ...pageQuery, vpc: z.string().max(100).optional(), q: z.string().max(100).optional() }),
    output: page(app),
    errors: ['vpc_not_found'],
  }),
  appView: route({
    method: 'GET',
    path: '/apps/{ref}',
    summary: 'One app, by name (in the VPC `vpc`) or id',
    access: 'read',
    honorsLimits: true,
    query: where,
    output: app,
    errors: ['app_not_found'],
  }),
  appDelete: route({
    method: 'DELETE',
    path: '/apps/{ref}',
    summary: 'Delete an app and its pods; its own secrets stay. `confirm` is its name',
    access: 'deploy',
    honorsLimits: true,
    query: where.extend({ confirm: z.string().optional() }),
    output: z.object({}),
    errors: ['app_not_found', 'confirmation_needed'],
  }),
  releaseList: route({
    method: 'GET',
    path: '/apps/{ref}/releases',
    summary: 'What was deployed, newest first',
    access: 'read',
    honorsLimits: true,
    query: where.extend(pageQuery),
    output: page(release),
    errors: ['app_not_found'],
  }),
  appRollback: route({
    method: 'POST',
    path: '/apps/{ref}/rollback',
    summary:
      'Run an earlier release again: as a new one, with the secrets of now or (`secrets: "release"`) those of then',
    access: 'deploy',
    honorsLimits: true,
    needsKeys: true,
    query: where,
    body: z.strictObject({
      release: z.int().min(1).max(2_147_483_647),
      secrets: z.enum(['current', 'release']).optional(),
      note: z.string().max(limits.noteLengthMax).optional(),
      dryRun,
    }),
    output: deployed,
    status: 202,
    errors: [...settles, 'release_not_found', 'release_incomplete', 'key_not_found'],
  }),
  appRedeploy: route({
    method: 'POST',
    path: '/apps/{ref}/redeploy',
    summary: 'Roll out what was staged, with the current version of each secret; nothing staged: start the pods anew',
    access: 'deploy',
    honorsLimits: true,
    needsKeys: true,
    query: where,
    body: z.strictObject({
      restart: z.boolean().optional().meta({ description: 'also if nothing is staged (true)' }),
      dryRun,
    }),
    output: deployed,
    status: 202,
    errors: [...settles, 'key_not_found', 'release_incomplete', 'nothing_staged'],
  }),
  envView: route({
    method: 'GET',
    path: '/apps/{ref}/env',
    summary: 'Variables of an app: plain values and links',
    access: 'read',
    honorsLimits: true,
    query: where,
    output: z.object({ items: z.array(variable) }),
    errors: ['app_not_found'],
  }),
  envPatch: route({
    method: 'PATCH',
    path: '/apps/{ref}/env',
    summary: 'Set and unset variables (a link is { "secret", "key" }), attach and detach whole secrets',
    access: 'deploy',
    honorsLimits: true,
    needsKeys: true,
    query: where,
    body: z.strictObject({
      set: env.optional(),
      unset: z.array(name('variable')).max(limits.envMax).optional(),
      attach: bags.optional().meta({ description: 'secrets whose keys all become variables from now on' }),
      detach: bags.optional().meta({ description: 'secrets that are injected or mounted no more; links stay' }),
      service: name('service').optional(),
      rollout: nowOrStage,
      note: z.string().max(limits.noteLengthMax).optional(),
      dryRun,
    }),
    output: deployed,
    errors: [
      ...settles,
      'key_not_found',
      'service_not_found',
      'variable_not_found',
      'secret_not_found',
      'release_incomplete',
    ],
  }),
  appLogs: route({
    method: 'GET',
    path: '/apps/{ref}/logs',
    summary:
      "What its containers write, line by line behind service/pod; known values of the app's secrets are blotted out",
    access: 'read',
    honorsLimits: true,
    needsKeys: true,
    query: where.extend({
      service: z.string().max(100).optional(),
      follow: flag.optional(),
      tail: z.coerce.number().int().min(0).max(limits.logLinesMax).default(100),
    }),
    output: z.string(),
    stream: 'text/plain',
    errors: ['app_not_found', 'service_not_found', 'cluster_away'],
  }),
  effectiveEnv: route({
    method: 'GET',
    path: '/apps/{ref}/effective-env',
    summary: 'The environment that a rollout of now would inject: the winner of each variable and what it overrides',
    access: 'read',
    honorsLimits: true,
    needsKeys: true,
    query: where,
    output: z.object({ items: z.array(effective) }),
    errors: ['app_not_found', 'unknown_secret', 'invalid_env_key', 'file_key_collision'],
  }),
}

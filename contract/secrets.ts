import { z } from 'zod'
import { route } from './dsl.ts'
import { decodeId } from './ids.ts'
import { limits } from './limits.ts'
import { matches, nameRules } from './names.ts'
import { nowOrWaves, rolloutChoice, rolloutSummary } from './rollouts.ts'
import { id, name, page, pageQuery, time } from './schemas.ts'

/**
 * Bags of keys. No answer holds a value: what may be known of one is its length as a bucket, a keyed digest (the same digest under the same
 * key of a bag is the same value), and what was learned when it was written.
 */

const lengthBucket = z.enum(['0', '1-7', '8-15', '16-31', '32-63', '64+'])

// PostgreSQL's integer.
const versionMax = 2_147_483_647

const keyName = name('secretKey')
const value = z
  .string()
  .refine((text) => text.isWellFormed(), { error: 'is not Unicode text (half a surrogate pair)' })
  .refine((text) => new TextEncoder().encode(text).length <= limits.valueBytesMax, { error: 'is longer than 256 KiB' })

/**
 * Names and values, as a Map: an object would make something else of a key named `__proto__`, and zod's record leaves it out. A problem
 * names the key, never the value.
 */
const data = z
  .custom<Record<string, string>>((given) => typeof given === 'object' && given !== null && !Array.isArray(given), {
    error: 'an object of names and values',
  })
  .transform((given, context) => {
    const entries = Object.entries(given)
    const problem = (path: string[], message: string) =>
      context.issues.push({ code: 'custom', message, path, input: undefined })
    if (entries.length > limits.bagKeysMax) problem([], `more than ${limits.bagKeysMax} keys`)
    for (const [key, text] of entries) {
      if (!matches(nameRules.secretKey, key)) problem([key], nameRules.secretKey.says)
      const checked = value.safeParse(text)
      if (!checked.success) problem([key], checked.error.issues[0]?.message ?? 'must be a string')
    }
    return new Map(entries)
  })
  .meta({ type: 'object', additionalProperties: { type: 'string' }, description: 'names and values' })

const note = z.string().max(limits.noteLengthMax).optional().meta({ description: 'why; shown in the history' })
const rollout = rolloutChoice
  .optional()
  .meta({ description: "now for an app's bag, stage for a shared one, unless said otherwise" })
const appId = z.string().max(100).optional().meta({ description: "an app's name or dep_… id: the bag of that app" })
const vpc = z
  .string()
  .max(100)
  .optional()
  .meta({ description: 'a VPC: its bag, or with appId where the app is (default)' })
const where = z.strictObject({ appId, vpc })

const key = z.object({
  name: z.string(),
  version: z.int().meta({ description: 'the version of the bag that set it' }),
  digest: z.string().nullable().meta({
    description:
      'the same digest here, then and now, is the same value; null for values so short that they could be guessed',
  }),
  length: lengthBucket,
  updatedAt: time,
  updatedBy: z.string(),
  hints: z
    .array(z.string())
    .meta({ description: 'placeholder, trailing newline, expiry …, as learned when it was written' }),
  expiresAt: time.nullable().meta({ description: 'of a certificate or a JWT' }),
})

const bag = z.object({
  id: id('secret'),
  name: z.string(),
  type: z.enum(['custom', 'database', 'registry']),
  scope: z.enum(['org', 'vpc', 'app']),
  app: z.string().nullable(),
  appId: z.string().nullable().meta({ description: 'dep_…, once the app exists' }),
  vpc: z.string().nullable(),
  version: z.int(),
  keys: z.array(z.string()),
  usedBy: z.int().meta({ description: 'how many services use it' }),
  status: z.enum(['live', 'rolling_out', 'redeploy_needed', 'pending', 'rejected', 'shadowed', 'unused']).meta({
    description: 'whether pods run its version of now; of several apps, the one that is worst off',
  }),
  createdAt: time,
  createdBy: z.string(),
  updatedAt: time,
  updatedBy: z.string(),
})

const change = z.object({
  added: z.array(z.string()),
  changed: z.array(z.string()),
  removed: z.array(z.string()),
  kept: z.array(z.string()),
})

/** What a change of a bag means for pods: rollouts that began, or apps whose pods go on with the version before. */
const followed = {
  rollouts: z.array(rolloutSummary),
  wave: z.string().nullable().meta({ description: 'wav_…: the rollout of a shared bag, app after app' }),
  stale: z.array(z.object({ app: z.string(), appId: z.string(), vpc: z.string() })),
}
const changedBag = bag.extend({ changes: change, unchanged: z.boolean(), ...followed })

const version = z.object({
  version: z.int(),
  current: z.boolean(),
  createdAt: time,
  createdBy: z.string(),
  note: z.string().nullable(),
  added: z.array(z.string()),
  changed: z.array(z.string()),
  removed: z.array(z.string()),
})

const use = z.object({
  app: z.string(),
  appId: z.string(),
  vpc: z.string(),
  service: z.string().nullable().meta({ description: 'null: every service of the app' }),
  mode: z.enum(['envFrom', 'secretFiles', 'link']),
  key: z.string().nullable(),
  variable: z.string().nullable().meta({ description: 'for a link: the variable it becomes' }),
  runningVersion: z.int().nullable().meta({ description: 'what every pod of the app ran last' }),
  currentVersion: z.int(),
})

/** Two forms in one body (a replaced bag, or keys merged into an app's), told apart by deploymentId. */
const put = z
  .strictObject({
    name: name('secret').optional(),
    data: data.optional(),
    appId,
    vpc,
    type: z.literal('custom').optional(),
    note,
    rollout,
    deploymentId: z.string().max(100).optional().meta({
      description: "an app's id, or its name in the VPC `vpc`; one that is not there yet gets the bag when it comes",
    }),
    keyValues: z
      .array(z.strictObject({ key: keyName, value }))
      .min(1)
      .max(limits.bagKeysMax)
      .optional(),
  })
  .check((context) => {
    const { name, data, deploymentId, keyValues, appId } = context.value
    const problem = (path: string, message: string) =>
      context.issues.push({ code: 'custom', message, path: [path], input: undefined })
    if (deploymentId === undefined && keyValues === undefined) {
      if (name === undefined) problem('name', 'is needed')
      if (data === undefined) problem('data', 'is needed: an object of names and values')
      // The app may not exist yet, so its name is looked at, not looked up.
      if (appId !== undefined && decodeId('app', appId) === undefined && !matches(nameRules.app, appId))
        problem('appId', nameRules.app.says)
      return
    }
    if (deploymentId === undefined) problem('deploymentId', 'is needed with keyValues')
    if (keyValues === undefined) problem('keyValues', 'is needed with deploymentId')
    if (data !== undefined) problem('data', 'does not go with deploymentId; use keyValues')
    if (appId !== undefined) problem('appId', 'does not go with deploymentId')
    if (
      deploymentId !== undefined &&
      !deploymentId.startsWith('dep_') &&
      decodeId('app', deploymentId) === undefined &&
      !matches(nameRules.app, deploymentId)
    )
      problem('deploymentId', nameRules.app.says)
  })

export const secrets = {
  secretDeploy: route({
    method: 'POST',
    path: '/secrets/{ref}/deploy',
    summary: 'Roll the version of now out to the apps that do not run it: what was staged, or is stale',
    access: 'secrets:write',
    honorsLimits: true,
    needsKeys: true,
    query: where,
    body: z.strictObject({ rollout: nowOrWaves }),
    output: bag.extend(followed),
    errors: ['secret_not_found', 'invalid_env_key', 'file_key_collision', 'release_incomplete'],
  }),
  secretList: route({
    method: 'GET',
    path: '/secrets',
    summary: 'Bags of the organization: names and key names',
    access: 'read',
    honorsLimits: true,
    needsKeys: true,
    query: z.strictObject({
      ...pageQuery,
      scope: z.enum(['org', 'vpc', 'app']).optional(),
      app: z.string().max(100).optional().meta({ description: 'name or dep_… id' }),
      vpc: z.string().max(100).optional(),
      type: z.enum(['custom', 'database', 'registry']).optional(),
      q: z.string().max(100).optional().meta({ description: 'part of a name or of a key name' }),
    }),
    output: page(bag),
  }),
  secretPut: route({
    method: 'POST',
    path: '/secrets',
    summary:
      'Create or replace the bag of that name and scope; with deploymentId: merge keys into a bag of that app and attach it',
    access: 'secrets:write',
    honorsLimits: true,
    needsKeys: true,
    body: put,
    output: changedBag,
    errors: [
      'app_not_found',
      'vpc_not_found',
      'secret_not_found',
      'secret_in_use',
      'secret_managed',
      'version_conflict',
      'bag_too_large',
      'invalid_env_key',
      'file_key_collision',
      'release_incomplete',
    ],
  }),
  secretView: route({
    method: 'GET',
    path: '/secrets/{ref}',
    summary: 'One bag, by name (with appId or vpc, the bag of that scope) or id: its keys without values',
    access: 'read',
    honorsLimits: true,
    needsKeys: true,
    query: where,
    output: bag.extend({ keyDetails: z.array(key) }),
    errors: ['secret_not_found'],
  }),
  secretPatch: route({
    method: 'PATCH',
    path: '/secrets/{ref}',
    summary: 'Merge: set some keys, unset others, keep the rest; If-Match takes the etag of a view',
    access: 'secrets:write',
    honorsLimits: true,
    needsKeys: true,
    query: where,
    body: z.strictObject({
      set: data.optional(),
      unset: z.array(keyName).max(limits.bagKeysMax).optional(),
      note,
      rollout,
    }),
    output: changedBag,
    errors: [
      'secret_not_found',
      'key_not_found',
      'secret_in_use',
      'secret_managed',
      'version_conflict',
      'bag_too_large',
      'invalid_env_key',
      'file_key_collision',
      'release_incomplete',
    ],
  }),
  secretDelete: route({
    method: 'DELETE',
    path: '/secrets/{ref}',
    summary: 'Delete a bag that nothing uses, with all its versions; If-Match as with PATCH',
    access: 'secrets:write',
    honorsLimits: true,
    needsKeys: true,
    query: where,
    output: z.object({}),
    errors: ['secret_not_found', 'secret_in_use', 'secret_managed', 'version_conflict'],
  }),
  secretVersionList: route({
    method: 'GET',
    path: '/secrets/{ref}/versions',
    summary: 'History: who changed which keys, when and why',
    access: 'read',
    honorsLimits: true,
    needsKeys: true,
    query: where.extend(pageQuery),
    output: page(version),
    errors: ['secret_not_found'],
  }),
  secretRestore: route({
    method: 'POST',
    path: '/secrets/{ref}/restore',
    summary: 'Make an old version, or some keys of it, the new one; nobody sees a value',
    access: 'secrets:write',
    honorsLimits: true,
    needsKeys: true,
    query: where,
    body: z.strictObject({
      version: z.int().min(1).max(versionMax),
      keys: z.array(keyName).min(1).max(limits.bagKeysMax).optional(),
      note,
      rollout,
    }),
    output: changedBag,
    errors: [
      'secret_not_found',
      'version_not_found',
      'key_not_found',
      'secret_in_use',
      'secret_managed',
      'version_conflict',
      'bag_too_large',
      'invalid_env_key',
      'file_key_collision',
      'release_incomplete',
      'value_damaged',
    ],
  }),
  secretVerify: route({
    method: 'POST',
    path: '/secrets/{ref}/verify',
    summary: 'Whether a value is the stored one; limited, audited',
    access: 'secrets:write',
    honorsLimits: true,
    needsKeys: true,
    query: where,
    body: z.strictObject({ key: keyName, value }),
    output: z.object({ match: z.boolean() }),
    errors: ['secret_not_found', 'key_not_found', 'not_comparable'],
  }),
  secretDiff: route({
    method: 'POST',
    path: '/secrets/{ref}/diff',
    summary: 'Which names would be added, changed, unchanged, removed; limited, audited',
    access: 'secrets:write',
    honorsLimits: true,
    needsKeys: true,
    query: where,
    body: z.strictObject({ data }),
    output: z.object({
      added: z.array(z.string()),
      changed: z.array(z.string()),
      unchanged: z.array(z.string()),
      removed: z.array(z.string()),
      notCompared: z.array(z.string()).meta({ description: 'too short: an answer would give the value away' }),
    }),
    errors: ['secret_not_found'],
  }),
  secretUsage: route({
    method: 'GET',
    path: '/secrets/{ref}/usage',
    summary: 'Who uses it, how',
    access: 'read',
    honorsLimits: true,
    needsKeys: true,
    query: where,
    output: z.object({ items: z.array(use) }),
    errors: ['secret_not_found'],
  }),
}

import { z } from 'zod'
import { route } from './dsl.ts'
import { limits } from './limits.ts'
import { id, page, pageQuery, time } from './schemas.ts'

/** Rollouts: each is one attempt to make the pods of an app run a release, and its receipt. */

export const rolloutStates = [
  'stored',
  'applied',
  'rolling',
  'live',
  'failed',
  'rolled_back',
  'superseded',
  'pending',
] as const
export type RolloutState = (typeof rolloutStates)[number]

/** Nothing more will happen to it. `failed` is the end only where nothing is rolled back. */
export const finalStates = ['live', 'failed', 'rolled_back', 'superseded'] as const satisfies readonly RolloutState[]
export const isFinal = (state: RolloutState) => (finalStates as readonly RolloutState[]).includes(state)

const waves = z.strictObject({ waves: z.strictObject({ size: z.int().min(1).max(1000).optional() }) })
export const nowOrWaves = z.union([z.literal('now'), waves]).optional()
export const rolloutChoice = z.union([z.enum(['now', 'stage']), waves]).meta({
  description:
    'now; stage: save it without touching pods; waves: one app first, then `size` at a time, until one fails',
})

/** Where one app is meant, there is nothing to go through in waves. */
export const nowOrStage = z
  .enum(['now', 'stage'])
  .optional()
  .meta({ description: 'stage: save it without touching pods' })

export type RolloutChoice = z.output<typeof rolloutChoice>

const state = z.enum(rolloutStates)

export const rolloutSummary = z.object({
  id: id('rollout'),
  app: z.string(),
  appId: id('app'),
  vpc: z.string(),
  release: z.int(),
  state,
  cause: z.string().meta({ description: 'in words: deploy, secret db-creds v8, rollback to 3 …' }),
  createdAt: time,
  createdBy: z.string(),
  finishedAt: time.nullable(),
})

const rollout = rolloutSummary.extend({
  previousRelease: z.int().nullable().meta({ description: 'what is run again if this fails' }),
  steps: z
    .array(z.object({ state, at: time, ms: z.int().meta({ description: 'since it was stored' }) }))
    .meta({ description: 'each state it has been in' }),
  services: z.array(
    z.object({
      name: z.string(),
      state,
      ready: z.int().meta({
        description: 'pods on the new release that are ready',
      }),
      wanted: z.int(),
      reason: z.string().nullable().meta({ description: "the pod's own: CrashLoopBackOff …" }),
      message: z.string().nullable(),
      logs: z.array(z.string()).meta({ description: 'its last lines, known values of secrets blotted out' }),
    }),
  ),
  revision: z.int().meta({ description: 'counts its changes' }),
  message: z.string().nullable().meta({ description: 'how it ended, or what it waits for, in words' }),
  supersededBy: z.string().nullable().meta({ description: 'rol_…' }),
  wave: z.string().nullable().meta({ description: 'wav_…' }),
})

const wave = z.object({
  id: id('wave'),
  secret: z.string(),
  version: z.int(),
  state: z.enum(['running', 'stopped', 'done', 'aborted']),
  size: z.int(),
  apps: z.array(
    z.object({
      app: z.string(),
      appId: id('app'),
      vpc: z.string(),
      rollout: z.string().nullable(),
      state: state.nullable(),
    }),
  ),
  message: z.string().nullable(),
  createdAt: time,
  createdBy: z.string(),
})

export const rollouts = {
  rolloutList: route({
    method: 'GET',
    path: '/rollouts',
    summary: 'Rollouts, newest first',
    access: 'read',
    honorsLimits: true,
    query: z.strictObject({
      ...pageQuery,
      app: z.string().max(100).optional().meta({ description: 'name or dep_… id' }),
      vpc: z.string().max(100).optional(),
    }),
    output: page(rolloutSummary),
    errors: ['app_not_found'],
  }),
  rolloutView: route({
    method: 'GET',
    path: '/rollouts/{id}',
    summary: 'The receipt; `wait` (seconds) answers at its next change, or at once when it is over',
    access: 'read',
    honorsLimits: true,
    query: z.strictObject({
      wait: z.coerce.number().int().min(0).max(limits.rolloutWaitSecondsMax).optional(),
      since: z.coerce
        .number()
        .int()
        .min(0)
        .max(2_147_483_647)
        .optional()
        .meta({ description: 'the revision seen last: answers at once if it is not the one of now' }),
    }),
    output: rollout,
    errors: ['rollout_not_found'],
  }),
  waveView: route({
    method: 'GET',
    path: '/waves/{id}',
    summary: 'The rollout of a shared secret through its apps',
    access: 'read',
    honorsLimits: true,
    output: wave,
    errors: ['wave_not_found'],
  }),
  waveResume: route({
    method: 'POST',
    path: '/waves/{id}/resume',
    summary: 'Go on after a failure, with the app that failed',
    access: 'deploy',
    output: wave,
    errors: ['wave_not_found', 'wave_over'],
  }),
  waveAbort: route({
    method: 'POST',
    path: '/waves/{id}/abort',
    summary: 'Leave the remaining apps as they are',
    access: 'deploy',
    output: wave,
    errors: ['wave_not_found', 'wave_over'],
  }),
}

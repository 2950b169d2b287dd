import { change } from '../change.ts'
import type { Api } from '../context.ts'
import { lockOrganization } from '../identity/organizations.ts'
import { invalid, Refusal } from '../refusal.ts'
import { rows, statement } from '../store/database.ts'
import { appFor, appNow, refuseProtected } from './apps.ts'
import { bagsByName, setVariables, unsetVariables, type Value } from './declare.ts'
import { audited, release } from './deploy.ts'
import { type EffectiveService, type Entry, effectiveServices } from './effective.ts'
import { bagsOfNow, inputsOf } from './releases.ts'

/** Variables of an app: plain ones, links to a key, and what becomes of them together with whole secrets. */

type VariableRow = {
  name: string
  value: string | null
  secret: string | null
  key: string | null
  service: string
  declared: boolean
}
const variables = statement<VariableRow>(
  'env.list',
  `select variable as name, value, null as secret, null as key, service, declared from app_env where app_id = $1
   union all
   select l.variable, null, s.name, l.key, l.service, l.declared from secret_links l join secrets s on s.id = l.secret_id where l.app_id = $1
   order by service, name`,
)
export const envView: Api['envView'] = async (ctx, { ref, ...where }) => {
  const app = await appFor(ctx, ref, where)
  const found = await rows(ctx.db, variables, [app.id])
  return { items: found.map(({ service, ...variable }) => ({ ...variable, service: service || null })) }
}

export const envPatch: Api['envPatch'] = async (
  ctx,
  { ref, vpc, set = new Map<string, Value>(), unset = [], service = '', rollout, note },
) => {
  const found = await appFor(ctx, ref, { vpc })
  refuseProtected(ctx, found)
  const both = unset.filter((name) => set.has(name))
  if (both.length > 0) throw invalid('invalid_body', [{ path: 'unset', message: `sets and unsets ${both.join(', ')}` }])
  return change(ctx, async (tx) => {
    await lockOrganization(tx, ctx.caller.organization.id)
    const app = await appNow(tx, found)
    if (service !== '' && !(app.spec.services ?? [{ name: app.name }]).some(({ name }) => name === service))
      throw new Refusal('service_not_found', `"${app.name}" has no service "${service}".`)
    const bags = await bagsByName(tx, app, [{ env: set }])
    const names = [...new Set(unset)]
    if ((await unsetVariables(tx, app, service, names)) < names.length)
      throw new Refusal('variable_not_found', `"${app.name}" has not all of the variables ${names.join(', ')}.`, {
        hint: `See them with: 1ctl env list`,
      })
    await setVariables(tx, app, service, set, bags, false)
    const result = await release(tx, ctx, app, {
      cause: `env ${[...set.keys(), ...names].toSorted().join(', ')}`.slice(0, 200),
      note,
      // Another secret's staged version stays where it is.
      pins: { current: [...bags.values()].map(({ id }) => id) },
      isStaged: rollout === 'stage' || app.release === null,
    })
    const detail = {
      set: [...set.keys()].toSorted(),
      unset: names.toSorted(),
      service: service || null,
      release: result.release,
    }
    return { result, audit: audited(app, detail) }
  })
}

export const effectiveEnv: Api['effectiveEnv'] = async (ctx, { ref, ...where }) => {
  const app = await appFor(ctx, ref, where)
  const inputs = await inputsOf(ctx.db, app)
  const services = effectiveServices(app.name, inputs, await bagsOfNow(ctx.db, inputs))
  return { items: services.map(presentEffective) }
}

const presentEntry = ({ bag, ...entry }: Entry) => ({
  name: entry.name,
  value: entry.value,
  source: entry.source,
  level: entry.level,
  key: entry.key,
  secret: bag?.name ?? null,
  scope: bag?.scope ?? null,
  version: bag?.version ?? null,
})

export const presentEffective = ({ name, variables, files }: EffectiveService) => ({
  service: name,
  variables: variables.map(({ overrides, ...entry }) => ({
    ...presentEntry(entry),
    overrides: overrides.map(presentEntry),
  })),
  files: files.map(({ bag, key }) => ({
    path: `/run/secrets/${key}`,
    secret: bag.name,
    scope: bag.scope,
    key,
    version: bag.version,
  })),
})

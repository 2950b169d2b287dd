import type { Api } from '../context.ts'
import { invalid, Refusal } from '../refusal.ts'
import { rows, statement } from '../store/database.ts'
import { appFor } from './apps.ts'
import { attachBags, bagsByName, detachBags, setVariables, unsetVariables, type Value } from './declare.ts'
import { answer, changeApp } from './deploy.ts'
import { type EffectiveService, type Entry, effectiveServices, type Inputs } from './effective.ts'
import { bagsOfNow, inputsOf, makeRelease, noteStaged, releaseOf } from './releases.ts'

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

export const envPatch: Api['envPatch'] = async (ctx, input) => {
  const {
    set = new Map<string, Value>(),
    unset = [],
    attach = [],
    detach = [],
    service = '',
    rollout,
    note,
    dryRun,
  } = input
  const found = await appFor(ctx, input.ref, input)
  const both = unset.filter((name) => set.has(name))
  if (both.length > 0) throw invalid('invalid_body', [{ path: 'unset', message: `sets and unsets ${both.join(', ')}` }])
  const removed = [...new Set(unset)].toSorted()
  const detail = { dryRun, set: [...set.keys()].toSorted(), unset: removed, attach, detach, service: service || null }
  return changeApp(ctx, found, detail, async (tx, app) => {
    if (service !== '' && !(app.spec.services ?? [{ name: app.name }]).some(({ name }) => name === service))
      throw new Refusal('service_not_found', `"${app.name}" has no service "${service}".`)
    const bags = await bagsByName(tx, app, [{ env: set, envFrom: attach }])
    if ((await unsetVariables(tx, app, service, removed)) < removed.length)
      throw new Refusal('variable_not_found', `"${app.name}" has not all of the variables ${removed.join(', ')}.`, {
        hint: `See them with: 1ctl env list --app ${app.name}`,
      })
    if (!(await detachBags(tx, app, service, [...new Set(detach)])))
      throw new Refusal(
        'secret_not_found',
        `"${app.name}" does not use all of the secrets ${detach.join(', ')} as a whole.`,
        {
          hint: `See what it uses with: 1ctl deploy env ${app.name}`,
        },
      )
    await setVariables(tx, app, service, set, bags, false)
    await attachBags(tx, app, service, attach, bags)
    const names = [...set.keys(), ...removed].toSorted()
    const whole = [...attach, ...detach]
    const now = await inputsOf(tx, app)
    const released = await releaseOf(tx, app, app.release)
    const isStaged = rollout === 'stage' || !released
    const made = await makeRelease(tx, ctx.caller, app, {
      cause: `env ${[...names, ...whole].join(', ')}`.slice(0, 200),
      note,
      // Whatever else is staged, or was rejected, stays where it is.
      pins: { current: [...bags.values()].map(({ id }) => id) },
      inputs: isStaged ? now : withVariables(released.inputs, now, service, names, whole.length > 0),
      isDry: isStaged,
    })
    await noteStaged(tx, app, made.number)
    return answer(tx, app, made)
  })
}

/** As released, but these variables of a service, and if they are meant its whole bags, as they are now. */
function withVariables(released: Inputs, now: Inputs, service: string, names: string[], areBagsMeant: boolean): Inputs {
  type Named = { service: string; variable: string }
  const isMeant = (row: Named) => row.service === service && names.includes(row.variable)
  const merge = <Row extends Named>(before: Row[], after: Row[]) => [
    ...before.filter((row) => !isMeant(row)),
    ...after.filter(isMeant),
  ]
  return {
    ...released,
    ...(areBagsMeant ? { uses: now.uses } : {}),
    variables: merge(released.variables, now.variables),
    links: merge(released.links, now.links),
  }
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

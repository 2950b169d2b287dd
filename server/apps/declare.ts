import { Refusal } from '../refusal.ts'
import { execute, rows, statement, type Tx } from '../store/database.ts'
import type { AppRow } from './releases.ts'

/** What a deploy or a command says about the variables and bags of an app, as rows; PostgreSQL keeps what they refer to from going. */

export type Value = string | { secret: string; key: string }
type Declared = {
  env?: Map<string, Value> | undefined
  envFrom?: string[] | undefined
  secretFiles?: string[] | undefined
}
type Declaration = Declared & { services?: ({ name: string } & Declared)[] | null | undefined }

/** What a deploy declares takes the place of what the one before declared, and leaves alone what was set by itself. */
export async function declareApp(tx: Tx, app: AppRow, { services, ...own }: Declaration): Promise<void> {
  const levels = [{ ...own, name: '' }, ...(services ?? [])]
  const bags = await bagsByName(tx, app, levels)
  if (services !== undefined) await execute(tx, forgetServices, [app.id, (services ?? []).map(({ name }) => name)])
  for (const { name, env, envFrom, secretFiles } of levels) {
    // A service is declared as a whole, an app field by field.
    const isWhole = name !== ''
    if (env || isWhole) {
      await execute(tx, forgetVariables, [app.id, name])
      await setVariables(tx, app, name, env ?? new Map(), bags, true)
    }
    for (const [mode, names] of [
      ['envFrom', envFrom],
      ['secretFiles', secretFiles],
    ] as const)
      if (names || isWhole) {
        await execute(tx, forgetUses, [app.id, name, mode])
        const ids = [...new Set(names ?? [])].map((each) => bags.get(each)?.id)
        await execute(tx, use, [app.id, name, mode, ids])
      }
  }
}

const forgetServices = statement(
  'declare.forgetServices',
  `with variables as (delete from app_env where app_id = $1 and service <> '' and service <> all($2::text[])),
     links as (delete from secret_links where app_id = $1 and service <> '' and service <> all($2::text[]))
   delete from secret_uses where app_id = $1 and service <> '' and service <> all($2::text[])`,
)
const forgetVariables = statement(
  'declare.forgetVariables',
  `with variables as (delete from app_env where app_id = $1 and service = $2 and declared)
   delete from secret_links where app_id = $1 and service = $2 and declared`,
)
const forgetUses = statement(
  'declare.forgetUses',
  'delete from secret_uses where app_id = $1 and service = $2 and mode = $3 and declared',
)
// Those that were attached by themselves come after these: their positions begin at 1000.
const use = statement(
  'declare.use',
  `insert into secret_uses (app_id, service, secret_id, mode, position, declared)
   select $1, $2, id, $3, at, true from unnest($4::uuid[]) with ordinality as bag (id, at)
   on conflict (app_id, service, mode, secret_id) do update set position = excluded.position, declared = true`,
)

/** Sets variables of a service ('' is all of them): a text, or a link. One takes the place of the other. */
export async function setVariables(
  tx: Tx,
  app: AppRow,
  service: string,
  env: Map<string, Value>,
  bags: Map<string, BagRef>,
  declared: boolean,
): Promise<void> {
  if (env.size === 0) return
  const texts = [...env].flatMap(([variable, value]) => (typeof value === 'string' ? [{ variable, value }] : []))
  const links = [...env].flatMap(([variable, value]) =>
    typeof value === 'string' ? [] : [{ variable, secret: bags.get(value.secret)?.id, key: value.key }],
  )
  await execute(tx, unsetBoth, [app.id, service, [...env.keys()]])
  await execute(tx, setTexts, [
    app.id,
    service,
    declared,
    texts.map(({ variable }) => variable),
    texts.map(({ value }) => value),
  ])
  await execute(tx, setLinks, [
    app.id,
    service,
    declared,
    links.map(({ variable }) => variable),
    links.map(({ secret }) => secret),
    links.map(({ key }) => key),
  ])
}
const unsetBoth = statement(
  'declare.unset',
  `with variables as (delete from app_env where app_id = $1 and service = $2 and variable = any($3) returning variable),
     links as (delete from secret_links where app_id = $1 and service = $2 and variable = any($3) returning variable)
   select variable from variables union all select variable from links`,
)
const setTexts = statement(
  'declare.setTexts',
  `insert into app_env (app_id, service, variable, value, declared)
   select $1, $2, variable, value, $3 from unnest($4::text[], $5::text[]) as v (variable, value)`,
)
const setLinks = statement(
  'declare.setLinks',
  `insert into secret_links (app_id, service, variable, secret_id, key, declared)
   select $1, $2, variable, secret, key, $3 from unnest($4::text[], $5::uuid[], $6::text[]) as l (variable, secret, key)`,
)

const attach = statement(
  'declare.attach',
  `insert into secret_uses (app_id, service, secret_id, mode, position)
   select $1, $2, id, 'envFrom', coalesce((
     select greatest(max(position), 999) from secret_uses where app_id = $1 and service = $2 and mode = 'envFrom'), 999) + at
   from unnest($3::uuid[]) with ordinality as bag (id, at) on conflict do nothing`,
)
const detach = statement(
  'declare.detach',
  `with gone as (
     delete from secret_uses u using secrets s
     where u.app_id = $1 and u.service = $2 and s.id = u.secret_id and s.name = any($3) returning s.name)
   select distinct name from gone`,
)
/** Whole bags, beside what deploys declare. */
export async function attachBags(tx: Tx, app: AppRow, service: string, names: string[], bags: Map<string, BagRef>) {
  if (names.length > 0) await execute(tx, attach, [app.id, service, names.map((each) => bags.get(each)?.id)])
}
/** Whether all of them were attached, or declared. */
export const detachBags = async (tx: Tx, app: AppRow, service: string, names: string[]) =>
  names.length === 0 || (await execute(tx, detach, [app.id, service, names])) === names.length

/** How many there were. */
export const unsetVariables = (tx: Tx, app: AppRow, service: string, variables: string[]) =>
  execute(tx, unsetBoth, [app.id, service, variables])

export type BagRef = { name: string; id: string; keys: string[] }
const visible = statement<BagRef>(
  'declare.bags',
  `select distinct on (name) name, id, keys from secrets
   where organization_id = $1 and name = any($2)
     and (vpc_id is null or (vpc_id = $3 and (app is null or app = $4)))
   order by name, app is not null desc, vpc_id is not null desc`,
)
/** The bags that names mean for this app, the narrowest of each; all that are missing are named at once, before anything is stored. */
export async function bagsByName(tx: Tx, app: AppRow, levels: Declared[]): Promise<Map<string, BagRef>> {
  const links = levels.flatMap(({ env }) => [...(env?.values() ?? [])].filter((value) => typeof value !== 'string'))
  const whole = levels.flatMap(({ envFrom = [], secretFiles = [] }) => [...envFrom, ...secretFiles])
  const names = [...new Set([...whole, ...links.map(({ secret }) => secret)])]
  if (names.length === 0) return new Map()
  const found = await rows(tx, visible, [app.organization_id, names, app.vpc_id, app.name])
  const bags = new Map(found.map((bag) => [bag.name, bag]))
  const missing = names.filter((name) => !bags.has(name)).sort()
  if (missing.length > 0)
    throw new Refusal(
      'unknown_secret',
      `There is no secret ${missing.map((name) => `"${name}"`).join(', ')} for "${app.name}".`,
      {
        hint: 'Create it first: 1ctl secret create --shared --name <name> --kv KEY',
        details: { missing },
      },
    )
  const keyless = links.filter(({ secret, key }) => !bags.get(secret)?.keys.includes(key))
  if (keyless.length > 0)
    throw new Refusal(
      'key_not_found',
      `There is no key ${keyless.map(({ secret, key }) => `"${key}" in "${secret}"`).join(', ')}.`,
      { details: { missing: keyless } },
    )
  return bags
}

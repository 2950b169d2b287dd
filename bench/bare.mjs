// The peer: three endpoints as one would write them by hand for speed, with the product's Fastify and `pg` and nothing else. A
// statement for the token, one for the rows, both prepared; the product's fields, through a response schema. It reads the product's
// own tables, so that both find the same rows. No permissions, limits, error shape, metrics or security headers.
import { createHash } from 'node:crypto'
import { productRequire } from './servers.mjs'

const pg = productRequire('pg')
const Fastify = productRequire('fastify')

// As the product does: times stay text, which is quicker than a Date.
pg.types.setTypeParser(pg.types.builtins.TIMESTAMPTZ, String)
const pool = new pg.Pool({ ...JSON.parse(process.argv[2]), max: 20 })
const app = Fastify()
app.decorateRequest('token', null)

const tokenByHash = {
  name: 'token',
  text: 'select id, name, organization_id, created_by, scopes, vpcs, apps, disabled, expires_at from api_tokens where hash = $1',
}
async function authenticate(request, reply) {
  const hash = createHash('sha256').update(String(request.headers['x-satusky-api-key'])).digest()
  const [token] = (await pool.query({ ...tokenByHash, values: [hash] })).rows
  if (!token || token.disabled || (token.expires_at && new Date(token.expires_at) <= new Date()))
    return reply.code(401).send({ error: 'unauthorized' })
  request.token = token
}

const text = { type: 'string' }
const textOrNull = { type: ['string', 'null'] }
const texts = { type: ['array', 'null'], items: text }
const object = (properties) => ({ type: 'object', properties })
const answers = (schema) => ({ preHandler: authenticate, schema: { response: { 200: schema } } })

const userById = {
  name: 'user',
  text: `select u.id, u.email, u.operator, o.id as organization_id, o.name as organization, m.role
    from users u join members m on m.user_id = u.id join organizations o on o.id = m.organization_id
    where u.id = $1 and o.id = $2`,
}
const organization = { id: text, name: text }
const me = object({
  user: object({ id: text, email: text, operator: { type: 'boolean' } }),
  organization: object(organization),
  role: text,
  permissions: { type: 'array', items: text },
  token: object({ id: text, name: text, scopes: texts, vpcs: texts, apps: texts, expiresAt: textOrNull }),
  organizations: { type: 'array', items: object({ ...organization, role: text }) },
})
const permissions = ['read', 'account', 'deploy', 'secrets:write', 'tokens:admin', 'admin', 'owner', 'operator']
app.get('/v1/cli/auth/me', answers(me), async ({ token }) => {
  const { rows } = await pool.query({ ...userById, values: [token.created_by, token.organization_id] })
  const { id, email, operator, organization_id, organization, role } = rows[0]
  return {
    user: { id, email, operator },
    organization: { id: organization_id, name: organization },
    role,
    permissions,
    token: { ...token, expiresAt: token.expires_at },
    organizations: [{ id: organization_id, name: organization, role }],
  }
})

const tokensOfOrganization = {
  name: 'tokens',
  text: `select t.id, t.name, t.prefix, t.last4, t.scopes, t.vpcs, t.apps, t.created_at as "createdAt", u.email as "createdBy",
      case when t.disabled then 'disabled' when t.expires_at <= now() then 'expired' else 'active' end as status,
      t.expires_at as "expiresAt", t.last_used_at as "lastUsedAt", t.last_used_address as "lastUsedAddress"
    from api_tokens t join users u on u.id = t.created_by
    where t.organization_id = $1 order by t.id desc limit 51`,
}
const item = object({
  id: text,
  name: text,
  prefix: text,
  last4: text,
  status: text,
  scopes: texts,
  vpcs: texts,
  apps: texts,
  createdAt: text,
  createdBy: text,
  expiresAt: textOrNull,
  lastUsedAt: textOrNull,
  lastUsedAddress: textOrNull,
})
const page = object({ items: { type: 'array', items: item }, nextCursor: textOrNull })
app.get('/v1/cli/tokens', answers(page), async ({ token }) => {
  const { rows } = await pool.query({ ...tokensOfOrganization, values: [token.organization_id] })
  return { items: rows.slice(0, 50), nextCursor: rows.length > 50 ? rows[49].id : null }
})

const bagsOfOrganization = {
  name: 'bags',
  text: `select s.id, s.name, s.type, s.version, s.app, v.name as vpc, s.created_at as "createdAt", s.created_by as "createdBy",
      s.updated_at as "updatedAt", s.updated_by as "updatedBy", array_agg(k.key order by k.key) as keys,
      (select count(*)::int from secret_uses u where u.secret_id = s.id) as "usedBy"
    from secrets s left join vpcs v on v.id = s.vpc_id left join secret_keys k on k.secret_id = s.id
    where s.organization_id = $1 group by s.id, v.name order by s.id desc limit 51`,
}
const bag = object({
  id: text,
  name: text,
  type: text,
  version: { type: 'integer' },
  app: textOrNull,
  vpc: textOrNull,
  createdAt: text,
  createdBy: text,
  updatedAt: text,
  updatedBy: text,
  keys: { type: 'array', items: text },
  usedBy: { type: 'integer' },
})
const bags = object({ items: { type: 'array', items: bag }, nextCursor: textOrNull })
app.get('/v1/cli/secrets', answers(bags), async ({ token }) => {
  const { rows } = await pool.query({ ...bagsOfOrganization, values: [token.organization_id] })
  return { items: rows.slice(0, 50), nextCursor: rows.length > 50 ? rows[49].id : null }
})

console.log(`ready at ${await app.listen({ host: '127.0.0.1', port: 0 })}`)

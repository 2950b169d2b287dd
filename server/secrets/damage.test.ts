import { decodeId } from '@1ctl/contract/ids'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { newOrganization } from '../testing/actors.ts'
import { startTestServer, type TestServer } from '../testing/server.ts'

/** Rows changed by hand in the database: what was sealed for another place does not open, and nothing comes of trying. */
let server: TestServer
beforeAll(async () => {
  server = await startTestServer()
})
afterAll(() => server.close())

const values = { old: 'the value of before', now: 'the value of today', beside: 'the value beside' }
let counter = 0

async function newBag(client = server.client()) {
  const ref = `bag-${++counter}`
  const { id } = await client.secretPut({ name: ref, data: { A: values.old, B: values.beside } })
  await client.secretPatch({ ref, set: { A: values.now } })
  return { ref, id: decodeId('secret', id) ?? '' }
}

const oldA = "secret_id = $1 and key = 'A' and version = 1"
const sealedOf = (where: string) =>
  `update secret_values set sealed = (select sealed from secret_values where ${where})`

test.each([
  ['a flipped bit', `update secret_values set sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1) where ${oldA}`],
  [
    'a flipped bit of the tag',
    `update secret_values set sealed = set_bit(sealed, length(sealed) * 8 - 1, 1 - get_bit(sealed, length(sealed) * 8 - 1)) where ${oldA}`,
  ],
  [
    'a bit of the nonce',
    `update secret_values set sealed = set_byte(sealed, 1, get_byte(sealed, 1) # 1) where ${oldA}`,
  ],
  ['an unknown format', `update secret_values set sealed = set_byte(sealed, 0, 2) where ${oldA}`],
  ['a cut', `update secret_values set sealed = substring(sealed for 10) where ${oldA}`],
  ['nothing', `update secret_values set sealed = '' where ${oldA}`],
  ['the value of another key', `${sealedOf("secret_id = $1 and key = 'B'")} where ${oldA}`],
  ['the value of a later version', `${sealedOf("secret_id = $1 and key = 'A' and version = 2")} where ${oldA}`],
  ['the value of another bag', `${sealedOf("secret_id = $2 and key = 'A' and version = 1")} where ${oldA}`],
  [
    'the data key of another organization',
    `update secret_values set key_id = (select key_id from secret_values where secret_id = $3 limit 1) where ${oldA}`,
  ],
])('%s is damage: restoring says so, changes nothing, and the log says where', async (_, change) => {
  const client = server.client()
  const { token } = await newOrganization(server)
  const [bag, other, foreign] = [await newBag(), await newBag(), await newBag(server.client({ token }))]
  // All three are named, so that PostgreSQL knows their types.
  await server.db.query(change.replace('$1', '(select $1::uuid from (select $2::uuid, $3::uuid) ids)'), [
    bag.id,
    other.id,
    foreign.id,
  ])
  const before = await client.secretView({ ref: bag.ref })
  const logged = server.log().length

  for (const keys of [undefined, ['A']]) {
    const body = { version: 1, ...(keys ? { keys } : {}) }
    const answer = await server.call(`/secrets/${bag.ref}/restore`, { as: { token: server.token }, body })
    expect(answer.status, answer.text).toBe(500)
    expect(answer.body.error).toMatchObject({ code: 'value_damaged', details: { key: 'A' } })
    for (const value of Object.values(values)) expect(answer.text).not.toContain(value)
  }
  expect(await client.secretView({ ref: bag.ref })).toEqual(before)
  expect((await client.auditList({ object: bag.ref })).items.map(({ action }) => action)).toEqual([
    'secret.patch',
    'secret.put',
  ])
  const log = server.log().slice(logged)
  expect(log).toContain('a stored value is damaged')
  expect(log).toContain(`"secret":"${bag.id}","key":"A"`)
  for (const value of Object.values(values)) expect(log).not.toContain(value)

  // The rest of the version is as good as before.
  expect(await client.secretRestore({ ref: bag.ref, version: 1, keys: ['B'] })).toMatchObject({ unchanged: true })
})

test.each([
  [
    'an older value put back in front',
    "update secret_values set until = case version when 1 then null else 3 end where secret_id = $1 and key = 'A'",
    3,
  ],
  ['a value that stays beyond its end', `update secret_values set until = 5 where ${oldA}`, 3],
  ['a value that ends too early', "update secret_values set until = 2 where secret_id = $1 and key = 'B'", 3],
  ['a value that is gone', "delete from secret_values where secret_id = $1 and key = 'A' and version = 2", 3],
  ['a value of another version', `update secret_values set version = 0 where ${oldA}`, 1],
  [
    'a row of another bag',
    `with gone as (delete from secret_values where ${oldA})
     update secret_values set secret_id = $1, version = 0 where secret_id = $2 and key = 'A' and version = 1`,
    1,
  ],
])('%s is damage, though every value is intact', async (_, change, version) => {
  const client = server.client()
  const [{ ref, id }, other] = [await newBag(), await newBag()]
  await client.secretPatch({ ref, set: { C: 'one version more' } })
  // Both are named, so that PostgreSQL knows their types.
  await server.db.query(change.replace('$1', '(select $1::uuid from (select $2::uuid) ids)'), [id, other.id])
  const before = await client.secretView({ ref })
  for (const keys of [undefined, ['B']]) {
    const body = { version, ...(keys ? { keys } : {}) }
    const answer = await server.call(`/secrets/${ref}/restore`, { as: { token: server.token }, body })
    expect(answer.body.error, answer.text).toMatchObject({ code: 'value_damaged', details: { version } })
  }
  expect(await client.secretView({ ref })).toEqual(before)
})

test('a damaged value is whole again once it was unset and set again', async () => {
  const client = server.client()
  const { ref, id } = await newBag()
  await server.db.query("update secret_values set sealed = '' where secret_id = $1 and key = 'A'", [id])
  await expect(client.secretRestore({ ref, version: 2 })).rejects.toMatchObject({ code: 'value_damaged' })
  await client.secretPatch({ ref, unset: ['A'] })
  const { version } = await client.secretPatch({ ref, set: { A: values.now } })
  await client.secretPatch({ ref, set: { A: 'another value' } })
  await client.secretRestore({ ref, version })
  expect(await client.secretVerify({ ref, key: 'A', value: values.now })).toEqual({ match: true })
})

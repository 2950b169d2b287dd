import type { Client } from '@1ctl/contract/client'
import { decodeId, encodeId } from '@1ctl/contract/ids'
import { uuidv7 } from '../store/uuid.ts'
import type { TestServer } from './server.ts'

/** Two apps that use a shared bag of the same name, which is on its way through them. */
export async function deployInWaves(client: Client, name: string) {
  const image = 'acme/api:1.0'
  await client.secretPut({ name, data: { KEY: 'a shared value' } })
  const { app } = await client.deploy({ name, image, envFrom: [name] })
  await client.deploy({ name: `${name}-too`, image, envFrom: [name] })
  const { rollouts, wave } = await client.secretPatch({ ref: name, set: { KEY: 'another value' }, rollout: 'now' })
  return { app, rollout: rollouts[0]?.id ?? '', wave: wave ?? '' }
}

/** An app as far as references need one, in the first organization's VPC `default`. */
export async function newApp(server: TestServer, name: string) {
  const id = uuidv7()
  await server.db.query(
    `insert into apps (id, organization_id, vpc_id, name)
     select $1, v.organization_id, v.id, $2 from vpcs v join organizations o on o.id = v.organization_id
     where o.name = 'main' and v.name = 'default'`,
    [id, name],
  )
  return {
    id: encodeId('app', id),
    name,
    link: (variable: string, secret: string, key: string) =>
      server.db.query('insert into secret_links (app_id, variable, secret_id, key) values ($1, $2, $3, $4)', [
        id,
        variable,
        decodeId('secret', secret),
        key,
      ]),
    unlink: (variable: string) =>
      server.db.query('delete from secret_links where app_id = $1 and variable = $2', [id, variable]),
  }
}

import { encodeId } from '@1ctl/contract/ids'
import { Refusal } from '../refusal.ts'
import { type Database, execute, rows, statement, type Tx } from '../store/database.ts'
import { uuidv7 } from '../store/uuid.ts'
import { Damaged, newKey, unwrap, wrap } from './envelope.ts'
import type { Master } from './master.ts'

/** The keys of organizations as rows: wrapped by the master key, bound to their organization, purpose and id. */
export type Purpose = 'data' | 'fingerprint'
export type StoredKey = { id: string; organization_id: string; purpose: Purpose; wrapped: Buffer }
export type OpenKey = { id: string; purpose: Purpose; active: boolean; key: Buffer }

const ofOrganization = statement<StoredKey & { master_key_id: string; active: boolean }>(
  'keys.ofOrganization',
  'select id, organization_id, master_key_id, purpose, wrapped, active from organization_keys where organization_id = $1',
)
/** Undefined when they are wrapped by another master key. */
export async function openKeys(db: Database, master: Master, organizationId: string): Promise<OpenKey[] | undefined> {
  const stored = await rows(db, ofOrganization, [organizationId])
  if (stored.some(({ master_key_id }) => master_key_id !== master.id)) return undefined
  return stored.map((row) => ({ id: row.id, purpose: row.purpose, active: row.active, key: unwrapKey(master, row) }))
}

const hold = statement('keys.holdMaster', "select from master_keys where id = $1 and state = 'active' for share")
/** Whether this master key is in use, and stays so until the transaction ends. */
export const holdMaster = async (tx: Tx, { id }: Master) => (await execute(tx, hold, [id])) > 0

// Locks the master key against the rotation that would retire it; one that is retired makes no row. Where another process has made
// the keys meanwhile, those stay.
const insert = statement(
  'keys.insert',
  `with organization as materialized (select id from organizations where id = $1 for key share),
     master as materialized (select id from master_keys where id = $2 and state = 'active' for share)
   insert into organization_keys (id, organization_id, master_key_id, purpose, wrapped)
   select fresh.id, organization.id, master.id, fresh.purpose, fresh.wrapped
   from organization, master, unnest($3::uuid[], $4::text[], $5::bytea[]) as fresh (id, purpose, wrapped)
   on conflict do nothing`,
)
/** How many it made. */
export function insertKeys(db: Database | Tx, master: Master, organizationId: string, purposes: Purpose[]) {
  const fresh = purposes.map((purpose) => {
    const address = { id: uuidv7(), organization_id: organizationId, purpose }
    return { ...address, wrapped: wrapKey(master, address, newKey()) }
  })
  return execute(db, insert, [
    organizationId,
    master.id,
    fresh.map(({ id }) => id),
    purposes,
    fresh.map(({ wrapped }) => wrapped),
  ])
}

type Address = Pick<StoredKey, 'id' | 'organization_id' | 'purpose'>

export const wrapKey = (master: Pick<Master, 'key'>, address: Address, key: Buffer) =>
  wrap(master.key, labelOf(address), key)

export function unwrapKey(master: Pick<Master, 'key'>, stored: StoredKey): Buffer {
  try {
    return unwrap(master.key, labelOf(stored), stored.wrapped)
  } catch (error) {
    if (!(error instanceof Damaged)) throw error
    const organization = encodeId('organization', stored.organization_id)
    throw new Refusal(
      'value_damaged',
      `A key of the organization ${organization} was changed in the database and does not open.`,
      {
        hint: 'Restore the table organization_keys from a backup.',
      },
    )
  }
}

const labelOf = ({ organization_id, purpose, id }: Address) => [organization_id, purpose, id]

import type { Platform } from '../context.ts'
import { Damaged, open, same, versionProof } from '../keys/envelope.ts'
import { rows, statement } from '../store/database.ts'

type ValueRow = {
  id: string
  version: number
  proof: Buffer
  key: string | null
  set_in: number
  key_id: string
  sealed: Buffer
}
// One row without a key says that the version exists though it was empty.
const valuesOf = statement<ValueRow>(
  'delivery.values',
  `select at.id, at.version, sv.proof, v.key, v.version as set_in, v.key_id, v.sealed
   from unnest($1::uuid[], $2::int[]) as at (id, version)
   join secret_versions sv on sv.secret_id = at.id and sv.version = at.version
   left join secret_values v on v.secret_id = at.id and v.version <= at.version and (v.until is null or v.until > at.version)`,
)

export type BagAt = { id: string; name: string; version: number }

/** What is stored of a bag does not open, or is not what was stored. */
export class ValueDamaged extends Error {
  override name = 'ValueDamaged'
}

/** The values of bags at their versions, by bag and key, each version proven whole. Refusal `sealed` where there are no keys. */
export async function openBags(
  { db, keys }: Pick<Platform, 'db' | 'keys'>,
  organization: string,
  bags: BagAt[],
): Promise<Map<string, Map<string, Buffer>>> {
  let { fingerprintKey, byId } = await keys.organization(organization)
  const found = await rows(db, valuesOf, [bags.map(({ id }) => id), bags.map(({ version }) => version)])
  if (found.some(({ key, key_id }) => key !== null && !byId(key_id))) {
    // Sealed anew by a rotation elsewhere, which is not known here yet.
    keys.forget(organization)
    ;({ fingerprintKey, byId } = await keys.organization(organization))
  }
  return new Map(
    bags.map(({ id, name, version }) => {
      const stored = found.filter((row) => row.id === id && row.version === version)
      const damaged = (why: string) => new ValueDamaged(`Version ${version} of the secret "${name}" ${why}.`)
      if (!stored[0]) throw damaged('is not there any more')
      const values = stored.filter((row): row is ValueRow & { key: string } => row.key !== null)
      const setIn = new Map(values.map(({ key, set_in }) => [key, set_in]))
      if (!same(stored[0].proof, versionProof(fingerprintKey, id, version, setIn)))
        throw damaged('does not consist of the values it was made of: rows were changed in the database')
      return [
        id,
        new Map(
          values.map(({ key, set_in, key_id, sealed }) => {
            try {
              const dataKey = byId(key_id)
              if (!dataKey) throw new Damaged('sealed under a key that is not there')
              return [key, open(dataKey, { organization, bag: id, key, version: set_in }, sealed)]
            } catch (error) {
              if (!(error instanceof Damaged)) throw error
              throw damaged(`holds a value that does not open (key "${key}"): it was changed in the database`)
            }
          }),
        ),
      ]
    }),
  )
}

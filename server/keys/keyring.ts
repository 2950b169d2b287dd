import type { Logger } from 'pino'
import type { Seal } from '../config.ts'
import { organizationNotFound } from '../identity/organizations.ts'
import { Refusal } from '../refusal.ts'
import type { Database } from '../store/database.ts'
import { keyAtHand, type Master, masterKeys } from './master.ts'
import { insertKeys, type OpenKey, openKeys } from './organization-keys.ts'

export type OrganizationKeys = {
  /** seals new values */
  current: { id: string; key: Buffer }
  /** compares values; never rotated, or equal values would stop looking equal */
  fingerprintKey: Buffer
  /** opens older values, during a rotation */
  byId(id: string): Buffer | undefined
}

/**
 * The keys in the memory of this process; sealed, it has none. They may be outdated by what another process did, so every statement that
 * would write with an outdated key is refused by the database itself, and `refresh` looks again.
 */
export type Keyring = {
  readonly sealed: boolean
  /** the master key; Refusal `sealed` without one */
  master(): Master
  /** made at first use */
  organization(organizationId: string): Promise<OrganizationKeys>
  /** after an unknown key id, or a foreign key violation on one: the next use looks again */
  forget(organizationId: string): void
  /** has this master key from now on; `seals` as read before its last share came */
  open(master: Master, seals: number): void
  wipe(): void
  /** For what puts another master key in place, in the database first: meanwhile nobody here takes its rows for a stranger's. */
  replace(work: () => Promise<Master>): Promise<void>
  /** Compares with the database: opens where a file or the environment holds the key, seals where an operator did elsewhere. */
  refresh(): Promise<void>
}

export function createKeyring(db: Database, seal: Seal, log: Pick<Logger, 'info' | 'warn'>): Keyring {
  let held: { master: Master; seals: number } | undefined
  let replacing: Promise<void> | undefined
  const cache = new Map<string, Promise<OpenKey[]>>()

  const keyring: Keyring = {
    get sealed() {
      return held === undefined
    },
    master() {
      if (!held) throw sealedRefusal(seal)
      return held.master
    },
    async organization(id) {
      keyring.master()
      let loading = cache.get(id)
      if (!loading) {
        loading = load(id)
        cache.set(id, loading)
        loading.catch(() => cache.get(id) === loading && cache.delete(id))
      }
      return toOrganizationKeys(await loading)
    },
    forget: (id) => void cache.delete(id),
    open(master, seals) {
      held?.master.key.fill(0)
      held = { master, seals }
    },
    wipe() {
      held?.master.key.fill(0)
      held = undefined
      // A request that still works with one of them is stopped: envelope.ts does nothing with a key of zeros.
      for (const loading of cache.values())
        loading.then(
          (keys) => keys.forEach(({ key }) => key.fill(0)),
          () => undefined,
        )
      cache.clear()
    },
    async replace(work) {
      const before = held
      const replaced = async () => {
        const master = await work()
        // Sealed meanwhile: it stays so.
        if (before && held === before) keyring.open(master, before.seals)
        else master.key.fill(0)
      }
      replacing = replaced()
      try {
        await replacing
      } finally {
        replacing = undefined
      }
    },
    async refresh() {
      if (replacing) return replacing.catch(() => undefined)
      const { active } = await masterKeys(db)
      if (!active || (held?.master.id === active.id && held.seals === active.seals)) return
      const key = keyAtHand(seal, active.fingerprint)
      if (key) {
        keyring.open({ id: active.id, fingerprint: active.fingerprint, key }, active.seals)
        log.info({ masterKey: active.fingerprint }, 'opened with the master key in use now')
      } else if (held) {
        keyring.wipe()
        log.warn({ masterKey: active.fingerprint }, 'sealed: an operator did so, or the master key was changed')
      }
    },
  }
  return keyring

  async function load(organizationId: string, isAgain = false): Promise<OpenKey[]> {
    const master = keyring.master()
    let keys = await openKeys(db, master, organizationId)
    if (keys?.length === 0) {
      await insertKeys(db, master, organizationId, ['data', 'fingerprint'])
      keys = await openKeys(db, master, organizationId)
    }
    if (keys && keys.length > 0 && held?.master === master) return keys
    if (isAgain) throw keys ? organizationNotFound(organizationId) : sealedRefusal(seal)
    await keyring.refresh()
    return load(organizationId, true)
  }
}

function toOrganizationKeys(keys: OpenKey[]): OrganizationKeys {
  const current = keys.find(({ purpose, active }) => purpose === 'data' && active)
  const fingerprint = keys.find(({ purpose }) => purpose === 'fingerprint')
  if (!current || !fingerprint) throw new Error('an organization without a data key or a fingerprint key')
  return {
    current,
    fingerprintKey: fingerprint.key,
    byId: (id) => keys.find((key) => key.id === id && key.purpose === 'data')?.key,
  }
}

export const sealedRefusal = ({ source }: Seal) =>
  source === 'manual'
    ? new Refusal('sealed', 'The server is sealed: its keys are not in memory. Running pods are not affected.', {
        hint: 'An operator opens it, share by share: 1ctl admin unseal',
      })
    : new Refusal('sealed', 'The master key was changed elsewhere, and this server does not have the one in use now.', {
        hint: 'Give it the new one, as the server that changed it has it.',
      })

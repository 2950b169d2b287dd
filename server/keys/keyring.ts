import type { Logger } from 'pino'
import type { Seal } from '../config.ts'
import { organizationNotFound } from '../identity/organizations.ts'
import { Refusal } from '../refusal.ts'
import type { Database } from '../store/database.ts'
import { Wiped } from './envelope.ts'
import { keyAtHand, type Master, masterKeys } from './master.ts'
import { insertKeys, type OpenKey, openKeys } from './organization-keys.ts'
import { type ShareBox, shareBox } from './shares.ts'

export type OrganizationKeys = {
  /** seals new values */
  current: { id: string; key: Buffer }
  /** compares values; never rotated, or equal values would stop looking equal */
  fingerprintKey: Buffer
  /** opens older values, during a rotation */
  byId: (id: string) => Buffer | undefined
}

/**
 * The keys in the memory of this process; sealed, it has none. They may be outdated by what another process did, so every statement that
 * would write with an outdated key is refused by the database itself, and `refresh` looks again.
 */
export type Keyring = {
  readonly seal: Seal
  readonly sealed: boolean
  /** the shares that have come in to open this server, and to prove the next master key */
  readonly opening: ShareBox
  readonly proving: ShareBox
  /** the master key; Refusal `sealed` without one */
  master(): Master
  /** made at first use */
  organization(organizationId: string): Promise<OrganizationKeys>
  /** after an unknown key id, or a foreign key violation on one: the next use looks again */
  forget(organizationId: string): void
  /** of an organization that was deleted */
  destroy(organizationId: string): void
  /** has this master key from now on; `seals` as read before its last share came */
  open(master: Master, seals: number): void
  wipe(): void
  /** Has `next` once `work` has put it in use in the database; meanwhile nobody here takes its rows for a stranger's. */
  replace<Result>(next: Master, work: () => Promise<Result>): Promise<Result>
  /** Compares with the database: opens where a file or the environment holds the key, seals where an operator did elsewhere. */
  refresh(looked?: string): Promise<void>
  /** what to do as soon as there is work for open keys; see watch.ts */
  onWork(work: () => void): void
  work(): void
}

export function createKeyring(db: Database, seal: Seal, log: Pick<Logger, 'info' | 'warn'>): Keyring {
  let held: { master: Master; seals: number } | undefined
  let source = seal.source
  let replacing: Promise<unknown> | undefined
  let work: (() => void) | undefined
  const cache = new Map<string, Promise<OpenKey[]>>()

  const keyring: Keyring = {
    seal,
    opening: shareBox(),
    proving: shareBox(),
    get sealed() {
      return held === undefined
    },
    master() {
      if (!held) throw sealedRefusal(source)
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
    destroy(id) {
      // A request that still works with one of them is stopped: envelope.ts does nothing with a key of zeros.
      cache.get(id)?.then(erase, () => undefined)
      cache.delete(id)
    },
    open(master, seals) {
      held?.master.key.fill(0)
      held = { master, seals }
      source = master.source
      keyring.opening.clear()
      keyring.proving.clear()
      work?.()
    },
    wipe() {
      held?.master.key.fill(0)
      held = undefined
      keyring.opening.clear()
      keyring.proving.clear()
      for (const id of cache.keys()) keyring.destroy(id)
    },
    async replace(next, work) {
      const before = held
      const replaced = async () => {
        const result = await work()
        // Sealed meanwhile: it stays so.
        if (before && held === before) keyring.open(next, 0)
        else next.key.fill(0)
        return result
      }
      try {
        const current = replaced()
        replacing = current
        return await current
      } finally {
        replacing = undefined
      }
    },
    async refresh(looked) {
      // Its rows are there before its key is here.
      if (replacing) return void (await replacing.catch(() => undefined))
      const { active } = await masterKeys(db)
      if (!active || (held?.master.id === active.id && held.seals === active.seals)) return
      const key = keyAtHand(seal, active.fingerprint)
      if (key) {
        keyring.open({ ...active, key }, active.seals)
        log.info({ masterKey: active.fingerprint }, 'opened with the master key in use now')
      } else if (looked !== active.id) {
        // Once more: the files may have been further than the row that was read.
        await keyring.refresh(active.id)
      } else {
        source = active.source
        // Sealed already: the shares that are in stay.
        if (!held) return
        keyring.wipe()
        log.warn({ masterKey: active.fingerprint }, 'sealed: by an operator, or the master key was changed')
      }
    },
    onWork: (then) => void (work = then),
    work: () => work?.(),
  }
  return keyring

  /** Again for as long as the master key is replaced meanwhile. */
  async function load(organizationId: string): Promise<OpenKey[]> {
    for (;;) {
      const master = keyring.master()
      const keys = await loadWith(master, organizationId).catch((error: unknown) => {
        if (!(error instanceof Wiped)) throw error
      })
      if (keys && keys.length > 0 && held?.master === master) return keys
      erase(keys ?? [])
      await keyring.refresh()
      if (held?.master === master) throw keys ? organizationNotFound(organizationId) : sealedRefusal(source)
    }
  }

  async function loadWith(master: Master, organizationId: string): Promise<OpenKey[] | undefined> {
    const known = await openKeys(db, master, organizationId)
    if (known?.length !== 0) return known
    await insertKeys(db, master, organizationId, ['data', 'fingerprint'])
    return openKeys(db, master, organizationId)
  }
}

const erase = (keys: OpenKey[]) => keys.forEach(({ key }) => key.fill(0))

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

const sealedRefusal = (source: Seal['source']) =>
  source === 'manual'
    ? new Refusal('sealed', 'The server is sealed: its keys are not in memory. Running pods are not affected.', {
        hint: 'An operator opens it, share by share: 1ctl admin unseal',
      })
    : new Refusal('sealed', 'The master key was changed elsewhere, and this server does not have the one in use now.', {
        hint: 'Give it the new one, as the server that changed it has it.',
      })

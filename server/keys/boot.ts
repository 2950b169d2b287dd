import { statSync } from 'node:fs'
import type { Logger } from 'pino'
import { appendEvents, system } from '../audit/append.ts'
import { BootError } from '../boot-error.ts'
import type { Seal } from '../config.ts'
import { createPrivate, reasonOf } from '../private-file.ts'
import { Refusal } from '../refusal.ts'
import { type Database, row, statement, type Tx, transaction } from '../store/database.ts'
import { fingerprintOfKey, newKey } from './envelope.ts'
import { readKey, settleFiles, writeKey } from './key-file.ts'
import { createKeyring, type Keyring } from './keyring.ts'
import {
  insertMaster,
  keyAtHand,
  lockMasterKeys,
  type MasterRow,
  masterKeys,
  masterOf,
  promote,
  setSource,
} from './master.ts'
import { splitKey } from './shares.ts'

type Env = { db: Database; log: Logger; seal: Seal; say: (line: string) => void }

/**
 * The keyring as a start leaves it: open, or with `manual` sealed. The first start makes the master key. With `manual` that start ends sealed
 * too: only shares that were entered are known to be in someone's hands, and until then nothing may depend on them.
 */
export async function openKeyring(env: Env): Promise<Keyring> {
  const { db, seal, log } = env
  // One start at a time, and none during a rotation.
  await transaction(db, async (tx) => {
    await lockMasterKeys(tx)
    const { active } = await masterKeys(tx)
    if (!active) return makeFirst(tx, env)
    refuseOtherSource(active, seal)
    if (seal.source === 'manual') return
    if (seal.source === 'env') await promoteGiven(tx, env, active)
    else if (fileKey(seal.path)) onFile(seal.path, () => settleFiles(seal.path, active.fingerprint))
    await setSource(tx, seal.source)
  }).catch((error: unknown) => {
    throw error instanceof Refusal ? new BootError(`${error.message} ${error.hint ?? ''}`.trim()) : error
  })
  const keyring = createKeyring(db, seal, log)
  const { active } = await masterKeys(db)
  const key = active && keyAtHand(seal, active.fingerprint)
  if (active && key) keyring.open({ ...active, key }, active.seals)
  else if (seal.source !== 'manual') throw await wrongKey(env)
  return keyring
}

async function makeFirst(tx: Tx, { seal, say }: Env): Promise<void> {
  const key = seal.source === 'env' ? seal.key : seal.source === 'file' ? firstInFile(seal.path, say) : newKey()
  const master = masterOf(seal.source, key)
  if (seal.source === 'manual') await handOut(key, seal, say)
  await insertMaster(tx, 'active', master, seal.source === 'manual' ? seal : undefined)
  await appendEvents(tx, nobody, {
    action: 'master.create',
    actor: system,
    detail: { masterKey: master.fingerprint, source: seal.source },
  })
}

const nobody = { caller: null, request: null }

/** On disk before the database knows it. One that is there already is from a start that was killed in between, or was put there. */
function firstInFile(path: string, say: Env['say']): Buffer {
  const known = fileKey(path)
  if (known) return known
  const key = newKey()
  onFile(path, () => writeKey(path, key))
  say(
    `made the master key ${path}. With it and the database, every value can be read: move it away from the data, keep a copy`,
  )
  return key
}

async function handOut(key: Buffer, seal: Extract<Seal, { source: 'manual' }>, say: Env['say']): Promise<void> {
  const { shares, threshold, sharesFile } = seal
  const texts = await splitKey(key, shares, threshold)
  key.fill(0)
  const what = `the master key is in ${shares} shares; ${threshold} open the server`
  if (sharesFile === undefined) return say(`${what}. Shown this once, each for another person:\n${texts.join('\n')}`)
  onFile(sharesFile, () => createPrivate(sharesFile, `${texts.join('\n')}\n`))
  say(`${what}. They are in ${sharesFile}: give each to another person, and delete the file`)
}

function refuseOtherSource(active: MasterRow, seal: Seal): void {
  if (active.source === 'manual' && seal.source !== 'manual')
    throw new BootError(
      'The master key of this database is held in shares by people. Start with --seal manual, then: 1ctl admin unseal',
    )
  if (active.source !== 'manual' && seal.source === 'manual')
    throw new BootError(
      `The master key of this database is not held in shares. Start with --seal ${active.source}; to hand it out: 1ctl admin rekey`,
    )
}

/** The environment holds a new key and the one until now: what was wrapped by that is wrapped by the new one. */
async function promoteGiven(tx: Tx, { seal, say }: Env, active: MasterRow): Promise<void> {
  if (seal.source !== 'env' || !seal.previous) return
  const isDone = fingerprintOfKey(seal.key) === active.fingerprint
  if (!isDone && fingerprintOfKey(seal.previous) !== active.fingerprint) return
  if (!isDone) {
    const next = masterOf('env', seal.key)
    await insertMaster(tx, 'next', next)
    const rewrapped = await promote(tx, { ...active, key: seal.previous }, next)
    await appendEvents(tx, nobody, {
      action: 'master.rotate',
      actor: system,
      detail: { masterKey: next.fingerprint, before: active.fingerprint, rewrapped },
    })
  }
  say('the master key was changed. Remove SATUSKY_MASTER_KEY_PREVIOUS (--master-key-previous)')
}

const retired = statement<{ fingerprint: string }>(
  'master.retired',
  `select fingerprint from master_keys where fingerprint = $1 and state = 'retired'`,
)
async function wrongKey({ db, seal }: Env): Promise<BootError> {
  const { active } = await masterKeys(db)
  const given = seal.source === 'file' ? fileKey(seal.path) : seal.source === 'env' ? seal.key : undefined
  const fingerprint = given && fingerprintOfKey(given)
  const isRetired = fingerprint !== undefined && (await row(db, retired, [fingerprint])) !== undefined
  const [where, next] =
    seal.source === 'file'
      ? [seal.path, 'Put the right key there, or name its file with --master-key-file']
      : ['SATUSKY_MASTER_KEY', 'Give the right key; to change keys, give the old one in SATUSKY_MASTER_KEY_PREVIOUS']
  const holds = fingerprint ? `holds ${fingerprint}${isRetired ? ', which was replaced' : ''}` : 'is not there'
  return new BootError(
    `The master key of this database is ${active?.fingerprint} (fingerprint), but ${where} ${holds}. ${next}.`,
  )
}

function fileKey(path: string): Buffer | undefined {
  const key = onFile(path, () => readKey(path))
  if (key && onFile(path, () => statSync(path)).mode & 0o007)
    throw new BootError(
      `The master key ${path} can be read by everyone on this machine. Make it private: chmod 600 ${path}`,
    )
  return key
}

/** What goes wrong with a file, as a sentence that names it. */
function onFile<Result>(path: string, work: () => Result): Result {
  try {
    return work()
  } catch (error) {
    const why = reasonOf(error)
    if (why === 'EEXIST')
      throw new BootError(`The file ${path} exists, and shares are not written over anything. Name another.`)
    throw new BootError(`The file ${path} cannot be used: ${error instanceof Error ? error.message : why}.`)
  }
}

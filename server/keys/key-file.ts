import { existsSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { syncFolder, writePrivate } from '../private-file.ts'
import { fingerprintOfKey } from './envelope.ts'
import { parseKey, printKey } from './key-text.ts'

/**
 * The master key in a file and, during a rotation, the next one beside it. Which of the two is in use is what the database says, so a
 * process killed at any point of a rotation finds its key again: before the commit it is the old file, after it the new one.
 */
const nextOf = (path: string) => `${path}.next`

/** The next one first: it may get the name of the other between the two looks, and must not be missed. */
export const keysInFiles = (path: string): Buffer[] => [nextOf(path), path].flatMap((file) => tryToRead(file) ?? [])

/** For a server that is running: whoever puts a file in place may be half done. */
function tryToRead(path: string): Buffer | undefined {
  try {
    return readKey(path)
  } catch {
    return undefined
  }
}

/** Undefined where there is no file. One that holds no key is an error, not a reason to make another. */
export function readKey(path: string): Buffer | undefined {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
  const key = parseKey(text)
  if (!key) throw new Error(`${path} holds no key of 32 bytes in base64 or hex`)
  return key
}

export const writeKey = (path: string, key: Buffer) => writePrivate(path, `${printKey(key)}\n`)

/** Writes the next key, and proves that it can be read again. */
export function stageKey(path: string, key: Buffer): void {
  writeKey(nextOf(path), key)
  if (!readKey(nextOf(path))?.equals(key)) throw new Error(`${nextOf(path)} does not hold what was written to it`)
}

/**
 * The key in use gets the name, the other one goes. Only under the lock of the master keys, with what is in use read under it: otherwise
 * this might be the end of a key that another server is about to put in use.
 */
export function settleFiles(path: string, fingerprint: string): void {
  if (!existsSync(nextOf(path))) return
  const isInUse = (file: string) => {
    const key = readKey(file)
    return key !== undefined && fingerprintOfKey(key) === fingerprint
  }
  if (isInUse(path)) rmSync(nextOf(path), { force: true })
  else if (isInUse(nextOf(path))) renameSync(nextOf(path), path)
  else return
  syncFolder(path)
}

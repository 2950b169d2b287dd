import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import {
  closeSync,
  existsSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { BootError } from '../../boot-error.ts'
import { createPrivate, syncFolder } from '../../private-file.ts'

/**
 * Records in a file, encrypted, in the order in which they were written.
 *
 * A record is handed to the operating system before `append` returns, so it survives the end of this process at any moment. It is on disk
 * within `syncMs`: a power cut may take the last second with it, after which whoever drives the cluster compares and applies again.
 * Waiting for the disk at each write would be ten times slower, for a cluster in which no container runs.
 */
export type Journal = {
  append(record: Buffer): void
  /** how large the file is */
  sizeBytes(): number
  /** replaces all that was written by these records: whole, or not at all if we are killed meanwhile */
  rewrite(records: Iterable<Buffer>): void
  close(): void
}

const syncMs = 1000
const recordBytesMax = 16 * 1024 * 1024
// length 4 | nonce 12 | ciphertext | tag 16
const nonceBytes = 12
const tagBytes = 16

/** Calls `replay` with each record there is. An incomplete last one, of a process that was killed while it wrote, is dropped. */
export function openJournal(folder: string, replay: (record: Buffer) => void): Journal {
  const path = join(folder, 'journal')
  const draft = `${path}.new`
  rmSync(draft, { force: true })
  const key = keyIn(folder, existsSync(path))
  let file = openSync(path, 'a+', 0o600)
  let size = readAll(file, path, key, replay)
  ftruncateSync(file, size)
  let timer: NodeJS.Timeout | undefined

  // Runs only after a write, so that a cluster in which nothing happens costs nothing.
  const syncSoon = () =>
    (timer ??= setTimeout(() => {
      timer = undefined
      fsyncSync(file)
    }, syncMs))

  return {
    append(record) {
      const bytes = encrypt(key, record)
      writeSync(file, bytes)
      size += bytes.length
      syncSoon()
    },
    sizeBytes: () => size,
    rewrite(records) {
      const next = openSync(draft, 'w', 0o600)
      let nextSize = 0
      for (const chunk of inChunks(records, (record) => encrypt(key, record))) {
        writeSync(next, chunk)
        nextSize += chunk.length
      }
      fsyncSync(next)
      renameSync(draft, path)
      syncFolder(path)
      closeSync(file)
      file = next
      size = nextSize
    },
    close() {
      clearTimeout(timer)
      fsyncSync(file)
      closeSync(file)
    },
  }
}

/** In a file of its own, so that copies of the journal alone tell nothing. */
function keyIn(folder: string, journalExists: boolean): Buffer {
  const path = join(folder, 'key')
  if (!existsSync(path)) {
    if (journalExists)
      throw new BootError(
        `The embedded cluster's key ${path} is missing, and its journal cannot be read without. ` +
          `Put the key back, or remove ${folder} to begin with an empty cluster.`,
      )
    createPrivate(path, `${randomBytes(32).toString('hex')}\n`)
  }
  const text = readFileSync(path, 'utf8').trim()
  if (!/^[0-9a-f]{64}$/.test(text)) throw new BootError(`${path} holds no key of 32 bytes in hex.`)
  return Buffer.from(text, 'hex')
}

/** Where the good records end. */
function readAll(file: number, path: string, key: Buffer, replay: (record: Buffer) => void): number {
  const { size } = fstatSync(file)
  const head = Buffer.alloc(4)
  let scratch = Buffer.alloc(64 * 1024)
  let at = 0
  while (at + 4 <= size) {
    readSync(file, head, 0, 4, at)
    const length = head.readUInt32BE()
    const end = at + 4 + length
    if (end > size) break
    const bytes = Math.min(length, recordBytesMax)
    // One buffer for all: a new one each would leave the process larger by all that was read.
    if (bytes > scratch.length) scratch = Buffer.alloc(bytes)
    const sealed = scratch.subarray(0, bytes)
    readSync(file, sealed, 0, bytes, at + 4)
    const record = length <= recordBytesMax ? decrypt(key, sealed) : undefined
    if (record) replay(record)
    else if (end === size || restIsZero(file, at, size)) break
    else
      throw new BootError(
        `The embedded cluster's journal ${path} is damaged at byte ${at}. Put back a copy of its folder, ` +
          'or remove the folder to begin with an empty cluster, to which everything is delivered again.',
      )
    at = end
  }
  return at
}

/** What some file systems leave behind at the end of a file after a power cut. */
function restIsZero(file: number, from: number, to: number): boolean {
  const rest = Buffer.alloc(to - from)
  readSync(file, rest, 0, rest.length, from)
  return rest.every((byte) => byte === 0)
}

function encrypt(key: Buffer, record: Buffer): Buffer {
  const nonce = nextNonce()
  const cipher = createCipheriv('aes-256-gcm', key, nonce)
  const head = Buffer.alloc(4)
  head.writeUInt32BE(nonceBytes + record.length + tagBytes)
  const body = cipher.update(record)
  cipher.final()
  return Buffer.concat([head, nonce, body, cipher.getAuthTag()])
}

let nonces = Buffer.alloc(0)

/** Random, drawn a thousand at a time: one by one they cost as much as all the rest of a write. */
function nextNonce(): Buffer {
  if (!nonces.length) nonces = randomBytes(nonceBytes * 1000)
  const nonce = nonces.subarray(0, nonceBytes)
  nonces = nonces.subarray(nonceBytes)
  return nonce
}

function decrypt(key: Buffer, sealed: Buffer): Buffer | undefined {
  if (sealed.length < nonceBytes + tagBytes) return undefined
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, nonceBytes))
  decipher.setAuthTag(sealed.subarray(-tagBytes))
  try {
    const record = decipher.update(sealed.subarray(nonceBytes, -tagBytes))
    decipher.final()
    return record
  } catch {
    return undefined
  }
}

/** Few large writes instead of many small ones, without holding everything at once. */
function* inChunks(records: Iterable<Buffer>, seal: (record: Buffer) => Buffer): Generator<Buffer> {
  let chunk: Buffer[] = []
  let bytes = 0
  for (const record of records) {
    const sealed = seal(record)
    chunk.push(sealed)
    bytes += sealed.length
    if (bytes < 1024 * 1024) continue
    yield Buffer.concat(chunk)
    chunk = []
    bytes = 0
  }
  if (chunk.length) yield Buffer.concat(chunk)
}

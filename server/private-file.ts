import { closeSync, fsyncSync, openSync, renameSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'

/** A file that only its owner can read: whole and on disk when this returns, or not there at all, also after a power cut. */
export function writePrivate(path: string, text: string): void {
  writeAndSync(`${path}.new`, text, 'w')
  renameSync(`${path}.new`, path)
  syncFolder(path)
}

/** The same, refusing to replace what is there (EEXIST). */
export function createPrivate(path: string, text: string): void {
  writeAndSync(path, text, 'wx')
  syncFolder(path)
}

function writeAndSync(path: string, text: string, flag: 'w' | 'wx') {
  const file = openSync(path, flag, 0o600)
  try {
    writeFileSync(file, text)
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
}

/** The names in a folder are data of the folder. */
export function syncFolder(path: string): void {
  const folder = openSync(dirname(path), 'r')
  try {
    fsyncSync(folder)
  } finally {
    closeSync(folder)
  }
}

/** Of a file operation that failed: ENOENT, EACCES … */
export const reasonOf = (error: unknown): string =>
  error instanceof Error && 'code' in error ? String(error.code) : 'unknown reason'

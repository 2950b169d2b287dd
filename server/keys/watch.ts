import type { Platform } from '../context.ts'
import { sqlState } from '../store/database.ts'
import { continueRotations } from './data-key-rotation.ts'

/**
 * Looks every few seconds, and at once when there is work, whether the keys here are still those in use (another server may have sealed or
 * changed the master key), and goes on with rotations, whoever began them. Returns what stops it.
 */
export function startKeyWatch(platform: Platform, everyMs = 5_000): () => Promise<void> {
  const { keys, log } = platform
  let running: Promise<void> | undefined
  let isAskedAgain = false
  let isStopped = false

  const look = async () => {
    await keys.refresh()
    if (!keys.sealed) await continueRotations(platform, () => isStopped || keys.sealed)
  }
  const ask = () => {
    if (running) {
      isAskedAgain = true
      return
    }
    running = look()
      .catch((error: unknown) =>
        log.warn(
          { err: error instanceof Error ? error.name : typeof error, code: sqlState(error) },
          'keys not checked',
        ),
      )
      .finally(() => {
        running = undefined
        if (isAskedAgain && !isStopped) ask()
        isAskedAgain = false
      })
  }

  keys.onWork(ask)
  const timer = setInterval(ask, everyMs).unref()
  ask()
  return async () => {
    isStopped = true
    clearInterval(timer)
    await running
  }
}

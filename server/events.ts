import { EventEmitter, once } from 'node:events'
import type { Api } from './context.ts'

/** What a page that is open needs to stay fresh. The announcements of one turn are told together. */
export const eventStream: Api['eventStream'] = async ({ announcer, caller, request: { ended, stillCounts } }) => {
  const organization = caller.organization.id
  const over = AbortSignal.any([...(ended ? [ended] : []), AbortSignal.timeout(lifeMs)])
  return tellChanges()

  async function* tellChanges() {
    const nouns = new Set<string | null>()
    const bell = new EventEmitter()
    const stop = announcer.listen((one) => {
      if (one && one.organization !== organization) return
      nouns.add(one && one.noun)
      bell.emit('ring')
    })
    try {
      yield 'retry: 2000\n: connected\n\n'
      while (!over.aborted) {
        const signal = AbortSignal.any([over, AbortSignal.timeout(heartbeatMs)])
        if (nouns.size === 0) await once(bell, 'ring', { signal }).catch(() => undefined)
        if (nouns.size === 0 && !(await stillCounts?.())) return
        const told = [...nouns].map((noun) => `event: change\ndata: ${JSON.stringify({ noun })}\n\n`)
        nouns.clear()
        yield told.join('') || ': still here\n\n'
      }
    } finally {
      stop()
    }
  }
}

// Proxies cut what is silent for a minute.
const heartbeatMs = 20_000
// Who may listen is asked again when the client comes back.
const lifeMs = 5 * 60_000

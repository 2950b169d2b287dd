import type { Noun } from '@1ctl/contract/ids'
import { Client } from 'pg'
import type { Logger } from 'pino'
import { type Database, execute, statement } from './store/database.ts'

/** Something changed: in which organization, and of which kind. What, everyone may look up who may see it. */
export type Announcement = { organization: string; noun: Noun }

/** `null`: some may have been missed, so everything may have changed. */
export type Listener = (announcement: Announcement | null) => void

/**
 * Tells of changes once they are committed: listeners in this process at once, and those of other processes on the same database through
 * PostgreSQL, where many at a time share one statement. Not in the change's own transaction: a NOTIFY makes commits wait for each other.
 * What is lost when a process dies in between is found by whoever listens when they next look by the clock.
 */
export type Announcer = {
  announce(organization: string, noun: Noun): void
  /** to listeners in this process: something came that everything may have waited for */
  announceAll(): void
  /** returns what ends it */
  listen(listener: Listener): () => void
  close(): Promise<void>
}

const channel = 'changes'
// A notification has at most 8,000 bytes.
const perStatement = 100
const retryMs = 1_000
const notify = statement('announce.notify', `select pg_notify('${channel}', $1)`)

export function startAnnouncer(db: Database, log: Logger): Announcer {
  const listeners = new Set<Listener>()
  const origin = crypto.randomUUID()
  const waiting = new Set<string>()
  let sending: Promise<void> | undefined
  let hearing: Client | undefined
  let retry: NodeJS.Timeout | undefined
  let isClosed = false

  const tell = (announcement: Announcement | null) => listeners.forEach((listener) => listener(announcement))

  async function send(): Promise<void> {
    while (waiting.size > 0) {
      const some = [...waiting].slice(0, perStatement)
      some.forEach((text) => waiting.delete(text))
      await execute(db, notify, [[origin, ...some].join('\n')])
    }
  }

  async function hear(): Promise<void> {
    const client = new Client(db.options)
    hearing = client
    client.on('notification', ({ payload = '' }) => {
      const [from, ...texts] = payload.split('\n')
      if (from === origin) return
      for (const text of texts) {
        const [organization = '', noun] = text.split(' ')
        tell({ organization, noun: noun as Noun })
      }
    })
    let isLost = false
    const lost = () => {
      if (isLost || isClosed) return
      isLost = true
      client.end().catch(() => undefined)
      retry = setTimeout(() => void hear(), retryMs).unref()
    }
    client.on('error', lost).on('end', lost)
    try {
      await client.connect()
      await client.query(`listen ${channel}`)
      tell(null)
    } catch {
      lost()
    }
  }

  void hear()
  return {
    announce(organization, noun) {
      tell({ organization, noun })
      waiting.add(`${organization} ${noun}`)
      sending ??= send()
        .catch(() => log.warn('changes not announced to other servers; they will see by themselves'))
        .finally(() => (sending = undefined))
    },
    announceAll: () => tell(null),
    listen(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    async close() {
      isClosed = true
      clearTimeout(retry)
      await sending
      await hearing?.end().catch(() => undefined)
    },
  }
}

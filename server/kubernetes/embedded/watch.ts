import type { ServerResponse } from 'node:http'
import { apiVersionOf, type Kind } from './kinds.ts'
import type { Obj } from './objects.ts'
import type { Matches } from './selectors.ts'
import { ApiError, statusOf } from './status.ts'
import { type Change, type Store, type Stored, treeOf } from './store.ts'

export type Watching = {
  kind: Kind
  namespace: string
  matches?: Matches
  /** from which version on; without one, what is there comes first */
  from?: number
  bookmarks: boolean
  timeoutSeconds?: number
  /** how an object is written; undefined: as it is stored */
  present?: (object: Obj) => object
}

/** A client that takes this much less than it is sent is let go; it comes back and lists. */
const unreadBytesMax = 4 * 1024 * 1024
/** A client that has seen nothing for so many versions is told how far it is, so that it need not list again after a break. */
const bookmarkEvery = 100
/** And as often as the real one: a client may take a longer silence for a connection that has died. */
const bookmarkMs = 60_000

/** Sends what changes until the client goes, the time is up, or the server stops. */
export function watch(store: Store, response: ServerResponse, options: Watching): void {
  const { kind, namespace, matches, from, bookmarks, timeoutSeconds, present } = options
  const past = from === undefined ? [] : store.since(from)
  if (!past) {
    const gone = new ApiError(410, 'Expired', `too old resource version: ${from} (${store.version()})`)
    response.end(`${JSON.stringify({ type: 'ERROR', object: statusOf(gone) })}\n`)
    return
  }

  let told = from ?? store.version()
  const write = (type: string, object: string) => {
    if (response.destroyed) return
    response.write(`{"type":"${type}","object":${object}}\n`)
    if (response.writableLength > unreadBytesMax) response.destroy()
  }
  const bookmark = () => {
    told = store.version()
    const metadata = { resourceVersion: String(told), creationTimestamp: null }
    write('BOOKMARK', JSON.stringify({ kind: kind.kind, apiVersion: apiVersionOf(kind), metadata }))
  }
  const tell = (type: string, stored: Stored) => {
    told = stored.version
    write(type, present ? JSON.stringify(present(treeOf(stored))) : stored.body)
  }
  const fits = (stored: Stored | undefined) =>
    stored !== undefined && (!namespace || stored.namespace === namespace) && (!matches || matches(treeOf(stored)))

  const follow = (change: Change) => {
    const { before, after, removed, version } = change
    if (change.kind === kind) {
      const was = fits(before)
      const is = fits(after)
      if (is) tell(was ? 'MODIFIED' : 'ADDED', after!)
      // Leaving a selection looks like a deletion; the last state in it, with the version of the leaving.
      else if (was) tell('DELETED', removed ?? versioned(before!, version))
    }
    if (bookmarks && version - told >= bookmarkEvery) bookmark()
  }

  // Of a client that went while it was written to; `close` follows.
  response.on('error', () => undefined)
  response.flushHeaders()
  if (from === undefined) for (const stored of store.list(kind, namespace)) if (fits(stored)) tell('ADDED', stored)
  for (const change of past) follow(change)
  const unfollow = store.follow(follow)
  const timer =
    timeoutSeconds === undefined
      ? undefined
      : setTimeout(() => {
          if (bookmarks) bookmark()
          response.end()
        }, timeoutSeconds * 1000)
  const steady = bookmarks ? setInterval(bookmark, bookmarkMs) : undefined
  response.on('close', () => {
    unfollow()
    clearTimeout(timer)
    clearInterval(steady)
  })
}

function versioned(stored: Stored, version: number): Stored {
  const object = treeOf(stored)
  object.metadata.resourceVersion = String(version)
  return { ...stored, version, body: JSON.stringify(object) }
}

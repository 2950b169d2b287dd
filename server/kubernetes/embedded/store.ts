import { openJournal } from './journal.ts'
import type { Kind } from './kinds.ts'
import { kindAt } from './kinds.ts'
import type { Obj } from './objects.ts'

/**
 * All objects, in memory and in the journal, with one counter of versions for everything that happens.
 *
 * An object is kept as the text of its JSON, which is what most answers consist of, and a fifth of what a tree takes.
 * `get` makes a tree of its own, to be changed and put back.
 */
export type Store = {
  // oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- the caller knows what objects of a kind hold
  get<T extends Obj = Obj>(kind: Kind, namespace: string, name: string): T | undefined
  /** of one namespace or, with '', of all, in the order of their names */
  list(kind: Kind, namespace: string): Stored[]
  trees<T extends Obj = Obj>(kind: Kind, namespace: string): T[]
  /** gives it the next version, writes it, tells everyone; returns it as it is now */
  put<T extends Obj>(kind: Kind, object: T): T
  /** the object with the version of its removal */
  remove<T extends Obj>(kind: Kind, object: T): T
  version(): number
  /** what happened since; undefined if that is no longer known */
  since(version: number): Change[] | undefined
  /** calls back at each change, after it is written */
  follow(listener: (change: Change) => void): () => void
  close(): void
}

export type Stored = { namespace: string; name: string; version: number; body: string }
export type Change = { version: number; kind: Kind; before?: Stored; after?: Stored; removed?: Stored }

/** How much of the past a watch can ask for. */
const historyMax = 1000
const historyBytesMax = 2 * 1024 * 1024
/** A journal below this is not worth rewriting. */
const journalBytesMin = 4 * 1024 * 1024
/** Versions given in the second before a power cut may be lost; a start skips more than that, so that none is given twice. */
const versionsSkipped = 100_000

export function openStore(folder: string): Store {
  const all = new Map<Kind, Map<string, Map<string, Stored>>>()
  let version = 0
  let liveBytes = 0
  const journal = openJournal(folder, (record) => {
    const { kind, stored, removed } = readRecord(record)
    version = Math.max(version, stored.version)
    if (kind) set(kind, stored, removed)
  })
  version += versionsSkipped
  const history: Change[] = []
  let historyBytes = 0
  let forgotten = version
  const listeners = new Set<(change: Change) => void>()

  function set(kind: Kind, stored: Stored, removed: boolean): Stored | undefined {
    let spaces = all.get(kind)
    if (!spaces) all.set(kind, (spaces = new Map()))
    let space = spaces.get(stored.namespace)
    if (!space) spaces.set(stored.namespace, (space = new Map()))
    const before = space.get(stored.name)
    if (removed) {
      space.delete(stored.name)
      if (!space.size) spaces.delete(stored.namespace)
    } else space.set(stored.name, stored)
    liveBytes += (removed ? 0 : stored.body.length) - (before?.body.length ?? 0)
    return before
  }

  function commit(kind: Kind, object: Obj, removed: boolean) {
    const { name, namespace = '' } = object.metadata
    object.metadata.resourceVersion = String(++version)
    const stored: Stored = { namespace, name, version, body: JSON.stringify(object) }
    journal.append(writeRecord(kind, stored, removed))
    const before = set(kind, stored, removed)
    remember({ version, kind, before, ...(removed ? { removed: stored } : { after: stored }) })
    if (journal.sizeBytes() > journalBytesMin + 3 * liveBytes) journal.rewrite(records())
  }

  function remember(change: Change) {
    history.push(change)
    historyBytes += bytesIn(change)
    while (history.length > historyMax || (historyBytes > historyBytesMax && history.length > 1)) {
      const oldest = history.shift()!
      historyBytes -= bytesIn(oldest)
      forgotten = oldest.version
    }
    for (const listener of listeners) listener(change)
  }

  function* records() {
    // The counter itself: the object that had the last version may be gone.
    yield writeRecord(undefined, { namespace: '', name: '', version, body: '' }, true)
    for (const [kind, spaces] of all)
      for (const space of spaces.values()) for (const stored of space.values()) yield writeRecord(kind, stored, false)
  }

  const store: Store = {
    get(kind, namespace, name) {
      const stored = all.get(kind)?.get(namespace)?.get(name)
      return stored && treeOf(stored)
    },
    list(kind, namespace) {
      const spaces = all.get(kind)
      const named = namespace ? [namespace] : [...(spaces?.keys() ?? [])].sort()
      return named.flatMap((space) => [...(spaces?.get(space)?.values() ?? [])].sort(byName))
    },
    trees: <T extends Obj>(kind: Kind, namespace: string) =>
      store.list(kind, namespace).map((stored) => treeOf<T>(stored)),
    put(kind, object) {
      commit(kind, object, false)
      return object
    },
    remove(kind, object) {
      commit(kind, object, true)
      return object
    },
    version: () => version,
    since(from) {
      if (from < forgotten) return undefined
      return history.filter((change) => change.version > from)
    },
    follow(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    close: () => journal.close(),
  }
  return store
}

// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- as above
export const treeOf = <T extends Obj = Obj>({ body }: Stored): T => JSON.parse(body) as T

const byName = (a: Stored, b: Stored) => (a.name < b.name ? -1 : 1)

const bytesIn = ({ before, after, removed }: Change) =>
  (before?.body.length ?? 0) + (after?.body.length ?? 0) + (removed?.body.length ?? 0)

/** `put 17 apps deployments default web` and the object; `drop …` alone. Names hold no spaces. */
function writeRecord(kind: Kind | undefined, { version, namespace, name, body }: Stored, removed: boolean): Buffer {
  const head = [removed ? 'drop' : 'put', version, kind?.group, kind?.plural, namespace, name].join(' ')
  return Buffer.from(removed ? `${head}\n` : `${head}\n${body}`)
}

function readRecord(record: Buffer): { kind?: Kind; stored: Stored; removed: boolean } {
  const end = record.indexOf('\n')
  const [what, version, group = '', plural = '', namespace = '', name = ''] = record.toString('utf8', 0, end).split(' ')
  return {
    kind: kindAt(group, plural),
    stored: { namespace, name, version: Number(version), body: record.toString('utf8', end + 1) },
    removed: what === 'drop',
  }
}

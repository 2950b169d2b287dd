import { decodeId, encodeId, type Noun } from '@1ctl/contract/ids'
import { limits } from '@1ctl/contract/limits'
import { CliError, usage } from './errors.ts'
import { nearest } from './words.ts'

type Load<T> = (page: {
  cursor?: string | undefined
  limit: number
}) => Promise<{ items: T[]; nextCursor: string | null }>

/** All items of a list, or the first `countMax`. */
export async function everyPage<T>(load: Load<T>, countMax = Infinity): Promise<T[]> {
  const items: T[] = []
  let cursor: string | undefined
  do {
    const page = await load({ cursor, limit: Math.min(limits.pageSizeMax, countMax - items.length) })
    items.push(...page.items)
    cursor = page.nextCursor ?? undefined
  } while (cursor !== undefined && items.length < countMax)
  return items
}

/** The id behind what a person typed: an id, or the name of exactly one. */
export async function idOf<T extends { id: string }>(
  noun: Noun,
  typed: string,
  load: Load<T>,
  nameOf: (item: T) => string,
): Promise<string> {
  const uuid = decodeId(noun, typed)
  if (uuid !== undefined) return encodeId(noun, uuid)
  const items = await everyPage(load)
  const [found, another] = items.filter((item) => nameOf(item) === typed)
  if (found && !another) return found.id
  if (found) throw usage(`There is more than one ${noun} "${typed}".`, `Use its id. See: 1ctl ${noun} list`)
  const guess = nearest(
    typed,
    items.flatMap((item) => [item.id, nameOf(item)]),
  )
  throw new CliError('notFound', `${noun}_not_found`, `There is no ${noun} "${typed}".`, {
    fix: guess ? `Did you mean "${guess}"?` : `1ctl ${noun} list`,
  })
}

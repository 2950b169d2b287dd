import type { ApiContract, Input, Output } from '@1ctl/contract'
import { decodeId, encodeId, type Noun } from '@1ctl/contract/ids'
import type { Caller } from '../context.ts'
import { withRows } from '../identity/callers.ts'
import { invalid } from '../refusal.ts'

/**
 * A read that costs one statement: its rows come with the statement that authenticates. `sql` may use `caller.organization_id`,
 * `caller.user_id`, `caller.vpcs` and the parameters from $2 on; what it found for a caller who turns out not to be allowed is dropped.
 */
export type View<Name extends keyof ApiContract, Row = never> = {
  query(input: Input<ApiContract[Name]>): Query
  present(rows: Row[], input: Input<ApiContract[Name]>, caller: Caller): Output<ApiContract[Name]>
}

export type Query = { statements: ReturnType<typeof withRows>; values: unknown[] }

type Making<Name extends keyof ApiContract> = { sql: string; values(input: Input<ApiContract[Name]>): unknown[] }

/** `filtered` is the statement for when something is looked for: conditions cost also where they are not asked for. */
export function view<Name extends keyof ApiContract, Row>(
  name: Name,
  making: Making<Name> & { filtered?: Making<Name> & { when(input: Input<ApiContract[Name]>): boolean } } & Pick<
      View<Name, Row>,
      'present'
    >,
): View<Name, Row> {
  const { filtered } = making
  const [plain, narrow] = [withRows(name, making.sql), filtered && withRows(`${name}.filtered`, filtered.sql)]
  return {
    query: (input) =>
      narrow && filtered?.when(input)
        ? { statements: narrow, values: filtered.values(input) }
        : { statements: plain, values: making.values(input) },
    present: (...found) => making.present(...found),
  }
}

type PageInput = { cursor?: string | undefined; limit: number }

/**
 * Parameters of a newest-first list by id: `($2::uuid is null or id < $2) order by id desc limit $3`. One row more than asked for tells
 * whether there is a next page.
 */
export function pageValues(noun: Noun, { cursor, limit }: PageInput): [string | null, number] {
  const before = cursor === undefined ? null : decodeId(noun, cursor)
  if (before === undefined) throw invalidCursor()
  return [before, limit + 1]
}

export const invalidCursor = () =>
  invalid('invalid_query', [{ path: 'cursor', message: 'is not a nextCursor that this list has answered' }])

export function toPage<Row extends { id: string }, Item>(
  noun: Noun,
  rows: Row[],
  { limit }: PageInput,
  item: (row: Row) => Item,
): { items: Item[]; nextCursor: string | null } {
  const shown = rows.slice(0, limit)
  const last = rows.length > limit ? shown.at(-1) : undefined
  return { items: shown.map(item), nextCursor: last ? encodeId(noun, last.id) : null }
}

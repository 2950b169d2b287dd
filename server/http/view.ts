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
  statements: ReturnType<typeof withRows>
  values(input: Input<ApiContract[Name]>): unknown[]
  present(rows: Row[], input: Input<ApiContract[Name]>, caller: Caller): Output<ApiContract[Name]>
}

export const view = <Name extends keyof ApiContract, Row>(
  name: Name,
  { sql, ...rest }: { sql: string } & Omit<View<Name, Row>, 'statements'>,
): View<Name, Row> => ({ statements: withRows(name, sql), ...rest })

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

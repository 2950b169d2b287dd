import type { Database } from '../store/database.ts'

/** Every row of every table as text: what someone with a copy of the database can search. */
export async function dump(db: Database): Promise<string> {
  const { rows: tables } = await db.query<{ name: string }>(
    `select quote_ident(table_name) as name from information_schema.tables
     where table_schema = 'public' and table_type = 'BASE TABLE'`,
  )
  const texts = await Promise.all(
    tables.map(({ name }) => db.query<{ text: string }>(`select t::text as text from ${name} t`)),
  )
  return texts.flatMap(({ rows }) => rows.map(({ text }) => text)).join('\n')
}

/** A secret as it is, and as it would look in a bytea, in base64 or in a URL. */
export const formsOf = (secret: string): string[] => {
  const bytes = Buffer.from(secret)
  // Where padding falls differs by what stands before, so the middle of the text is what counts.
  return [
    secret,
    bytes.toString('hex'),
    bytes.toString('base64').slice(0, -4),
    bytes.toString('base64url').slice(0, -4),
  ]
}

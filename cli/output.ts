import { createColors } from 'picocolors'
import type { Flags } from './deps.ts'
import { exact, relative } from './words.ts'

export type Column<T> = {
  header: string
  cell: (item: T) => string
  /** shown with --wide only */
  wide?: true
}

/** Results on stdout in the form the caller asked for; notes on stderr. */
export type Output = {
  /** `{"items": […]}`, names, or a table */
  list<T>(items: readonly T[], columns: Column<T>[], name: (item: T) => string): void
  /** data, a name, or lines for a person */
  one(data: object, name: string, lines: string[]): void
  text(text: string): void
  note(text: string): void
  /** relative on a terminal, exact in a pipe */
  time(time: string | null): string
}

export function createOutput({ output, wide, quiet, color }: Flags): Output {
  const paint = painter(process.stdout, color)
  const form = quiet && output === 'table' ? 'name' : output
  // A reader of JSON expects to find on stderr either nothing or the error, in JSON as well.
  const notes = !quiet && (output === 'table' || output === 'name')

  return {
    list(items, columns, name) {
      if (form === 'json') text(json({ items }))
      else if (form === 'yaml') text(yaml({ items }))
      else if (form === 'name') items.forEach((item) => text(clean(name(item))))
      else
        text(
          tableOf(
            items,
            columns.filter((column) => wide || !column.wide),
            paint,
          ),
        )
    },
    one(data, name, lines) {
      if (form === 'json') text(json(data))
      else if (form === 'yaml') text(yaml(data))
      else if (form === 'name') text(clean(name))
      else text(lines.map(clean).join('\n'))
    },
    text,
    note: (text) => void (notes && process.stderr.write(`${painter(process.stderr, color)('dim', clean(text))}\n`)),
    time: (time) => (time === null ? 'never' : process.stdout.isTTY ? relative(time) : exact(time)),
  }
}

const text = (text: string) => void process.stdout.write(`${text}\n`)

const json = (value: unknown) => JSON.stringify(value, null, 2)

/** As kubectl and docker align: every column as wide as its widest cell, three spaces between. */
function tableOf<T>(items: readonly T[], columns: Column<T>[], paint: Paint): string {
  const rows = [
    columns.map(({ header }) => header),
    ...items.map((item) => columns.map(({ cell }) => clean(cell(item)))),
  ]
  const widths = columns.map((_, place) => Math.max(...rows.map((row) => length(row[place] ?? ''))))
  return rows
    .map((row) =>
      row
        .map((cell, place) => {
          const padding = place === row.length - 1 ? '' : ' '.repeat((widths[place] ?? 0) - length(cell) + 3)
          const tone = tones[cell]
          return (tone ? paint(tone, cell) : cell) + padding
        })
        .join('')
        .trimEnd(),
    )
    .join('\n')
}

const length = (text: string) => Array.from(text).length

/** Words that say a state, in every table. The word is enough; color only helps the eye. */
const tones: Record<string, Tone> = {
  active: 'green',
  done: 'green',
  disabled: 'yellow',
  invited: 'yellow',
  refused: 'yellow',
  expired: 'red',
}

type Tone = 'green' | 'yellow' | 'red' | 'bold' | 'dim'
type Paint = (tone: Tone, text: string) => string

/** Stdout and stderr are judged apart. Not picocolors' own judgment, which colors pipes where CI is set. */
export function painter(stream: NodeJS.WriteStream, allowed: boolean): Paint {
  const { env } = process
  const isTerminal = (stream.isTTY ?? false) && env.TERM !== 'dumb'
  const colors = createColors(allowed && !env.NO_COLOR && (Boolean(env.FORCE_COLOR) || isTerminal))
  return (tone, text) => colors[tone](text)
}

/** What others wrote (names, browsers' words for themselves) must not steer the terminal. */
export const clean = (text: string) => text.replaceAll(/[\p{Cc}\p{Bidi_Control}]/gu, '�')

export function yaml(value: unknown, indent = ''): string {
  if (Array.isArray(value)) {
    if (value.length === 0) return '[]'
    return value.map((item) => `${indent}- ${yaml(item, `${indent}  `).trimStart()}`).join('\n')
  }
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value).filter(([, field]) => field !== undefined)
    if (entries.length === 0) return '{}'
    return entries
      .map(([key, field]) => {
        const nested = typeof field === 'object' && field !== null && Object.keys(field).length > 0
        return `${indent}${scalar(key)}:${nested ? `\n${yaml(field, `${indent}  `)}` : ` ${yaml(field)}`}`
      })
      .join('\n')
  }
  return scalar(value)
}

// JSON's strings are YAML's double-quoted ones. Plain only where nothing else can be meant.
const scalar = (value: unknown) =>
  typeof value === 'string' &&
  /^[A-Za-z][\w./@-]*$/.test(value) &&
  !/^(true|false|null|yes|no|on|off|y|n)$/i.test(value)
    ? value
    : JSON.stringify(value)

import { InvalidArgumentError } from 'commander'

/** What people type for times and what they read back. */

const unitsMs = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const
type Unit = keyof typeof unitsMs

export const hourMs = unitsMs.h
export const dayMs = unitsMs.d

/** `90s`, `30m`, `24h`, `7d` in milliseconds; a bare number counts in `unit`. */
export const duration = (unit: Unit) => (text: string) => {
  const [, amount, given] = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)?$/.exec(text.trim()) ?? []
  if (amount === undefined) throw new InvalidArgumentError('Write a number with a unit: 30s, 15m, 24h, 7d.')
  return Number(amount) * unitsMs[(given as Unit | undefined) ?? unit]
}

/** A point in time: how long ago (`24h`, `7d`), a day, or RFC 3339. */
export function moment(text: string): string {
  if (/^\d+(ms|s|m|h|d)$/.test(text)) return new Date(Date.now() - duration('d')(text)).toISOString()
  const time = /^\d{4}-\d{2}-\d{2}(T.*)?$/.test(text) ? new Date(text) : new Date(Number.NaN)
  if (Number.isNaN(time.getTime())) throw new InvalidArgumentError('Write 24h, 7d, 2026-12-31 or 2026-12-31T08:00:00Z.')
  return time.toISOString()
}

/** `2026-07-26`, in UTC as the API gives it, or `never`. */
export const day = (time: string | null) => (time === null ? 'never' : new Date(time).toISOString().slice(0, 10))

/** `2026-07-26T08:00:00Z` */
export const exact = (time: string) => new Date(time).toISOString().replace(/\.\d+Z$/, 'Z')

/** `3 h ago`, `in 5 d` */
export function relative(time: string, now = Date.now()): string {
  const distance = new Date(time).getTime() - now
  const [unit, size] = (['d', 'h', 'm', 's'] as const)
    .map((unit) => [unit, Math.floor(Math.abs(distance) / unitsMs[unit])] as const)
    .find(([, size]) => size > 0) ?? ['s', 0]
  if (size === 0) return 'now'
  return distance < 0 ? `${size} ${unit} ago` : `in ${size} ${unit}`
}

/** `2 days ago`, in full words */
export function ago(time: string, now = Date.now()): string {
  const distance = now - new Date(time).getTime()
  const units = { day: unitsMs.d, hour: unitsMs.h, minute: unitsMs.m, second: unitsMs.s }
  for (const [unit, size] of Object.entries(units)) {
    if (distance >= size) return `${plural(Math.floor(distance / size), unit)} ago`
  }
  return 'just now'
}

/** `12s`, `1m 5s`: how long something takes */
export function span(durationMs: number): string {
  const seconds = Math.floor(durationMs / 1000)
  return seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m ${seconds % 60}s`
}

/** `2.1 s`, `1m 5s`: how long something took */
export const took = (durationMs: number): string =>
  durationMs < 60_000 ? `${(durationMs / 1000).toFixed(1)} s` : span(durationMs)

export const plural = (count: number, one: string, many = `${one}s`) => `${count} ${count === 1 ? one : many}`

/** For options that take a number. */
export const count = (min: number, max: number) => (text: string) => {
  const number = /^\d{1,9}$/.test(text) ? Number(text) : -1
  if (number < min || number > max) throw new InvalidArgumentError(`Write a number from ${min} to ${max}.`)
  return number
}

/** For options that may be given several times. */
export const repeated =
  <T>(parse: (text: string) => T) =>
  (text: string, before: T[] = []): T[] => [...before, parse(text)]

/** An option that takes one word of a closed set. */
export const oneOf =
  <const T extends string>(words: readonly T[]) =>
  (text: string): T => {
    const word = words.find((word) => word === text)
    if (word !== undefined) return word
    const guess = nearest(text, words)
    throw new InvalidArgumentError(`${guess ? `Did you mean "${guess}"? ` : ''}It is one of: ${words.join(', ')}.`)
  }

/** The candidate that a mistyped word most likely meant. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  const [best] = candidates
    .map((candidate) => ({ candidate, distance: distance(word.toLowerCase(), candidate.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance)
  return best && best.distance < word.length && best.distance <= Math.max(1, word.length / 3)
    ? best.candidate
    : undefined
}

/** Levenshtein's, with swapped neighbors as one edit. */
function distance(a: string, b: string): number {
  const rows = [Array.from({ length: b.length + 1 }, (_, j) => j)]
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    const [above = [], twoAbove = []] = [rows[i - 1], rows[i - 2]]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1
      const swapped = a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? (twoAbove[j - 2] ?? Infinity) + 1 : Infinity
      row.push(Math.min((above[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (above[j - 1] ?? 0) + same, swapped))
    }
    rows.push(row)
  }
  return rows[a.length]?.[b.length] ?? 0
}

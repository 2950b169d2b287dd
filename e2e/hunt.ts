import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'

/** In every value. The second is in those that a person writes on a command line, where the person's own process shows it. */
export const mark = newMark()
export const argumentMark = newMark()
/** Sent where it may be seen, to prove that the search finds what is there. */
export const control = newMark()

/** All values so far. */
export const sent: string[] = []

/** Three times the mark, so that also an excerpt of some twenty characters has it whole. */
export function value(door: string, marked = mark): string {
  const text = `${marked}${marked} ${door} ${marked}`
  sent.push(text)
  return text
}

export const longValue = (length: number) => {
  const one = value('long')
  return one.repeat(Math.ceil(length / one.length))
}

/** Letters beyond those of hex, or a dump of random bytes might hold it. */
function newMark() {
  return `Zq${randomBytes(4).toString('hex')}`
}

/** The mark as someone may have written it. Its letters are the same in JSON and in a URL. */
export function formsOf(text: string): string[] {
  const bytes = Buffer.from(text)
  const shifted = [0, 1, 2].map((before) => {
    const base64 = Buffer.concat([Buffer.alloc(before), bytes]).toString('base64url')
    // The characters at either end also depend on the neighbors.
    return base64.slice([0, 2, 3][before], (before + bytes.length) % 3 === 0 ? undefined : -1)
  })
  const hex = bytes.toString('hex')
  const percents = hex.replaceAll(/../g, '%$&')
  return [text, ...shifted, hex, hex.toUpperCase(), percents, percents.toUpperCase()]
}

/** Where one of these texts stands in any form, with what is around it. */
export function hunt(haystack: string | Buffer, texts = [mark, argumentMark]): string[] {
  const bytes = Buffer.from(haystack as string)
  return texts.flatMap(formsOf).flatMap((needle) => {
    const at = bytes.indexOf(needle)
    return at < 0 ? [] : [bytes.toString('latin1', Math.max(0, at - 60), at + 100)]
  })
}

export function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map((name) => join(folder, name))
    .filter((path) => statSync(path, { throwIfNoEntry: false })?.isFile())
}

/** Nothing of what is gone meanwhile or belongs to someone else. */
export function bytesOf(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch {
    return Buffer.alloc(0)
  }
}

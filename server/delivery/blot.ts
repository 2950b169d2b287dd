/**
 * Takes known values out of text that comes from a container: as they are, in base64 wherever they begin in it, in a URL and in JSON. Whoever
 * may read logs may not read values.
 */

export const blotted = '***'
/** A text of up to three characters is in every log, and no secret. */
const lengthMin = 4

export type Blot = (line: string) => string

/** Made once for many lines: at each place only the forms that begin with the same four characters are compared. */
export function blotterFor(values: Iterable<Buffer | string>): Blot {
  const byStart = new Map<string, Set<string>>()
  for (const value of values)
    for (const form of formsOf(Buffer.from(value))) {
      const start = form.slice(0, lengthMin)
      byStart.set(start, (byStart.get(start) ?? new Set()).add(form))
    }
  return (line) => {
    let text = ''
    let shownTo = 0
    let hiddenTo = 0
    for (let at = 0; at + lengthMin <= line.length; at++) {
      const forms = byStart.get(line.slice(at, at + lengthMin))
      const length = forms ? longest(forms, line, at) : 0
      if (length === 0) continue
      // Overlapping ones become one blot: what is left between two of them could be most of a value.
      if (at >= hiddenTo) {
        text += line.slice(shownTo, at) + blotted
      }
      hiddenTo = Math.max(hiddenTo, at + length)
      shownTo = hiddenTo
    }
    return text + line.slice(shownTo)
  }
}

export const blotOut = (lines: string[], values: Iterable<Buffer | string>): string[] => lines.map(blotterFor(values))

function longest(forms: Set<string>, line: string, at: number): number {
  let length = 0
  for (const form of forms) if (form.length > length && line.startsWith(form, at)) length = form.length
  return length
}

/** What a line may hold of a value. One of several lines, such as a private key, comes line by line. */
function formsOf(value: Buffer): string[] {
  const text = value.toString('utf8')
  const lines = text.split(/\r?\n/)
  const plain = lines.length > 1 ? [text, ...lines.map((line) => line.trim())] : [text]
  const forms = plain.flatMap((part) => [part, ...escaped(part)])
  return [...new Set([...forms, ...base64Forms(value)])].filter((form) => form.length >= lengthMin)
}

function escaped(text: string): string[] {
  // A lone half of a character has no URL form.
  const url = encodeURIComponent(text.toWellFormed())
  const lower = url.replace(/%[0-9A-F]{2}/g, (code) => code.toLowerCase())
  return [JSON.stringify(text).slice(1, -1), url, lower, url.replaceAll('%20', '+'), lower.replaceAll('%20', '+')]
}

/**
 * Three texts, one for each place in a group of three bytes that it can begin at, without the characters that depend on what stands beside
 * it. For a text in front of it (`user:password`) is encoded with it.
 */
function base64Forms(value: Buffer): string[] {
  if (value.length < lengthMin) return []
  return [0, 1, 2].flatMap((before) => {
    const whole = Buffer.concat([Buffer.alloc(before), value])
    const [from, to] = [Math.ceil((before * 8) / 6), Math.floor((whole.length * 8) / 6)]
    return [whole.toString('base64').slice(from, to), whole.toString('base64url').slice(from, to)]
  })
}

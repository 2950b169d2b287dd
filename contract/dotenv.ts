import { isEnvName, matches, nameRules } from './names.ts'
import { valueHints } from './value-hints.ts'

/**
 * Files of keys and values, as CLI and dashboard read them: `.env` and JSON. All or nothing: with one error nothing of a file counts. A
 * problem names the line, and the key if it is one, but quotes nothing: half of a private key easily stands where a name should.
 */
export type Problem = { line: number; key: string | null; message: string }
export type Entry = { line: number; key: string; value: string }
export type Parsed = { entries: Entry[]; warnings: Problem[] } | { errors: Problem[] }

/**
 * Stricter than other readers, which guess differently: a bare word, a key given twice or an open quote is an error. Nothing is
 * interpolated, and `#` begins a comment only after a space, so that `PASS=a#b$c` is what it says.
 */
export function parseDotenv(source: string): Parsed {
  const text = scan(withoutBom(source).replaceAll(/\r\n|\r$/g, '\n'))
  const found = collect()
  while (!text.isAtEnd()) {
    if (text.take(blankLine)) continue
    const { line } = text
    const name = text.take(nameAndEquals)?.[1]?.replace(/[ \t]+$/, '')
    if (name === undefined) {
      found.error(line, null, 'neither KEY=value nor a comment')
      text.take(restOfLine)
      continue
    }
    const key = isEnvName(name) && matches(nameRules.secretKey, name) ? name : null
    if (key === null) found.error(line, null, 'no name before "=": letters, digits and underscores')
    const value = takeValue(text)
    if ('error' in value) found.error(value.line, key, value.error)
    else if (key !== null) found.add(line, key, value.text, value.warnings)
  }
  return found.result()
}

type Value = { text: string; warnings: string[] } | { line: number; error: string }

function takeValue(text: Scan): Value {
  const { line } = text
  const single = text.take(singleQuoted)?.[1]
  const double = single === undefined ? text.take(doubleQuoted)?.[1] : undefined
  if ((single ?? double) !== undefined && !text.take(restOfQuotedLine)) {
    const closedIn = text.line
    text.take(restOfLine)
    return { line: closedIn, error: 'text after the closing quote' }
  }
  if (single !== undefined) return checked(line, single, single)
  if (double !== undefined) {
    const isBackslashKept = /\\[^nrt\\"]/.test(double.replaceAll('\\\\', ''))
    return checked(line, double, unescaped(double), isBackslashKept && backslashKept)
  }

  const plain = text.take(restOfLine)?.[1] ?? ''
  if (/^[ \t]*["']/.test(plain)) {
    // Where it was to end nobody knows, so that nothing after it can be read.
    text.take(everything)
    return { line, error: 'the quote is never closed' }
  }
  if (/^[ \t]*-----BEGIN (?!.*-----END )/.test(plain)) {
    text.take(untilPemEnds)
    return { line, error: 'several lines need quotes around them' }
  }
  const value = plain.replace(/[ \t]#.*/, '').replace(/^[ \t]+|[ \t]+$/g, '')
  return checked(line, plain, value, value.includes('#') && hashKept)
}

function checked(line: number, raw: string, value: string, warning: string | false = false): Value {
  if (/[\0\r]/.test(raw)) return { line, error: 'a NUL or a carriage return in the value' }
  return { text: value, warnings: [warning, value.includes('${') && dollarKept].filter((text) => text !== false) }
}

const backslashKept = 'a backslash is kept: only \\n \\r \\t \\\\ \\" are replaced'
const hashKept = 'contains #, which is kept: a comment has a space before it'
const dollarKept = 'contains ${…}, which is kept as it is'

const blankLine = /[ \t]*(?:#[^\n]*)?(?:\n|$)/y
const nameAndEquals = /[ \t]*(?:export[ \t]+(?=[^ \t=]))?([^=\n]*)=/y
const singleQuoted = /[ \t]*'([^']*)'/y
const doubleQuoted = /[ \t]*"([^"\\]*(?:\\[^][^"\\]*)*)"/y
const restOfQuotedLine = /(?:[ \t]+#[^\n]*|[ \t]*)(?:\n|$)/y
const restOfLine = /([^\n]*)\n?/y
const everything = /[^]*/y
const untilPemEnds = /[^]*?-----END [^\n]*\n?/y

const unescaped = (text: string) =>
  text.replaceAll(/\\([nrt\\"])/g, (_, character: string) => escapes[character] ?? character)
const escapes: Record<string, string> = { n: '\n', r: '\r', t: '\t' }

/** One object of strings: `{"KEY": "value"}`. Unlike JSON.parse it notices a key that is given twice. */
export function parseJson(source: string): Parsed {
  const text = scan(withoutBom(source))
  const found = collect()
  const stop = (key: string | null, message: string) => {
    found.error(text.line, key, message)
    return found.result()
  }

  const takeString = () => {
    const [quoted] = text.take(/"[^"\\\n]*(?:\\.[^"\\\n]*)*"/y) ?? []
    try {
      return quoted === undefined ? undefined : (JSON.parse(quoted) as string)
    } catch {
      return undefined // an escape that JSON does not have
    }
  }

  if (!text.take(/\s*\{\s*/y)) return stop(null, 'a JSON object is expected: {"KEY": "value"}')
  if (!text.take(/\}\s*/y)) {
    for (;;) {
      const { line } = text
      const name = takeString()
      if (name === undefined) return stop(null, 'a name in double quotes is expected')
      const key = matches(nameRules.secretKey, name) ? name : null
      if (key === null) found.error(line, null, `the name is not ${nameRules.secretKey.says}`)
      if (!text.take(/\s*:\s*/y)) return stop(key, 'a colon and a value are expected')
      const value = takeString()
      if (value === undefined) {
        found.error(text.line, key, 'text in double quotes is expected')
        if (!text.take(/-?[\w.+-]+/y)) return found.result()
      } else if (key !== null) found.add(line, key, value)
      if (text.take(/\s*\}\s*/y)) break
      if (!text.take(/\s*,\s*/y)) return stop(key, 'a comma or the closing brace is expected after the value')
    }
  }
  return text.isAtEnd() ? found.result() : stop(null, 'text after the closing brace')
}

/** The opposite of `parseDotenv`, for keys that are environment names and values without NUL. */
export function printDotenv(entries: Iterable<{ key: string; value: string }>): string {
  return Array.from(entries, ({ key, value }) => `${key}=${printed(value)}\n`).join('')
}

function printed(value: string): string {
  if (/^(?![ \t"']|-----BEGIN )[^#\n\r]*$/.test(value) && !/[ \t]$/.test(value)) return value
  if (!/['\r]/.test(value)) return `'${value}'`
  return `"${value.replaceAll(/[\\"]/g, '\\$&').replaceAll('\r', '\\r')}"`
}

type Scan = ReturnType<typeof scan>

function scan(text: string) {
  let at = 0
  let line = 1
  return {
    get line() {
      return line
    },
    isAtEnd: () => at === text.length,
    /** What the pattern, a sticky one, finds here; then here is behind it. */
    take(pattern: RegExp): RegExpExecArray | null {
      pattern.lastIndex = at
      const match = pattern.exec(text)
      if (match) {
        at = pattern.lastIndex
        line += match[0].split('\n').length - 1
      }
      return match
    },
  }
}

function collect() {
  const entries: Entry[] = []
  const warnings: Problem[] = []
  const errors: Problem[] = []
  const lineOf = new Map<string, number>()
  const error = (line: number, key: string | null, message: string) => void errors.push({ line, key, message })

  return {
    error,
    add(line: number, key: string, value: string, remarks: string[] = []) {
      const before = lineOf.get(key)
      if (before !== undefined) return error(line, key, `given in line ${before} already`)
      lineOf.set(key, line)
      if (!value.isWellFormed()) return error(line, key, 'not Unicode text (half a surrogate pair)')
      entries.push({ line, key, value })
      for (const message of [...remarks, ...valueHints(value)]) warnings.push({ line, key, message })
    },
    result(): Parsed {
      if (errors.length === 0 && entries.length === 0) error(1, null, 'nothing in the file')
      return errors.length > 0 ? { errors } : { entries, warnings }
    },
  }
}

const withoutBom = (text: string) => text.replace(/^\uFEFF/, '')

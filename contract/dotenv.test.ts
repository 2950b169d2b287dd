import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Parsed, parseDotenv, parseJson, printDotenv } from './dotenv.ts'

const valuesOf = (parsed: Parsed) =>
  'errors' in parsed ? parsed.errors : parsed.entries.map(({ key, value }) => [key, value])
const errorsOf = (parsed: Parsed) =>
  'errors' in parsed ? parsed.errors.map(({ line, key, message }) => [line, key, message]) : []
const warningsOf = (parsed: Parsed) =>
  'errors' in parsed ? [] : parsed.warnings.map(({ line, key, message }) => [line, key, message])

const pem = `-----BEGIN PRIVATE KEY-----
MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj
MzEfYyjiWA4R4/M2bS1GB4t7NXp98C3SC6dVMvDuictGeurT8jNbvJZHtCSuYEvu
dQ==
-----END PRIVATE KEY-----
`

describe('a .env file', () => {
  test.each([
    ['A=B=C', [['A', 'B=C']]],
    ['P=pa$$word', [['P', 'pa$$word']]],
    ['P=123#abc', [['P', '123#abc']]],
    ['P=#abc', [['P', '#abc']]],
    ['P=123 #abc', [['P', '123']]],
    ['P= #abc', [['P', '']]],
    ['P=123\t# abc', [['P', '123']]],
    ['K="V" # or "W"', [['K', 'V']]],
    ['F= "BAR"', [['F', 'BAR']]],
    ['F = BAR', [['F', 'BAR']]],
    ['  F\t=  BAR baz \t', [['F', 'BAR baz']]],
    ['export F=BAR', [['F', 'BAR']]],
    ['export\t F="BAR"', [['F', 'BAR']]],
    ['export=1', [['export', '1']]],
    ['export =1', [['export', '1']]],
    ['E=', [['E', '']]],
    ["E=''", [['E', '']]],
    [`K=it's`, [['K', "it's"]]],
    ['K=a"b"', [['K', 'a"b"']]],
    [`K='a"b\\n$X #'`, [['K', 'a"b\\n$X #']]],
    [`K='{"a": "b", "c": [1]}'`, [['K', '{"a": "b", "c": [1]}']]],
    ['K="a\\nb\\r\\t\\\\n\\"c\\d"', [['K', 'a\nb\r\t\\n"c\\d']]],
    [
      "K='one\n two\n'\nL=3",
      [
        ['K', 'one\n two\n'],
        ['L', '3'],
      ],
    ],
    [`K="${pem}"`, [['K', pem]]],
    [`K='${pem}' # the old one`, [['K', pem]]],
    ['\uFEFFA=1', [['A', '1']]],
    [
      '# one\r\n\r\nA=1\r\nB="2\r\n3"\r\nC=4 # four\r\n',
      [
        ['A', '1'],
        ['B', '2\n3'],
        ['C', '4'],
      ],
    ],
    ['A=1\r', [['A', '1']]],
    ['A=\u00a0x\u00a0', [['A', '\u00a0x\u00a0']]],
    [
      '__proto__=1\nconstructor=2',
      [
        ['__proto__', '1'],
        ['constructor', '2'],
      ],
    ],
  ])('%j', (text, values) => expect(valuesOf(parseDotenv(text))).toEqual(values))

  test.each<[string, [number, string | null, string][]]>([
    ['K="abc\nN=1', [[1, 'K', 'the quote is never closed']]],
    ["\nK='abc\nN=1\n", [[2, 'K', 'the quote is never closed']]],
    ['foo', [[1, null, 'neither KEY=value nor a comment']]],
    ['export FOO', [[1, null, 'neither KEY=value nor a comment']]],
    ['A=1\nB=2\nA=2', [[3, 'A', 'given in line 1 already']]],
    ['MY-KEY=1', [[1, null, 'no name before "=": letters, digits and underscores']]],
    ['1A=1', [[1, null, 'no name before "=": letters, digits and underscores']]],
    ['=1', [[1, null, 'no name before "=": letters, digits and underscores']]],
    ['export A B=1', [[1, null, 'no name before "=": letters, digits and underscores']]],
    [`${'K'.repeat(129)}=1`, [[1, null, 'no name before "=": letters, digits and underscores']]],
    ['A=x\0y', [[1, 'A', 'a NUL or a carriage return in the value']]],
    ['A="x\0y"', [[1, 'A', 'a NUL or a carriage return in the value']]],
    ['A=x\ry', [[1, 'A', 'a NUL or a carriage return in the value']]],
    ['A="x"y', [[1, 'A', 'text after the closing quote']]],
    ['A="x"#y', [[1, 'A', 'text after the closing quote']]],
    [
      "A='1\n2' 3\nB",
      [
        [2, 'A', 'text after the closing quote'],
        [3, null, 'neither KEY=value nor a comment'],
      ],
    ],
    ['', [[1, null, 'nothing in the file']]],
    ['\uFEFF# only this\n\n', [[1, null, 'nothing in the file']]],
    [
      `A=1\nK=${pem}B`,
      [
        [2, 'K', 'several lines need quotes around them'],
        [7, null, 'neither KEY=value nor a comment'],
      ],
    ],
  ])('%j is refused with line and key', (text, errors) => expect(errorsOf(parseDotenv(text))).toEqual(errors))

  test.each<[string, string[]]>([
    ['A=1#2', ['contains #, which is kept: a comment has a space before it']],
    ["A='1#2'", []],
    ['A=1 #2', []],
    ["A=' x'", ['has spaces around it']],
    ['A=changeme', ['looks like a placeholder']],
    ['A=<your key>', ['looks like a placeholder']],
    [`A='"x"'`, ['has quotes around it']],
    ['A=${B}', ['contains ${…}, which is kept as it is']],
    ['A="${B}"', ['contains ${…}, which is kept as it is']],
    ['A="\\d"', ['a backslash is kept: only \\n \\r \\t \\\\ \\" are replaced']],
    ['A="\\\\d\\"\\nx"', []],
    ['A=$B', []],
  ])('%j is taken with a warning', (text, messages) => {
    expect(warningsOf(parseDotenv(text))).toEqual(messages.map((message) => [1, 'A', message]))
  })

  test('a file as people have it keeps the numbers of its lines', () => {
    const text = `# database\nexport DB_USER=app\nDB_PASS='a\nb'\n\nTLS="${pem}" # until May\nLAST=1`
    const parsed = parseDotenv(text)
    expect('entries' in parsed && parsed.entries.map(({ line, key }) => [line, key])).toEqual([
      [2, 'DB_USER'],
      [3, 'DB_PASS'],
      [6, 'TLS'],
      [12, 'LAST'],
    ])
  })
})

describe('of any .env file', () => {
  const key = fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_]{0,20}$/)
  const tricky = fc.constantFrom(
    '"',
    "'",
    '\\',
    '\n',
    '\r',
    '#',
    ' #',
    '$',
    '${',
    ' ',
    '\t',
    '=',
    'export ',
    '\\n',
    '-----BEGIN ',
    '',
  )
  const value = fc
    .array(fc.oneof(tricky, fc.string({ unit: 'binary', maxLength: 8 })))
    .map((parts) => parts.join('').replaceAll('\0', ''))
  const entries = fc.uniqueArray(fc.record({ key, value }), { minLength: 1, maxLength: 20, selector: (e) => e.key })

  test('what is printed is read back', () => {
    fc.assert(
      fc.property(entries, (given) => {
        expect(valuesOf(parseDotenv(printDotenv(given)))).toEqual(given.map(({ key, value }) => [key, value]))
      }),
      { numRuns: 1000 },
    )
  })

  test('line ends, a BOM, comments, blank lines and export change nothing', () => {
    const line = fc.constantFrom('', '# A=1', '   ', '\t#"')
    fc.assert(
      fc.property(entries, fc.array(line), (given, others) => {
        const printed = given.map((entry) => `${others.join('\n')}\n export ${printDotenv([entry])}`).join('')
        const text = `\uFEFF${printed}`.replaceAll('\n', '\r\n')
        expect(valuesOf(parseDotenv(text))).toEqual(given.map(({ key, value }) => [key, value]))
      }),
    )
  })

  test('nothing that stands in it is in an error, and no text makes it throw', () => {
    const canary = 'Xq7'
    const part = fc.oneof(tricky, fc.constantFrom(canary, 'A=', '\nB', '-----END ', '{', '}', ':', ','))
    fc.assert(
      fc.property(fc.array(part, { maxLength: 30 }), (parts) => {
        for (const parsed of [parseDotenv(parts.join('')), parseJson(parts.join(''))]) {
          const problems = 'errors' in parsed ? parsed.errors : parsed.warnings
          for (const { key, message } of problems) {
            expect(message).not.toContain(canary)
            if (key !== null) expect(key).toMatch(/^[-.\w]+$/)
          }
        }
      }),
      { numRuns: 2000 },
    )
  })

  test('a large one is read in time that grows with its size', () => {
    const text = Array.from({ length: 500 }, (_, n) => `KEY_${n}="${'\\n\\"x'.repeat(500)}"\n`).join('')
    const began = performance.now()
    expect(valuesOf(parseDotenv(text))).toHaveLength(500)
    expect(errorsOf(parseDotenv(`${text}K="${'\\"x'.repeat(100_000)}`))).toHaveLength(1)
    expect(performance.now() - began).toBeLessThan(2000)
  })
})

describe('JSON', () => {
  test.each([
    ['{"A":"1"}', [['A', '1']]],
    [
      '\uFEFF\n{ "A" : "1" ,\n "tls.crt" : "a\\n\\u00e4\\"" }\n',
      [
        ['A', '1'],
        ['tls.crt', 'a\nä"'],
      ],
    ],
    [
      '{"__proto__":"1","constructor":""}',
      [
        ['__proto__', '1'],
        ['constructor', ''],
      ],
    ],
  ])('%j', (text, values) => expect(valuesOf(parseJson(text))).toEqual(values))

  test.each<[string, [number, string | null, string][]]>([
    ['', [[1, null, 'a JSON object is expected: {"KEY": "value"}']]],
    ['["A"]', [[1, null, 'a JSON object is expected: {"KEY": "value"}']]],
    ['{}', [[1, null, 'nothing in the file']]],
    ['{"A":"1",\n"A":"2"}', [[2, 'A', 'given in line 1 already']]],
    [
      '{"A":1,\n"B":null,"C":true,"D":"d"}',
      [1, 2, 2].map((line, n) => [line, 'ABC'[n] ?? '', 'text in double quotes is expected']),
    ],
    ['{"A":{"B":"1"}}', [[1, 'A', 'text in double quotes is expected']]],
    ['{"A":"\\x"}', [[1, 'A', 'text in double quotes is expected']]],
    ['{"A":"1"', [[1, 'A', 'a comma or the closing brace is expected after the value']]],
    ['{"A":"1",}', [[1, null, 'a name in double quotes is expected']]],
    ['{A:"1"}', [[1, null, 'a name in double quotes is expected']]],
    ['{"A" "1"}', [[1, 'A', 'a colon and a value are expected']]],
    ['{"A":"1"} x', [[1, null, 'text after the closing brace']]],
    ['{"A":"\\ud800"}', [[1, 'A', 'not Unicode text (half a surrogate pair)']]],
  ])('%j is refused with line and key', (text, errors) => expect(errorsOf(parseJson(text))).toEqual(errors))

  test('a name that is none is refused without being shown', () => {
    const [error] = errorsOf(parseJson('{"sk_live_x y":"1"}'))
    expect(error?.slice(0, 2)).toEqual([1, null])
    expect(JSON.stringify(error)).not.toContain('sk_live')
  })

  test('any object of strings is read as JSON.parse reads it', () => {
    const key = fc.stringMatching(/^[A-Za-z_][-.A-Za-z0-9_]{0,20}$/)
    fc.assert(
      fc.property(fc.dictionary(key, fc.string({ unit: 'binary' }), { minKeys: 1 }), fc.nat(4), (object, space) => {
        expect(valuesOf(parseJson(JSON.stringify(object, null, space)))).toEqual(Object.entries(object))
      }),
    )
  })
})

import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { clean, createOutput, yaml } from './output.ts'

// picocolors by itself would color pipes where CI is set, and it looks when it is loaded.
vi.hoisted(() => vi.stubEnv('CI', 'true'))

const flags = {
  output: 'table',
  wide: false,
  quiet: false,
  yes: false,
  input: true,
  color: true,
  debug: false,
  timeout: 1,
} as const
const items = [
  { id: 'tok_1', name: 'github-actions', state: 'active' },
  { id: 'tok_2', name: 'x', state: '' },
]
const columns = [
  { header: 'ID', cell: ({ id }: (typeof items)[0]) => id },
  { header: 'NAME', cell: ({ name }: (typeof items)[0]) => name },
  { header: 'MORE', cell: ({ name }: (typeof items)[0]) => name.slice(0, 1), wide: true as const },
  { header: 'STATUS', cell: ({ state }: (typeof items)[0]) => state },
]

function printed(
  given: Partial<Parameters<typeof createOutput>[0]>,
  work: (out: ReturnType<typeof createOutput>) => void,
) {
  const spies = [vi.spyOn(process.stdout, 'write'), vi.spyOn(process.stderr, 'write')] as const
  onTestFinished(() => spies.forEach((spy) => spy.mockRestore()))
  for (const spy of spies) spy.mockClear().mockReturnValue(true)
  work(createOutput({ ...flags, ...given }))
  const [stdout, stderr] = spies.map((spy) => spy.mock.calls.map(([text]) => String(text)).join(''))
  for (const spy of spies) spy.mockRestore()
  return { stdout, stderr }
}
const listed = (given: Partial<Parameters<typeof createOutput>[0]>) =>
  printed(given, (out) => out.list(items, columns, ({ id }) => id)).stdout

const noted = (given: object) => printed(given, (out) => out.note('by the way'))

describe('a list', () => {
  test('is a table whose columns are aligned and whose lines have no spaces at their end', () => {
    expect(listed({})).toBe('ID      NAME             STATUS\ntok_1   github-actions   active\ntok_2   x\n')
  })

  test('has more columns with --wide', () => {
    expect(listed({ wide: true })).toBe(
      'ID      NAME             MORE   STATUS\ntok_1   github-actions   g      active\ntok_2   x                x\n',
    )
  })

  test('is names with -q and -o name', () => {
    expect(listed({ quiet: true })).toBe('tok_1\ntok_2\n')
    expect(listed({ output: 'name' })).toBe('tok_1\ntok_2\n')
  })

  test('is whole objects in JSON and YAML', () => {
    expect(JSON.parse(listed({ output: 'json', quiet: true }) ?? '')).toEqual({ items })
    expect(listed({ output: 'yaml' })).toBe(
      'items:\n  - id: tok_1\n    name: github-actions\n    state: active\n  - id: tok_2\n    name: x\n    state: ""\n',
    )
  })
})

test('notes go to stderr, and nowhere where only data is wanted', () => {
  expect(noted({})).toEqual({ stdout: '', stderr: 'by the way\n' })
  expect(noted({ quiet: true }).stderr).toBe('')
  expect(noted({ output: 'json' }).stderr).toBe('')
})

test('what others wrote cannot steer the terminal', () => {
  expect(clean('a\u001b[2Jb\r\nc\u009bd\u202ee')).toBe('a�[2Jb��c�d�e')
  expect(clean('Grüße, 東京 🙂')).toBe('Grüße, 東京 🙂')
})

test('YAML keeps texts apart from numbers, dates and booleans', () => {
  expect(
    yaml({
      a: 'yes',
      b: '2026-01-01',
      c: '1',
      d: true,
      e: null,
      f: [],
      g: {},
      h: [['x'], { i: 'k: v' }],
      j: 'a\nb',
      'k l': 1,
    }),
  ).toBe(
    [
      'a: "yes"',
      'b: "2026-01-01"',
      'c: "1"',
      'd: true',
      'e: null',
      'f: []',
      'g: {}',
      'h:',
      '  - - x',
      '  - i: "k: v"',
      'j: "a\\nb"',
      '"k l": 1',
    ].join('\n'),
  )
})

import { array, assert, nat, property, string, uint8Array } from 'fast-check'
import { describe, expect, test } from 'vitest'
import { blotOut, blotterFor } from './blot.ts'

describe('a value in a log', () => {
  const value = 'hunter2-päss word+"quoted"'
  const bytes = Buffer.from(value)

  test.each([
    ['as it is', value],
    ['in JSON', JSON.stringify({ value })],
    ['in a URL', `https://user:${encodeURIComponent(value)}@host`],
    ['in a URL, in small letters', encodeURIComponent(value).toLowerCase()],
    ['in a form', new URLSearchParams({ value }).toString().replaceAll('%22', '%22')],
    ['in base64', bytes.toString('base64')],
    ['in base64 of URLs', bytes.toString('base64url')],
    ['behind one byte in base64', Buffer.concat([Buffer.from('x'), bytes]).toString('base64')],
    ['behind a user in base64', Buffer.concat([Buffer.from('ab:'), bytes, Buffer.from('tail')]).toString('base64')],
    ['behind two bytes in base64', Buffer.concat([Buffer.from('xy'), bytes]).toString('base64')],
  ])('is blotted out %s', (_, line) => {
    const [shown = ''] = blotOut([`before ${line} after`], [value])
    expect(shown).toMatch(/^before .*\*\*\*.* after$/)
    for (const part of ['hunter2', 'word', 'aHVudGVyM', 'h1bnRlc']) expect(shown).not.toContain(part)
  })

  test('of several lines is blotted out line by line', () => {
    const key = '-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END KEY-----'
    expect(blotOut(key.split('\n'), [key])).toEqual(['***', '***', '***', '***'])
  })

  test('that overlaps another leaves nothing of either', () => {
    expect(blotOut(['abcdefgh'], ['abcdef', 'efgh'])).toEqual(['***'])
    expect(blotOut(['xxaaaaaaaxx'], ['aaaa'])).toEqual(['xx***xx'])
  })

  test('of three letters or less stays: it is everywhere', () => {
    expect(blotOut(['port 80 of app'], ['80', 'app', ''])).toEqual(['port 80 of app'])
  })

  test('no line holds a value, and what holds none is left as it was', () => {
    const text = string({ minLength: 4, maxLength: 30, unit: 'binary' }).filter((value) => !/^\**$/.test(value))
    assert(
      property(array(text, { maxLength: 5 }), array(string(), { maxLength: 5 }), nat(5), (values, around, at) => {
        const line = around.join(values[at % (values.length || 1)] ?? '')
        const [shown = ''] = blotOut([line], values)
        // What the blots themselves look like is no leak.
        for (const value of values) if (!value.includes('*')) expect(shown.includes(value)).toBe(false)
        if (!values.some((value) => line.includes(value)) && shown !== line) expect(shown).toContain('***')
      }),
    )
    assert(
      property(
        uint8Array({ minLength: 4, maxLength: 60 }),
        uint8Array({ maxLength: 5 }),
        uint8Array({ maxLength: 5 }),
        (value, before, after) => {
          const line = Buffer.concat([before, value, after]).toString('base64')
          const shown = blotterFor([Buffer.from(value)])(line)
          // What is left are the ends that depend on the bytes beside it.
          if (value.length >= 6)
            expect(shown.replace('***', '').length).toBeLessThanOrEqual(
              line.length - Math.floor(((value.length - 2) * 8) / 6),
            )
        },
      ),
    )
  })

  test('costs little, however many values there are', () => {
    const values = Array.from({ length: 5_000 }, (_, at) => `value-number-${at}-of-many`)
    const began = Date.now()
    const blot = blotterFor(values)
    for (let at = 0; at < 500; at++)
      expect(blot(`a line of an ordinary length with value-number-${at}-of-many`)).toMatch(/with \*\*\*$/)
    expect(Date.now() - began).toBeLessThan(3_000)
  })
})

import { describe, expect, test } from 'vitest'
import { hiddenAnswer } from './hidden.ts'

const pem = '-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\ndQ==\n-----END PRIVATE KEY-----\n'
const pasted = (text: string) => `\u001b[200~${text}\u001b[201~`

function answerTo(chunks: string[]) {
  const answer = hiddenAnswer()
  const states = chunks.map((chunk) => answer.read(chunk))
  return { state: states.at(-1), text: answer.text(), rest: answer.rest() }
}

describe('a hidden answer', () => {
  test.each<[string, string, string]>([
    ['is what was typed until Enter', 'hunter2\r', 'hunter2'],
    ['may have any characters', 'pä$$ "w\t🔑\r', 'pä$$ "w\t🔑'],
    ['is corrected by Backspace', 'hunté🔑\u007f\u007f\ber2\r', 'huner2'],
    ['is begun again by Ctrl-U', 'wrong\u0015right\r', 'right'],
    ['holds no arrows and other keys', 'a\u001b[Ab\u001bOPc\u001b[1;5Cd\u001bxe\u0001\r', 'abcde'],
    ['keeps the lines of a paste', `${pasted(pem)}\r`, pem],
    ['keeps them also when the terminal sends Enter for each', `${pasted(pem.replaceAll('\n', '\r'))}\r`, pem],
    ['may be typed around a paste', `x${pasted('a\nb')}${pasted('c\u001b[A')}y\r`, 'xa\nbc\u001b[Ay'],
    ['may be empty', '\r', ''],
    ['does not end by Ctrl-D once there is something', 'a\u0004b\n', 'ab'],
  ])('%s', (_, keys, text) => {
    expect(answerTo([keys])).toEqual({ state: 'done', text, rest: '' })
    // The same, however the terminal cuts it.
    expect(answerTo(Array.from(keys))).toEqual({ state: 'done', text, rest: '' })
  })

  test('leaves what was typed ahead for the next question', () => {
    expect(answerTo(['one\rtwo\r'])).toEqual({ state: 'done', text: 'one', rest: 'two\r' })
  })

  test.each(['\u0003', 'abc\u0003', '\u0004'])('%j interrupts', (keys) => {
    expect(answerTo([keys]).state).toBe('interrupted')
  })

  test.each(['', 'abc', '\u001b', '\u001b[2', pasted('a').slice(0, -1)])('%j is not the end', (keys) => {
    expect(answerTo([keys]).state).toBe('open')
  })
})

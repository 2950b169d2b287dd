import { StringDecoder } from 'node:string_decoder'
import { CliError } from './errors.ts'

/**
 * Asks at the terminal without showing what is typed. What is pasted stays one value however many lines it has: the terminal marks
 * where a paste begins and ends (bracketed paste), and only Enter outside of one ends the answer.
 */
export async function askHidden(question: string): Promise<string> {
  const { stdin, stderr } = process
  const answer = hiddenAnswer()
  const decoder = new StringDecoder('utf8')
  const mark = (on: boolean) => stderr.isTTY && stderr.write(on ? pasteMarksOn : pasteMarksOff)

  // First, so that nothing typed in answer to the question is echoed.
  stdin.setRawMode(true)
  stderr.write(`${question} (hidden): `)
  mark(true)
  try {
    return await new Promise<string>((resolve, reject) => {
      const read = (chunk: Buffer) => {
        const state = answer.read(decoder.write(chunk))
        if (state === 'open') return
        stdin.off('data', read).off('end', ended).pause()
        if (state === 'interrupted') return reject(interrupted())
        // What was typed ahead answers the next question.
        if (answer.rest() !== '') stdin.unshift(Buffer.from(answer.rest()))
        resolve(answer.text())
      }
      const ended = () => reject(interrupted())
      stdin.on('data', read).on('end', ended).resume()
    })
  } finally {
    stdin.setRawMode(false)
    mark(false)
    stderr.write('\n')
  }
}

const interrupted = () => new CliError('interrupted', 'interrupted', 'Interrupted: nothing was done.')

const escape = '\u001b'
const pasteMarksOn = `${escape}[?2004h`
const pasteMarksOff = `${escape}[?2004l`
const pasteBegins = `${escape}[200~`
const pasteEnds = `${escape}[201~`
/** One key: a sequence of the terminal, or one character. */
const keyPattern = new RegExp(`^(?:${escape}(?:\\[[\\d;?]*[ -/]*[@-~]|O.|[^[O])|[^${escape}])`, 'su')

/** What the keys of a terminal make up, chunk by chunk as they come. */
export function hiddenAnswer() {
  let text = ''
  let pasted: string | undefined
  let unread = ''

  function key(key: string): 'open' | 'done' | 'interrupted' {
    if (key === '\r' || key === '\n') return 'done'
    if (key === '\u0003' || (key === '\u0004' && text === '')) return 'interrupted'
    if (key === pasteBegins) pasted = ''
    else if (key === '\u007f' || key === '\b') text = Array.from(text).slice(0, -1).join('')
    else if (key === '\u0015') text = ''
    else if (key === '\t' || /^\P{Cc}$/u.test(key)) text += key
    return 'open'
  }

  return {
    read(chunk: string): 'open' | 'done' | 'interrupted' {
      unread += chunk
      for (;;) {
        if (pasted !== undefined) {
          // All of it again with each chunk, because the mark itself may come in pieces.
          pasted += unread
          unread = ''
          const end = pasted.indexOf(pasteEnds)
          if (end < 0) return 'open'
          unread = pasted.slice(end + pasteEnds.length)
          // In a paste terminals send Enter for the end of a line.
          text += pasted.slice(0, end).replaceAll(/\r\n?/g, '\n')
          pasted = undefined
        }
        const [next] = keyPattern.exec(unread) ?? []
        if (next === undefined) return 'open'
        unread = unread.slice(next.length)
        const state = key(next)
        if (state !== 'open') return state
      }
    },
    text: () => text,
    rest: () => unread,
  }
}

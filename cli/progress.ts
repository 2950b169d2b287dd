import type { Deps } from './deps.ts'
import { clean, painter } from './output.ts'
import { span } from './words.ts'

/** What a person who waits sees on stderr: a block that is drawn again and again on a terminal, in a pipe a line for each change. */
export type Progress = {
  /** One line for each `id`. In a pipe it is written when `change` is another; on a terminal with the time it has taken. */
  show(id: string, line: { change: string; text: string }): void
  /** Takes the block away. */
  end(): void
}

export function createProgress({ flags, note }: Deps): Progress {
  const { stderr, env } = process
  const isLive = stderr.isTTY && env.TERM !== 'dumb' && flags.output === 'table' && !flags.quiet
  return isLive ? liveBlock(painter(stderr, flags.color)) : lines(note)
}

function lines(note: Deps['note']): Progress {
  const shown = new Map<string, string>()
  return {
    show(id, { change, text }) {
      if (shown.get(id) === change) return
      shown.set(id, change)
      note(text)
    },
    end() {},
  }
}

const escape = '\u001b'

function liveBlock(paint: ReturnType<typeof painter>): Progress {
  const { stderr } = process
  const began = performance.now()
  const block = new Map<string, string>()
  let height = 0
  let ended = false
  // Back to where the block began, and away with all from there on.
  const erase = () => {
    if (height === 0) return
    stderr.write(`${height > 1 ? `${escape}[${height - 1}A` : ''}\r${escape}[J`)
    height = 0
  }
  const draw = () => {
    // Some pseudo-terminals say that they have no columns. A line that wraps would count as two.
    const width = (stderr.columns || 80) - 1
    const rows = (stderr.rows || 24) - 1
    const taken = `(${span(performance.now() - began)})`
    const all = Array.from(block.values(), (text) =>
      Array.from(clean(`${text} ${taken}`))
        .slice(0, width)
        .join(''),
    )
    const more = all.length > rows ? [`and ${all.length - rows + 1} more`] : []
    const fitting = more.length > 0 ? [...all.slice(0, rows - 1), ...more] : all
    erase()
    stderr.write(fitting.map((line) => paint('dim', line)).join('\n'))
    height = fitting.length
  }
  const clock = setInterval(draw, 500)
  return {
    show(id, { text }) {
      if (ended) return
      block.set(id, text)
      draw()
    },
    end() {
      ended = true
      clearInterval(clock)
      erase()
    },
  }
}

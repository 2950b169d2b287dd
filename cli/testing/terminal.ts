import { spawn, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { TestOptions } from 'vitest'
import type { Machine, RunOptions } from './cli.ts'

const program = fileURLToPath(new URL('../bin/1ctl.cjs', import.meta.url))

/** For tests that need a pseudo-terminal, which script(1) of util-linux makes; that of macOS and BSD takes other arguments. */
export const needsTerminal: TestOptions = spawnSync('script', ['--version'], { encoding: 'utf8' }).stdout?.includes(
  'util-linux',
)
  ? {}
  : { skip: true, meta: { lacking: 'no script(1) of util-linux here' } }

/** Runs the program in a terminal and types each answer once its question is there. Gives back the screen and the exit code. */
export function inTerminal(
  machine: Machine,
  args: string,
  answers: [question: string, keys: string | (() => Promise<string>)][],
  { env = {}, folder = '.' }: Pick<RunOptions, 'env' | 'folder'> = {},
) {
  return new Promise<{ code: number | null; screen: string }>((resolve, reject) => {
    const child = spawn('script', ['-qec', `"${process.execPath}" "${program}" ${args}`, '/dev/null'], {
      cwd: join(machine.home, folder),
      env: { PATH: process.env.PATH, HOME: machine.home, TERM: 'xterm', ...env },
    })
    let screen = ''
    const open = [...answers]
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      screen += text
      const [next] = open
      if (!next || !screen.includes(next[0])) return
      open.shift()
      if (typeof next[1] === 'string') child.stdin.write(next[1])
      else next[1]().then((keys) => child.stdin.write(keys), reject)
    })
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, screen }))
  })
}

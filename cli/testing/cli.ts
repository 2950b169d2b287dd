import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { onTestFinished } from 'vitest'

const program = fileURLToPath(new URL('../bin/1ctl.cjs', import.meta.url))

export type Ended = { code: number | null; stdout: string; stderr: string }
export type Machine = {
  home: string
  /** a line, split as a shell splits a simple one, or the arguments as they are */
  run(args: string | string[], options?: RunOptions): Promise<Ended>
}
export type RunOptions = {
  env?: Record<string, string>
  /** below the home, which is the working folder by default */
  folder?: string
  /** what comes through the pipe; nothing by default */
  stdin?: string | AsyncIterable<string>
}

/** A person's machine: an empty home and the built program. What the environment of the tests says does not reach it. */
export function newMachine(): Machine {
  const home = mkdtempSync(join(tmpdir(), '1ctl-home-'))
  onTestFinished(() => rmSync(home, { recursive: true, force: true }))
  return {
    home,
    run: (args, { env = {}, folder = '.', stdin = '' } = {}) =>
      new Promise((resolve, reject) => {
        const child = spawn(process.execPath, [program, ...(typeof args === 'string' ? words(args) : args)], {
          cwd: join(home, folder),
          env: { PATH: process.env.PATH, HOME: home, ...env },
        })
        const ended: Ended = { code: null, stdout: '', stderr: '' }
        for (const name of ['stdout', 'stderr'] as const) {
          child[name].setEncoding('utf8').on('data', (text: string) => (ended[name] += text))
        }
        child.on('error', reject)
        child.on('close', (code) => resolve({ ...ended, code }))
        void feed(child.stdin, stdin)
      }),
  }
}

/** As a shell splits a simple line: spaces separate, double quotes keep together. */
const words = (line: string) =>
  Array.from(line.matchAll(/"([^"]*)"|(\S+)/g), ([, quoted, bare]) => quoted ?? bare ?? '')

async function feed(pipe: NodeJS.WritableStream, input: string | AsyncIterable<string>): Promise<void> {
  pipe.on('error', () => {}) // it may end without reading
  if (typeof input === 'string') pipe.write(input)
  else for await (const part of input) pipe.write(part)
  pipe.end()
}

import { accessSync, constants, existsSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import type { Deps } from './deps.ts'
import { CliError, usage } from './errors.ts'
import { writePrivately } from './home.ts'

/** An answer with something in it that the server tells only once. */
type Once = {
  /** undefined in the answer to a repeated request */
  value: string | string[] | undefined
  /** the answer, without the value */
  data: { id: string }
  /** the value's name in the answer */
  field: string
  lines: string[]
  heading: string
  /** the command that undoes it, for the case that the value got lost */
  undo: string
}

/**
 * Called before the server is asked, so that a value which could not be kept is never made; what it returns prints the value or writes it
 * to `path`.
 */
export function keepOnce({ flags, out }: Deps, path: string | undefined): (once: Once) => void {
  if (path === undefined && flags.output === 'name') {
    throw usage(
      '-o name would lose the value that is shown only once.',
      'Use -q for the value alone, or --output-file.',
    )
  }
  if (path !== undefined) {
    if (existsSync(path) && !flags.yes) throw usage(`The file ${path} exists.`, 'Name another, or replace it with -y.')
    const folder = dirname(resolve(path))
    try {
      accessSync(folder, constants.W_OK)
    } catch {
      throw usage(`The folder ${folder} cannot be written to.`, 'Name a file elsewhere.')
    }
  }

  return ({ value, data, field, lines, heading, undo }) => {
    if (value === undefined) {
      throw new CliError('failed', 'value_lost', `${lines[0]}, but its value got lost on the way.`, {
        why: 'The connection broke, and the server tells the value in its first answer only.',
        fix: `${undo}, and create another.`,
      })
    }
    const text = [value].flat().join('\n')
    if (path !== undefined) {
      writePrivately(path, `${text}\n`)
      if (!flags.quiet) out.one(data, data.id, [...lines, `${heading.replace(/ \(.*/, '')}: written to ${path}`])
    } else if (flags.quiet && flags.output === 'table') out.text(text)
    else out.one({ ...data, [field]: value }, data.id, [...lines, `${heading}:`, ...[value].flat()])
  }
}

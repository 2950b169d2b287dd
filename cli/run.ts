import type { Command } from 'commander'
import { completions } from './complete.ts'
import { createDeps, type Deps, optionsOf } from './deps.ts'
import { explain, type Failure } from './explain.ts'
import { createProgram } from './program.ts'

/** Parses and does what `argv` says. What went wrong comes back as text and exit code. */
export async function run(argv: string[]): Promise<Failure | undefined> {
  let deps: Deps | undefined
  const program = createProgram(
    (handler) =>
      async (...args) => {
        const command = args.at(-1) as Command
        deps = createDeps(command.optsWithGlobals())
        await handler(optionsOf(command) as never, deps)
      },
    argv,
  )
  try {
    if (argv[0] === '__complete') await completions(argv.slice(1))
    else if (argv.length === 0) program.outputHelp()
    else await program.parseAsync(argv, { from: 'user' })
    return undefined
  } catch (error) {
    return explain(error, deps?.flags ?? program.opts(), deps?.accountUsed())
  }
}

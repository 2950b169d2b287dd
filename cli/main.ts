import { version } from './version.ts'

const argv = process.argv.slice(2)
// Scripts ask this often, and nothing else has to be loaded for it.
if (argv.length === 1 && argv[0] === '--version') process.stdout.write(`1ctl ${version}\n`)
else void main()

/** The only place that prints errors and sets the exit code; everything else throws. */
async function main(): Promise<void> {
  // `1ctl token list | head -1`: the reader has what it wanted.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1))
  const { run } = await import('./run.ts')
  const failure = await run(argv)
  await new Promise((written) => process.stdout.write('', written))
  if (failure?.text) await new Promise((written) => process.stderr.write(failure.text, written))
  // Not by waiting: the lookup of a name can hang long after its request was given up.
  process.exit(failure?.exitCode)
}

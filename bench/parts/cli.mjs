// What the command line adds to the start of Node itself, in alternating pairs.
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { environment, root } from '../servers.mjs'
import { median } from '../statistics.mjs'

export function figures() {
  const bundle = join(root, 'cli/dist/1ctl.cjs')
  if (!existsSync(bundle)) throw new Error('cli/dist/1ctl.cjs is missing: npm run build')
  const version = () => timed(bundle, '--version')
  version()
  const samples = []
  for (let pair = 0; pair < 10; pair++) {
    samples.push({ node: timed('-e', '0'), version: version() })
    samples.push({ version: version(), node: timed('-e', '0') })
  }
  const ms = (command) => Math.round(median(samples.map((sample) => sample[command])))
  const added = median(samples.map((sample) => sample.version - sample.node))
  const note = `${ms('version')} to ${ms('node')}`
  return [{ name: '1ctl --version: what it adds to node -e 0', value: added, unit: 'ms', atMost: 15, note }]
}

function timed(...args) {
  const began = performance.now()
  execFileSync(process.execPath, args, { env: environment })
  return performance.now() - began
}

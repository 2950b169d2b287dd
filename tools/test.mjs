// `npm test [-- part …]`: `npm test -- secrets` runs the test files whose path contains "secrets". Options go to vitest.
import { ensureBinary } from '../e2e/cluster/binary.mjs'
import { ensureChromium } from './chromium.mjs'
import { ensureBuilt, ensureInstalled, root } from './setup.mjs'

console.log('Testing 1ctl …')
await ensureInstalled()
await ensureBuilt()
await ensureChromium()

const { parseCLI, startVitest } = await import('vitest/node')
const { filter, options } = parseCLI(['vitest', 'run', ...process.argv.slice(2)])
// Minutes, the first time on a machine: before the tests, which would fight for its cores. A part builds it if it needs it.
if (filter.length === 0) await ensureBinary().catch((error) => console.log(error.message))
let ended = { modules: [], errors: [] }
const remember = { onTestRunEnd: (modules, errors) => (ended = { modules, errors }) }
await startVitest('test', filter, { ...options, root, watch: false, reporters: ['default', remember] })

const tests = ended.modules.flatMap((module) => [...module.children.allTests()])
const inState = (state) => tests.filter((test) => test.result().state === state)
// What failed outside of any test (a file that does not load, a hook, a stray rejection) counts as well: it hides tests.
const outside = ended.errors.length + ended.modules.flatMap(failedOutside).length
const failed = inState('failed').length + outside
const passed = inState('passed').length
const skipped = inState('skipped')

printSkipped(skipped)
console.log(`${passed} passed, ${failed} failed, ${skipped.length} skipped`)
process.exit(failed > 0 || passed === 0 || process.exitCode ? 1 : 0)

function failedOutside(module) {
  return [module, ...module.children.allSuites()].flatMap((suite) => suite.errors())
}

/** By reason, so that one glance tells what this machine would need. */
function printSkipped(skipped) {
  for (const reason of new Set(skipped.map(reasonOf).filter(Boolean))) {
    console.log(`\nSkipped: ${reason}`)
    for (const test of skipped.filter((test) => reasonOf(test) === reason)) {
      console.log(`  ${test.module.relativeModuleId}: ${test.fullName}`)
    }
  }
  console.log()
}

/** Set by `needs(…)` (server/testing/needs.ts) or `context.skip('…')`. */
function reasonOf(test) {
  const said = test.meta().lacking || test.result().note
  if (said) return said
  if (test.options.mode === 'todo') return 'to be written'
  if (options.testNamePattern) return undefined // not what -t asked for
  return test.options.mode === 'skip' ? 'marked so in the code' : 'something before it failed'
}

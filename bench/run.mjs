// `npm run bench`: one table of what we promise about speed and size, what this machine measures, and what was saved last.
//
//   npm run bench -- auth      only the parts whose name contains "auth"
//   npm run bench -- --save    also writes what was measured to baselines.json
//
// A part is a file in parts/ with a function `figures`, which returns rows of the table:
//   { name, value, unit?, atLeast?, atMost?, note? }    or { name, missing }, with why it could not be measured
// A part's `write`, where it has one, gets its rows as they are shown when they are saved.
// The machine has other things to do, so prefer a ratio to something that ran at the same time (compare.mjs) to an absolute figure.
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, totalmem } from 'node:os'
import { parseArgs } from 'node:util'
import { cleanUp, interrupt, postgresVersion } from './servers.mjs'

if (process.platform !== 'linux') fail('The bench reads CPU time and memory from /proc: run it on Linux.')
const options = { save: { type: 'boolean', default: false } }
const { values, positionals: wanted } = parseArgs({ allowPositionals: true, options })
const parts = readdirSync(new URL('parts/', import.meta.url))
  .map((file) => file.replace('.mjs', ''))
  .filter((part) => wanted.length === 0 || wanted.some((word) => part.includes(word)))
if (parts.length === 0) fail(`There is no part "${wanted.join(' ')}" in bench/parts/.`)

const file = new URL('baselines.json', import.meta.url)
const baselines = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {}
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => void interrupt().then(() => process.exit(1)))

const table = [['figure', 'measured', 'target', 'verdict', 'baseline']]
const before = new Set()
for (const part of parts) {
  console.error(`Measuring ${part} …`)
  const saved = baselines[part]
  try {
    const { figures, write } = await import(`./parts/${part}.mjs`)
    const measured = await figures()
    const shown = measured.map((figure) => rowOf(figure, saved?.figures[figure.name]))
    table.push(...shown)
    if (saved) before.add(`Baseline: ${circumstances(saved)}`)
    if (values.save) {
      const rounded = measured.flatMap(({ name, value }) => (value === undefined ? [] : [[name, round(value)]]))
      baselines[part] = { ...now(), figures: Object.fromEntries(rounded) }
      write?.(shown, circumstances(now()))
    }
  } catch (error) {
    console.error(error)
    table.push([part, 'failed, see above', '', '', ''])
    process.exitCode = 1
  }
  await cleanUp()
}
print(table)
console.log(`\nMeasured: ${circumstances(now())}`)
for (const line of before) console.log(line)
if (values.save) writeFileSync(file, `${JSON.stringify(baselines, null, 2)}\n`)

function rowOf({ name, value, missing, unit = '', atLeast, atMost, note }, baseline) {
  const show = (number) => `${round(number).toLocaleString('en-US')} ${unit}`.trim()
  if (missing) return [name, `not measured: ${missing}`, '', '', baseline === undefined ? '' : show(baseline)]
  const target = atLeast !== undefined ? `≥ ${show(atLeast)}` : atMost !== undefined ? `≤ ${show(atMost)}` : ''
  const missed = value < atLeast || value > atMost
  const verdict = target && (missed ? 'missed' : 'ok')
  return [name, show(value) + (note ? ` (${note})` : ''), target, verdict, baseline === undefined ? '' : show(baseline)]
}

function round(value) {
  return Number(value.toPrecision(3))
}

function print(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)))
  for (const row of rows) {
    const cells = row.map((cell, column) => cell.padEnd(widths[column]))
    console.log(cells.join('  ').trimEnd())
  }
}

function now() {
  const changed = git('status', '--porcelain', '--', '..', ':!baselines.json') !== ''
  return {
    date: new Date().toISOString().slice(0, 10),
    commit: git('rev-parse', '--short', 'HEAD') + (changed ? ' with changes' : ''),
    cpu: cpus()[0].model,
    cores: availableParallelism(),
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    node: process.versions.node,
    postgres: postgresVersion,
  }
}

function git(...args) {
  return execFileSync('git', args, { cwd: import.meta.dirname, encoding: 'utf8' }).trim()
}

function circumstances({ date, commit, cpu, cores, memory, node, postgres }) {
  const machine = `${cpu}, ${cores} cores, ${memory}, Node ${node}`
  return `${date}, commit ${commit}, ${machine}${postgres && `, PostgreSQL ${postgres}`}`
}

function fail(sentence) {
  console.error(sentence)
  process.exit(1)
}

// Brings a checkout to where everything else can run: packages installed, parts built. It runs before anything is installed,
// so it uses Node alone, and it runs before every command, so it does nothing when nothing changed.
//
//   node tools/setup.mjs            installs and builds
//   node tools/setup.mjs install    installs only
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

export const root = dirname(dirname(fileURLToPath(import.meta.url)))
const at = (...path) => join(root, ...path)

export async function ensureInstalled() {
  requireNode()
  if (installed()) return
  const command = existsSync(at('package-lock.json')) ? 'ci' : 'install'
  await step(
    'Installing packages',
    // Whatever the environment says (NODE_ENV=production), building needs all of them.
    () =>
      alone(
        async () =>
          installed() || run('npm', [command, '--include=dev', '--include=optional', '--no-audit', '--no-fund']),
      ),
    'The packages could not be installed. See npm’s words above (often the network, or `npm config get registry`), then run the command again.',
  )
}

export async function ensureBuilt() {
  if (built()) return
  await step(
    'Building',
    () => run(process.execPath, [at('tools/build.mjs'), '--if-needed']),
    'The build failed. Fix what is reported above, then run the command again.',
  )
}

/** Whether node_modules is what the lock file asks for. npm writes its own list last, so an interrupted install has none. */
function installed() {
  const wanted = packagesIn('package-lock.json')
  const found = packagesIn('node_modules/.package-lock.json')
  if (!wanted || !found) return Boolean(found)
  // Optional packages are those of other platforms, mostly: these may be absent, but not in another version.
  return Object.entries(wanted).every(
    ([path, { version, optional }]) => path === '' || (found[path] ? found[path].version === version : optional),
  )
}

const packagesIn = (path) => existsSync(at(path)) && JSON.parse(readFileSync(at(path), 'utf8')).packages

const stamp = at('node_modules/.cache/1ctl/built')
const outputs = ['server/dist/main.js', 'cli/dist/1ctl.cjs', 'dashboard/dist/index.html']

export function built() {
  return existsSync(stamp) && readFileSync(stamp, 'utf8') === sources() && outputs.every((path) => existsSync(at(path)))
}

/** Runs a build. The stamp goes first and comes back last, so that an interrupted build never looks finished. */
export async function building(work) {
  rmSync(stamp, { force: true })
  const before = sources()
  await work()
  mkdirSync(dirname(stamp), { recursive: true })
  writeFileSync(stamp, before)
}

/** One line for all that a build reads. By size and time, since reading the contents would cost more than we may at every start. */
function sources() {
  const hash = createHash('sha256')
  const add = (path) => {
    const { size, mtimeMs } = statSync(at(path))
    hash.update(`${path} ${size} ${mtimeMs}\n`)
  }
  const walk = (folder) => {
    for (const entry of readdirSync(at(folder), { withFileTypes: true })) {
      const path = `${folder}/${entry.name}`
      if (/^(node_modules|dist|testing)$|\.test\.tsx?$/.test(entry.name)) continue
      if (entry.isDirectory()) walk(path)
      else if (entry.isFile()) add(path)
    }
  }
  add('package-lock.json')
  for (const folder of ['contract', 'server', 'cli', 'dashboard', 'tools']) walk(folder)
  return hash.digest('hex')
}

// Not under node_modules, which `npm ci` empties.
const lock = at('dist/setup.lock')

/** One at a time in this checkout. The holder keeps the lock fresh: one that was killed holds nobody up for long. */
export async function alone(work) {
  mkdirSync(dirname(lock), { recursive: true })
  while (!take()) await sleep(200)
  const release = () => rmSync(lock, { force: true })
  process.once('exit', release)
  const beat = setInterval(() => utimesSync(lock, new Date(), new Date()), 500)
  try {
    return await work()
  } finally {
    clearInterval(beat)
    process.off('exit', release)
    release()
  }
}

function take() {
  try {
    writeFileSync(lock, `${process.pid}\n`, { flag: 'wx' })
    return true
  } catch (error) {
    if (error.code !== 'EEXIST') throw error
    const age = Date.now() - (statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? Date.now())
    if (age > 5000) rmSync(lock, { force: true })
    return false
  }
}

/** Says what is being done, that it goes on, and how long it took. If it fails, what to do next. */
export async function step(name, work, next) {
  const began = Date.now()
  const passed = (digits) => `${((Date.now() - began) / 1000).toFixed(digits)} s`
  const terminal = process.stdout.isTTY
  const say = (line) => process.stdout.write(terminal ? `\r\x1b[2K${line}` : `${line}\n`)
  say(`${name} …`)
  let seconds = 0
  const ticker = setInterval(() => {
    // Fewer lines where each one stays.
    if (++seconds <= 5 || seconds % 5 === 0 || terminal) say(`${name} … ${passed(0)}`)
  }, 1000)
  try {
    await work()
    say(`${name}: done in ${passed(1)}`)
    if (terminal) console.log()
  } catch (error) {
    say(`${name}: failed after ${passed(1)}`)
    console.error(`\n${error.message.trim()}\n\n${next}`)
    process.exit(1)
  } finally {
    clearInterval(ticker)
  }
}

/** Runs a tool and keeps its output for the case that it fails. */
export function run(command, args, env = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text))
    // Whoever stops us stops the tool first, even if only we got the signal; and npm, asked to end, would rather finish.
    const stop = (signal) => {
      child.once('exit', () => process.exit(signal === 'SIGINT' ? 130 : 143))
      child.kill(signal)
      setTimeout(() => child.kill('SIGKILL'), 3000)
    }
    const signals = ['SIGINT', 'SIGTERM']
    for (const signal of signals) process.on(signal, stop)
    const settle = (error) => {
      for (const signal of signals) process.off(signal, stop)
      if (error) reject(error)
      else resolve(output)
    }
    child.on('error', (error) => settle(new Error(`${command} could not be run: ${error.message}`)))
    child.on('close', (code) => settle(code === 0 ? undefined : new Error(output || `${command} ended with ${code}`)))
  })
}

function requireNode() {
  const [major, minor] = process.versions.node.split('.').map(Number)
  if (major > 20 || (major === 20 && minor >= 19)) return
  console.error(
    `1ctl needs Node.js 20.19 or newer; this is ${process.versions.node}. See https://nodejs.org/en/download.`,
  )
  process.exit(1)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await ensureInstalled()
  if (process.argv[2] !== 'install') await ensureBuilt()
}

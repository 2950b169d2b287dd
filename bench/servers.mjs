// The processes that are measured: the built product, as `npm start` runs it, and its peer. What is started here ends with the part.
import { fork, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export const root = join(import.meta.dirname, '..')

/** The product's own packages, so that a peer runs the same versions of them. */
export const productRequire = createRequire(join(root, 'server/package.json'))

/**
 * The server over a PostgreSQL of its own, durable as in production: what bootstrap.json says, and where to find its database.
 * With a `dataDir` that another one had before, it goes on with what is there.
 */
export async function startProduct({ dataDir = temporaryFolder(), args = [] } = {}) {
  const server = await startServer('server/dist/main.js', '--data-dir', dataDir, '--port', '0', ...args)
  const product = {
    ...JSON.parse(readFileSync(join(dataDir, 'bootstrap.json'), 'utf8')),
    ...server,
    dataDir,
    database: { host: join(dataDir, 'postgres'), port: 5432, user: 'satusky', database: 'satusky' },
    postgresPid: Number.parseInt(readFileSync(join(dataDir, 'postgres/postmaster.pid'), 'utf8'), 10),
  }
  const [{ server_version }] = await select(product, 'show server_version')
  postgresVersion = server_version.split(' ', 1)[0]
  return product
}

/** Seen when the product was started. */
export let postgresVersion = ''

/** The peer, over the same PostgreSQL. */
export const startBare = ({ database }) => startServer('bench/bare.mjs', JSON.stringify(database))

async function startServer(...command) {
  const { pid, said, stop } = start(process.execPath, command)
  return { pid, stop, url: await said(/ready at (\S+)/) }
}

/** Where we want to know what the API does not tell. */
export async function select({ database }, text, values) {
  const { Client } = productRequire('pg')
  const client = new Client(database)
  await client.connect()
  const { rows } = await client.query(text, values)
  await client.end()
  return rows
}

export async function call({ apiUrl, token }, path, body, method = body ? 'POST' : 'GET') {
  const answer = await fetch(apiUrl + path, {
    method,
    headers: { 'x-satusky-api-key': token, ...(body && { 'content-type': 'application/json' }) },
    ...(body && { body: JSON.stringify(body) }),
  })
  if (!answer.ok) throw new Error(`${method} ${path} answered ${answer.status}: ${await answer.text()}`)
  return answer.json()
}

export function startLoadGenerator() {
  const child = fork(join(root, 'bench/load.mjs'))
  stopAtEnd(child)
  return child
}

/** Not with our environment: a DATABASE_URL in it would be somebody's. */
export const environment = { PATH: process.env.PATH, HOME: process.env.HOME, NODE_ENV: 'production' }

/** A program; `said` waits for words of it and returns the match, or its first group. */
export function start(command, args) {
  if (isInterrupted) throw new Error('Interrupted.')
  const child = spawn(command, args, { cwd: root, env: environment, stdio: ['ignore', 'pipe', 'pipe'] })
  const { stop, ended } = stopAtEnd(child)
  let output = ''
  const collect = (chunk) => (output = (output + chunk).slice(-10_000))
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', collect)
  const said = (pattern) =>
    new Promise((resolve, reject) => {
      child.stdout.on('data', () => {
        const found = pattern.exec(output)
        if (found) resolve(found.at(-1))
      })
      void ended.then((code) => reject(new Error(`${command} ${args.join(' ')} ended with ${code}:\n${output}`)))
    })
  return { pid: child.pid, said, stop }
}

function stopAtEnd(child) {
  const ended = new Promise((resolve) => child.once('close', resolve))
  const stop = () => {
    child.kill()
    return ended
  }
  atEnd(stop)
  return { stop, ended }
}

export function temporaryFolder() {
  const folder = mkdtempSync(join(tmpdir(), '1ctl-bench-'))
  atEnd(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

const cleanUps = []
let isInterrupted = false

/** What was done later is undone earlier. */
export const atEnd = (undo) => cleanUps.push(undo)

export async function cleanUp() {
  for (const undo of cleanUps.splice(0).reverse()) await undo()
}

/** On Ctrl-C, in the middle of a part: it must not go on to start what nobody would stop. */
export async function interrupt() {
  isInterrupted = true
  await cleanUp()
}

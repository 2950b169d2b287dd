// `npm start` when everything is installed, built and made: from the command until /readyz answers 200.
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { start, temporaryFolder } from '../servers.mjs'
import { median } from '../statistics.mjs'

export async function figures() {
  const dataDir = temporaryFolder()
  // The first start makes the database.
  await npmStart(dataDir)
  const samples = []
  while (samples.length < 5) samples.push(await npmStart(dataDir))
  const figure = (what, stage) => {
    return { name: `second npm start: ${what}`, value: median(samples.map((sample) => sample[stage])), unit: 's' }
  }
  return [
    { ...figure('ready after', 'all'), atMost: 3 },
    figure('npm', 'npm'),
    figure('whether all is built, loading the server', 'loading'),
    figure('PostgreSQL', 'postgres'),
    figure('the server itself', 'server'),
  ]
}

/** Seconds of each stage. PostgreSQL makes its postmaster.pid when it begins, and last writes to it when it is ready. */
async function npmStart(dataDir) {
  const began = Date.now()
  const { said, stop } = start('npm', ['start', '--', '--data-dir', dataDir, '--port', '0'])
  await said(/Starting 1ctl/)
  const npmDone = Date.now()
  const url = await said(/ready at (\S+)/)
  const answer = await fetch(`${url}/readyz`)
  if (!answer.ok) throw new Error(`/readyz answered ${answer.status} after the server said that it is ready.`)
  const ready = Date.now()
  const { birthtimeMs, mtimeMs } = statSync(join(dataDir, 'postgres/postmaster.pid'))
  await stop()
  return {
    all: seconds(began, ready),
    npm: seconds(began, npmDone),
    loading: seconds(npmDone, birthtimeMs),
    postgres: seconds(birthtimeMs, mtimeMs),
    server: seconds(mtimeMs, ready),
  }
}

function seconds(from, to) {
  return (to - from) / 1000
}

// Product against bare. The machine is noisy, so both take turns in short rounds, and what counts is the median of the ratios within
// one pair of rounds. Every other pair swaps the order, so that neither always comes second.
import { once } from 'node:events'
import { cpuSeconds, cpuSecondsOfTree } from './processes.mjs'
import { startLoadGenerator } from './servers.mjs'
import { median, quartiles } from './statistics.mjs'

const pairs = 16
const seconds = 2

/** Rows of the table for a GET with the product's token at 50 connections. */
export async function compareGet(product, bare, path) {
  const generator = startLoadGenerator()
  const round = async ({ url, pid }) => {
    const before = { server: cpuSeconds(pid), postgres: cpuSecondsOfTree(product.postgresPid) }
    const headers = { 'x-satusky-api-key': product.token }
    generator.send({ url: url + path, headers, connections: 50, duration: seconds })
    const [{ requests, failed, ...load }] = await once(generator, 'message')
    if (failed > 0) throw new Error(`${failed} of ${requests} requests for ${path} failed.`)
    return {
      rate: requests / load.seconds,
      server: ((cpuSeconds(pid) - before.server) / requests) * 1e6,
      postgres: ((cpuSecondsOfTree(product.postgresPid) - before.postgres) / requests) * 1e6,
      generator: (load.cpuSeconds / load.seconds) * 100,
    }
  }
  // Until the code is compiled and every connection has planned its statements.
  for (const server of [product, bare, product, bare]) await round(server)

  const rounds = []
  for (let pair = 0; pair < pairs; pair++) {
    if (pair % 2 === 0) rounds.push({ product: await round(product), bare: await round(bare) })
    else rounds.push({ bare: await round(bare), product: await round(product) })
  }
  const ratios = rounds.map(({ product, bare }) => product.rate / bare.rate)
  const [low, high] = quartiles(ratios).map((ratio) => ratio.toFixed(2))
  const beside = (what) => {
    const [value, ofBare] = ['product', 'bare'].map((who) => median(rounds.map((round) => round[who][what])))
    return { value, note: `bare ${Math.round(ofBare).toLocaleString('en-US')}` }
  }
  const name = `GET ${path.replace('/v1/cli', '')}`
  return [
    { name: `${name}: rate, product to bare`, value: median(ratios), atLeast: 0.9, note: `middle half ${low}-${high}` },
    { name: `${name}: requests a second`, ...beside('rate') },
    { name: `${name}: CPU of the server a request`, unit: 'µs', ...beside('server') },
    { name: `${name}: CPU of PostgreSQL a request`, unit: 'µs', ...beside('postgres') },
    // Near a whole core, the generator would be what is measured.
    { name: `${name}: load generator`, unit: '% of a core', ...beside('generator'), atMost: 80 },
  ]
}

// Memory of the server process, without its PostgreSQL: at rest, and after work.
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { memory } from '../processes.mjs'
import { startLoadGenerator, startProduct } from '../servers.mjs'

export async function figures() {
  const product = await startProduct()
  await sleep(10_000)
  const idle = memory(product.pid)
  const generator = startLoadGenerator()
  const headers = { 'x-satusky-api-key': product.token }
  generator.send({ url: `${product.apiUrl}/tokens`, headers, connections: 10, amount: 1000 })
  await once(generator, 'message')
  const worked = memory(product.pid)
  return [{ ...figure('10 s after its start', idle), atMost: 110 }, figure('after 1,000 requests', worked)]
}

function figure(when, { rss, pss }) {
  return { name: `memory of the server: ${when}`, value: rss, unit: 'MB', note: `PSS ${Math.round(pss)}` }
}

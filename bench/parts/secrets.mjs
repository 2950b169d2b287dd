// The vault: listing bags, changing one key, a large import, and what many bags cost.
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { join } from 'node:path'
import { compareGet } from '../compare.mjs'
import { memory } from '../processes.mjs'
import { call, select, startBare, startProduct, temporaryFolder } from '../servers.mjs'
import { median, quantile, quartiles } from '../statistics.mjs'

export async function figures() {
  const product = await startProduct()
  const agent = new Agent({ keepAlive: true, maxSockets: 20 })
  const send = (method, path, body) => timed(agent, product, method, path, body)
  for (let number = 0; number < 10; number++) await call(product, '/secrets', bag(number))
  const bare = await startBare(product)
  const list = await compareGet(product, bare, '/v1/cli/secrets')
  const patches = await comparePatch(product, send)
  const large = Object.fromEntries(Array.from({ length: 500 }, (_, number) => [`KEY_${number}`, `value ${number}`]))
  await call(product, '/secrets', { name: 'large', data: {} })
  const imports = []
  for (let round = 0; round < 10; round++) {
    const set = Object.fromEntries(Object.entries(large).map(([key, value]) => [key, `${value} of ${round}`]))
    imports.push(await send('PATCH', '/secrets/large', { set }))
  }
  return [
    ...list,
    ...patches,
    { name: 'import of 500 keys', value: median(imports), unit: 'ms' },
    ...(await many(product, send)),
  ]
}

const bag = (number) => ({
  name: `bag-${number}`,
  data: Object.fromEntries(Array.from({ length: 5 }, (_, key) => [`KEY_${key}`, `value ${key} of bag ${number}`])),
})

/** Ten writers, each with a bag of its own, against the same rows inserted statement by statement in the same PostgreSQL. */
async function comparePatch(product, send) {
  const pgbench = preparePgbench(product)
  await select(product, 'create table bench_versions (bag int, version int, note text, names text[])')
  await select(product, 'create table bench_values (bag int, key text, version int, sealed bytea, fingerprint bytea)')
  await select(product, 'create table bench_audit (chain int, seq bigserial, detail jsonb, hash bytea)')
  const rounds = []
  let count = 0
  const patchFor = async (ms) => {
    const until = performance.now() + ms
    const times = []
    const writer = async (number) => {
      while (performance.now() < until)
        times.push(await send('PATCH', `/secrets/bag-${number}`, { set: { KEY_0: `value number ${count++}` } }))
    }
    await Promise.all(Array.from({ length: 10 }, (_, number) => writer(number)))
    return { rate: times.length / (ms / 1000), times }
  }
  await patchFor(1000)
  for (let pair = 0; pair < 6; pair++) rounds.push({ ...(await patchFor(2000)), bare: pgbench() })
  const ratios = rounds.map(({ rate, bare }) => rate / bare)
  const [low, high] = quartiles(ratios).map((ratio) => ratio.toFixed(2))
  const times = rounds.flatMap((round) => round.times)
  return [
    {
      name: 'PATCH /secrets/x: rate, product to pgbench',
      value: median(ratios),
      atLeast: 0.4,
      note: `middle half ${low}-${high}`,
    },
    {
      name: 'PATCH /secrets/x: a second, 10 writers',
      value: median(rounds.map(({ rate }) => rate)),
      note: `pgbench ${Math.round(median(rounds.map(({ bare }) => bare)))}`,
    },
    { name: 'PATCH /secrets/x: p99, 10 writers', value: quantile(times, 0.99), unit: 'ms', atMost: 20 },
  ]
}

function preparePgbench({ database }) {
  const script = join(temporaryFolder(), 'patch.sql')
  writeFileSync(
    script,
    `begin;
insert into bench_versions values (1, 1, 'a note', array['KEY_0']);
insert into bench_values values (1, 'KEY_0', 1, decode(repeat('ab', 45), 'hex'), decode(repeat('cd', 16), 'hex'));
insert into bench_audit (chain, detail, hash) values (1, '{"version": 1, "changed": ["KEY_0"]}', decode(repeat('ef', 32), 'hex'));
commit;
`,
  )
  const { host, user, database: name } = database
  const args = ['-n', '-h', host, '-U', user, '-c', '10', '-T', '2', '-M', 'prepared', '-f', script, name]
  return () => Number(/tps = ([\d.]+)/.exec(execFileSync('pgbench', args, { stdio: 'pipe' }).toString())[1])
}

/** 10,000 bags of 5 keys: memory, and whether a page of the list costs more than it did with 100. */
async function many(product, send) {
  const pages = async () => {
    const times = []
    for (let round = 0; round < 40; round++) times.push(await send('GET', '/secrets?limit=50'))
    return median(times)
  }
  const create = async (from, to) => {
    let next = from
    const writer = async () => {
      while (next < to) await send('POST', '/secrets', bag(next++))
    }
    await Promise.all(Array.from({ length: 10 }, writer))
  }
  await create(10, 100)
  await pages()
  const few = await pages()
  await create(100, 10_000)
  await select(product, 'analyze')
  const lots = await pages()
  const { rss, pss } = memory(product.pid)
  return [
    {
      name: 'memory of the server: 10,000 bags stored',
      value: rss,
      unit: 'MB',
      atMost: 180,
      note: `PSS ${Math.round(pss)}`,
    },
    {
      name: 'a page of the list, 10,000 bags to 100',
      value: lots / few,
      atMost: 1.5,
      note: `${lots.toFixed(1)} ms, ${few.toFixed(1)} ms`,
    },
  ]
}

/** One request; its time in ms. */
function timed(agent, { apiUrl, token }, method, path, body) {
  const began = performance.now()
  const text = body === undefined ? undefined : JSON.stringify(body)
  return new Promise((resolve, reject) => {
    const headers = {
      'x-satusky-api-key': token,
      ...(text && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }),
    }
    const sent = request(apiUrl + path, { method, agent, headers }, (answer) => {
      answer.resume().on('end', () => {
        if (answer.statusCode < 300) resolve(performance.now() - began)
        else reject(new Error(`${method} ${path} answered ${answer.statusCode}`))
      })
    })
    sent.on('error', reject).end(text)
  })
}

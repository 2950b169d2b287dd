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
  const pgbench = await preparePgbench(product)
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
  // Until the code is compiled.
  for (let done = 0; done < 10_000; ) done += (await patchFor(2000)).times.length
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

/** The rows of one PATCH, in tables with the indexes, checks and references of the product's own; the bag's row and the chain are left alone. */
async function preparePgbench(product) {
  for (const statement of [
    'create table bench_secrets (like secrets including all)',
    'create table bench_versions (like secret_versions including all, foreign key (secret_id) references bench_secrets)',
    `create table bench_values (like secret_values including all, foreign key (secret_id) references bench_secrets,
       foreign key (key_id) references organization_keys deferrable initially deferred)`,
    'create table bench_audit (like audit_events including all)',
    `insert into bench_secrets (id, organization_id, name, version, created_by, updated_by)
     select ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, o.id, 'bench-' || n, 1, 'x', 'x'
     from generate_series(0, 9) n, (select id from organizations limit 1) o`,
  ])
    await select(product, statement)
  const [{ chain, key }] = await select(
    product,
    "select o.id as chain, k.id as key from organizations o join organization_keys k on k.organization_id = o.id and k.purpose = 'data' limit 1",
  )
  const script = join(temporaryFolder(), 'patch.sql')
  const bag = "('00000000-0000-0000-0000-' || lpad(:client_id::text, 12, '0'))::uuid"
  // Each client goes on from where it was the last time.
  writeFileSync(
    script,
    `\\set v :v + 1
begin;
insert into bench_versions (secret_id, version, created_by, added, changed, removed, proof)
  values (${bag}, :v, 'admin', '{}', '{KEY_0}', '{}', decode(repeat('ab', 32), 'hex'));
insert into bench_values (secret_id, key, version, key_id, sealed, fingerprint, length, hints, created_by)
  values (${bag}, 'KEY_0', :v, '${key}', decode(repeat('ab', 45), 'hex'), decode(repeat('cd', 16), 'hex'), '16-31', '{}', 'admin');
insert into bench_audit (chain, seq, at, id, actor_type, actor_id, actor_name, action, object_type, object_id, object_name, outcome, detail, request_id, hash)
  values ('${chain}', :client_id * 100000000 + :v, now(), gen_random_uuid(), 'token', gen_random_uuid(), 'admin', 'secret.patch', 'secret', ${bag},
    'bag-1', 'done', '{"version": 1, "added": [], "changed": ["KEY_0"], "removed": []}', 'req_000000000000', decode(repeat('ef', 32), 'hex'));
commit;
`,
  )
  const { host, user, database: name } = product.database
  let from = 0
  return () => {
    const args = [
      '-n',
      '-h',
      host,
      '-U',
      user,
      '-c',
      '10',
      '-T',
      '2',
      '-M',
      'prepared',
      '-D',
      `v=${from}`,
      '-f',
      script,
      name,
    ]
    from += 1_000_000
    return Number(/tps = ([\d.]+)/.exec(execFileSync('pgbench', args, { stdio: 'pipe' }).toString())[1])
  }
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

// Delivery to a genuine Kubernetes: from a change to the Secret and to the pods, ten thousand bags, repairs, and a secret that many share.
import { mkdirSync, writeFileSync } from 'node:fs'
import { loadavg } from 'node:os'
import { join } from 'node:path'
import { noCluster, startCluster } from '../cluster.mjs'
import { untilReady, untilSecret } from '../delivery/changes.mjs'
import { bags, firstDelivery } from '../delivery/many.mjs'
import { repairs } from '../delivery/repairs.mjs'
import { sharedBag } from '../delivery/shared.mjs'
import { histogram } from '../histogram.mjs'
import { root, startProduct } from '../servers.mjs'
import { mean, median, quantile, quartiles } from '../statistics.mjs'

/** What the figures were made of, for the pictures. */
const samples = {}
let kubernetesVersion = ''
let load = 0

export async function figures() {
  if (noCluster) return [{ name: 'delivery', missing: noCluster }]
  load = loadavg()[0]
  const cluster = await startCluster()
  kubernetesVersion = (await cluster.call('GET', '/version')).gitVersion
  const args = ['--cluster', 'kubeconfig', '--kubeconfig', cluster.kubeconfig]
  const product = await startProduct({ args })

  samples.secret = await untilSecret(product, cluster, 150)
  const secretRows = rowsOfSecret(samples.secret)
  if (!cluster.noRollouts) samples.ready = await untilReady(product, cluster, 20)
  const readyRows = samples.ready
    ? rowsOfReady(samples.ready)
    : [{ name: 'saved → every pod ready', missing: cluster.noRollouts }]

  const many = await firstDelivery(product, cluster, args)
  const sharedRow = rowOfShared(await sharedBag(many.product, cluster, { count: 100, rounds: 5 }))
  const repairRows = rowsOfRepairs(await repairs(cluster, 20))
  return [...secretRows, ...readyRows, ...rowsOfMany(many), ...repairRows, sharedRow]
}

const ms = (value) => `${Math.round(value).toLocaleString('en-US')} ms`

function rowsOfSecret(samples) {
  const [ours, answer, peer] = ['ours', 'answer', 'peer'].map((what) => samples.map((sample) => sample[what]))
  const name = 'saved → Secret in the API server'
  return [
    {
      name: `${name}: p50`,
      value: median(ours),
      unit: 'ms',
      atMost: 40,
      note: `the PATCH answered after ${ms(median(answer))}; a bare create ${ms(median(peer))}`,
    },
    {
      name: `${name}: p99`,
      value: quantile(ours, 0.99),
      unit: 'ms',
      atMost: 250,
      note: `of ${ours.length}; a bare create ${ms(quantile(peer, 0.99))}`,
    },
  ]
}

function rowsOfReady(samples) {
  const of = (who, what) => samples.map((sample) => sample[who][what])
  const added = (what) => samples.map(({ ours, peer }) => ours[what] - peer[what])
  const [low, high] = quartiles(added('told'))
  const kubectl = median(of('peer', 'told'))
  const name = 'saved → every pod ready'
  return [
    {
      name: `${name}: added to kubectl apply, rollout status`,
      value: median(added('told')),
      unit: 'ms',
      // Whichever is more of 10 % and 200 ms.
      atMost: Math.max(200, kubectl / 10),
      note: `${ms(median(of('ours', 'told')))} to ${ms(kubectl)}; middle half ${ms(low)} to ${ms(high)}`,
    },
    {
      name: `${name}: ratio to kubectl`,
      value: median(samples.map(({ ours, peer }) => ours.told / peer.told)),
      note: `${samples.length} pairs`,
    },
    {
      name: `${name}: the same, seen in the cluster`,
      value: median(added('seen')),
      unit: 'ms',
      note: `${ms(median(of('ours', 'seen')))} to ${ms(median(of('peer', 'seen')))}`,
    },
  ]
}

function rowsOfMany({ ours, peer, spent, delivered, rested, quiet }) {
  const [before, after] = peer.map(Math.round)
  return [
    {
      name: 'first delivery of 10,000 bags: rate, product to bare loop',
      value: ours / mean(peer),
      atLeast: 0.7,
      note: 'bare with 8 in flight',
    },
    { name: 'first delivery: Secrets a second', value: ours, note: `bare ${before} before, ${after} after` },
    {
      name: 'first delivery: CPU of the server a Secret',
      value: (spent.server / bags) * 1e6,
      unit: 'µs',
      note: `PostgreSQL ${Math.round((spent.postgres / bags) * 1e6)}`,
    },
    rowOfMemory('10,000 bags delivered', delivered),
    rowOfMemory('a minute later', rested),
    { name: 'nothing to do: writes to Kubernetes', value: quiet.writes, atMost: 0, note: 'in 30 s' },
    {
      name: 'nothing to do: CPU of the server',
      value: quiet.server,
      unit: '% of a core',
      atMost: 1,
      note: `PostgreSQL ${quiet.postgres.toFixed(1)}`,
    },
  ]
}

const rowOfMemory = (when, { rss, pss }) => ({
  name: `memory of the server: ${when}`,
  value: rss,
  unit: 'MB',
  atMost: 180,
  note: `PSS ${Math.round(pss)}`,
})

const rowsOfRepairs = ({ edited, deleted }) => [
  rowOfRepair('a Deployment edited by hand is put back: p50', edited, 'edit'),
  rowOfRepair('a Secret deleted by hand is put back: p50', deleted, 'delete'),
]

function rowOfRepair(name, samples, deed) {
  const [all, byHand] = ['all', 'byHand'].map((what) => samples.map((sample) => sample[what]))
  const note = `at most ${ms(Math.max(...all))}; the ${deed} itself ${ms(median(byHand))}`
  return { name, value: median(all), unit: 'ms', atMost: 50, note }
}

function rowOfShared(rounds) {
  const [all, first] = ['all', 'first'].map((what) => median(rounds.map((round) => round[what])))
  const note = `the first, alone, after ${ms(first)}`
  return { name: 'a secret of 100 apps: all Deployments patched', value: all / 1000, unit: 's', atMost: 2, note }
}

/** The pictures, and the page that shows them beside the table. */
export function write(rows, circumstances) {
  const { secret, ready } = samples
  if (!secret) return
  const folder = join(root, 'docs/figures')
  mkdirSync(folder, { recursive: true })
  const picture = (file, content) => writeFileSync(join(folder, file), histogram(content))
  picture('saved-to-secret.svg', {
    title: 'From the change until the Secret is in the API server',
    axis: 'milliseconds from when the request was sent until a watch of the cluster showed the Secret',
    series: [
      { name: '1ctl, a changed key', values: secret.map(({ ours }) => ours) },
      { name: 'a bare create of the same Secret', values: secret.map(({ peer }) => peer) },
    ],
  })
  if (ready)
    picture('saved-to-ready.svg', {
      title: 'From the change until every pod is ready on the new version',
      axis: 'milliseconds from when it was sent until who waits was told',
      series: [
        { name: '1ctl, a changed key and its receipt', values: ready.map(({ ours }) => ours.told) },
        { name: 'kubectl apply and kubectl rollout status', values: ready.map(({ peer }) => peer.told) },
      ],
    })
  const table = rows.map((cells) => `| ${cells.slice(0, 4).join(' | ')} |`).join('\n')
  writeFileSync(
    join(root, 'docs/figures.md'),
    `# Delivery in figures

What \`npm run bench -- delivery\` measures: the built server against a genuine Kubernetes ${kubernetesVersion} (etcd, API server, controllers,
scheduler, and a kubelet with containerd) on the same machine. Written by \`npm run bench -- delivery --save\`.

${circumstances}. Load average before it began: ${load.toFixed(1)}

| figure | measured | target | verdict |
|---|---|---|---|
${table}

![Two histograms: from a change until the Secret is in the API server](figures/saved-to-secret.svg)

Changes of one key of an app without pods, at random moments, each beside a Secret that is created without the product.
${
  ready
    ? `
![Two histograms: from a change until every pod is ready](figures/saved-to-ready.svg)

Rollouts of one pod of busybox at random moments, in alternating order. The peer is a copy of the product's Deployment with a Secret of its own
for each change. Both have \`minReadySeconds: 2\`, which Kubernetes counts from whole seconds: it takes between one and two.
`
    : ''
}
**To repeat it**: on Linux, as root, with Go, containerd, runc, containernetworking-plugins, busybox-static, iproute2 and kubectl installed,
\`npm run bench -- delivery\`. It takes five minutes and more; the first time, Kubernetes is built before. Everything that was started is gone
afterwards. Absolute figures depend on the machine, and on what else it does; those beside a peer less so.
`,
  )
}

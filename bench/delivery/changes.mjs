// From a change until the Secret is in the API server, and until every pod runs it.
import { setTimeout as sleep } from 'node:timers/promises'
import { bare, busyboxImage } from '../cluster.mjs'
import { call } from '../servers.mjs'

const namespace = 'main--default'

/** An app with a secret of five keys; `change` sets one of them and returns when that was sent, and what was answered. */
async function appWithSecret(product, fields) {
  const { app, rollout } = await call(product, '/deploy', { image: busyboxImage, ...fields })
  await over(product, rollout.id)
  const keyValues = Array.from({ length: 5 }, (_, key) => ({ key: `KEY_${key}`, value: `value of key ${key}` }))
  const { rollouts } = await call(product, '/secrets', { deploymentId: app.id, name: 'creds', keyValues })
  await over(product, rollouts[0].id)
  const change = async (number) => {
    const sent = performance.now()
    const set = { KEY_0: `value number ${number}` }
    const answer = await call(product, `/secrets/creds?appId=${app.id}`, { set }, 'PATCH')
    return { sent, answered: performance.now(), ...answer }
  }
  return { app, change }
}

async function over(product, id) {
  for (;;) {
    const { state, finishedAt, message } = await call(product, `/rollouts/${id}?wait=30`)
    if (finishedAt === null) continue
    if (state !== 'live') throw new Error(`A rollout ended ${state}: ${message}`)
    return
  }
}

/**
 * Until a watch of ours tells of the Secret of the new version, each beside a Secret that we create ourselves at another moment.
 * Without pods: starting containers would take the two cores.
 */
export async function untilSecret(product, cluster, count) {
  const path = `/api/v1/namespaces/${namespace}/secrets`
  const watch = await cluster.watch(path, { accept: bare })
  const { change } = await appWithSecret(product, { name: 'one', replicas: 0 })
  const { items } = await cluster.call('GET', path)
  const { type, immutable, data } = items.find(({ metadata }) => metadata.name === 'app.one.creds.v1')
  const added = (name) =>
    watch.first(`the Secret ${name}`, ({ type, object }) => type === 'ADDED' && object.metadata.name === name)

  const samples = []
  const ours = async (number) => {
    const { sent, answered, version } = await change(number)
    const { at } = await added(`app.one.creds.v${version}`)
    return { ours: at - sent, answer: answered - sent }
  }
  const peer = async (number) => {
    const name = `bare-${number}`
    const sent = performance.now()
    const body = { apiVersion: 'v1', kind: 'Secret', metadata: { name }, type, immutable, data }
    await cluster.call('POST', path, { body, accept: bare })
    return { peer: (await added(name)).at - sent }
  }
  // The first ones until the code is compiled.
  for (let number = -30; number < count; number++) {
    watch.forget()
    await sleep(20 + Math.random() * 80)
    const first = await ours(number)
    await sleep(20 + Math.random() * 80)
    samples.push({ number, ...first, ...(await peer(number)) })
  }
  return samples.filter(({ number }) => number >= 0)
}

/**
 * Until all pods of a Deployment run the new version, for ours as the receipt says, for the peer as `kubectl rollout status` says; and for
 * both as a watch of ours sees it. The peer is a copy of our Deployment, which names a Secret of its own, new with each change.
 */
export async function untilReady(product, cluster, pairs) {
  const { change } = await appWithSecret(product, {
    name: 'web',
    replicas: 1,
    // Ends when it is told to, so that pods of before are gone soon.
    command: ['/bin/sh', '-c', 'trap "exit 0" TERM; while :; do sleep 3600 & wait $!; done'],
  })
  const place = await preparePeer(cluster)
  const watches = {
    web: await cluster.watch(`/apis/apps/v1/namespaces/${namespace}/deployments`),
    peer: await cluster.watch(`/apis/apps/v1/namespaces/${place.namespace}/deployments`),
  }
  const complete = async (name, secret) => {
    const what = `the Deployment ${name} complete with ${secret}`
    return (await watches[name].first(what, ({ object }) => object.metadata.name === name && runs(object, secret))).at
  }
  const ours = async (number) => {
    const { sent, version, rollouts } = await change(number)
    await over(product, rollouts[0].id)
    const told = performance.now()
    return { told: told - sent, seen: (await complete('web', `app.web.creds.v${version}`)) - sent }
  }
  const peer = async (number) => {
    const sent = performance.now()
    const secret = `creds.v${number + 10}`
    await cluster.kubectl(['apply', '-f', '-'], place.manifest(secret, number))
    await cluster.kubectl(['rollout', 'status', 'deployment/peer', '-n', place.namespace, '--timeout=60s'])
    const told = performance.now()
    return { told: told - sent, seen: (await complete('peer', secret)) - sent }
  }
  const samples = []
  for (let number = -1; number < pairs; number++) {
    for (const watch of Object.values(watches)) watch.forget()
    const pair = {}
    for (const who of number % 2 === 0 ? ['ours', 'peer'] : ['peer', 'ours']) {
      // Any moment of the kubelet's second.
      await sleep(200 + Math.random() * 1000)
      pair[who] = await (who === 'ours' ? ours(number) : peer(number))
    }
    // The first pair is not counted: kubectl learns then what the API server offers, and the code is compiled.
    if (number >= 0) samples.push(pair)
  }
  return samples
}

async function preparePeer(cluster) {
  const ofPeer = `${namespace}-peer`
  const copied = await cluster.call('GET', `/api/v1/namespaces/${namespace}`)
  const labels = { ...copied.metadata.labels, 'app.kubernetes.io/managed-by': 'bench' }
  const body = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: ofPeer, labels } }
  await cluster.call('POST', '/api/v1/namespaces', { body })
  const { spec } = await cluster.call('GET', `/apis/apps/v1/namespaces/${namespace}/deployments/web`)
  const { items } = await cluster.call('GET', `/api/v1/namespaces/${namespace}/secrets`)
  const { data } = items.find(({ metadata }) => metadata.name.startsWith('app.web.creds.'))
  // Not by the label of what is ours, or the product would look after it.
  const template = JSON.stringify(spec)
    .replaceAll('"app.kubernetes.io/managed-by":"1ctl"', '"app.kubernetes.io/managed-by":"bench"')
    .replaceAll('"web"', '"peer"')
  return {
    namespace: ofPeer,
    manifest: (name, number) => {
      const KEY_0 = Buffer.from(`value number ${number}`).toString('base64')
      const secret = { apiVersion: 'v1', kind: 'Secret', type: 'Opaque', immutable: true, data: { ...data, KEY_0 } }
      const deployment = {
        apiVersion: 'apps/v1',
        kind: 'Deployment',
        metadata: { name: 'peer', namespace: ofPeer },
        spec: JSON.parse(template.replaceAll(/"app\.web\.creds\.v\d+"/g, `"${name}"`)),
      }
      const items = [{ ...secret, metadata: { name, namespace: ofPeer } }, deployment]
      return JSON.stringify({ apiVersion: 'v1', kind: 'List', items })
    },
  }
}

/** As `kubectl rollout status` judges it. */
function runs({ metadata, spec, status }, secret) {
  const { observedGeneration = 0, replicas = 0, updatedReplicas = 0, availableReplicas = 0 } = status
  return (
    JSON.stringify(spec.template).includes(`"${secret}"`) &&
    observedGeneration >= metadata.generation &&
    [replicas, updatedReplicas, availableReplicas].every((count) => count === spec.replicas)
  )
}

// The cluster that is delivered to: a genuine one (e2e/cluster), and what we do and see in it ourselves, without the product's client.
import { spawn } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { Agent, request } from 'node:https'
import { join } from 'node:path'
import { busyboxImage, clusterNeeds, startCluster as start } from '../e2e/cluster/up.mjs'
import { atEnd, environment, temporaryFolder } from './servers.mjs'

export { busyboxImage }

/** Why this machine can have no cluster at all. */
export const noCluster = clusterNeeds({ node: false })

/** With a node where this machine can have one, and kubectl; otherwise `noRollouts` says why pods do not start, or have no peer. */
export async function startCluster() {
  const [cluster, noNode] = await startWithNode()
  atEnd(() => cluster.stop())
  const { call, watch, close } = apiOf(cluster.kubeconfig)
  atEnd(close)
  const kubectl = kubectlFor(cluster.kubeconfig)
  const noKubectl = await kubectl(['version', '--client']).then(
    () => undefined,
    () => 'no kubectl here: install kubectl',
  )
  return { kubeconfig: cluster.kubeconfig, noRollouts: noNode ?? noKubectl, call, watch, kubectl }
}

async function startWithNode() {
  const lacking = clusterNeeds({ node: true })
  if (lacking) return [await start({ node: false }), lacking]
  try {
    return [await start({ node: true })]
  } catch (error) {
    const [sentence] = error.message.split('\n')
    return [await start({ node: false }), sentence]
  }
}

/** A kubeconfig of a cluster that is away, for as long as something is only to be stored. */
export function kubeconfigOfNothing({ kubeconfig }) {
  const file = join(temporaryFolder(), 'kubeconfig')
  const config = JSON.parse(readFileSync(kubeconfig, 'utf8'))
  config.clusters[0].cluster.server = 'https://127.0.0.1:1'
  writeFileSync(file, JSON.stringify(config), { mode: 0o600 })
  return file
}

const json = 'application/json'
/** As the product asks: without the content of what is answered. It is the cheapest, so a peer should have it too. */
export const bare = 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1'
export const bareList = 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1'

function apiOf(kubeconfig) {
  const { clusters, users } = JSON.parse(readFileSync(kubeconfig, 'utf8'))
  const { server, 'certificate-authority-data': authority } = clusters[0].cluster
  const agent = new Agent({ keepAlive: true, ca: Buffer.from(authority, 'base64') })
  const begin = (method, path, { body, type = json, accept = json } = {}) =>
    new Promise((resolve, reject) => {
      const text = body === undefined ? undefined : JSON.stringify(body)
      const headers = {
        accept,
        authorization: `Bearer ${users[0].user.token}`,
        ...(text && { 'content-type': type, 'content-length': Buffer.byteLength(text) }),
      }
      request(server + path, { method, agent, headers }, resolve)
        .on('error', reject)
        .end(text)
    })

  async function call(method, path, options) {
    const answer = await begin(method, path, options)
    let text = ''
    for await (const part of answer.setEncoding('utf8')) text += part
    if (answer.statusCode >= 300) throw new Error(`${method} ${path} answered ${answer.statusCode}: ${text}`)
    return JSON.parse(text)
  }

  /** Everything at a path, as a watch tells it from now on: `first` waits for what may have come already, `forget` begins anew. */
  async function watch(path, { accept = json } = {}) {
    const { metadata } = await call('GET', `${path}?limit=1`)
    const answer = await begin('GET', `${path}?watch=true&resourceVersion=${metadata.resourceVersion}`, { accept })
    let events = []
    const waiting = new Set()
    let rest = ''
    answer.setEncoding('utf8').on('data', (part) => {
      const at = performance.now()
      const lines = (rest + part).split('\n')
      rest = lines.pop()
      for (const line of lines) {
        const event = { at, ...JSON.parse(line) }
        events.push(event)
        for (const look of waiting) look(event)
      }
    })
    answer.on('error', () => undefined)
    atEnd(() => answer.destroy())
    const first = (what, matches) =>
      new Promise((resolve, reject) => {
        const stop = () => {
          clearTimeout(timer)
          waiting.delete(look)
          answer.off('close', failed)
        }
        const failed = () => {
          stop()
          reject(new Error(`Our watch of ${path} did not see ${what}.`))
        }
        const look = (event) => {
          if (!matches(event)) return false
          stop()
          resolve(event)
          return true
        }
        const timer = setTimeout(failed, 60_000)
        answer.on('close', failed)
        waiting.add(look)
        events.some(look)
      })
    return { first, forget: () => (events = []) }
  }

  return { call, watch, close: () => agent.destroy() }
}

function kubectlFor(kubeconfig) {
  // Not in anyone's home.
  const common = ['--kubeconfig', kubeconfig, '--cache-dir', temporaryFolder()]
  return (args, input) =>
    new Promise((resolve, reject) => {
      const child = spawn('kubectl', [...common, ...args], { env: environment, stdio: ['pipe', 'pipe', 'pipe'] })
      let output = ''
      for (const stream of [child.stdout, child.stderr])
        stream.setEncoding('utf8').on('data', (text) => (output += text))
      child.on('error', reject)
      child.on('close', (code) => {
        if (code === 0) resolve(output)
        else reject(new Error(`kubectl ${args.join(' ')} ended with ${code}: ${output}`))
      })
      child.stdin.end(input)
    })
}

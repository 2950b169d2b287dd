import type { ServerResponse } from 'node:http'
import { crashRule, environmentOf, isObstacle } from './environment.ts'
import { kindOf } from './kinds.ts'
import { type Container, type ContainerStatus, type Obj, type Pod, timestamp } from './objects.ts'
import { notice } from './pods.ts'
import { badRequest } from './status.ts'
import { type Store, treeOf } from './store.ts'

/** The log of a container that does not exist: that it does not, when it "started", and why it "crashed". Never a value. */
export function sendLogs(store: Store, object: Obj, query: URLSearchParams, response: ServerResponse): void {
  const pod = object as Pod
  const container = containerOf(pod, query.get('container'))
  const status = pod.status.containerStatuses?.find(({ name }) => name === container.name)
  const isPrevious = query.get('previous') === 'true'
  const lines = linesOf(store, pod, container, status, isPrevious)
  const tail = query.get('tailLines')
  const sinceTime = Date.parse(query.get('sinceTime') ?? '') || 0
  const since = Math.max(sinceTime, Date.now() - Number(query.get('sinceSeconds') ?? Infinity) * 1000)
  const recent = lines.filter(({ time }) => Date.parse(time) >= since)
  const chosen = tail === null ? recent : recent.slice(Math.max(0, recent.length - Number(tail)))
  const print = ({ time, text }: Line) => `${query.get('timestamps') === 'true' ? `${time} ` : ''}${text}\n`
  response.writeHead(200, { 'content-type': 'text/plain' })
  const text = chosen.map(print).join('')
  const limit = Number(query.get('limitBytes') ?? 0)
  if (query.get('follow') !== 'true' || isPrevious) {
    response.end(limit > 0 ? text.slice(0, limit) : text)
    return
  }
  response.on('error', () => undefined)
  response.flushHeaders()
  response.write(text)
  follow(store, pod, container, lines.length, print, response)
}

type Line = { time: string; text: string }

function containerOf({ metadata, spec }: Pod, name: string | null): Container {
  const all = [...(spec.initContainers ?? []), ...spec.containers]
  if (name === null && spec.containers.length > 1)
    throw badRequest(
      `a container name must be specified for pod ${metadata.name}, choose one of: [${all.map(({ name }) => name).join(' ')}]`,
    )
  const found = name === null ? spec.containers[0] : all.find((container) => container.name === name)
  if (!found) throw badRequest(`container ${name} is not valid for pod ${metadata.name}`)
  return found
}

function linesOf(
  store: Store,
  pod: Pod,
  container: Container,
  status: ContainerStatus | undefined,
  isPrevious: boolean,
): Line[] {
  const { metadata } = pod
  const ended = isPrevious ? status?.lastState.terminated : (status?.state.terminated ?? status?.lastState.terminated)
  const running = isPrevious ? undefined : status?.state.running
  const startedAt = running?.startedAt ?? ended?.startedAt
  if (isPrevious && !ended)
    throw badRequest(`previous terminated container "${container.name}" in pod "${metadata.name}" not found`)
  if (!startedAt) {
    const reason = status?.state.waiting?.reason ?? 'ContainerCreating'
    throw badRequest(`container "${container.name}" in pod "${metadata.name}" is waiting to start: ${reason}`)
  }
  const environment = environmentOf(store, pod, container)
  const names = isObstacle(environment) ? [] : [...environment.keys()].sort()
  const lines = [
    { time: startedAt, text: `This pod is ${notice}.` },
    {
      time: startedAt,
      text: `started ${container.image} with ${names.length} environment variables: ${names.join(', ') || 'none'}`,
    },
  ]
  if (running || !ended) return lines
  const rule = isObstacle(environment) ? undefined : crashRule(container, environment)
  return [...lines, { time: ended.finishedAt, text: `exited with code ${ended.exitCode}: ${rule ?? 'simulated'}` }]
}

/** Until the container ends: it says that, and no more, as there is nothing in it that could. */
function follow(
  store: Store,
  pod: Pod,
  container: Container,
  sent: number,
  print: (line: Line) => string,
  response: ServerResponse,
): void {
  const unfollow = store.follow(({ kind, after, removed }) => {
    if (kind !== kindOf('Pod')) return
    const stored = after ?? removed!
    if (stored.name !== pod.metadata.name || stored.namespace !== pod.metadata.namespace) return
    const now = treeOf<Pod>(stored)
    const status = now.status.containerStatuses?.find(({ name }) => name === container.name)
    if (removed) response.write(print({ time: timestamp(), text: 'stopped' }))
    else if (status?.state.running) return
    else for (const line of linesOf(store, now, container, status, false).slice(sent)) response.write(print(line))
    response.end()
  })
  const isRunning = pod.status.containerStatuses?.some(({ name, state }) => name === container.name && state.running)
  response.on('close', unfollow)
  if (!isRunning) response.end()
}

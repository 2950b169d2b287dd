import { isDeepStrictEqual } from 'node:util'
import type { Control } from './controllers.ts'
import {
  crashRule,
  environmentOf,
  imageObstacle,
  isObstacle,
  type Obstacle,
  readyAfterMs,
  unmountable,
} from './environment.ts'
import { hashOf } from './events.ts'
import { kindOf } from './kinds.ts'
import { type Condition, type Container, type ContainerStatus, type Pod, type PodStatus, timestamp } from './objects.ts'

const pods = kindOf('Pod')

/** The one node there is. Its name stands on every pod, so that whoever looks at one sees what it is. */
export const nodeName = 'simulated'
export const noticeKey = 'simulated.1ctl.dev/notice'
export const notice = 'simulated by 1ctl: no container runs here'

/** The node's part: it places pods and lets their containers start, get ready, crash and come back, without there being any. */
export function createPods(control: Control) {
  const { store } = control
  // By the id of a pod, what its containers will do next. Lost in a restart, after which pods go on as they are.
  const plans = new Map<string, Map<string, Plan>>()
  // Pods that lack a secret or a config map, by namespace: woken when one appears.
  const waiting = new Map<string, Map<string, Pod>>()

  return {
    reconcile(pod: Pod) {
      const { uid, namespace = '' } = pod.metadata
      if (pod.metadata.deletionTimestamp) return end(control, pod, plans)
      if (!pod.spec.nodeName) return place(control, pod)
      let plan = plans.get(uid)
      if (!plan) plans.set(uid, (plan = new Map()))
      const status = statusOf(control, pod, plan)
      const isWaiting = isLacking(status) || unmountable(store, pod) !== undefined
      const inNamespace = waiting.get(namespace) ?? new Map<string, Pod>()
      if (isWaiting) waiting.set(namespace, inNamespace.set(uid, pod))
      else inNamespace.delete(uid)
      const dueMs = Math.min(...[...plan.values()].map(({ due = Infinity }) => due)) - Date.now()
      if (dueMs < Infinity) control.later(pod, Math.max(dueMs, 0))
      if (!isDeepStrictEqual(status, pod.status)) store.put(pods, { ...pod, status })
    },
    wakeWaiting(namespace: string) {
      for (const pod of waiting.get(namespace)?.values() ?? []) control.later(pod, 0)
    },
    forget(uid: string) {
      plans.delete(uid)
      for (const [namespace, inNamespace] of waiting)
        if (inNamespace.delete(uid) && !inNamespace.size) waiting.delete(namespace)
    },
  }
}

/** What one container does next, and when. */
type Plan = { due?: number; crash?: string | false }

const isLacking = ({ containerStatuses = [], initContainerStatuses = [] }: PodStatus) =>
  [...containerStatuses, ...initContainerStatuses].some(
    ({ state }) => state.waiting?.reason === 'CreateContainerConfigError',
  )

function place({ store, event }: Control, pod: Pod): void {
  const annotations = { ...pod.metadata.annotations, [noticeKey]: notice }
  const conditions = [conditionOf('PodScheduled', 'True', pod)]
  const spec = { ...pod.spec, nodeName }
  const { name, namespace } = pod.metadata
  const placed = { ...pod, spec, metadata: { ...pod.metadata, annotations }, status: { ...pod.status, conditions } }
  event(pod, 'Normal', 'Scheduled', `Successfully assigned ${namespace}/${name} to ${nodeName}`, 'simulated-scheduler')
  store.put(pods, placed)
}

/** A moment after the deletion, as a process takes a moment to end. */
function end(control: Control, pod: Pod, plans: Map<string, Map<string, Plan>>): void {
  const { uid, finalizers } = pod.metadata
  const ending = plans.get(`end ${uid}`)
  const due = ending?.get('')?.due ?? Date.now() + endMs
  if (!ending && pod.metadata.deletionGracePeriodSeconds !== 0) {
    plans.set(`end ${uid}`, new Map([['', { due }]]))
    for (const { name } of pod.spec.containers) tell(control, pod, 'Normal', 'Killing', `Stopping container ${name}`)
  }
  if (pod.metadata.deletionGracePeriodSeconds !== 0 && Date.now() < due) return control.later(pod, due - Date.now())
  plans.delete(`end ${uid}`)
  if (!finalizers?.length) control.store.remove(pods, pod)
}

const endMs = 50
const crashMs = 200

/** Every event of the node says what it is. */
const tell = ({ event }: Control, pod: Pod, type: 'Normal' | 'Warning', reason: string, message: string) =>
  event(pod, type, reason, `${message} (simulated)`, 'simulated-kubelet')

function statusOf(control: Control, pod: Pod, plans: Map<string, Plan>): PodStatus {
  const { spec, status } = pod
  const mount = unmountable(control.store, pod)
  if (mount) tell(control, pod, 'Warning', mount.reason, mount.message)
  const init = (spec.initContainers ?? []).map((container, at) => {
    const before = status.initContainerStatuses?.[at]
    return mount ? waitingOf(container, before, 'PodInitializing') : initStatusOf(control, pod, container, before)
  })
  const isInitialized = init.every(({ state }) => state.terminated)
  const containers = spec.containers.map((container, at) => {
    const before = status.containerStatuses?.[at]
    if (!before?.state.running && (mount || !isInitialized))
      return waitingOf(container, before, init.length ? 'PodInitializing' : 'ContainerCreating')
    let plan = plans.get(container.name)
    if (!plan) plans.set(container.name, (plan = {}))
    return step(control, pod, container, before ?? waitingOf(container, before, 'ContainerCreating'), plan)
  })
  return {
    ...status,
    phase: phaseOf(pod, containers),
    conditions: conditionsOf(pod, isInitialized, containers),
    hostIP: '127.0.0.1',
    hostIPs: [{ ip: '127.0.0.1' }],
    ...(containers.some(({ state }) => state.running) && !status.podIP && addressOf(pod)),
    startTime: status.startTime ?? timestamp(),
    ...(init.length && { initContainerStatuses: init }),
    containerStatuses: containers,
    qosClass: qosOf(pod),
  }
}

/** An address for documentation (RFC 5737 has few of them, RFC 2544 more): nothing answers there. */
function addressOf({ metadata }: Pod) {
  const hash = Number.parseInt(hashOf(metadata.uid).slice(0, 4), 16)
  const ip = `198.19.${hash >> 8}.${(hash & 255) % 254 || 1}`
  return { podIP: ip, podIPs: [{ ip }] }
}

const hasStarted = ({ state, lastState }: ContainerStatus) => !state.waiting || lastState.terminated !== undefined

function phaseOf({ spec }: Pod, containers: ContainerStatus[]): string {
  const ended = containers.filter(({ state }) => state.terminated)
  if (spec.restartPolicy !== 'Always' && ended.length === containers.length)
    return ended.some(({ state }) => state.terminated!.exitCode) ? 'Failed' : 'Succeeded'
  return containers.every(hasStarted) ? 'Running' : 'Pending'
}

const qosOf = ({ spec }: Pod) =>
  spec.containers.some((container) => Object.keys((container as { resources?: object }).resources ?? {}).length)
    ? 'Burstable'
    : 'BestEffort'

function conditionsOf(pod: Pod, isInitialized: boolean, containers: ContainerStatus[]): Condition[] {
  const unready = containers.filter(({ ready }) => !ready).map(({ name }) => name)
  const why = unready.length
    ? { reason: 'ContainersNotReady', message: `containers with unready status: [${unready.join(' ')}]` }
    : {}
  const isReady = unready.length ? 'False' : 'True'
  return [
    conditionOf('PodReadyToStartContainers', containers.some(({ state }) => state.running) ? 'True' : 'False', pod),
    conditionOf('Initialized', isInitialized ? 'True' : 'False', pod),
    conditionOf('Ready', isReady, pod, why),
    conditionOf('ContainersReady', isReady, pod, why),
    conditionOf('PodScheduled', 'True', pod),
  ]
}

function conditionOf(type: string, status: string, pod: Pod, why: Partial<Condition> = {}): Condition {
  const known = pod.status.conditions?.find((condition) => condition.type === type)
  const lastTransitionTime = known?.status === status ? known.lastTransitionTime : timestamp()
  return { type, status, lastProbeTime: null, lastTransitionTime, ...why }
}

function waitingOf(
  container: Container,
  before: ContainerStatus | undefined,
  reason: string,
  message?: string,
): ContainerStatus {
  const { name, image } = container
  const state = { waiting: { reason, ...(message && { message }) } }
  if (before) return { ...before, image, ready: false, started: false, state }
  return { name, image, imageID: '', ready: false, started: false, restartCount: 0, state, lastState: {} }
}

/** They end well as soon as nothing is in their way. */
function initStatusOf(control: Control, pod: Pod, container: Container, before?: ContainerStatus): ContainerStatus {
  if (before?.state.terminated) return before
  const obstacle = obstacleOf(control, pod, container)
  if (obstacle) return blocked(control, pod, container, before, obstacle)
  const now = timestamp()
  const { containerID, ...started } = startedStatus(container, before)
  const terminated = { exitCode: 0, reason: 'Completed', startedAt: now, finishedAt: now, containerID }
  return { ...started, ready: true, started: false, state: { terminated } }
}

function obstacleOf({ store }: Control, pod: Pod, container: Container): Obstacle | undefined {
  const environment = environmentOf(store, pod, container)
  return imageObstacle(container) ?? (isObstacle(environment) ? environment : undefined)
}

function blocked(
  control: Control,
  pod: Pod,
  container: Container,
  before: ContainerStatus | undefined,
  { reason, message }: Obstacle,
): ContainerStatus {
  if (before?.state.waiting?.reason !== reason) {
    const { image, name } = container
    if (reason === 'ImagePullBackOff') {
      tell(control, pod, 'Normal', 'Pulling', `Pulling image "${image}"`)
      tell(control, pod, 'Warning', 'Failed', `Failed to pull image "${image}": ${image}: not found`)
      tell(control, pod, 'Warning', 'Failed', 'Error: ErrImagePull')
      tell(control, pod, 'Normal', 'BackOff', `Back-off pulling image "${image}"`)
    } else if (reason === 'InvalidImageName') tell(control, pod, 'Warning', 'InspectFailed', message)
    else tell(control, pod, 'Warning', 'Failed', `Error: ${message} (container ${name})`)
  }
  return waitingOf(container, before, reason, message)
}

/** From one state of a container to the next, if its time has come; else the plan says when to look again. */
function step(control: Control, pod: Pod, container: Container, before: ContainerStatus, plan: Plan): ContainerStatus {
  const { running, terminated } = before.state
  if (terminated) return afterEnd(control, pod, container, before, plan)
  if (running) return whileRunning(control, pod, container, before, plan)

  const environment = environmentOf(control.store, pod, container)
  const obstacle = imageObstacle(container) ?? (isObstacle(environment) ? environment : undefined)
  if (obstacle) {
    plan.due = undefined
    return blocked(control, pod, container, before, obstacle)
  }
  const isBackingOff = before.state.waiting?.reason === 'CrashLoopBackOff'
  const readyMs = readyAfterMs(pod, environment as Map<string, string>)
  const startMs = isBackingOff ? backOffMs(before.restartCount + 1) : container.readinessProbe ? readyMs / 3 : readyMs
  if (!isDue(plan, startMs)) return isBackingOff ? before : waitingOf(container, before, 'ContainerCreating')
  return start(control, pod, container, before, plan, environment as Map<string, string>)
}

/** True once, when the time planned has come; plans it if it is not. */
function isDue(plan: Plan, ms: number): boolean {
  plan.due ??= Date.now() + ms
  if (Date.now() < plan.due) return false
  plan.due = undefined
  return true
}

/** The kubelet's: the first restart at once, then 10 s, 20 s, … 5 min. */
const backOffMs = (restart: number) => (restart <= 1 ? 0 : Math.min(10_000 * 2 ** (restart - 2), 300_000))

function start(
  control: Control,
  pod: Pod,
  container: Container,
  before: ContainerStatus,
  plan: Plan,
  environment: Map<string, string>,
): ContainerStatus {
  const { name, image } = container
  tell(control, pod, 'Normal', 'Pulled', `Container image "${image}" already present on machine`)
  tell(control, pod, 'Normal', 'Created', `Created container: ${name}`)
  tell(control, pod, 'Normal', 'Started', `Started container ${name}`)
  plan.crash = crashRule(container, environment) ?? false
  if (plan.crash) plan.due = Date.now() + crashMs
  // As the kubelet sees it: without a probe, whatever runs is ready.
  const ready = !container.readinessProbe
  if (!ready && !plan.crash) plan.due = Date.now() + (readyAfterMs(pod, environment) * 2) / 3
  const isRestart = before.lastState.terminated !== undefined || before.state.terminated !== undefined
  return {
    ...startedStatus(container, before),
    ready,
    restartCount: before.restartCount + (isRestart ? 1 : 0),
    state: { running: { startedAt: timestamp() } },
  }
}

function startedStatus(container: Container, before: ContainerStatus | undefined) {
  const { name, image } = container
  const id = hashOf(`${name} ${Math.random()}`)
  return {
    name,
    image,
    imageID: `simulated://${image}`,
    containerID: `simulated://${id}`,
    started: true,
    ready: false,
    restartCount: before?.restartCount ?? 0,
    lastState: before?.lastState ?? {},
    state: {},
  }
}

function whileRunning(
  control: Control,
  pod: Pod,
  container: Container,
  before: ContainerStatus,
  plan: Plan,
): ContainerStatus {
  // After a restart of this process what it was going to do is not known any more; it goes on.
  plan.crash ??= false
  if (plan.crash && isDue(plan, crashMs)) {
    const { startedAt } = before.state.running!
    const containerID = before.containerID ?? ''
    const terminated = { exitCode: 1, reason: 'Error', startedAt, finishedAt: timestamp(), containerID }
    plan.due = Date.now() + crashMs
    return { ...before, ready: false, started: false, state: { terminated } }
  }
  if (plan.crash || before.ready) return before
  const environment = environmentOf(control.store, pod, container)
  const readyMs = isObstacle(environment) ? 0 : readyAfterMs(pod, environment)
  return isDue(plan, (readyMs * 2) / 3) ? { ...before, ready: true } : before
}

/** It comes back at once the first time, and after longer and longer whiles from then on. */
function afterEnd(
  control: Control,
  pod: Pod,
  container: Container,
  before: ContainerStatus,
  plan: Plan,
): ContainerStatus {
  const { terminated } = before.state
  const { restartPolicy } = pod.spec
  if (restartPolicy === 'Never' || (restartPolicy === 'OnFailure' && !terminated!.exitCode)) {
    plan.due = undefined
    return before
  }
  if (!isDue(plan, crashMs)) return before
  const again = { ...before, lastState: { terminated } }
  const restart = before.restartCount + 1
  if (backOffMs(restart) === 0) {
    const environment = environmentOf(control.store, pod, container)
    if (!isObstacle(environment)) return start(control, pod, container, again, plan, environment)
  }
  const { name, uid, namespace } = pod.metadata
  const failed = `restarting failed container=${container.name} pod=${name}_${namespace}(${uid})`
  tell(
    control,
    pod,
    'Warning',
    'BackOff',
    `Back-off restarting failed container ${container.name} in pod ${name}_${namespace}(${uid})`,
  )
  plan.due = Date.now() + backOffMs(restart)
  return waitingOf(container, again, 'CrashLoopBackOff', `back-off ${backOffMs(restart) / 1000}s ${failed}`)
}

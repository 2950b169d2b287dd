import type { FrozenService } from '../apps/releases.ts'
import type { ContainerStatus } from '../kubernetes/kinds.ts'
import { type Picture, progressAt, type Seen, type SeenPod } from './cluster.ts'
import { labels, type Workload } from './desired.ts'

/** What the picture says of a service: pure. */

export type ServiceState = {
  name: string
  state: 'applied' | 'rolling' | 'live' | 'failed'
  ready: number
  wanted: number
  /** pods that are ready, on whatever release */
  serving: number
  /** in the cluster's own words: of a failure, or of what it waits for now */
  reason: string | null
  message: string | null
  /** whose logs tell more */
  pod: { namespace: string; name: string; hasRestarted: boolean } | null
}

export type Patience = {
  /** how often a container has to come back before a crash loop counts as failure */
  restarts: number
  /** how long a reason that might pass has to last */
  lastingMs: number
}
/**
 * Three runs that ended, so that a process which waits for another at its start has a chance. Ten seconds, since a Secret that someone
 * deleted is put back in less, and an image may be pushed a moment after the deploy.
 */
export const patience: Patience = { restarts: 2, lastingMs: 10_000 }

export function serviceState(
  picture: Picture,
  deployment: Workload,
  { name, replicas: wanted }: Pick<FrozenService, 'name' | 'replicas'>,
  { restarts, lastingMs }: Patience,
  now = Date.now(),
): ServiceState {
  const { namespace = '', labels: own = {} } = deployment.metadata
  const hash = templateHash(deployment)
  const seen = picture.get('Deployment', deployment.metadata)
  const pods = picture
    .ofApp('Pod', namespace, own[labels.app] ?? '')
    .filter(({ metadata }) => metadata.labels[labels.service] === name && metadata.labels[labels.template] === hash)
    .filter(({ metadata }) => !metadata.deletionTimestamp)
  const ready = Math.min(wanted, pods.filter(({ pod }) => pod?.isReady).length)
  const serving = seen?.status?.readyReplicas ?? 0
  const facts = { name, ready, wanted, serving, reason: null, message: null, pod: null }
  if (!seen || !isSeen(seen)) return { ...facts, state: 'applied' }
  if (isComplete(seen, wanted)) return { ...facts, ready: wanted, state: 'live' }

  const troubles = pods.flatMap((pod) => troubleOf(pod, { restarts, lastingMs }, now) ?? [])
  const trouble = troubles.find(({ isCertain }) => isCertain) ?? troubles[0]
  const condition = conditionOf(seen)
  const isOver = condition?.reason === 'ProgressDeadlineExceeded'
  const { reason, message, pod } = trouble ?? {
    reason: condition && (condition.type === 'ReplicaFailure' || isOver) ? (condition.reason ?? condition.type) : null,
    message: condition && (condition.type === 'ReplicaFailure' || isOver) ? (condition.message ?? null) : null,
    pod: unready(pods),
  }
  return { ...facts, state: isOver || trouble?.isCertain ? 'failed' : 'rolling', reason, message, pod }
}

export const templateHash = (deployment: Workload) =>
  (deployment['spec'] as { template?: { metadata: { labels: Record<string, string> } } }).template?.metadata.labels[
    labels.template
  ]

/** The Deployment's controller has taken notice of what was applied last. */
const isSeen = ({ metadata, status }: Seen) => (status?.observedGeneration ?? 0) >= (metadata.generation ?? 0)

/** As `kubectl rollout status` judges: every pod is of the new template, and has been ready for long enough. */
function isComplete({ status = {} }: Seen, wanted: number): boolean {
  const { replicas = 0, updatedReplicas = 0, availableReplicas = 0 } = status
  return updatedReplicas === wanted && replicas === wanted && availableReplicas === wanted
}

/** The pod was refused (a quota, a policy), or nothing has moved for too long; the former may pass, until the latter. */
function conditionOf({ status, before }: Seen) {
  const found = (type: string) => status?.conditions?.find((condition) => condition.type === type)
  const progress = found('Progressing')
  const refused = found('ReplicaFailure')
  if (progress?.reason === 'ProgressDeadlineExceeded' && progressAt(status) !== before)
    return refused ? { ...refused, reason: progress.reason } : progress
  return refused
}

const unready = (pods: Seen[]) => {
  const found = pods.find(({ pod }) => pod && !pod.isReady)
  return found ? refOf(found, false) : null
}
const refOf = ({ metadata }: Seen, hasRestarted: boolean) => ({
  namespace: metadata.namespace ?? '',
  name: metadata.name,
  hasRestarted,
})

type Trouble = Pick<ServiceState, 'reason' | 'message' | 'pod'> & { isCertain: boolean }

function troubleOf(seen: Seen, patience: Patience, now: number): Trouble | undefined {
  const { pod } = seen
  if (!pod) return undefined
  for (const container of pod.containers) {
    const { waiting } = container.state ?? {}
    if (!waiting?.reason || ['ContainerCreating', 'PodInitializing'].includes(waiting.reason)) continue
    const ended = container.lastState?.terminated
    const isLoop = waiting.reason === 'CrashLoopBackOff'
    return {
      // Why it ends tells more than that it does.
      reason: isLoop && ended?.reason === 'OOMKilled' ? 'OOMKilled' : waiting.reason,
      message: isLoop && ended ? endOf(container, ended) : (waiting.message ?? null),
      pod: refOf(seen, container.restartCount > 0),
      isCertain: isCertain(waiting, container, pod, patience, now),
    }
  }
  const unscheduled = pod.conditions.find(({ type, reason }) => type === 'PodScheduled' && reason === 'Unschedulable')
  // A node may come: only the deadline ends this.
  return (
    unscheduled && {
      reason: 'Unschedulable',
      message: unscheduled.message ?? null,
      pod: refOf(seen, false),
      isCertain: false,
    }
  )
}

type Ended = NonNullable<NonNullable<ContainerStatus['lastState']>['terminated']>
function endOf({ restartCount }: ContainerStatus, { exitCode, signal }: Ended): string {
  const how = signal ? `by signal ${signal}` : `with exit code ${exitCode}`
  return `ended ${how}, and was started again ${restartCount} times`
}

/** Whether waiting longer could not help. Everything else is left to the progress deadline. */
function isCertain(
  waiting: { reason?: string; message?: string },
  { restartCount }: ContainerStatus,
  { since }: SeenPod,
  { restarts, lastingMs }: Patience,
  now: number,
): boolean {
  switch (waiting.reason) {
    // No name of an image, whoever asks.
    case 'InvalidImageName':
      return true
    case 'CrashLoopBackOff':
      return restartCount >= restarts
    // A key that is not there, or an image that would run as root where it may not. It may also be a Secret on its way back.
    case 'CreateContainerConfigError':
    case 'CreateContainerError':
    case 'RunContainerError':
      return now - since >= lastingMs
    // The registry has answered: there is no such image, or not for us. One that is away may come back.
    case 'ErrImagePull':
    case 'ImagePullBackOff':
      return (
        now - since >= lastingMs &&
        /not found|manifest unknown|denied|unauthorized|forbidden|does not exist/i.test(waiting.message ?? '')
      )
    case undefined:
    default:
      return false
  }
}

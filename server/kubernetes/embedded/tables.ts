import { apiVersionOf, type Kind } from './kinds.ts'
import type { ContainerStatus, Deployment, Obj, Pod, ReplicaSet, Selector, StatefulSet, Tree } from './objects.ts'

/** Lists as `kubectl get` prints them. */
export function tableOf(kind: Kind, objects: Obj[], metadata: object, include: string): object {
  const columns = columnsOf(kind)
  return {
    kind: 'Table',
    apiVersion: 'meta.k8s.io/v1',
    metadata,
    columnDefinitions: columns.map(([name, type, priority]) => ({
      name,
      type,
      format: name === 'Name' ? 'name' : '',
      description: name,
      priority,
    })),
    rows: objects.map((object) => ({
      cells: columns.map(([, , , cell]) => cell(object as never)),
      ...(include === 'None' ? {} : { object: include === 'Object' ? object : partialOf(object) }),
    })),
  }
}

/** An object's metadata alone, for clients that want no more. */
export const partialOf = ({ metadata }: Obj) => ({
  kind: 'PartialObjectMetadata',
  apiVersion: 'meta.k8s.io/v1',
  metadata,
})

type Column = [name: string, type: string, priority: number, cell: (object: never) => unknown]

const column = (name: string, cell: Column[3], type = 'string'): Column => [name, type, 0, cell]
/** Shown by `-o wide` alone. */
const wide = (name: string, cell: Column[3]): Column => [name, 'string', 1, cell]

const name = column('Name', ({ metadata }: Obj) => metadata.name)
const age = column('Age', ({ metadata }: Obj) => since(metadata.creationTimestamp))
const count = (tree: unknown) => Object.keys(tree ?? {}).length

function columnsOf({ kind }: Kind): Column[] {
  return columns[kind] ?? [name, column('Created At', ({ metadata }: Obj) => metadata.creationTimestamp)]
}

const columns: Record<string, Column[]> = {
  Namespace: [name, column('Status', ({ status }: Obj) => status?.phase), age],
  Node: [
    name,
    column('Status', () => 'Ready'),
    column('Roles', () => 'simulated'),
    age,
    column('Version', ({ status }: Obj) => (status?.nodeInfo as Tree | undefined)?.kubeletVersion),
  ],
  Secret: [
    name,
    column('Type', ({ type }: Obj) => type),
    column('Data', ({ data }: Obj) => count(data), 'integer'),
    age,
  ],
  ConfigMap: [name, column('Data', ({ data, binaryData }: Obj) => count(data) + count(binaryData), 'integer'), age],
  ServiceAccount: [name, column('Secrets', ({ secrets }: Obj) => count(secrets), 'integer'), age],
  Service: [
    name,
    column('Type', ({ spec }: Obj) => spec?.type),
    column('Cluster-IP', ({ spec }: Obj) => spec?.clusterIP ?? '<none>'),
    column('External-IP', ({ spec }: Obj) => spec?.externalName ?? '<none>'),
    column('Port(s)', ({ spec }: Obj) => ports(spec)),
    age,
    wide('Selector', ({ spec }: Obj) => selectorText({ matchLabels: (spec?.selector ?? {}) as never })),
  ],
  Pod: [
    name,
    column('Ready', readyText),
    column('Status', podState),
    column('Restarts', restarts),
    age,
    wide('IP', ({ status }: Pod) => status.podIP ?? '<none>'),
    wide('Node', ({ spec }: Pod) => spec.nodeName ?? '<none>'),
    wide('Nominated Node', () => '<none>'),
    wide('Readiness Gates', () => '<none>'),
  ],
  Deployment: [
    name,
    column('Ready', ({ spec, status }: Deployment) => `${status.readyReplicas ?? 0}/${spec.replicas}`),
    column('Up-to-date', ({ status }: Deployment) => status.updatedReplicas ?? 0),
    column('Available', ({ status }: Deployment) => status.availableReplicas ?? 0),
    age,
    ...workload(),
  ],
  ReplicaSet: [
    name,
    column('Desired', ({ spec }: ReplicaSet) => spec.replicas, 'integer'),
    column('Current', ({ status }: ReplicaSet) => status.replicas ?? 0, 'integer'),
    column('Ready', ({ status }: ReplicaSet) => status.readyReplicas ?? 0, 'integer'),
    age,
    ...workload(),
  ],
  StatefulSet: [
    name,
    column('Ready', ({ spec, status }: StatefulSet) => `${status.readyReplicas ?? 0}/${spec.replicas}`),
    age,
    ...workload().slice(0, 2),
  ],
  Event: [
    column('Last Seen', ({ lastTimestamp }: Obj) => since(lastTimestamp as string)),
    column('Type', ({ type }: Obj) => type),
    column('Reason', ({ reason }: Obj) => reason),
    column('Object', ({ involvedObject }: Obj) => {
      const { kind = '', name = '' } = involvedObject as { kind?: string; name?: string }
      return `${kind.toLowerCase()}/${name}`
    }),
    wide('Subobject', (event: Obj) => (event.involvedObject as Tree).fieldPath ?? ''),
    wide('Source', sourceText),
    column('Message', ({ message }: Obj) => message),
    wide('First Seen', (event: Obj) => since(event.firstTimestamp as string)),
    wide('Count', (event: Obj) => event.count),
    wide('Name', ({ metadata }: Obj) => metadata.name),
  ],
  PersistentVolumeClaim: [name, column('Status', ({ status }: Obj) => status?.phase), age],
  NetworkPolicy: [name, column('Pod-Selector', ({ spec }: Obj) => selectorText(spec?.podSelector as Selector)), age],
  RoleBinding: [name, column('Role', roleText), age],
  ClusterRoleBinding: [name, column('Role', roleText), age],
}

const containers = ({ spec }: Deployment) => spec.template.spec.containers

function workload(): Column[] {
  return [
    wide('Containers', (object: Deployment) =>
      containers(object)
        .map(({ name }) => name)
        .join(','),
    ),
    wide('Images', (object: Deployment) =>
      containers(object)
        .map(({ image }) => image)
        .join(','),
    ),
    wide('Selector', ({ spec }: Deployment) => selectorText(spec.selector)),
  ]
}

function roleText({ roleRef }: Obj) {
  const { kind, name } = roleRef as { kind: string; name: string }
  return `${kind}/${name}`
}
function sourceText({ source }: Obj) {
  const { component = '', host } = (source ?? {}) as { component?: string; host?: string }
  return host ? `${component}, ${host}` : component
}

const selectorText = ({ matchLabels = {} }: Selector = {}) =>
  Object.entries(matchLabels)
    .map(([key, value]) => `${key}=${value}`)
    .join(',') || '<none>'

const ports = (spec?: Tree) =>
  ((spec?.ports ?? []) as { port: number; protocol: string }[])
    .map(({ port, protocol }) => `${port}/${protocol}`)
    .join(',') || '<none>'

function readyText({ spec, status }: Pod) {
  return `${(status.containerStatuses ?? []).filter(({ ready }) => ready).length}/${spec.containers.length}`
}

/** The most telling word about a pod, as kubectl's own column chooses it. */
function podState({ metadata, status }: Pod): string {
  if (metadata.deletionTimestamp) return 'Terminating'
  const [blocked] = (status.initContainerStatuses ?? []).filter(({ state }) => !state.terminated)
  if (blocked) return `Init:${reasonOf(blocked) ?? '0/1'}`
  const reasons = (status.containerStatuses ?? []).map(reasonOf).filter(Boolean)
  return reasons.at(-1) ?? status.reason ?? status.phase
}

const reasonOf = ({ state }: ContainerStatus) => state.waiting?.reason ?? state.terminated?.reason

function restarts({ status }: Pod): string {
  const statuses = status.containerStatuses ?? []
  const total = statuses.reduce((sum, { restartCount }) => sum + restartCount, 0)
  const last = statuses
    .flatMap(({ lastState }) => lastState.terminated?.finishedAt ?? [])
    .sort()
    .at(-1)
  return last && total ? `${total} (${since(last)} ago)` : String(total)
}

/** `45s`, `12m`, `3h5m`, `2d`: as kubectl writes a duration. */
function since(time: string | null | undefined): string {
  if (!time) return '<unknown>'
  const seconds = Math.max(0, Math.floor((Date.now() - Date.parse(time)) / 1000))
  const [minutes, hours, days] = [60, 3600, 86_400].map((unit) => Math.floor(seconds / unit)) as [
    number,
    number,
    number,
  ]
  if (seconds < 120) return `${seconds}s`
  if (minutes < 10) return seconds % 60 ? `${minutes}m${seconds % 60}s` : `${minutes}m`
  if (minutes < 180) return `${minutes}m`
  if (hours < 8) return minutes % 60 ? `${hours}h${minutes % 60}m` : `${hours}h`
  if (hours < 48) return `${hours}h`
  return days < 8 && hours % 24 ? `${days}d${hours % 24}h` : `${days}d`
}

/** A replica count as its own small object, which is what `kubectl scale` reads and writes. */
export const scaleOf = ({ metadata, spec, status }: Obj) => {
  const { name, namespace, uid, resourceVersion, creationTimestamp } = metadata
  return {
    kind: 'Scale',
    apiVersion: 'autoscaling/v1',
    metadata: {
      name,
      namespace,
      uid,
      resourceVersion,
      creationTimestamp,
    },
    spec: { replicas: spec?.replicas ?? 0 },
    status: {
      replicas: status?.replicas ?? 0,
      selector: selectorText(spec?.selector as Selector),
    },
  }
}

export const listKindOf = (kind: Kind) => ({ kind: `${kind.kind}List`, apiVersion: apiVersionOf(kind) })
export const partialListKind = { kind: 'PartialObjectMetadataList', apiVersion: 'meta.k8s.io/v1' }

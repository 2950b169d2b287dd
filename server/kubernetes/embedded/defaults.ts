import { randomInt } from 'node:crypto'
import { kindOf } from './kinds.ts'
import { type Container, isTree, type Obj, type PodSpec, type Tree } from './objects.ts'
import type { Store } from './store.ts'

/** Fills in what the API server fills in, so that what is read back, and compared, looks the same. */
export function setDefaults(object: Obj): void {
  const { spec = {} } = object
  switch (object.kind) {
    case 'Namespace':
      object.metadata.labels = { ...object.metadata.labels, 'kubernetes.io/metadata.name': object.metadata.name }
      return
    case 'Secret':
      object.type ??= 'Opaque'
      encodeStringData(object)
      return
    case 'Pod':
      fill(spec, podDefaults)
      setPodDefaults(spec as PodSpec)
      return
    case 'Deployment':
      fill(spec, { replicas: 1, strategy: {}, revisionHistoryLimit: 10, progressDeadlineSeconds: 600 })
      setStrategy(spec.strategy as Tree)
      setTemplateDefaults(spec)
      return
    case 'ReplicaSet':
      fill(spec, { replicas: 1 })
      setTemplateDefaults(spec)
      return
    case 'StatefulSet':
      fill(spec, {
        replicas: 1,
        podManagementPolicy: 'OrderedReady',
        revisionHistoryLimit: 10,
        updateStrategy: {
          type: 'RollingUpdate',
          rollingUpdate: { partition: 0 },
        },
        persistentVolumeClaimRetentionPolicy: {
          whenDeleted: 'Retain',
          whenScaled: 'Retain',
        },
      })
      setTemplateDefaults(spec)
      return
    case 'Service':
      setServiceDefaults(spec)
      return
    case 'PersistentVolumeClaim':
      fill(spec, { volumeMode: 'Filesystem' })
  }
}

function fill(tree: Tree, values: Tree): void {
  for (const [key, value] of Object.entries(values)) tree[key] ??= structuredClone(value)
}

/** `stringData` can only be written. */
export function encodeStringData(secret: Obj): void {
  const { stringData } = secret
  if (!isTree(stringData)) return
  const encoded = Object.entries(stringData).map(([key, text]) => [key, Buffer.from(String(text)).toString('base64')])
  secret.data = { ...(secret.data as Tree), ...Object.fromEntries(encoded) }
  delete secret.stringData
}

function setStrategy(strategy: Tree): void {
  strategy.type ??= 'RollingUpdate'
  if (strategy.type !== 'RollingUpdate') return
  strategy.rollingUpdate ??= {}
  fill(strategy.rollingUpdate as Tree, { maxSurge: '25%', maxUnavailable: '25%' })
}

const podDefaults = {
  enableServiceLinks: true,
  preemptionPolicy: 'PreemptLowerPriority',
  priority: 0,
  serviceAccountName: 'default',
  serviceAccount: 'default',
  tolerations: ['not-ready', 'unreachable'].map((state) => ({
    effect: 'NoExecute',
    key: `node.kubernetes.io/${state}`,
    operator: 'Exists',
    tolerationSeconds: 300,
  })),
}

function setTemplateDefaults({ template }: Tree): void {
  if (isTree(template) && isTree(template.spec)) setPodDefaults(template.spec as PodSpec)
}

function setPodDefaults(spec: PodSpec): void {
  const tree = spec as PodSpec & Tree
  fill(tree, {
    restartPolicy: 'Always',
    dnsPolicy: 'ClusterFirst',
    schedulerName: 'default-scheduler',
    terminationGracePeriodSeconds: 30,
    securityContext: {},
  })
  // Two names of one field.
  const account = tree.serviceAccountName ?? tree.serviceAccount
  if (account) Object.assign(tree, { serviceAccountName: account, serviceAccount: account })
  for (const container of [...(spec.initContainers ?? []), ...(spec.containers ?? [])]) setContainerDefaults(container)
  for (const volume of (spec.volumes ?? []) as Tree[]) {
    for (const source of ['secret', 'configMap', 'projected', 'downwardAPI'])
      if (isTree(volume[source])) fill(volume[source], { defaultMode: 0o644 })
    const sources = isTree(volume.projected) ? volume.projected.sources : undefined
    for (const { serviceAccountToken } of (sources ?? []) as Tree[])
      if (isTree(serviceAccountToken)) fill(serviceAccountToken, { expirationSeconds: 3600 })
  }
}

function setContainerDefaults(container: Container): void {
  // Of an object that is still to be validated, so there may be none.
  const image = (container as Partial<Container>).image ?? ''
  const tree = container as Container & Tree
  const pulledAlways = /(^[^:@]*|:latest)$/.test(image.split('/').at(-1) ?? '')
  fill(tree, {
    terminationMessagePath: '/dev/termination-log',
    terminationMessagePolicy: 'File',
    resources: {},
    imagePullPolicy: pulledAlways ? 'Always' : 'IfNotPresent',
  })
  for (const port of (tree.ports ?? []) as Tree[]) port.protocol ??= 'TCP'
  for (const { valueFrom } of container.env ?? [])
    if (valueFrom?.fieldRef) fill(valueFrom.fieldRef, { apiVersion: 'v1' })
  for (const name of ['readinessProbe', 'livenessProbe', 'startupProbe']) {
    const probe = tree[name]
    if (!isTree(probe)) continue
    fill(probe, { timeoutSeconds: 1, periodSeconds: 10, successThreshold: 1, failureThreshold: 3 })
    if (isTree(probe.httpGet)) fill(probe.httpGet, { path: '/', scheme: 'HTTP' })
  }
}

function setServiceDefaults(spec: Tree): void {
  fill(spec, { type: 'ClusterIP', sessionAffinity: 'None' })
  for (const port of (spec.ports ?? []) as Tree[]) fill(port, { protocol: 'TCP', targetPort: port.port })
  if (spec.type !== 'ExternalName') spec.internalTrafficPolicy ??= 'Cluster'
}

/** What the server itself adds last, and no client owns: addresses and the first status. */
export function complete(object: Obj, store: Store): Obj {
  const { kind, spec } = object
  if (firstStatus[kind]) object.status ??= structuredClone(firstStatus[kind])
  if (kind === 'Namespace') object.spec = { finalizers: ['kubernetes'], ...spec }
  if (kind === 'Service' && spec && spec.type !== 'ExternalName') {
    spec.clusterIP ??= freeAddress(store)
    fill(spec, { clusterIPs: [spec.clusterIP], ipFamilies: ['IPv4'], ipFamilyPolicy: 'SingleStack' })
  }
  return object
}

const firstStatus: Record<string, Tree> = {
  Namespace: { phase: 'Active' },
  Pod: { phase: 'Pending', qosClass: 'BestEffort' },
  Deployment: {},
  ReplicaSet: { replicas: 0 },
  StatefulSet: { replicas: 0, availableReplicas: 0 },
  Service: { loadBalancer: {} },
  // No volume is made either.
  PersistentVolumeClaim: { phase: 'Bound' },
}

/** Of a network for documentation, as nothing answers there. */
function freeAddress(store: Store): string {
  const taken = new Set(store.trees(kindOf('Service'), '').map(({ spec }) => spec?.clusterIP))
  for (;;) {
    const address = `198.18.${randomInt(256)}.${randomInt(1, 255)}`
    if (!taken.has(address)) return address
  }
}

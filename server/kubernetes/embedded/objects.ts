/** Objects of the API as the code reads them: what it looks into is typed, the rest is carried along. */
export type Tree = Record<string, unknown>

export type Meta = {
  name: string
  namespace?: string
  generateName?: string
  uid: string
  resourceVersion: string
  generation?: number
  creationTimestamp: string
  deletionTimestamp?: string
  deletionGracePeriodSeconds?: number
  labels?: Record<string, string>
  annotations?: Record<string, string>
  finalizers?: string[]
  ownerReferences?: OwnerReference[]
  managedFields?: Managed[]
}

export type OwnerReference = {
  apiVersion: string
  kind: string
  name: string
  uid: string
  controller?: boolean
  blockOwnerDeletion?: boolean
}

/** One manager's share of an object, as `metadata.managedFields` holds it. */
export type Managed = {
  manager: string
  operation: 'Apply' | 'Update'
  apiVersion: string
  time?: string
  fieldsType: 'FieldsV1'
  fieldsV1: Fields
  subresource?: string
}

/** `{"f:spec": {"f:replicas": {}}}`: a leaf is owned; what has more below it is owned itself if it holds `.` */
export interface Fields {
  [step: string]: Fields
}

export type Obj = { apiVersion: string; kind: string; metadata: Meta; spec?: Tree; status?: Tree } & Tree

export type Selector = {
  matchLabels?: Record<string, string>
  matchExpressions?: { key: string; operator: string; values?: string[] }[]
}

export type PodTemplate = { metadata?: Partial<Meta>; spec: PodSpec }

type Ref = { name?: string; key: string; optional?: boolean }

export type Container = {
  name: string
  image: string
  command?: string[]
  env?: {
    name: string
    value?: string
    valueFrom?: { secretKeyRef?: Ref; configMapKeyRef?: Ref; fieldRef?: { fieldPath: string } }
  }[]
  envFrom?: { prefix?: string; secretRef?: Source; configMapRef?: Source }[]
  readinessProbe?: Tree
}

type Source = { name?: string; optional?: boolean; items?: { key: string; path: string }[] }

export type Volume = {
  name: string
  secret?: Omit<Source, 'name'> & { secretName: string }
  configMap?: Source
  projected?: { sources?: { secret?: Source; configMap?: Source }[] }
}

export type PodSpec = {
  containers: Container[]
  initContainers?: Container[]
  volumes?: Volume[]
  nodeName?: string
  restartPolicy?: string
  terminationGracePeriodSeconds?: number
}

export type Condition = {
  type: string
  status: string
  reason?: string
  message?: string
  lastTransitionTime?: string
  lastUpdateTime?: string
  lastProbeTime?: string | null
}

type Terminated = { exitCode: number; reason: string; startedAt: string; finishedAt: string; containerID: string }

export type ContainerState = {
  waiting?: { reason: string; message?: string }
  running?: { startedAt: string }
  terminated?: Terminated
}

export type ContainerStatus = {
  name: string
  image: string
  imageID: string
  containerID?: string
  ready: boolean
  started: boolean
  restartCount: number
  state: ContainerState
  lastState: ContainerState
}

export type PodStatus = {
  phase: string
  conditions?: Condition[]
  containerStatuses?: ContainerStatus[]
  initContainerStatuses?: ContainerStatus[]
  hostIP?: string
  hostIPs?: { ip: string }[]
  podIP?: string
  podIPs?: { ip: string }[]
  startTime?: string
  qosClass?: string
  reason?: string
  message?: string
}

export type Pod = Obj & { spec: PodSpec; status: PodStatus }

type Counts = {
  replicas?: number
  readyReplicas?: number
  availableReplicas?: number
  observedGeneration?: number
  conditions?: Condition[]
}

export type ReplicaSet = Obj & {
  spec: { replicas: number; minReadySeconds?: number; selector: Selector; template: PodTemplate }
  status: Counts & { fullyLabeledReplicas?: number }
}

export type Deployment = Obj & {
  spec: {
    replicas: number
    minReadySeconds?: number
    paused?: boolean
    progressDeadlineSeconds: number
    revisionHistoryLimit: number
    selector: Selector
    strategy: { type: string; rollingUpdate?: { maxSurge?: number | string; maxUnavailable?: number | string } }
    template: PodTemplate
  }
  status: Counts & { updatedReplicas?: number; unavailableReplicas?: number }
}

export type StatefulSet = Obj & {
  spec: {
    replicas: number
    minReadySeconds?: number
    selector: Selector
    serviceName?: string
    podManagementPolicy?: string
    updateStrategy?: { type: string; rollingUpdate?: { partition?: number } }
    template: PodTemplate
    volumeClaimTemplates?: (Obj & { spec: Tree })[]
  }
  status: Counts & {
    currentReplicas?: number
    updatedReplicas?: number
    currentRevision?: string
    updateRevision?: string
  }
}

export const isTree = (value: unknown): value is Tree =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Kubernetes writes times without fractions of a second. */
export const timestamp = (ms = Date.now()) => `${new Date(ms).toISOString().slice(0, 19)}Z`

export const controllerOf = ({ metadata }: Obj) => metadata.ownerReferences?.find(({ controller }) => controller)

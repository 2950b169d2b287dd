/** The kinds that the server deals with, and where they live in the API. */
export const kinds = {
  Namespace: { group: 'v1', plural: 'namespaces', namespaced: false },
  Secret: { group: 'v1', plural: 'secrets', namespaced: true },
  Service: { group: 'v1', plural: 'services', namespaced: true },
  ServiceAccount: { group: 'v1', plural: 'serviceaccounts', namespaced: true },
  Pod: { group: 'v1', plural: 'pods', namespaced: true },
  PersistentVolumeClaim: { group: 'v1', plural: 'persistentvolumeclaims', namespaced: true },
  Event: { group: 'v1', plural: 'events', namespaced: true },
  Deployment: { group: 'apps/v1', plural: 'deployments', namespaced: true },
  ReplicaSet: { group: 'apps/v1', plural: 'replicasets', namespaced: true },
  StatefulSet: { group: 'apps/v1', plural: 'statefulsets', namespaced: true },
  NetworkPolicy: { group: 'networking.k8s.io/v1', plural: 'networkpolicies', namespaced: true },
  Role: { group: 'rbac.authorization.k8s.io/v1', plural: 'roles', namespaced: true },
  RoleBinding: { group: 'rbac.authorization.k8s.io/v1', plural: 'rolebindings', namespaced: true },
} as const satisfies Record<string, { group: string; plural: string; namespaced: boolean }>

export type Kind = keyof typeof kinds

export type Metadata = {
  name: string
  namespace?: string
  uid: string
  resourceVersion: string
  generation?: number
  creationTimestamp: string
  deletionTimestamp?: string
  labels?: Record<string, string>
  annotations?: Record<string, string>
  ownerReferences?: { kind: string; name: string; uid: string; controller?: boolean }[]
  managedFields?: { manager: string; operation: 'Apply' | 'Update'; subresource?: string; fieldsV1?: object }[]
}

/** What `metadataOnly` gives: an object without its content. */
export type Bare = { metadata: Metadata }

/** The fields that we read, of the kinds whose content we read. */
type Content = {
  Namespace: { status?: { phase?: 'Active' | 'Terminating' } }
  Secret: { data?: Record<string, string>; type?: string; immutable?: boolean }
  Deployment: {
    spec: { replicas?: number; template: { metadata?: Partial<Metadata>; spec: PodSpec } }
    status?: {
      observedGeneration?: number
      replicas?: number
      updatedReplicas?: number
      readyReplicas?: number
      availableReplicas?: number
      unavailableReplicas?: number
      conditions?: Condition[]
    }
  }
  ReplicaSet: {
    spec: { replicas?: number; template: { metadata?: Partial<Metadata>; spec: PodSpec } }
    status?: { replicas: number; readyReplicas?: number; availableReplicas?: number; conditions?: Condition[] }
  }
  StatefulSet: {
    spec: { replicas?: number }
    status?: {
      observedGeneration?: number
      replicas: number
      readyReplicas?: number
      updatedReplicas?: number
      currentRevision?: string
      updateRevision?: string
    }
  }
  Pod: {
    spec: PodSpec
    status?: {
      phase?: 'Pending' | 'Running' | 'Succeeded' | 'Failed' | 'Unknown'
      reason?: string
      message?: string
      podIP?: string
      conditions?: Condition[]
      containerStatuses?: ContainerStatus[]
      initContainerStatuses?: ContainerStatus[]
    }
  }
  Event: {
    type?: 'Normal' | 'Warning'
    reason?: string
    message?: string
    count?: number
    lastTimestamp?: string
    involvedObject: { kind?: string; namespace?: string; name?: string; uid?: string }
  }
}

export type PodSpec = {
  nodeName?: string
  containers: {
    name: string
    image: string
    env?: { name: string; value?: string; valueFrom?: { secretKeyRef?: { name: string; key: string } } }[]
  }[]
  volumes?: { name: string; secret?: { secretName: string }; projected?: { sources: object[] } }[]
}

export type Condition = {
  type: string
  status: 'True' | 'False' | 'Unknown'
  reason?: string
  message?: string
  lastTransitionTime?: string
}

export type ContainerStatus = {
  name: string
  ready: boolean
  started?: boolean
  restartCount: number
  state?: ContainerState
  lastState?: ContainerState
}

type ContainerState = {
  waiting?: { reason?: string; message?: string }
  running?: { startedAt: string }
  terminated?: { exitCode: number; signal?: number; reason?: string; message?: string; finishedAt?: string }
}

/** An object as the cluster tells it. */
export type Found<K extends Kind> = Bare & (K extends keyof Content ? Content[K] : { [field: string]: unknown })

/** An object as we want it. */
export type Manifest<K extends Kind = Kind> = {
  apiVersion: (typeof kinds)[K]['group']
  kind: K
  metadata: Pick<Metadata, 'name'> & Partial<Omit<Metadata, 'managedFields'>>
  [field: string]: unknown
}

/** Which one; the namespace is left out for kinds that have none. */
export type Ref = { namespace?: string; name: string }

/** `/api/v1/namespaces/default/secrets`, with a name `…/secrets/bag`. */
export function pathOf(kind: Kind, { namespace, name }: Partial<Ref> = {}): string {
  const { group, plural, namespaced } = kinds[kind]
  // An empty name would address all of them, and `..` something else.
  for (const part of [name, namespace]) {
    if (part !== undefined && !/^[\w:][\w:.-]*$/.test(part)) throw new Error(`${JSON.stringify(part)} is no name`)
  }
  if (name !== undefined && namespaced && !namespace) throw new Error(`a ${kind} has a namespace`)
  const root = group === 'v1' ? '/api/v1' : `/apis/${group}`
  const within = namespaced && namespace ? `/namespaces/${namespace}` : ''
  return `${root}${within}/${plural}${name === undefined ? '' : `/${name}`}`
}

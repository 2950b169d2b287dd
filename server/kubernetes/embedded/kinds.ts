/** What this cluster stores, as discovery tells it. Everything that differs between kinds only in data stands in this table. */
export type Kind = {
  group: string
  version: string
  kind: string
  plural: string
  short: string[]
  namespaced: boolean
  /** subresources that discovery lists, with their verbs */
  subresources: Record<string, string[]>
  inAll: boolean
}

const readWrite = ['get', 'patch', 'update']
const status = { status: readWrite }
const scale = { ...status, scale: readWrite }

const table: [group: string, kind: string, plural: string, short: string, more?: Partial<Kind>][] = [
  ['', 'Namespace', 'namespaces', 'ns', { namespaced: false, subresources: { ...status, finalize: ['update'] } }],
  ['', 'Node', 'nodes', 'no', { namespaced: false, subresources: status }],
  ['', 'Secret', 'secrets', ''],
  ['', 'ConfigMap', 'configmaps', 'cm'],
  ['', 'Service', 'services', 'svc', { inAll: true, subresources: status }],
  ['', 'ServiceAccount', 'serviceaccounts', 'sa'],
  ['', 'Pod', 'pods', 'po', { inAll: true, subresources: { ...status, log: ['get'] } }],
  ['', 'Event', 'events', 'ev'],
  ['', 'Endpoints', 'endpoints', 'ep'],
  ['', 'PersistentVolumeClaim', 'persistentvolumeclaims', 'pvc', { subresources: status }],
  ['', 'ResourceQuota', 'resourcequotas', 'quota', { subresources: status }],
  ['', 'LimitRange', 'limitranges', 'limits'],
  ['apps', 'Deployment', 'deployments', 'deploy', { inAll: true, subresources: scale }],
  ['apps', 'ReplicaSet', 'replicasets', 'rs', { inAll: true, subresources: scale }],
  ['apps', 'StatefulSet', 'statefulsets', 'sts', { inAll: true, subresources: scale }],
  ['rbac.authorization.k8s.io', 'Role', 'roles', ''],
  ['rbac.authorization.k8s.io', 'RoleBinding', 'rolebindings', ''],
  ['rbac.authorization.k8s.io', 'ClusterRole', 'clusterroles', '', { namespaced: false }],
  ['rbac.authorization.k8s.io', 'ClusterRoleBinding', 'clusterrolebindings', '', { namespaced: false }],
  ['networking.k8s.io', 'NetworkPolicy', 'networkpolicies', 'netpol'],
  ['discovery.k8s.io', 'EndpointSlice', 'endpointslices', ''],
]

export const kinds: Kind[] = table.map(([group, kind, plural, short, more]) => ({
  group,
  version: 'v1',
  kind,
  plural,
  short: short ? [short] : [],
  namespaced: true,
  subresources: {},
  inAll: false,
  ...more,
}))

const byPath = new Map(kinds.map((kind) => [`${kind.group}/${kind.plural}`, kind]))
const byName = new Map(kinds.map((kind) => [kind.kind, kind]))

export const kindAt = (group: string, plural: string) => byPath.get(`${group}/${plural}`)

/** By its name in the code, where a missing one is our own fault. */
export function kindOf(name: string): Kind {
  const kind = byName.get(name)
  if (!kind) throw new Error(`no kind ${name}`)
  return kind
}

/** As an object names it: `v1`, `apps/v1`. */
export const apiVersionOf = ({ group, version }: Kind) => (group ? `${group}/${version}` : version)

/** As messages of Kubernetes name a kind: `secrets`, `deployments.apps`. */
export const qualified = ({ group, plural }: Kind) => (group ? `${plural}.${group}` : plural)

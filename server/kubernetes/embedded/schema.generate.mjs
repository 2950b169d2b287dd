// Makes schema.json out of the OpenAPI description of a Kubernetes release:
//
//   node schema.generate.mjs ~/go/pkg/mod/k8s.io/kubernetes@v1.34.3/api/openapi-spec/v3 > schema.json
//
// One line a type, one short word a field (schema.ts explains the words). The whole description has 4 MB.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

const sources = {
  api__v1: [
    'Namespace',
    'Secret',
    'ConfigMap',
    'Service',
    'ServiceAccount',
    'Pod',
    'Event',
    'Node',
    'Endpoints',
    'PersistentVolumeClaim',
    'ResourceQuota',
    'LimitRange',
  ],
  apis__apps__v1: ['Deployment', 'ReplicaSet', 'StatefulSet', 'Scale'],
  'apis__rbac.authorization.k8s.io__v1': ['Role', 'RoleBinding', 'ClusterRole', 'ClusterRoleBinding'],
  'apis__networking.k8s.io__v1': ['NetworkPolicy'],
  'apis__discovery.k8s.io__v1': ['EndpointSlice'],
}

const types = {}
for (const [source, kinds] of Object.entries(sources)) {
  const file = join(process.argv[2], `${source}_openapi.json`)
  const { schemas } = JSON.parse(readFileSync(file, 'utf8')).components
  for (const kind of kinds)
    addType(
      schemas,
      Object.keys(schemas).find((name) => name.endsWith(`.v1.${kind}`)),
    )
}
console.log(JSON.stringify(Object.fromEntries(Object.entries(types).sort(([a], [b]) => (a < b ? -1 : 1))), null, 1))

function addType(schemas, name) {
  const short = name.split('.').at(-1)
  if (types[short]) return
  const schema = schemas[name]
  const fields = (types[short] = {})
  for (const [field, property] of Object.entries(schema.properties ?? {}))
    fields[field] = wordOf(schemas, property) + (schema.required?.includes(field) ? '!' : '')
}

function wordOf(schemas, property) {
  const ref = property.$ref ?? property.allOf?.[0].$ref
  if (ref) return refWord(schemas, ref.slice('#/components/schemas/'.length), property)
  if (property.type === 'array') return `[${listWord(property)}]${wordOf(schemas, property.items)}`
  if (property.type === 'object' && property.additionalProperties) {
    const atomic = property['x-kubernetes-map-type'] === 'atomic' ? '@' : ''
    return `${atomic}{}${wordOf(schemas, property.additionalProperties)}`
  }
  return property.type === 'object' ? 'any' : property.format === 'byte' ? 'bytes' : property.type
}

function refWord(schemas, name, property) {
  const schema = schemas[name]
  const short = name.split('.').at(-1)
  if (short === 'Quantity') return 'quantity'
  if (short === 'IntOrString') return 'scalar'
  if (short === 'FieldsV1' || short === 'RawExtension') return 'any'
  if (!schema.properties) return schema.type === 'string' ? 'string' : '@any'
  addType(schemas, name)
  const atomic = (property['x-kubernetes-map-type'] ?? schema['x-kubernetes-map-type']) === 'atomic' ? '@' : ''
  const retain = property['x-kubernetes-patch-strategy']?.includes('retainKeys') ? '~' : ''
  return atomic + retain + short
}

function listWord(property) {
  const type = property['x-kubernetes-list-type']
  const keys = property['x-kubernetes-list-map-keys']?.join(',')
  const patch = property['x-kubernetes-patch-strategy'] ?? ''
  const merge = patch.includes('merge') ? (property['x-kubernetes-patch-merge-key'] ?? 'value') : ''
  const retain = patch.includes('retainKeys') ? '~' : ''
  return [type === 'map' ? keys : type === 'set' ? 'set' : '', merge && `|${merge}${retain}`].join('')
}

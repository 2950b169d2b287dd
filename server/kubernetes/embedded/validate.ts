import { isDeepStrictEqual } from 'node:util'
import { stepOf } from './fields.ts'
import type { Kind } from './kinds.ts'
import { type Container, isTree, type Obj, type PodSpec, type Tree } from './objects.ts'
import { below, type Shape, shapeOf } from './schema.ts'
import { selects } from './selectors.ts'
import { type Cause, invalid } from './status.ts'

/** Refuses what the API server refuses, as far as people run into it. Words of its own only where they must not quote a value. */
export function validate(kind: Kind, object: Obj, before?: Obj): void {
  const problems: Problem[] = []
  checkMeta(kind, object, problems)
  checkShape(object, shapeOf(kind.kind), '', problems)
  rules[kind.kind]?.(object, problems, before)
  if (problems.length) throw invalid(kind, object.metadata.name, problems)
}

type Problem = Cause & { field: string }
type Rule = (object: Obj, problems: Problem[], before?: Obj) => void

const problem =
  (reason: string, word: string) =>
  (field: string, detail = ''): Problem => ({ reason, field, message: detail ? `${word}: ${detail}` : word })

const wrong = problem('FieldValueInvalid', 'Invalid value')
const required = problem('FieldValueRequired', 'Required value')
const forbidden = problem('FieldValueForbidden', 'Forbidden')
const duplicate = problem('FieldValueDuplicate', 'Duplicate value')
const tooLong = problem('FieldValueTooLong', 'Too long')
const unsupported = problem('FieldValueNotSupported', 'Unsupported value')
const unknownName = problem('FieldValueNotFound', 'Not found')

const quoted = (value: unknown) => JSON.stringify(value)

const subdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/
const label = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/
const subdomainWords =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an " +
  `alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`
const labelWords =
  "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric " +
  "character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
const serviceWords =
  "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an " +
  "alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"

function checkMeta(kind: Kind, { metadata }: Obj, problems: Problem[]): void {
  const { name, labels = {}, annotations = {} } = metadata
  checkName(kind, name, problems)
  for (const [key, value] of Object.entries(labels)) checkLabel('metadata.labels', key, value, problems)
  let size = 0
  for (const [key, value] of Object.entries(annotations)) {
    if (!qualifiedName.test(key.toLowerCase()))
      problems.push(wrong('metadata.annotations', `${quoted(key)}: name part must be a qualified name`))
    size += key.length + Buffer.byteLength(value)
  }
  if (size > 262_144) problems.push(tooLong('metadata.annotations', 'may not be more than 262144 bytes'))
  for (const [at, reference] of (metadata.ownerReferences ?? []).entries())
    for (const field of ['apiVersion', 'kind', 'name', 'uid'] as const)
      if (!reference[field]) problems.push(required(`metadata.ownerReferences[${at}].${field}`, 'must not be empty'))
}

function checkName(kind: Kind, name: string, problems: Problem[]): void {
  const bad = (why: string) => problems.push(wrong('metadata.name', `${quoted(name)}: ${why}`))
  const isLabel = kind.kind === 'Namespace' || kind.kind === 'Service'
  const max = isLabel ? 63 : 253
  if (name.length > max) bad(`must be no more than ${max} characters`)
  else if (kind.group === 'rbac.authorization.k8s.io') {
    if (/^\.{1,2}$|[/%]/.test(name)) bad("may not be '.' or '..' or contain '/' or '%'")
  } else if (kind.kind === 'Namespace') {
    if (name.includes('.')) bad('must not contain dots')
    else if (!label.test(name)) bad(labelWords)
  } else if (kind.kind === 'Service') {
    if (!/^[a-z]([-a-z0-9]*[a-z0-9])?$/.test(name)) bad(serviceWords)
  } else if (!subdomain.test(name)) bad(subdomainWords)
}

const qualifiedName = /^([a-z0-9]([-a-z0-9.]*[a-z0-9])?\/)?[a-z0-9]([-\w.]{0,61}[a-z0-9])?$/

function checkLabel(field: string, key: string, value: string, problems: Problem[]): void {
  if (!qualifiedName.test(key.toLowerCase()))
    problems.push(wrong(field, `${quoted(key)}: name part must be a qualified name`))
  if (value.length > 63) problems.push(wrong(field, `${quoted(value)}: must be no more than 63 characters`))
  else if (!/^([A-Za-z0-9]([-\w.]*[A-Za-z0-9])?)?$/.test(value))
    problems.push(
      wrong(
        field,
        `${quoted(value)}: a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start ` +
          `and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is ` +
          `'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')`,
      ),
    )
}

/** Fields that must be there, and items of lists that must differ. */
function checkShape(value: unknown, shape: Shape, path: string, problems: Problem[]): void {
  if (shape.is === 'struct' && isTree(value)) {
    for (const name of shape.required)
      if (value[name] === undefined && !hasOwnRule.has(name)) problems.push(required(join(path, name)))
    for (const [key, item] of Object.entries(value)) {
      const inner = below(shape, key)
      if (inner.is === 'struct' || inner.is === 'list') checkShape(item, inner, join(path, key), problems)
    }
  } else if (shape.is === 'list' && Array.isArray(value) && shape.of.is === 'struct') {
    const seen = new Set<string>()
    for (const [at, item] of value.entries()) {
      checkShape(item, shape.of, `${path}[${at}]`, problems)
      if (!shape.keys.length || mayRepeat.test(path)) continue
      const step = stepOf(item, shape)
      if (seen.has(step))
        problems.push(duplicate(`${path}[${at}].${shape.keys[0]}`, quoted((item as Tree)[shape.keys[0]!])))
      seen.add(step)
    }
  }
}

const join = (path: string, name: string) => (path ? `${path}.${name}` : name)
const hasOwnRule = new Set(['containers', 'selector', 'template', 'serviceName', 'metadata'])
/** The real one takes the same variable twice, and the later one counts. */
const mayRepeat = /\.(env|conditions|imagePullSecrets|ports|ownerReferences)$/

const rules: Record<string, Rule> = {
  Secret: checkSecret,
  ConfigMap(object, problems, before) {
    checkKeys(object, ['data', 'binaryData'], problems)
    checkImmutable(object, before, ['data', 'binaryData'], problems)
  },
  Pod(object, problems, before) {
    checkPodSpec(object.spec as PodSpec | undefined, 'spec', problems)
    if (before) checkPodUpdate(object, before, problems)
  },
  Deployment(object, problems, before) {
    checkWorkload(object, problems, before)
    const { strategy, minReadySeconds = 0, progressDeadlineSeconds = 0 } = object.spec as Tree & Record<string, number>
    const { type, rollingUpdate } = (strategy ?? {}) as Tree
    if (type === 'Recreate' && rollingUpdate)
      problems.push(forbidden('spec.strategy.rollingUpdate', "may not be specified when strategy `type` is 'Recreate'"))
    else if (type === 'RollingUpdate') checkRollingUpdate(rollingUpdate as Tree, problems)
    else if (type !== 'Recreate')
      problems.push(unsupported('spec.strategy.type', `${quoted(type)}: supported values: "Recreate", "RollingUpdate"`))
    if (progressDeadlineSeconds <= minReadySeconds)
      problems.push(
        wrong('spec.progressDeadlineSeconds', `${progressDeadlineSeconds}: must be greater than minReadySeconds`),
      )
  },
  ReplicaSet: checkWorkload,
  StatefulSet: checkWorkload,
  Service: checkService,
}

const secretBytesMax = 1_048_576

function checkSecret(secret: Obj, problems: Problem[], before?: Obj): void {
  checkKeys(secret, ['data'], problems)
  checkImmutable(secret, before, ['data'], problems)
  if (before && before.type !== secret.type) problems.push(wrong('type', `${quoted(secret.type)}: field is immutable`))
  const data = (secret.data ?? {}) as Record<string, string>
  for (const [type, keys] of Object.entries(neededKeys))
    if (secret.type === type) for (const key of keys) if (!(key in data)) problems.push(required(`data[${key}]`))
  const docker = data['.dockerconfigjson']
  if (secret.type === 'kubernetes.io/dockerconfigjson' && docker !== undefined && !isJson(docker))
    problems.push(wrong('data[.dockerconfigjson]', '"<secret contents redacted>": is no JSON'))
}

const neededKeys: Record<string, string[]> = {
  'kubernetes.io/dockerconfigjson': ['.dockerconfigjson'],
  'kubernetes.io/tls': ['tls.crt', 'tls.key'],
}

function isJson(base64: string): boolean {
  try {
    return isTree(JSON.parse(Buffer.from(base64, 'base64').toString()))
  } catch {
    return false
  }
}

function checkKeys(object: Obj, fields: string[], problems: Problem[]): void {
  let size = 0
  for (const field of fields)
    for (const [key, value] of Object.entries((object[field] ?? {}) as Record<string, string>)) {
      if (!/^[-._a-zA-Z0-9]+$/.test(key) || /^\.{1,2}$/.test(key))
        problems.push(
          wrong(
            `${field}[${key}]`,
            `${quoted(key)}: a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  ` +
              `or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')`,
          ),
        )
      else if (key.length > 253)
        problems.push(wrong(`${field}[${key}]`, `${quoted(key)}: must be no more than 253 characters`))
      size +=
        object.kind === 'ConfigMap' && field === 'data' ? Buffer.byteLength(value) : Buffer.byteLength(value, 'base64')
    }
  if (size > secretBytesMax)
    problems.push(tooLong(fields.length > 1 ? '' : 'data', `may not be more than ${secretBytesMax} bytes`))
}

function checkImmutable(object: Obj, before: Obj | undefined, fields: string[], problems: Problem[]): void {
  if (!before?.immutable) return
  if (!object.immutable) problems.push(forbidden('immutable', 'field is immutable when `immutable` is set'))
  for (const field of fields)
    if (!isDeepStrictEqual(object[field] ?? {}, before[field] ?? {}))
      problems.push(forbidden(field, 'field is immutable when `immutable` is set'))
}

function checkWorkload({ spec = {} }: Obj, problems: Problem[], before?: Obj): void {
  const { selector, template, replicas } = spec
  if (typeof replicas === 'number' && replicas < 0)
    problems.push(wrong('spec.replicas', `${replicas}: must be greater than or equal to 0`))
  const labels = isTree(template) && isTree(template.metadata) ? template.metadata.labels : undefined
  if (!isTree(selector)) problems.push(required('spec.selector'))
  else if (!Object.keys(selector).length)
    problems.push(wrong('spec.selector', '{}: empty selector is invalid for deployment'))
  if (!isTree(selector) || !selects(selector, labels as Record<string, string>))
    problems.push(
      wrong(
        'spec.template.metadata.labels',
        `${quoted(labels ?? {})}: \`selector\` does not match template \`labels\``,
      ),
    )
  if (before && isTree(selector) && !isDeepStrictEqual(selector, before.spec?.selector))
    problems.push(wrong('spec.selector', `${quoted(selector)}: field is immutable`))
  const podSpec = isTree(template) ? (template.spec as PodSpec | undefined) : undefined
  checkPodSpec(podSpec, 'spec.template.spec', problems)
  if (podSpec?.restartPolicy && podSpec.restartPolicy !== 'Always')
    problems.push(
      unsupported('spec.template.spec.restartPolicy', `${quoted(podSpec.restartPolicy)}: supported values: "Always"`),
    )
}

const zero = (value: unknown) => value === 0 || value === '0%' || value === '0'

function checkRollingUpdate(rollingUpdate: Tree | undefined, problems: Problem[]): void {
  const at = 'spec.strategy.rollingUpdate'
  for (const field of ['maxSurge', 'maxUnavailable'] as const) {
    const value = rollingUpdate?.[field]
    if (typeof value === 'string' && !/^\d+%$/.test(value))
      problems.push(
        wrong(
          `${at}.${field}`,
          `${quoted(value)}: a valid percent string must be a numeric string followed by an ending '%'`,
        ),
      )
    if (typeof value === 'number' && value < 0)
      problems.push(wrong(`${at}.${field}`, `${value}: must be greater than or equal to 0`))
  }
  if (zero(rollingUpdate?.maxUnavailable) && zero(rollingUpdate?.maxSurge))
    problems.push(wrong(`${at}.maxUnavailable`, '0: may not be 0 when `maxSurge` is 0'))
}

function checkPodSpec(spec: PodSpec | undefined, at: string, problems: Problem[]): void {
  if (!spec?.containers?.length) {
    problems.push(required(`${at}.containers`))
    return
  }
  const volumes = new Set((spec.volumes ?? []).map(({ name }) => name))
  for (const list of ['initContainers', 'containers'] as const)
    for (const [index, container] of (spec[list] ?? []).entries())
      checkContainer(container, `${at}.${list}[${index}]`, volumes, problems)
}

function checkContainer(container: Container, at: string, volumes: Set<string>, problems: Problem[]): void {
  const { name, image, env = [] } = container
  if (name !== undefined && !label.test(name)) problems.push(wrong(`${at}.name`, `${quoted(name)}: ${labelWords}`))
  if (!image) problems.push(required(`${at}.image`))
  for (const [index, variable] of env.entries()) {
    const field = `${at}.env[${index}]`
    if (!/^[ -<>-~]+$/.test(variable.name ?? '-'))
      problems.push(
        wrong(
          `${field}.name`,
          `${quoted(variable.name)}: a valid environment variable name must consist only of printable ASCII characters other than '='`,
        ),
      )
    if (variable.value && variable.valueFrom)
      problems.push(wrong(`${field}.valueFrom`, '"": may not be specified when `value` is not empty'))
    const sources = variable.valueFrom && Object.keys(variable.valueFrom).length
    if (sources === 0)
      problems.push(
        wrong(
          `${field}.valueFrom`,
          '"": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`',
        ),
      )
    if (sources && sources > 1)
      problems.push(wrong(`${field}.valueFrom`, '"": may not have more than one field specified at a time'))
  }
  const mounts = ((container as Container & Tree).volumeMounts ?? []) as { name: string }[]
  for (const [index, mount] of mounts.entries())
    if (mount.name && !volumes.has(mount.name))
      problems.push(unknownName(`${at}.volumeMounts[${index}].name`, quoted(mount.name)))
  const { ports } = container as Container & Tree
  for (const [index, { containerPort }] of ((ports ?? []) as { containerPort: number }[]).entries())
    if (containerPort < 1 || containerPort > 65_535)
      problems.push(
        wrong(`${at}.ports[${index}].containerPort`, `${containerPort}: must be between 1 and 65535, inclusive`),
      )
}

const withoutImage = (list?: Container[]) => list?.map(({ image: _i, ...container }) => container)

/** What of a running pod may not change: almost everything. */
function frozen({ spec }: Obj) {
  const {
    activeDeadlineSeconds: _a,
    tolerations: _t,
    terminationGracePeriodSeconds: _g,
    ...rest
  } = spec as PodSpec & Tree
  return { ...rest, containers: withoutImage(rest.containers), initContainers: withoutImage(rest.initContainers) }
}

function checkPodUpdate(pod: Obj, before: Obj, problems: Problem[]): void {
  if (!isDeepStrictEqual(frozen(pod), frozen(before)))
    problems.push(
      forbidden(
        'spec',
        'pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,' +
          '`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),' +
          '`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)',
      ),
    )
}

const serviceTypes = ['ClusterIP', 'ExternalName', 'LoadBalancer', 'NodePort']

function checkService({ spec = {} }: Obj, problems: Problem[], before?: Obj): void {
  const ports = (spec.ports ?? []) as { name?: string; port: number; protocol?: string }[]
  if (!ports.length && spec.clusterIP !== 'None' && spec.type !== 'ExternalName') problems.push(required('spec.ports'))
  if (!serviceTypes.includes(String(spec.type)))
    problems.push(
      unsupported('spec.type', `${quoted(spec.type)}: supported values: ${serviceTypes.map(quoted).join(', ')}`),
    )
  const names = new Set<string>()
  for (const [at, { name, port }] of ports.entries()) {
    if (!name && ports.length > 1) problems.push(required(`spec.ports[${at}].name`))
    if (name && names.has(name)) problems.push(duplicate(`spec.ports[${at}].name`, quoted(name)))
    if (name) names.add(name)
    if (port !== undefined && (port < 1 || port > 65_535))
      problems.push(wrong(`spec.ports[${at}].port`, `${port}: must be between 1 and 65535, inclusive`))
  }
  if (before?.spec?.clusterIP && spec.type !== 'ExternalName' && before.spec.clusterIP !== spec.clusterIP)
    problems.push(wrong('spec.clusterIPs[0]', `${quoted(spec.clusterIP)}: may not change once set`))
}

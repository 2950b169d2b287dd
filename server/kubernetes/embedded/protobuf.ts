import type { Tree } from './objects.ts'
import { ApiError } from './status.ts'

/**
 * Kubernetes' binary form, as far as `kubectl create namespace|secret|configmap|serviceaccount|deployment NAME` sends it: these commands do so
 * whatever a server says it reads. What the table does not have is refused by name, not dropped.
 */
export function fromProtobuf(bytes: Buffer): unknown {
  // A mark, then an envelope: 1 the type (1 version, 2 kind), 2 the object.
  if (!bytes.subarray(0, 4).equals(Buffer.from('k8s\0'))) throw refusal('a body without the mark of this form')
  let apiVersion = ''
  let kind = ''
  let raw = Buffer.alloc(0) as Buffer
  for (const { number, value } of fieldsIn(bytes.subarray(4))) {
    if (number === 2) raw = value as Buffer
    if (number !== 1) continue
    for (const { number: part, value: text } of fieldsIn(value as Buffer))
      if (part === 1) apiVersion = String(text)
      else kind = String(text)
  }
  return { apiVersion, kind, ...read(raw, kind) }
}

/** Of each message its fields by number. `?` in front of a type: there as a value of its own also when it is zero or false. */
const messages: Record<string, string> = {
  ObjectMeta:
    '1 name string, 2 generateName string, 3 namespace string, 4 selfLink string, 5 uid string, 6 resourceVersion string, ' +
    '7 generation number, 8 creationTimestamp ignored, 11 labels {string}, 12 annotations {string}',
  Namespace: '1 metadata ObjectMeta, 2 spec NamespaceSpec, 3 status ignored',
  NamespaceSpec: '1 finalizers [string]',
  Secret: '1 metadata ObjectMeta, 2 data {bytes}, 3 type string, 4 stringData {string}, 5 immutable ?boolean',
  ConfigMap: '1 metadata ObjectMeta, 2 data {string}, 3 binaryData {bytes}, 4 immutable ?boolean',
  ServiceAccount: '1 metadata ObjectMeta, 4 automountServiceAccountToken ?boolean',
  Deployment: '1 metadata ObjectMeta, 2 spec DeploymentSpec, 3 status ignored',
  DeploymentSpec:
    '1 replicas ?number, 2 selector LabelSelector, 3 template PodTemplateSpec, 4 strategy DeploymentStrategy, 5 minReadySeconds number, ' +
    '7 paused boolean',
  DeploymentStrategy: '1 type string',
  LabelSelector: '1 matchLabels {string}',
  PodTemplateSpec: '1 metadata ObjectMeta, 2 spec PodSpec',
  PodSpec:
    '2 containers [Container], 3 restartPolicy string, 6 dnsPolicy string, 8 serviceAccountName string, 9 serviceAccount string, ' +
    '10 nodeName string, 11 hostNetwork boolean, 12 hostPID boolean, 13 hostIPC boolean, 16 hostname string, 17 subdomain string, ' +
    '19 schedulerName string, 24 priorityClassName string',
  Container:
    '1 name string, 2 image string, 3 command [string], 4 args [string], 5 workingDir string, 6 ports [ContainerPort], 8 resources ignored, ' +
    '13 terminationMessagePath string, 14 imagePullPolicy string, 16 stdin boolean, 17 stdinOnce boolean, 18 tty boolean, ' +
    '20 terminationMessagePolicy string',
  ContainerPort: '1 name string, 2 hostPort number, 3 containerPort number, 4 protocol string, 5 hostIP string',
}

const tables = new Map(
  Object.entries(messages).map(([message, text]) => [
    message,
    new Map(
      text.split(', ').map((field) => {
        const [number, name = '', type = ''] = field.split(' ')
        return [Number(number), { name, type }] as const
      }),
    ),
  ]),
)

function read(bytes: Buffer, message: string): Tree {
  const table = tables.get(message)
  if (!table) throw refusal(`a ${message}`)
  const tree: Tree = {}
  for (const { number, value } of fieldsIn(bytes)) {
    const field = table.get(number)
    if (!field) throw refusal(`field ${number} of a ${message}`)
    const { name, type } = field
    const inner = type.slice(1, -1)
    if (type.startsWith('[')) tree[name] = [...((tree[name] as unknown[]) ?? []), readValue(value, inner)]
    else if (type.startsWith('{')) tree[name] = { ...(tree[name] as Tree), ...entryOf(value as Buffer, inner) }
    else if (type !== 'ignored' && (typeof value === 'bigint' || value.length > 0 || type in messages)) {
      const read = readValue(value, type.replace('?', ''))
      if (type.startsWith('?') || (read !== 0 && read !== false)) tree[name] = read
    }
  }
  return tree
}

/** An entry of a map is a message: 1 the key, 2 the value. */
function entryOf(bytes: Buffer, type: string): Tree {
  const parts = new Map([...fieldsIn(bytes)].map(({ number, value }) => [number, value]))
  return { [String(parts.get(1) ?? '')]: readValue(parts.get(2) ?? Buffer.alloc(0), type) }
}

function readValue(value: Value, type: string): unknown {
  if (type === 'number') return Number(value)
  if (type === 'boolean') return Number(value) === 1
  if (typeof value === 'bigint') throw refusal(`a number in the place of a ${type}`)
  if (type === 'bytes') return value.toString('base64')
  return type === 'string' ? value.toString() : read(value, type)
}

type Value = Buffer | bigint

/** Of each field its number and its value: a number, or the bytes of a text or of a message. */
function* fieldsIn(bytes: Buffer): Generator<{ number: number; value: Value }> {
  let at = 0
  const varint = () => {
    let value = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = bytes[at++]
      if (byte === undefined) break
      value |= BigInt(byte & 127) << shift
      if (byte < 128) return BigInt.asIntN(64, value)
    }
    throw refusal('a body that was cut off')
  }
  while (at < bytes.length) {
    const tag = Number(varint())
    if ((tag & 7) === 0) yield { number: tag >> 3, value: varint() }
    else if ((tag & 7) === 2) {
      const end = Number(varint()) + at
      if (end < at || end > bytes.length) throw refusal('a body that was cut off')
      yield { number: tag >> 3, value: bytes.subarray(at, end) }
      at = end
    } else throw refusal('a number of fixed length')
  }
}

const refusal = (what: string) =>
  new ApiError(
    415,
    'UnsupportedMediaType',
    `the binary form of this request has ${what}, which this cluster does not read; send JSON, as kubectl apply -f does`,
  )

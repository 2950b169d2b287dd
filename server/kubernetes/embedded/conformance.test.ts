import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Cluster, startCluster, startTimeoutMs } from '../../../e2e/cluster/cluster.ts'
import { needs } from '../../testing/needs.ts'
import type { Fields, Managed, Obj } from './objects.ts'
import {
  type Answer,
  type Api,
  apiFrom,
  apply,
  type Call,
  deployment,
  deploymentsIn,
  jsonPatch,
  merge,
  secret,
  secretsIn,
  startTestCluster,
  strategic,
} from './testing.ts'

/** The same requests, in the same order, to a genuine API server and to ours. */
type Step = [what: string, path: string, call?: Call]

/** Refusals that are the same but for words that only Go, or that very program, would use. */
const otherWords = new Set([
  'with text that is no base64',
  'with a number as a value',
  'another kind',
  'another version',
  'no object',
  'no JSON',
  'whose test fails',
  'whose path is not there',
  'an unknown patch',
  'a selector that cannot be read',
])

const secretAt = (name: string) => `${secretsIn}/${name}`
const deploymentAt = (name: string) => `${deploymentsIn}/${name}`
const post = (body: unknown): Call => ({ method: 'POST', body })
const put = (body: unknown): Call => ({ method: 'PUT', body })
const patch = (type: string, body: unknown): Call => ({ method: 'PATCH', type, body })
const applied = (body: unknown) => patch(apply, body)
const as = (manager: string, force = false) => `?fieldManager=${manager}${force ? '&force=true' : ''}`
const web = deployment('web', { env: [{ name: 'A', value: '1' }], ports: [{ containerPort: 80 }] })
const { metadata: _, ...nameless } = secret('x', {})
const withEnv = (...env: object[]) => deployment('env', { env })

const secrets: Step[] = [
  ['create', secretsIn, post(secret('one', { A: 'a' }))],
  ['create it again', secretsIn, post(secret('one', { A: 'a' }))],
  ['create it again, with a mistake', secretsIn, post({ ...secret('one', { 'a b': 'x' }) })],
  ['read', secretAt('one')],
  ['read what is not there', secretAt('none')],
  ['in a namespace that is not there', '/api/v1/namespaces/none/secrets', post(secret('one', {}))],
  ['without a name', secretsIn, post({ ...nameless, metadata: {} })],
  ['with a bad name', secretsIn, post(secret('Bad_Name', {}))],
  ['with a bad key', secretsIn, post(secret('bad', { 'a b': 'x' }))],
  ['with text that is no base64', secretsIn, post({ ...secret('bad', {}), data: { A: '%%%' } })],
  ['with a number as a value', secretsIn, post({ ...secret('bad', {}), data: { A: 1 } })],
  ['with too much data', secretsIn, post(secret('bad', { A: 'x'.repeat(1_048_577) }))],
  ['another kind', secretsIn, post({ ...secret('bad', {}), kind: 'ConfigMap' })],
  ['another version', secretsIn, post({ ...secret('bad', {}), apiVersion: 'v2' })],
  ['another namespace', secretsIn, post({ ...secret('bad', {}), metadata: { name: 'bad', namespace: 'kube-system' } })],
  ['no object', secretsIn, post([])],
  ['no JSON', secretsIn, { method: 'POST', body: '{"a":' }],
  ['a bad label', secretsIn, post({ ...secret('bad', {}), metadata: { name: 'bad', labels: { a: 'b c' } } })],
  ['an unknown field, strictly', `${secretsIn}?fieldValidation=Strict`, post({ ...secret('bad', {}), dta: {} })],
  ['plain text', secretsIn, post({ ...nameless, metadata: { name: 'text' }, stringData: { A: 'a' } })],
  ['a dry run', `${secretsIn}?dryRun=All`, post(secret('dry', { A: 'a' }))],
  ['leaves nothing', secretAt('dry')],
  ['a bad dry run', `${secretsIn}?dryRun=Some`, post(secret('dry', { A: 'a' }))],
  ['a merge', secretAt('one'), patch(merge, { data: { B: 'Yg==', A: null } })],
  ['a strategic merge', secretAt('one'), patch(strategic, { metadata: { labels: { a: 'b' } } })],
  ['a JSON patch', secretAt('one'), patch(jsonPatch, [{ op: 'add', path: '/data/C', value: 'Yw==' }])],
  ['whose test fails', secretAt('one'), patch(jsonPatch, [{ op: 'test', path: '/data/C', value: 'eA==' }])],
  ['whose path is not there', secretAt('one'), patch(jsonPatch, [{ op: 'remove', path: '/data/Z' }])],
  ['an unknown patch', secretAt('one'), patch('application/x-patch+json', {})],
  ['a patch of what is not there', secretAt('none'), patch(merge, {})],
  ['replace', secretAt('one'), put(secret('one', { D: 'd' }))],
  [
    'replace an old version',
    secretAt('one'),
    put(secret('one', {}, { metadata: { name: 'one', resourceVersion: '1' } })),
  ],
  ['under another name', secretAt('one'), put(secret('two', {}))],
  ['another type', secretAt('one'), put({ ...secret('one', { D: 'd' }), type: 'other' })],
  ['make immutable', secretAt('one'), patch(merge, { immutable: true })],
  ['data of an immutable one', secretAt('one'), patch(merge, { data: { D: 'eA==' } })],
  ['make mutable again', secretAt('one'), patch(merge, { immutable: false })],
  ['a label of an immutable one', secretAt('one'), patch(merge, { metadata: { labels: { c: 'd' } } })],
  ['a TLS secret without its keys', secretsIn, post({ ...secret('tls', {}), type: 'kubernetes.io/tls' })],
  [
    'delete with a wrong uid',
    secretAt('one'),
    { method: 'DELETE', body: { apiVersion: 'v1', kind: 'DeleteOptions', preconditions: { uid: 'x' } } },
  ],
  ['delete, dry', `${secretAt('one')}?dryRun=All`, { method: 'DELETE' }],
  ['delete', secretAt('one'), { method: 'DELETE' }],
  ['delete again', secretAt('one'), { method: 'DELETE' }],
  ['a selector that cannot be read', `${secretsIn}?labelSelector=a%20b`],
  ['a field that cannot be selected', `${secretsIn}?fieldSelector=data.A%3D1`],
  ['no such kind', '/api/v1/namespaces/default/things'],
  ['no such verb', secretsIn, { method: 'PUT', body: {} }],
]

const applies: Step[] = [
  ['create by applying', `${secretAt('ssa')}${as('one')}`, applied(secret('ssa', { A: 'a', B: 'b' }))],
  ['apply the same', `${secretAt('ssa')}${as('one')}`, applied(secret('ssa', { A: 'a', B: 'b' }))],
  ['without a manager', secretAt('ssa'), applied(secret('ssa', {}))],
  ['leave a key out', `${secretAt('ssa')}${as('one')}`, applied(secret('ssa', { A: 'a' }))],
  ['the same value by another', `${secretAt('ssa')}${as('two')}`, applied(secret('ssa', { A: 'a' }))],
  ['left out by one, kept by the other', `${secretAt('ssa')}${as('one')}`, applied(secret('ssa', { C: 'c' }))],
  ['another value conflicts', `${secretAt('ssa')}${as('two')}`, applied(secret('ssa', { C: 'x' }))],
  ['two conflicts', `${secretAt('ssa')}${as('three')}`, applied(secret('ssa', { C: 'x', A: 'x' }))],
  ['by force', `${secretAt('ssa')}${as('two', true)}`, applied(secret('ssa', { C: 'x' }))],
  [
    'with managedFields',
    `${secretAt('ssa')}${as('one')}`,
    applied({ ...secret('ssa', {}), metadata: { name: 'ssa', managedFields: [] } }),
  ],
  ['under another name', `${secretAt('ssa')}${as('one')}`, applied(secret('other', {}))],
  ['with an unknown field', `${secretAt('ssa')}${as('one')}`, applied({ ...secret('ssa', {}), dta: {} })],
  [
    'of an old version',
    `${secretAt('ssa')}${as('one')}`,
    applied(secret('ssa', {}, { metadata: { name: 'ssa', resourceVersion: '1' } })),
  ],
  [
    'a version of what is not there',
    `${secretAt('new')}${as('one')}`,
    applied(secret('new', {}, { metadata: { name: 'new', resourceVersion: '1' } })),
  ],
  ['a dry apply', `${secretAt('dry')}${as('one')}&dryRun=All`, applied(secret('dry', { A: 'a' }))],
  ['leaves nothing', secretAt('dry')],
  [
    'a workload',
    `${deploymentAt('env')}${as('one')}`,
    applied(withEnv({ name: 'A', value: '1' }, { name: 'B', value: '2' })),
  ],
  ['a variable is left out', `${deploymentAt('env')}${as('one')}`, applied(withEnv({ name: 'B', value: '2' }))],
  [
    'a variable of another manager',
    `${deploymentAt('env')}${as('two')}`,
    applied({
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: 'env' },
      spec: { template: { spec: { containers: [{ name: 'app', env: [{ name: 'C', value: '3' }] }] } } },
    }),
  ],
  ['stays', `${deploymentAt('env')}${as('one')}`, applied(withEnv({ name: 'A', value: '1' }))],
  [
    'the same variable twice',
    `${deploymentAt('env')}${as('one')}`,
    applied(withEnv({ name: 'A', value: '1' }, { name: 'A', value: '2' })),
  ],
  ['an update takes a field', deploymentAt('env'), patch(merge, { spec: { replicas: 3 } })],
  ['and an apply conflicts', `${deploymentAt('env')}${as('one')}`, applied(withEnv({ name: 'A', value: '1' }))],
  ['a bad value', `${deploymentAt('env')}${as('one', true)}`, applied(deployment('env', { image: '' }))],
  ['a wrong type', `${deploymentAt('env')}${as('one', true)}`, applied(deployment('env', {}, { replicas: 'two' }))],
]

const workloads: Step[] = [
  ['create', deploymentsIn, post(web)],
  ['no selector', deploymentsIn, post(deployment('bad', {}, { selector: undefined }))],
  [
    'labels that do not match',
    deploymentsIn,
    post(deployment('bad', {}, { selector: { matchLabels: { app: 'other' } } })),
  ],
  [
    'no containers',
    deploymentsIn,
    post({
      ...web,
      metadata: { name: 'bad' },
      spec: { ...web.spec, template: { metadata: { labels: { app: 'web' } }, spec: { containers: [] } } },
    }),
  ],
  ['no image', deploymentsIn, post(deployment('bad', { image: undefined }))],
  ['a bad container name', deploymentsIn, post(deployment('bad', { name: 'A_b' }))],
  ['a bad variable', deploymentsIn, post(deployment('bad', { env: [{ name: 'a=b', value: '' }] }))],
  [
    'a value from two places',
    deploymentsIn,
    post(deployment('bad', { env: [{ name: 'A', value: 'x', valueFrom: { secretKeyRef: { name: 'a', key: 'b' } } }] })),
  ],
  ['a value from nowhere', deploymentsIn, post(deployment('bad', { env: [{ name: 'A', valueFrom: {} }] }))],
  [
    'a mount without a volume',
    deploymentsIn,
    post(deployment('bad', { volumeMounts: [{ name: 'x', mountPath: '/x' }] })),
  ],
  ['no replicas', deploymentsIn, post(deployment('bad', {}, { replicas: -1 }))],
  [
    'a deadline that is too short',
    deploymentsIn,
    post(deployment('bad', {}, { minReadySeconds: 5, progressDeadlineSeconds: 5 })),
  ],
  [
    'nothing may be missing or too many',
    deploymentsIn,
    post(deployment('bad', {}, { strategy: { rollingUpdate: { maxSurge: 0, maxUnavailable: 0 } } })),
  ],
  [
    'another restart policy',
    deploymentsIn,
    post(
      deployment(
        'bad',
        {},
        {
          template: {
            ...web.spec.template,
            metadata: { labels: { app: 'bad' } },
            spec: { ...web.spec.template.spec, restartPolicy: 'Never' },
          },
        },
      ),
    ),
  ],
  ['a bad quantity', deploymentsIn, post(deployment('bad', { resources: { limits: { cpu: 'much' } } }))],
  ['a bad port', deploymentsIn, post(deployment('bad', { ports: [{ containerPort: 70000 }] }))],
  ['a typing error, strictly', `${deploymentsIn}?fieldValidation=Strict`, post(deployment('bad', {}, { replica: 1 }))],
  [
    'another selector',
    deploymentAt('web'),
    patch(merge, {
      spec: { selector: { matchLabels: { app: 'x' } }, template: { metadata: { labels: { app: 'x' } } } },
    }),
  ],
  [
    'another image',
    deploymentAt('web'),
    patch(strategic, { spec: { template: { spec: { containers: [{ name: 'app', image: 'nginx:1.28' }] } } } }),
  ],
  [
    'one variable more',
    deploymentAt('web'),
    patch(strategic, {
      spec: { template: { spec: { containers: [{ name: 'app', env: [{ name: 'B', value: '2' }] }] } } },
    }),
  ],
  [
    'one variable less',
    deploymentAt('web'),
    patch(strategic, {
      spec: { template: { spec: { containers: [{ name: 'app', env: [{ name: 'A', $patch: 'delete' }] }] } } },
    }),
  ],
  [
    'the other strategy',
    deploymentAt('web'),
    patch(strategic, { spec: { strategy: { $retainKeys: ['type'], type: 'Recreate' } } }),
  ],
  ['scale', `${deploymentAt('web')}/scale`, patch(merge, { spec: { replicas: 2 } })],
  ['read the scale', `${deploymentAt('web')}/scale`],
  ['a status is not written here', deploymentAt('web'), patch(merge, { status: { replicas: 7 } })],
  ['no such part', `${deploymentAt('web')}/thing`],
  [
    'a service',
    '/api/v1/namespaces/default/services',
    post({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'web' },
      spec: { selector: { app: 'web' }, ports: [{ port: 80 }] },
    }),
  ],
  [
    'a service without ports',
    '/api/v1/namespaces/default/services',
    post({ apiVersion: 'v1', kind: 'Service', metadata: { name: 'bad' }, spec: {} }),
  ],
  [
    'a service with a bad name',
    '/api/v1/namespaces/default/services',
    post({ apiVersion: 'v1', kind: 'Service', metadata: { name: '1bad' }, spec: { ports: [{ port: 80 }] } }),
  ],
  [
    'a service of an unknown type',
    '/api/v1/namespaces/default/services',
    post({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'bad' },
      spec: { type: 'Nonsense', ports: [{ port: 80 }] },
    }),
  ],
  ['a namespace', '/api/v1/namespaces', post({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'team' } })],
  [
    'a namespace with a bad name',
    '/api/v1/namespaces',
    post({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'a.b' } }),
  ],
  ['that must stay', '/api/v1/namespaces/default', { method: 'DELETE' }],
  [
    'a policy',
    '/apis/networking.k8s.io/v1/namespaces/default/networkpolicies',
    post({
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { name: 'own' },
      spec: { podSelector: { matchLabels: { app: 'web' } }, policyTypes: ['Ingress'] },
    }),
  ],
]

describe('the same requests to a genuine API server and to ours', needs('cluster'), () => {
  let genuine: Cluster
  let api: Api
  beforeAll(async () => {
    genuine = await startCluster({ node: false })
    api = apiFrom(genuine.kubeconfig)
  }, startTimeoutMs)
  afterAll(async () => {
    api?.close()
    await genuine?.stop()
  })

  test.each([
    ['of Secrets', secrets],
    ['that apply', applies],
    ['of workloads', workloads],
  ])('%s have the same answers', async (_name, steps) => {
    const ours = await startTestCluster()
    const differences: string[] = []
    for (const [what, path, call] of steps) {
      const [wanted, found] = [leavesOf(await api.call(path, call)), leavesOf(await ours.call(path, call))]
      for (const leaf of new Set([...wanted.keys(), ...found.keys()]))
        if (wanted.get(leaf) !== found.get(leaf) && !(leaf === '.message' && otherWords.has(what)))
          differences.push(`${what}: ${leaf} is ${wanted.get(leaf)}, ours ${found.get(leaf)}`)
    }
    expect(differences).toEqual([])
  })
})

/** Everything that is neither a list nor an object, by its path. */
function leavesOf(answer: Answer): Map<string, string | undefined> {
  const leaves = new Map<string, string | undefined>()
  const walk = (value: unknown, path: string) => {
    const inner = typeof value === 'object' && value !== null ? Object.entries(value) : []
    if (!inner.length && value !== undefined) leaves.set(path, JSON.stringify(value))
    for (const [key, item] of inner) walk(item, `${path}.${key}`)
  }
  walk(comparable(answer), '')
  return leaves
}

/** What of an answer has to be the same: not ids, versions, times and addresses, and not what controllers do meanwhile. */
function comparable({ status, body }: Answer): unknown {
  return {
    status,
    ...(body?.kind === 'Status' ? comparableStatus(body as Refusal) : { object: comparableObject(body as Obj) }),
  }
}

type Refusal = {
  reason?: string
  message?: string
  details?: { causes?: { field?: string; reason?: string }[]; uid?: string }
}

function comparableStatus({ reason, message = '', details = {} }: Refusal) {
  const { causes, uid: _, ...rest } = details
  return {
    reason,
    message: message.replace(/in record \([\w-]+\)/, 'in record'),
    details: rest,
    // The genuine one has them in no order.
    causes: causes?.map(({ field, reason }) => `${field} ${reason}`).sort(),
  }
}

function comparableObject(object: Obj): unknown {
  if (!object?.metadata) return object
  const { metadata, status: _s, spec, ...rest } = object
  const { uid: _u, resourceVersion: _r, creationTimestamp: _c, generation: _g, managedFields = [], ...meta } = metadata
  const { 'deployment.kubernetes.io/revision': _v, ...annotations } = meta.annotations ?? {}
  const managers = managedFields.filter(({ manager }) => !manager.startsWith('kube-')).map(comparableShare)
  return {
    ...rest,
    metadata: { ...meta, annotations, managers: managers.sort() },
    spec: spec && { ...spec, clusterIP: undefined, clusterIPs: undefined },
  }
}

const comparableShare = ({ manager, operation, subresource, fieldsV1 }: Managed) =>
  `${manager} ${operation} ${subresource ?? ''} ${JSON.stringify(sorted(fieldsV1))}`

/** Structures that are pointers, and lists that are there when empty, are marked otherwise: the description of the API does not tell. */
const unmarked = new Set(['f:rollingUpdate', 'f:containers'])

function sorted(fields: Fields): Fields {
  const entries = Object.entries(fields).sort(([a], [b]) => (a < b ? -1 : 1))
  return Object.fromEntries(
    entries.map(([step, inner]) => {
      const { '.': _, ...withoutMark } = inner
      return [step, sorted(unmarked.has(step) ? withoutMark : inner)]
    }),
  )
}

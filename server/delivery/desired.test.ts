import { describe, expect, test } from 'vitest'
import type { FrozenService } from '../apps/releases.ts'
import {
  type AppAt,
  type BagObject,
  desiredNamespace,
  desiredWorkloads,
  IncompleteRelease,
  objectName,
  secretManifest,
} from './desired.ts'

const app: AppAt = {
  id: '0190a000-0000-7000-8000-000000000001',
  name: 'api',
  organizationId: '0190a000-0000-7000-8000-000000000002',
  vpcId: '0190a000-0000-7000-8000-000000000003',
  namespace: 'acme--default',
}
const bag: BagObject = {
  id: '0190a000-0000-7000-8000-000000000004',
  name: 'db-creds',
  scope: 'org',
  version: 7,
  fingerprint: 'f1f2',
  object: 'org.db-creds.v7',
}
const own: BagObject = {
  ...bag,
  id: '0190a000-0000-7000-8000-000000000005',
  name: 'own',
  scope: 'app',
  object: 'app.api.own.v1',
  version: 1,
}
const bags = new Map([bag, own].map((bag) => [bag.id, bag]))
const plain: FrozenService = {
  name: 'api',
  image: 'acme/api:1.0',
  replicas: 2,
  security: 'baseline',
  env: [],
  files: [],
}
const whole: FrozenService = {
  ...plain,
  port: 3000,
  healthPath: '/healthz',
  command: ['node', 'server.js'],
  args: ['--price', '$(PRICE)'],
  resources: { requests: { cpu: '0.5', memory: '128Mi' } },
  env: [
    { name: 'LITERAL', value: 'a$(URL)$$b$' },
    { name: 'URL', secret: bag.id, key: 'URL' },
  ],
  files: [
    { secret: own.id, key: 'tls.crt' },
    { secret: own.id, key: 'tls.key' },
  ],
}
// oxlint-disable-next-line typescript/no-explicit-any -- tests look into manifests of every shape
const specOf = (service: FrozenService, at = 0): any => desiredWorkloads(app, [service], bags)[at]!['spec']
const hash = (service: FrozenService) => specOf(service).template.metadata.labels['1ctl.dev/template']
const podOf = (service: FrozenService) => specOf(service).template.spec

describe('manifests', () => {
  test('of a whole service are these', () => {
    expect(desiredNamespace(app)).toMatchSnapshot()
    expect(desiredWorkloads(app, [whole], bags)).toMatchSnapshot()
    const values = new Map([['URL', Buffer.from('postgres://')]])
    expect(secretManifest(app, bag, values)).toMatchSnapshot()
  })

  test('name each key by itself, and never take a secret as a whole', () => {
    expect(JSON.stringify(desiredWorkloads(app, [whole], bags))).not.toContain('envFrom')
    expect(podOf(whole).containers[0].env).toContainEqual({
      name: 'URL',
      valueFrom: { secretKeyRef: { name: 'org.db-creds.v7', key: 'URL' } },
    })
  })

  test('leave a value as it was written: what Kubernetes makes of `$(X)` and `$$` is escaped', () => {
    const [literal] = podOf(whole).containers[0].env
    expect(expanded(literal.value)).toBe('a$(URL)$$b$')
    expect(expanded(podOf(whole).containers[0].args[1])).toBe('$(PRICE)')
  })

  test('mount files read-only, one volume for all, without the token of the account', () => {
    const pod = podOf(whole)
    expect(pod.automountServiceAccountToken).toBe(false)
    expect(pod.volumes).toHaveLength(1)
    expect(pod.volumes[0].projected.defaultMode).toBe(0o444)
    expect(pod.containers[0].volumeMounts).toEqual([{ name: 'secrets', mountPath: '/run/secrets', readOnly: true }])
    expect(podOf(plain).volumes).toBeUndefined()
  })

  test('deny more rights always, and root where it is asked for', () => {
    expect(podOf(plain).securityContext).toEqual({ seccompProfile: { type: 'RuntimeDefault' } })
    expect(podOf(plain).containers[0].securityContext).toEqual({ allowPrivilegeEscalation: false })
    const restricted = podOf({ ...plain, security: 'restricted' })
    expect(restricted.securityContext.runAsNonRoot).toBe(true)
    expect(restricted.containers[0].securityContext.capabilities).toEqual({ drop: ['ALL'] })
  })

  test('without a port there is no Service, and no probe', () => {
    const { port: _, ...withoutPort } = whole
    expect(desiredWorkloads(app, [withoutPort], bags).map(({ kind }) => kind)).toEqual(['Deployment'])
    expect(podOf({ ...plain, healthPath: '/' }).containers[0].readinessProbe).toBeUndefined()
  })

  test('a service of another name than its app is called after both', () => {
    const [deployment] = desiredWorkloads(app, [{ ...plain, name: 'worker' }], bags)
    expect(deployment!.metadata.name).toBe('api--worker')
  })

  test.each([
    ['acme/api:1.0', 'IfNotPresent'],
    ['acme/api:latest', 'Always'],
    ['acme/api', 'Always'],
    ['host:5000/api', 'Always'],
    ['host:5000/api:1', 'IfNotPresent'],
    [`acme/api@sha256:${'0'.repeat(64)}`, 'IfNotPresent'],
  ])('%s is pulled %s', (image, policy) => {
    expect(podOf({ ...plain, image }).containers[0].imagePullPolicy).toBe(policy)
  })

  test('of a release whose secret is gone there are none', () => {
    expect(() => desiredWorkloads(app, [whole], new Map())).toThrow(IncompleteRelease)
  })
})

describe('the template of the pods', () => {
  test('stays the same where nothing of a pod changes: its number of replicas, the release, another service', () => {
    expect(hash({ ...whole, replicas: 9 })).toBe(hash(whole))
    const both = desiredWorkloads(app, [whole, { ...plain, name: 'worker' }], bags)
    expect(both[0]).toEqual(desiredWorkloads(app, [whole], bags)[0])
  })

  test('is another with each version of a secret, each variable, and with a restart that was asked for', () => {
    const next = new Map(bags).set(bag.id, { ...bag, version: 8, object: 'org.db-creds.v8' })
    const [deployment] = desiredWorkloads(app, [whole], next)
    const hashes = [
      (deployment!['spec'] as ReturnType<typeof specOf>).template.metadata.labels['1ctl.dev/template'],
      hash(whole),
      hash({ ...whole, env: [] }),
      hash({ ...whole, restart: 1 }),
      hash({ ...whole, restart: 2 }),
    ]
    expect(new Set(hashes).size).toBe(hashes.length)
  })
})

test('an object is called by scope, app, bag and version', () => {
  expect(objectName(bag, 'api')).toBe('org.db-creds.v7')
  expect(objectName({ ...bag, scope: 'vpc' }, 'api')).toBe('vpc.db-creds.v7')
  expect(objectName(own, 'api')).toBe('app.api.own.v1')
})

/** As Kubernetes does it (third_party/forked/golang/expansion), with no variable defined. */
const expanded = (text: string) => text.replaceAll(/\$\$|\$\(([^)]*)\)/g, (found) => (found === '$$' ? '$' : found))

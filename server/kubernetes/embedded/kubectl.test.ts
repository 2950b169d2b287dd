import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { needs } from '../../testing/needs.ts'
import { deployment, newFolder, secret, startTestCluster, type TestCluster } from './testing.ts'

const fileWith = (...objects: object[]) => {
  const path = join(newFolder(), 'objects.json')
  writeFileSync(path, JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }))
  return path
}

const env = (value: string) => ({
  env: [
    { name: 'A', value },
    { name: 'KEY', valueFrom: { secretKeyRef: { name: 'bag', key: 'KEY' } } },
  ],
})

const web = (value = '1', more = {}) => deployment('web', env(value), more)

const started = async (): Promise<TestCluster> => {
  const cluster = await startTestCluster()
  await cluster.kubectl('apply', '-f', fileWith(secret('bag', { KEY: 'quiet' }), web()))
  await cluster.kubectl('rollout', 'status', 'deployment/web', '--timeout=10s')
  return cluster
}

describe('the real kubectl', needs('kubectl'), () => {
  test('get prints the columns that people know', async () => {
    const { kubectl } = await started()
    expect(await kubectl('get', 'deploy')).toMatch(/^NAME +READY +UP-TO-DATE +AVAILABLE +AGE\nweb +1\/1 +1 +1 +\d+s\n$/)
    expect(await kubectl('get', 'pods', '-o', 'wide')).toMatch(
      /^NAME +READY +STATUS +RESTARTS +AGE +IP +NODE.*\nweb-\S+ +1\/1 +Running +0 +\d+s +\S+ +simulated /,
    )
    expect(await kubectl('get', 'secret', 'bag')).toMatch(/^NAME +TYPE +DATA +AGE\nbag +Opaque +1 +\d+s\n$/)
    expect(await kubectl('get', 'rs')).toMatch(/^NAME +DESIRED +CURRENT +READY +AGE\nweb-\S+ +1 +1 +1 /)
    expect(await kubectl('get', 'all')).toContain('deployment.apps/web')
    expect(await kubectl('get', 'ns')).toMatch(/default +Active/)
    expect(await kubectl('get', 'secret', 'bag', '-o', 'jsonpath={.data.KEY}')).toBe(
      Buffer.from('quiet').toString('base64'),
    )
    await expect(kubectl('get', 'secret', 'none')).rejects.toThrow(
      'Error from server (NotFound): secrets "none" not found',
    )
  })

  test('version, describe and logs say that nothing runs, and show no value', async () => {
    const { kubectl } = await started()
    expect(await kubectl('version')).toContain('1ctl-simulated')
    const pod = await kubectl('describe', 'pod', '-l', 'app=web')
    expect(pod).toMatch(/simulated by 1ctl: no container runs here/)
    expect(pod).toMatch(/Started +\S+ +simulated-kubelet/)
    expect(pod).not.toContain('quiet')
    expect(await kubectl('describe', 'deploy', 'web')).toMatch(/NewReplicaSet: +web-\S+ \(1\/1 replicas created\)/)
    expect(await kubectl('describe', 'secret', 'bag')).toMatch(/KEY: +5 bytes/)
    const logs = await kubectl('logs', 'deploy/web')
    expect(logs).toMatch(/^This pod is simulated by 1ctl: no container runs here\.\n/)
    expect(logs).toContain('A, KEY')
    expect(logs).not.toContain('quiet')
    await expect(kubectl('exec', 'deploy/web', '--', 'env')).rejects.toThrow('no container runs here')
    await expect(kubectl('logs', 'deploy/web', '--previous')).rejects.toThrow(/previous terminated container/)
  })

  test('apply rolls out what changed, says when nothing did, and takes away what is left out', async () => {
    const { kubectl } = await started()
    expect(await kubectl('apply', '-f', fileWith(web()))).toBe('deployment.apps/web unchanged\n')
    expect(await kubectl('apply', '-f', fileWith(deployment('web', { env: [{ name: 'B', value: '2' }] })))).toBe(
      'deployment.apps/web configured\n',
    )
    await kubectl('rollout', 'status', 'deployment/web', '--timeout=10s')
    const names = await kubectl(
      'get',
      'deploy',
      'web',
      '-o',
      'jsonpath={.spec.template.spec.containers[0].env[*].name}',
    )
    expect(names).toBe('B')
    await expect(kubectl('apply', '-f', fileWith(web('1', { replica: 2 })))).rejects.toThrow(
      'unknown field "spec.replica"',
    )
  })

  test('apply --server-side goes on from a client-side apply, and conflicts with another manager', async () => {
    const { kubectl } = await started()
    expect(await kubectl('apply', '--server-side', '-f', fileWith(web('2')))).toContain('serverside-applied')
    await kubectl('set', 'image', 'deploy/web', 'app=nginx:1.29')
    const conflict = /conflict with "kubectl-set" using apps\/v1: .spec.template.spec.containers\[name="app"\].image/
    await kubectl('annotate', 'deploy', 'web', 'kubectl.kubernetes.io/last-applied-configuration-')
    await expect(kubectl('apply', '--server-side', '-f', fileWith(web('2')))).rejects.toThrow(conflict)
    await kubectl('apply', '--server-side', '--force-conflicts', '-f', fileWith(web('2')))
    expect(await kubectl('get', 'deploy', 'web', '-o', 'jsonpath={..image}')).toBe('nginx:1.27')
  })

  test('edit, set env, scale and rollout undo do what they do elsewhere', async () => {
    const { kubectl } = await started()
    // So that a pod that crashes a moment after its start has not been taken for a good one.
    await kubectl('patch', 'deploy', 'web', '-p', '{"spec":{"minReadySeconds":2}}')
    process.env.KUBE_EDITOR = 'sed -i s/nginx:1.27/nginx:1.28/'
    expect(await kubectl('edit', 'deploy', 'web')).toContain('deployment.apps/web edited')
    await kubectl('set', 'env', 'deploy/web', 'SIMULATE_CRASH_IF=KEY=qu*')
    expect(await kubectl('rollout', 'history', 'deploy/web')).toMatch(/^1 .*\n2 .*\n3 /m)
    await expect(kubectl('rollout', 'status', 'deploy/web', '--timeout=1s')).rejects.toThrow()
    await kubectl('rollout', 'undo', 'deploy/web')
    await kubectl('rollout', 'status', 'deploy/web', '--timeout=10s')
    expect(await kubectl('get', 'deploy', 'web', '-o', 'jsonpath={.spec.template.spec.containers[0].image}')).toBe(
      'nginx:1.28',
    )
    await kubectl('scale', 'deploy/web', '--replicas=3')
    await kubectl('rollout', 'status', 'deploy/web', '--timeout=10s')
    expect((await kubectl('get', 'pods', '--no-headers')).trim().split('\n')).toHaveLength(3)
    await kubectl('rollout', 'restart', 'deploy/web')
    await kubectl('rollout', 'status', 'deploy/web', '--timeout=10s')
  })

  test('delete waits until it is gone', async () => {
    const { kubectl } = await started()
    expect(await kubectl('delete', 'deploy', 'web', '--timeout=10s')).toContain('deleted')
    expect(await kubectl('delete', 'pods', '--all', '--timeout=10s')).toBeDefined()
    expect(await kubectl('get', 'pods')).toBe('')
    await expect(kubectl('delete', 'ns', 'kube-system')).rejects.toThrow('this namespace may not be deleted')
  })

  test('create makes objects without a file, also those it sends in binary', async () => {
    const { kubectl } = await startTestCluster()
    await kubectl('create', 'namespace', 'team')
    const secretOf = [
      'create',
      'secret',
      'generic',
      'keys',
      '--from-literal=A=a b',
      '--from-literal=EMPTY=',
      '-n',
      'team',
    ]
    expect(await kubectl(...secretOf)).toBe('secret/keys created\n')
    await expect(kubectl(...secretOf)).rejects.toThrow('secrets "keys" already exists')
    const { data, type } = JSON.parse(await kubectl('get', 'secret', 'keys', '-n', 'team', '-o', 'json'))
    expect([data, type]).toEqual([{ A: Buffer.from('a b').toString('base64'), EMPTY: '' }, 'Opaque'])
    await kubectl('create', 'configmap', 'settings', '--from-literal=LOG=debug')
    expect(await kubectl('get', 'cm', 'settings', '-o', 'jsonpath={.data.LOG}')).toBe('debug')
    await kubectl('create', 'deployment', 'web', '--image=nginx:1.27', '--replicas=0', '--port=80')
    expect(await kubectl('get', 'deploy', 'web', '-o', 'jsonpath={.spec.replicas}')).toBe('0')
    await kubectl('create', 'serviceaccount', 'robot')
    await kubectl('run', 'one', '--image=nginx:1.27')
    await kubectl('wait', '--for=condition=Ready', 'pod/one', '--timeout=10s')
    await expect(kubectl('create', 'quota', 'q', '--hard=pods=1')).rejects.toThrow(
      'send JSON, as kubectl apply -f does',
    )
  })

  test('wait, label and annotate work', async () => {
    const { kubectl } = await started()
    await kubectl('wait', '--for=condition=Available', 'deploy/web', '--timeout=10s')
    await kubectl('wait', '--for=condition=Ready', 'pod', '-l', 'app=web', '--timeout=10s')
    await kubectl('label', 'secret', 'bag', 'team=a')
    expect(await kubectl('get', 'secrets', '-l', 'team=a', '-o', 'name')).toBe('secret/bag\n')
    await kubectl('annotate', 'secret', 'bag', 'note=x')
    expect(await kubectl('get', 'secret', 'bag', '-o', 'jsonpath={.metadata.annotations.note}')).toBe('x')
  })
})

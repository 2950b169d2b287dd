import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { BootError } from '../boot-error.ts'
import { ClusterAway } from './errors.ts'
import { readInCluster, readKubeconfig } from './kubeconfig.ts'

let folder: string
let file: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), '1ctl-test-'))
  file = join(folder, 'config')
})
afterAll(() => rmSync(folder, { recursive: true }))

const base = `
apiVersion: v1
kind: Config
current-context: dev
contexts:
- {name: dev, context: {cluster: near, user: me}}
- {name: prod, context: {cluster: far, user: me}}
clusters:
- {name: near, cluster: {server: "http://127.0.0.1:8001/"}}
- {name: far, cluster: {server: "https://far.example/k8s/clusters/c1/"}}
users:
- name: me
  user: {token: hunter2}
`
// Of nobody: made with `openssl req -x509 -newkey ed25519 -nodes -subj /CN=nobody`, without its key.
const certificate =
  'LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUJPRENCNjZBREFnRUNBaFJlSkh3S2lrc2trTFF3aEIxRjlzT29yM3JaOXpBRkJnTXJaWEF3RVRFUE1BMEcKQTFVRUF3d0dibTlpYjJSNU1DQVhEVEkyTVRFeU5ERXlNell4TjFvWUR6SXhNall4TURNeE1USXpOakUzV2pBUgpNUTh3RFFZRFZRUUREQVp1YjJKdlpIa3dLakFGQmdNclpYQURJUUJiTXVIbEJlTGZ2Tkh5WDhsS2cvQklGU3pyCjBhdkFLVGRERHRSNnVLZEZKYU5UTUZFd0hRWURWUjBPQkJZRUZMRGYwNnpYY2RrZnl4MlROWTZzTmZwWTl4bEEKTUI4R0ExVWRJd1FZTUJhQUZMRGYwNnpYY2RrZnl4MlROWTZzTmZwWTl4bEFNQThHQTFVZEV3RUIvd1FGTUFNQgpBZjh3QlFZREsyVndBMEVBZUxqekoxT1ViTjRxa1pRdEQ1TGpoWFVpcVlaNjArQnd6YkM1SEwzcitlWjlIZ0x6CnJ5aW0wYTFLSTZhSFo4ZHc2SEZ0bGd2ZWl6cm5xKy8vZ3VsNUJRPT0KLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo='
const foreignKey = Buffer.from(
  generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
).toString('base64')
const write = (text: string) => writeFileSync(file, text)
const read = (text: string, context?: string) => {
  write(text)
  return readKubeconfig(file, context)
}

describe('a kubeconfig', () => {
  test('its current context is used, or the one that is named', async () => {
    const dev = await read(base)
    expect(dev.server).toBe('http://127.0.0.1:8001')
    expect(await dev.credentials()).toMatchObject({ token: 'hunter2' })
    expect((await read(base, 'prod')).server).toBe('https://far.example/k8s/clusters/c1')
  })

  test('in JSON, and with nobody to be, works too', async () => {
    const { server, credentials } = await read(
      JSON.stringify({
        'current-context': 'x',
        contexts: [{ name: 'x', context: { cluster: 'x' } }],
        clusters: [{ name: 'x', cluster: { server: 'http://localhost:1' } }],
      }),
    )
    expect(server).toBe('http://localhost:1')
    expect((await credentials()).token).toBeUndefined()
  })

  test('a token comes from its file, beside the kubeconfig', async () => {
    writeFileSync(join(folder, 'token'), 'from the file\n')
    const { credentials } = await read(base.replace('token: hunter2', 'tokenFile: token'))
    expect(await credentials()).toMatchObject({ token: 'from the file' })
  })

  test('how TLS is checked is taken over', async () => {
    const { tls } = await read(
      base.replace('c1/"', 'c1/", insecure-skip-tls-verify: true, tls-server-name: inside.example'),
      'prod',
    )
    expect(tls).toMatchObject({ rejectUnauthorized: false, servername: 'inside.example' })
    expect((await read(base, 'prod')).tls.rejectUnauthorized).toBe(true)
  })

  test.each<[string, string, string]>([
    ['no YAML', 'a: [', 'line 1 is not YAML'],
    ['nothing in it', '', 'the file: '],
    ['a list that is none', base.replace(/clusters:\n.*\n.*/, 'clusters: 7'), 'clusters: '],
    ['a field of another type', base.replace('token: hunter2', 'token: 7'), 'users.0.user.token: '],
    ['no current context', base.replace('current-context: dev', ''), 'current-context is missing'],
    ['an unknown context', base.replace('context: dev', 'context: x'), 'contexts has no "x" (it has "dev", "prod")'],
    ['an unknown cluster', base.replace('cluster: near', 'cluster: x'), 'clusters has no "x"'],
    ['an unknown user', base.replace('user: me', 'user: x'), 'users has no "x"'],
    ['no address', base.replace('http://127.0.0.1:8001/', 'over there'), 'clusters "near": server is no address'],
    ['secrets in the clear', base.replace('127.0.0.1', '10.0.0.1'), 'server must begin with https://'],
    ['a proxy', base.replace('8001/"', '8001/", proxy-url: "http://p"'), 'proxy-url is not supported'],
    ['a password', base.replace('token: hunter2', 'username: a, password: hunter2'), 'username is not supported'],
    ['someone else', base.replace('token: hunter2', 'token: hunter2, as: admin'), 'as is not supported'],
    ['an old plug-in', base.replace('token: hunter2', 'auth-provider: {}'), 'auth-provider is not supported'],
    ['no file', base.replace('token: hunter2', 'tokenFile: nowhere'), 'nowhere cannot be read (ENOENT)'],
    [
      'no PEM',
      base.replace('token: hunter2', 'client-certificate-data: aHVudGVyMg=='),
      'client-certificate-data, in base64, is not a PEM',
    ],
    [
      'half a pair',
      base.replace('token: hunter2', `client-certificate-data: ${certificate}`),
      'client-key go together',
    ],
    [
      'a damaged certificate',
      base.replace('c1/"', 'c1/", certificate-authority: config'),
      'certificate-authority config is not a PEM',
    ],
    [
      'no program',
      base.replace('token: hunter2', 'exec: {apiVersion: client.authentication.k8s.io/v1}'),
      'exec.command: ',
    ],
    [
      "another's key",
      base.replace('token: hunter2', `client-certificate-data: ${certificate}, client-key-data: ${foreignKey}`),
      'client-key is not the key of client-certificate',
    ],
    [
      'a program with a terminal',
      base.replace(
        'token: hunter2',
        'exec: {apiVersion: client.authentication.k8s.io/v1, command: x, interactiveMode: Always}',
      ),
      'exec wants a terminal',
    ],
  ])('with %s is a sentence that names file and field, and quotes no credential', async (what, text, words) => {
    const error = await read(text, what === 'a damaged certificate' ? 'prod' : undefined).catch(
      (error: unknown) => error,
    )
    expect(error).toBeInstanceOf(BootError)
    expect(String(error)).toContain(words)
    expect(String(error)).toContain(file)
    expect(String(error)).not.toContain('hunter2')
  })

  test('that does not exist', async () => {
    await expect(readKubeconfig(join(folder, 'none'))).rejects.toThrow(/none cannot be read \(ENOENT\)/)
  })

  test('a program that is not there says how to install it, when it is needed', async () => {
    const exec =
      'exec: {apiVersion: client.authentication.k8s.io/v1beta1, command: no-such-plugin, installHint: Get it}'
    const { credentials } = await read(base.replace('token: hunter2', exec))
    await expect(credentials()).rejects.toThrow(ClusterAway)
    await expect(credentials()).rejects.toThrow('no-such-plugin gave no credentials: it is not installed. Get it')
  })
})

describe('the account of a pod', () => {
  test('is missing outside of one, and that is said', () => {
    expect(() => readInCluster(folder, {})).toThrow(BootError)
    expect(() => readInCluster(folder, {})).toThrow('KUBERNETES_SERVICE_HOST')
    const environment = { KUBERNETES_SERVICE_HOST: '::1', KUBERNETES_SERVICE_PORT: '443' }
    expect(() => readInCluster(folder, environment)).toThrow('ca.crt cannot be read (ENOENT)')
  })
})

import { type Kind, kindOf } from './kinds.ts'
import { type Container, isTree, type Pod } from './objects.ts'
import type { Store } from './store.ts'

/** What a container would find in its environment, or why it cannot start. Values stay in here: they are compared, never shown. */
export function environmentOf(store: Store, pod: Pod, container: Container): Map<string, string> | Obstacle {
  const found = new Map<string, string>()
  try {
    for (const { prefix = '', secretRef, configMapRef } of container.envFrom ?? []) {
      const [kind, source] = secretRef ? ([secrets, secretRef] as const) : ([configMaps, configMapRef ?? {}] as const)
      for (const [key, value] of dataOf(store, kind, pod, source) ?? []) found.set(prefix + key, value)
    }
    for (const { name, value = '', valueFrom } of container.env ?? []) {
      const text = valueFrom ? valueOf(store, pod, valueFrom) : value
      if (text !== undefined) found.set(name, text)
    }
    return found
  } catch (error) {
    if (error instanceof Missing) return { reason: 'CreateContainerConfigError', message: error.message }
    throw error
  }
}

/** Why a container does not run, in the words of the kubelet. */
export type Obstacle = { reason: string; message: string }

export const isObstacle = (found: Map<string, string> | Obstacle): found is Obstacle => !(found instanceof Map)

class Missing extends Error {}

const secrets = kindOf('Secret')
const configMaps = kindOf('ConfigMap')

type Source = { name?: string; optional?: boolean }

/** Undefined where it may be missing. */
function dataOf(
  store: Store,
  kind: Kind,
  { metadata }: Pod,
  { name = '', optional }: Source,
): Map<string, string> | undefined {
  const object = store.get(kind, metadata.namespace ?? '', name)
  if (!object && optional) return undefined
  if (!object) throw new Missing(`${kind.kind.toLowerCase()} "${name}" not found`)
  const decode = (value: string) => (kind === secrets ? Buffer.from(value, 'base64').toString() : value)
  return new Map(
    Object.entries((object.data ?? {}) as Record<string, string>).map(([key, value]) => [key, decode(value)]),
  )
}

type ValueFrom = NonNullable<NonNullable<Container['env']>[number]['valueFrom']>

function valueOf(store: Store, pod: Pod, { secretKeyRef, configMapKeyRef, fieldRef }: ValueFrom): string | undefined {
  const ref = secretKeyRef ?? configMapKeyRef
  if (!ref) return fieldRef && fieldOf(pod, fieldRef.fieldPath)
  const kind = secretKeyRef ? secrets : configMaps
  const data = dataOf(store, kind, pod, ref)
  const value = data?.get(ref.key)
  if (value === undefined && !ref.optional)
    throw new Missing(`couldn't find key ${ref.key} in ${kind.kind} ${pod.metadata.namespace}/${ref.name}`)
  return value
}

function fieldOf(pod: Pod, path: string): string {
  let at: unknown = pod
  for (const step of path.replace(/\['?(.*?)'?\]/, '.$1').split('.')) at = isTree(at) ? at[step] : undefined
  return typeof at === 'string' ? at : ''
}

/** The first volume that could not be mounted. */
export function unmountable(store: Store, pod: Pod): Obstacle | undefined {
  for (const { name, secret, configMap, projected } of pod.spec.volumes ?? []) {
    const sources: [Kind, Source & { items?: { key: string }[] }][] = [
      ...(secret ? [[secrets, { ...secret, name: secret.secretName }] as const] : []),
      ...(configMap ? [[configMaps, configMap] as const] : []),
      ...(projected?.sources ?? []).flatMap((source) => [
        ...(source.secret ? [[secrets, source.secret] as const] : []),
        ...(source.configMap ? [[configMaps, source.configMap] as const] : []),
      ]),
    ].map(([kind, source]) => [kind, source])
    for (const [kind, source] of sources) {
      const why = lacking(store, kind, pod, source)
      if (why) return { reason: 'FailedMount', message: `MountVolume.SetUp failed for volume "${name}" : ${why}` }
    }
  }
  return undefined
}

function lacking(
  store: Store,
  kind: Kind,
  pod: Pod,
  source: Source & { items?: { key: string }[] },
): string | undefined {
  try {
    const data = dataOf(store, kind, pod, source)
    const missing = data && !source.optional && source.items?.find(({ key }) => !data.has(key))
    return missing ? `references non-existent ${kind.kind.toLowerCase()} key: ${missing.key}` : undefined
  } catch (error) {
    if (error instanceof Missing) return error.message
    throw error
  }
}

/**
 * Whether this container would crash, by the rules of docs/embedded-cluster.md; the answer names the rule. Patterns know only `*`: a regular
 * expression from anyone's environment could keep this process busy for ever.
 */
export function crashRule({ image }: Container, environment: Map<string, string>): string | undefined {
  if (nameIn(image) === 'crash') return 'an image of this name always crashes'
  for (const [name, condition] of environment)
    if (name.startsWith('SIMULATE_CRASH_IF') && holds(condition.trim(), environment))
      return `the condition in ${name} holds`
  return undefined
}

/** `KEY` is set and not empty, `!KEY` is not; `KEY=a*c` and `KEY!=a*c` compare, `*` being any text. */
function holds(condition: string, environment: Map<string, string>): boolean {
  const [, not, key = '', compared, pattern = ''] = /^(!?)([^=!]+)(!?=)?(.*)$/s.exec(condition) ?? []
  const value = environment.get(key.trim()) ?? ''
  if (!compared) return key !== '' && (value !== '') === !not
  return matches(value, pattern) === (compared === '=')
}

function matches(value: string, pattern: string): boolean {
  const [first = '', ...parts] = pattern.split('*')
  const last = parts.pop()
  if (last === undefined) return value === first
  if (!value.startsWith(first) || !value.endsWith(last) || value.length < first.length + last.length) return false
  let at = first.length
  for (const part of parts) {
    const found = value.indexOf(part, at)
    if (found < 0) return false
    at = found + part.length
  }
  return at <= value.length - last.length
}

/** Why an image could not be pulled, by its name alone: nothing is pulled. */
export function imageObstacle({ image }: Container): Obstacle | undefined {
  if (!/^[a-z0-9][\w./:@-]*$/.test(image) || /[A-Z]/.test(image.replace(/[:@][^/]*$/, '').replace(/^[^/]*:\d+\//, '')))
    return {
      reason: 'InvalidImageName',
      message: `Failed to apply default image tag "${image}": couldn't parse image name "${image}": invalid reference format`,
    }
  if (!/no-such|does-not-exist/.test(image)) return undefined
  return { reason: 'ImagePullBackOff', message: `Back-off pulling image "${image}": ErrImagePull: ${image}: not found` }
}

const nameIn = (image: string) =>
  image
    .replace(/[:@][^/]*$/, '')
    .split('/')
    .at(-1)

/** How long it takes until a container is ready: `SIMULATE_READY_AFTER_MS` in its environment, or the pod's annotation. */
export function readyAfterMs(pod: Pod, environment: Map<string, string>): number {
  const text =
    environment.get('SIMULATE_READY_AFTER_MS') ?? pod.metadata.annotations?.['simulated.1ctl.dev/ready-after-ms'] ?? ''
  return /^\d{1,9}$/.test(text) ? Number(text) : 300
}

import { createHash } from 'node:crypto'
import type { FrozenService } from '../apps/releases.ts'
import type { Kind, Manifest } from '../kubernetes/kinds.ts'

/** What the cluster should hold of an app, computed from its release: pure, and without a value. */

export type AppAt = {
  id: string
  name: string
  organizationId: string
  vpcId: string
  namespace: string
}

/** A bag at a version: the Secret object that holds it. */
export type BagObject = {
  id: string
  name: string
  scope: 'org' | 'vpc' | 'app'
  version: number
  /** of its values, made of keyed fingerprints */
  fingerprint: string
  /** as the object is called */
  object: string
}

export type Timing = { minReadySeconds: number; progressDeadlineSeconds: number }
/** Two seconds of life, so that a process that ends at its start is no success; two minutes for an image to arrive and a process to begin. */
export const timing: Timing = { minReadySeconds: 2, progressDeadlineSeconds: 120 }

export const labels = {
  managedBy: 'app.kubernetes.io/managed-by',
  organization: '1ctl.dev/organization-id',
  vpc: '1ctl.dev/vpc-id',
  app: '1ctl.dev/app',
  appId: '1ctl.dev/app-id',
  service: '1ctl.dev/service',
  template: '1ctl.dev/template',
  secret: '1ctl.dev/secret-id',
  version: '1ctl.dev/secret-version',
} as const
export const annotations = { manifest: '1ctl.dev/manifest', fingerprint: '1ctl.dev/fingerprint' } as const
export const ours = { [labels.managedBy]: '1ctl' }
export const oursSelector = `${labels.managedBy}=1ctl`

export type Workload = Manifest<'Deployment'> | Manifest<'Service'>

export function desiredNamespace(app: AppAt): Manifest<'Namespace'> {
  return {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: {
      name: app.namespace,
      labels: {
        ...ours,
        [labels.organization]: app.organizationId,
        [labels.vpc]: app.vpcId,
        'pod-security.kubernetes.io/enforce': 'baseline',
      },
    },
  }
}

/** The plain name of the object; another is taken only where this one holds something else. */
export const objectName = ({ scope, name, version }: Omit<BagObject, 'object'>, app: string) =>
  `${scope}.${scope === 'app' ? `${app}.` : ''}${name}.v${version}`

export function secretManifest(app: AppAt, bag: BagObject, values: Map<string, Buffer>): Manifest<'Secret'> {
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: {
      name: bag.object,
      namespace: app.namespace,
      labels: {
        ...ours,
        [labels.organization]: app.organizationId,
        [labels.secret]: bag.id,
        [labels.version]: String(bag.version),
        ...(bag.scope === 'app' ? { [labels.app]: app.name } : {}),
      },
      annotations: { [annotations.fingerprint]: bag.fingerprint },
    },
    type: 'Opaque',
    immutable: true,
    // `data`, not `stringData`: it takes every byte, and is what comes back.
    data: Object.fromEntries([...values].map(([key, value]) => [key, value.toString('base64')])),
  }
}

/** A Deployment for each service, and a Service for each that has a port. */
export function desiredWorkloads(
  app: AppAt,
  services: FrozenService[],
  bags: Map<string, BagObject>,
  times: Timing = timing,
): Workload[] {
  return services.flatMap((service): Workload[] => {
    const deployment = deploymentOf(app, service, bags, times)
    return service.port === undefined ? [deployment] : [deployment, serviceOf(app, service, service.port)]
  })
}

/** `<app>--<service>`; the service that is called like its app has the plain name. Names have no double dash, so no two clash. */
export const workloadName = (app: string, service: string) => (service === app ? app : `${app}--${service}`)

// By names and not by ids, so that an app that was deleted and made again takes over what still runs.
const selectorOf = (app: AppAt, service: FrozenService) => ({ [labels.app]: app.name, [labels.service]: service.name })

const metadataOf = (app: AppAt, service: FrozenService) => ({
  name: workloadName(app.name, service.name),
  namespace: app.namespace,
  labels: {
    ...ours,
    'app.kubernetes.io/name': app.name,
    [labels.organization]: app.organizationId,
    [labels.appId]: app.id,
    ...selectorOf(app, service),
  },
})

function deploymentOf(
  app: AppAt,
  service: FrozenService,
  bags: Map<string, BagObject>,
  { minReadySeconds, progressDeadlineSeconds }: Timing,
): Manifest<'Deployment'> {
  return withHash({
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: metadataOf(app, service),
    spec: {
      replicas: service.replicas,
      minReadySeconds,
      progressDeadlineSeconds,
      // Kubernetes' own history is not ours: releases are.
      revisionHistoryLimit: 2,
      selector: { matchLabels: selectorOf(app, service) },
      // Of up to four pods one more, of more a quarter: Kubernetes rounds up.
      strategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 0, maxSurge: '25%' } },
      template: templateOf(app, service, bags),
    },
  })
}

/**
 * Only what changes the pods: a release that changes nothing for a service does not restart it. Its hash stands on each pod, so that one
 * can be told from those of before.
 */
function templateOf(app: AppAt, service: FrozenService, bags: Map<string, BagObject>) {
  const selector = selectorOf(app, service)
  const spec = podSpec(service, bags)
  const annotated =
    service.restart === undefined ? {} : { annotations: { '1ctl.dev/restart': String(service.restart) } }
  const hash = hashOf({ selector, spec, ...annotated })
  return {
    metadata: {
      labels: { ...ours, 'app.kubernetes.io/name': app.name, ...selector, [labels.template]: hash },
      ...annotated,
    },
    spec,
  }
}

const objectOf = (bags: Map<string, BagObject>, id: string) => {
  const bag = bags.get(id)
  if (!bag) throw new IncompleteRelease()
  return bag.object
}

/** A secret of the release was deleted since. */
export class IncompleteRelease extends Error {}

function podSpec(service: FrozenService, bags: Map<string, BagObject>) {
  const isRestricted = service.security === 'restricted'
  const files = filesBySecret(service, bags)
  const mount = files.length > 0
  return {
    // Its mount would lie below /run/secrets, and few apps need to talk to Kubernetes.
    automountServiceAccountToken: false,
    // Otherwise each Service of the namespace would put variables of its own into the environment.
    enableServiceLinks: false,
    securityContext: {
      seccompProfile: { type: 'RuntimeDefault' },
      ...(isRestricted ? { runAsNonRoot: true } : {}),
    },
    containers: [
      {
        name: service.name,
        image: service.image,
        imagePullPolicy: /:latest$|^[^:]*(:\d+\/[^:]*)?$/.test(service.image) ? 'Always' : 'IfNotPresent',
        ...(service.command ? { command: service.command.map(literal) } : {}),
        ...(service.args ? { args: service.args.map(literal) } : {}),
        env: service.env.map((variable) =>
          'secret' in variable
            ? {
                name: variable.name,
                valueFrom: { secretKeyRef: { name: objectOf(bags, variable.secret), key: variable.key } },
              }
            : { name: variable.name, value: literal(variable.value) },
        ),
        ...(service.port === undefined ? {} : { ports: [{ containerPort: service.port, protocol: 'TCP' }] }),
        ...(service.port !== undefined && service.healthPath
          ? {
              readinessProbe: {
                httpGet: { path: service.healthPath, port: service.port, scheme: 'HTTP' },
                periodSeconds: 2,
                timeoutSeconds: 2,
                failureThreshold: 3,
              },
            }
          : {}),
        ...(service.resources ? { resources: service.resources } : {}),
        securityContext: {
          allowPrivilegeEscalation: false,
          ...(isRestricted ? { capabilities: { drop: ['ALL'] } } : {}),
        },
        ...(mount ? { volumeMounts: [{ name: 'secrets', mountPath: '/run/secrets', readOnly: true }] } : {}),
      },
    ],
    ...(mount ? { volumes: [{ name: 'secrets', projected: { defaultMode: 0o444, sources: files } }] } : {}),
  }
}

/**
 * Kubernetes would put a variable's value in the place of `$(NAME)`, and makes one `$` of two; a doubled one stays as it was written,
 * whatever follows.
 */
const literal = (text: string) => text.replaceAll('$', '$$$$')

function filesBySecret({ files }: FrozenService, bags: Map<string, BagObject>) {
  const keys = new Map<string, string[]>()
  for (const { secret, key } of files) {
    const object = objectOf(bags, secret)
    keys.set(object, [...(keys.get(object) ?? []), key])
  }
  return [...keys].map(([name, keys]) => ({ secret: { name, items: keys.map((key) => ({ key, path: key })) } }))
}

const serviceOf = (app: AppAt, service: FrozenService, port: number): Manifest<'Service'> =>
  withHash({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: metadataOf(app, service),
    spec: {
      type: 'ClusterIP',
      selector: selectorOf(app, service),
      ports: [{ name: 'http', port, targetPort: port, protocol: 'TCP' }],
    },
  })

/** So that one look tells whether this is what was applied last, also where fields have gone. */
function withHash<K extends Kind>(manifest: Manifest<K>): Manifest<K> {
  const hash = hashOf(manifest)
  return { ...manifest, metadata: { ...manifest.metadata, annotations: { [annotations.manifest]: hash } } }
}

const hashOf = (content: unknown) => createHash('sha256').update(JSON.stringify(content)).digest('hex').slice(0, 16)

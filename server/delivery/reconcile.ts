import type { Platform } from '../context.ts'
import { KubernetesError } from '../kubernetes/errors.ts'
import type { PodSpec } from '../kubernetes/kinds.ts'
import { type Database, rows, statement } from '../store/database.ts'
import type { Cluster, Seen, Watched } from './cluster.ts'
import { isOurs, secretsIn, secretsTakenBy } from './cluster.ts'
import {
  annotations,
  type BagObject,
  desiredNamespace,
  desiredWorkloads,
  labels,
  objectName,
  secretManifest,
  type Timing,
  type Workload,
} from './desired.ts'
import { isWithin, undoing } from './drift.ts'
import type { DueApp } from './queue.ts'
import { openBags } from './values.ts'

/**
 * Look, compare, act: one function for a change, an event of the cluster, the timer and the start. It has no memory, does the same when run
 * twice, and writes only where something differs.
 */
export async function bringAbout(
  platform: Platform,
  cluster: Cluster,
  app: DueApp,
  times: Timing,
): Promise<{ workloads: Workload[]; writes: number }> {
  let writes = await ensureNamespace(cluster, app)
  await cluster.secretsKnown(app.namespace)
  const bags = new Map(app.bags.map((bag) => [bag.id, { ...bag, object: objectFor(cluster, app, bag) }]))
  // Before anything is made: a release that lacks a secret changes nothing.
  const workloads = desiredWorkloads(app, app.services, bags, times)
  const used = usedIn(workloads)
  writes += await ensureSecrets(
    platform,
    cluster,
    app,
    [...bags.values()].filter(({ object }) => used.has(object)),
  )
  writes += (await Promise.all(workloads.map((workload) => ensureWorkload(cluster, app, workload)))).reduce(sum, 0)
  return { workloads, writes }
}

const sum = (one: number, other: number) => one + other

/** There is something of that name that is not ours. It stays as it is. */
export class Foreign extends Error {
  override name = 'Foreign'
}
/** Not yet, and no fault: something is on its way. */
export class NotYet extends Error {
  override name = 'NotYet'
}

async function ensureNamespace(cluster: Cluster, app: DueApp): Promise<number> {
  const manifest = desiredNamespace(app)
  const { name } = manifest.metadata
  const known = cluster.picture.get('Namespace', { name })
  const seen = known ?? (await cluster.ask('Namespace', { name }))
  if (seen?.metadata.deletionTimestamp) throw new NotYet(`The namespace ${name} is being deleted.`)
  if (seen && (!isOurs(seen) || seen.metadata.labels[labels.vpc] !== app.vpcId))
    throw new Foreign(
      `The namespace ${name} is there, but was not made by this 1ctl for this VPC. Delete it, or rename the VPC.`,
    )
  if (known && isWithin(manifest.metadata.labels, known.metadata.labels)) return 0
  let writes = 0
  await cluster.once(`Namespace ${name}`, async () => {
    // Made by now, for another app.
    if (!known && cluster.picture.get('Namespace', { name })) return
    await cluster.apply(manifest, seen !== undefined)
    writes++
  })
  return writes
}

/** Another bag of the same name may have left an object that pods still use; then this one gets another name, and keeps it. */
function objectFor(cluster: Cluster, app: DueApp, bag: Omit<BagObject, 'object'>): string {
  const plain = objectName(bag, app.name)
  const other = `${plain}-${bag.fingerprint.slice(0, 8)}`
  const at = (name: string) => cluster.picture.get('Secret', { namespace: app.namespace, name })
  const [plainOne, otherOne] = [at(plain), at(other)]
  if (otherOne && isVersion(otherOne, bag)) return other
  return !plainOne || isVersion(plainOne, bag) ? plain : other
}

const isVersion = ({ metadata }: Seen, bag: Omit<BagObject, 'object'>) =>
  metadata.annotations[annotations.fingerprint] === bag.fingerprint &&
  metadata.labels[labels.secret] === bag.id &&
  metadata.labels[labels.version] === String(bag.version)

/** Whoever deletes one and makes it anew by hand may copy our labels. What they put in is not ours. */
const holds = (seen: Seen, bag: Omit<BagObject, 'object'>) => isVersion(seen, bag) && seen.others.length === 0

async function ensureSecrets(platform: Platform, cluster: Cluster, app: DueApp, bags: BagObject[]): Promise<number> {
  const { namespace } = app
  const missing = bags.filter((bag) => {
    const seen = cluster.picture.get('Secret', { namespace, name: bag.object })
    return !seen || seen.metadata.deletionTimestamp !== undefined || !holds(seen, bag)
  })
  if (missing.length === 0) return 0
  const opened = await openBags(platform, app.organizationId, missing)
  try {
    await Promise.all(
      missing.map((bag) =>
        cluster.once(`Secret ${namespace}/${bag.object} ${bag.fingerprint}`, async () => {
          const stale = cluster.picture.get('Secret', { namespace, name: bag.object })
          if (stale && holds(stale, bag)) return
          // Immutable: it can only be replaced.
          if (stale) await cluster.remove(stale)
          await createSecret(cluster, app, bag, opened.get(bag.id) ?? new Map())
        }),
      ),
    )
  } finally {
    for (const values of opened.values()) for (const value of values.values()) value.fill(0)
  }
  return missing.length
}

async function createSecret(cluster: Cluster, app: DueApp, bag: BagObject, values: Map<string, Buffer>) {
  try {
    await cluster.create(secretManifest(app, bag, values))
  } catch (error) {
    if (!(error instanceof KubernetesError && error.reason === 'AlreadyExists')) throw error
    const seen = await cluster.ask('Secret', { namespace: app.namespace, name: bag.object })
    if (!seen) throw new NotYet(`The Secret ${bag.object} was there and is gone.`)
    if (!isOurs(seen)) throw foreign('Secret', app.namespace, bag.object)
    cluster.picture.put(seen)
    // Another server has just made it; anything else is sorted out with the picture as it is now.
    if (!holds(seen, bag)) throw new NotYet(`The Secret ${bag.object} is being replaced.`)
  }
}

async function ensureWorkload(cluster: Cluster, { claim }: DueApp, wanted: Workload): Promise<number> {
  const { kind, metadata } = wanted
  const known = cluster.picture.get(kind, metadata)
  if (known?.metadata.deletionTimestamp) throw new NotYet(`The ${kind} ${metadata.name} is being deleted.`)
  if (known && isAsApplied(wanted, known)) return 0
  const seen = known ?? (await cluster.ask(kind, { ...metadata }))
  if (seen && !isOurs(seen)) throw foreign(kind, metadata.namespace ?? '', metadata.name)
  // Another server has just applied it; a watch will tell us.
  if (seen && !known && hashIn(seen) === hashIn(wanted)) return 0
  // We stood still for so long that another server may be at work on it, with a later release.
  if (Date.now() > claim.until) throw new NotYet('This server was too slow; another look is needed.')
  await cluster.apply(wanted, seen !== undefined)
  const added = known && additions(wanted, known)
  if (!added) return 1
  await cluster.patch({ ...known, spec: wanted['spec'], others: [] }, { spec: added })
  return 2
}

const hashIn = ({ metadata }: Seen | Workload) => metadata.annotations?.[annotations.manifest]

function isAsApplied(wanted: Workload, seen: Seen): boolean {
  return (
    hashIn(seen) === hashIn(wanted) &&
    isWithin(wanted.metadata.labels, seen.metadata.labels) &&
    isWithin(wanted['spec'], seen.spec) &&
    additions(wanted, seen) === undefined
  )
}

function additions(wanted: Workload, { others }: Seen): Tree | undefined {
  const patches = others.map((fields) => undoing(fields, wanted['spec'])).filter((patch) => patch !== undefined)
  return patches.length > 0 ? patches.reduce(merge) : undefined
}
type Tree = Record<string, unknown>

/** Both say null or the whole of what is wanted, so where they meet they agree. */
function merge(one: Tree, other: Tree): Tree {
  const merged = { ...one }
  for (const [name, value] of Object.entries(other)) {
    const mine = merged[name]
    const areBoth = [mine, value].every((part) => typeof part === 'object' && part !== null && !Array.isArray(part))
    merged[name] = areBoth ? merge(mine as Tree, value as Tree) : value
  }
  return merged
}

const foreign = (kind: Watched, namespace: string, name: string) =>
  new Foreign(
    `There is a ${kind} ${namespace}/${name} that 1ctl did not make. It is left alone: delete or rename it, and this goes on.`,
  )

const usedIn = (workloads: Workload[]) =>
  new Set(workloads.flatMap((workload) => (workload.kind === 'Deployment' ? secretsIn(podSpecOf(workload)) : [])))

const podSpecOf = (deployment: Workload) =>
  'spec' in deployment ? (deployment['spec'] as { template: { spec: PodSpec } }).template.spec : { containers: [] }

/** What is in the cluster of a live app and should not be any more: services that left it, and secrets that nothing needs. */
export async function sweep(db: Database, cluster: Cluster, app: DueApp, workloads: Workload[]): Promise<void> {
  const { namespace } = app
  const wanted = new Set(workloads.map(({ kind, metadata }) => `${kind} ${metadata.name}`))
  const left = (['Service', 'Deployment'] as const)
    .flatMap((kind) => cluster.picture.ofApp(kind, namespace, app.name))
    .filter(({ kind, metadata }) => !wanted.has(`${kind} ${metadata.name}`) && !metadata.deletionTimestamp)
  await Promise.all(left.map((seen) => cluster.remove(seen)))
  await sweepSecrets(db, cluster, namespace)
}

// Only what is asked about: a namespace may have thousands, and each app of it asks.
const pinned = statement<{ pin: string }>(
  'delivery.pinned',
  `select distinct b.secret_id || ' ' || b.version as pin
   from unnest($2::uuid[], $3::int[]) as want (secret_id, version)
   join release_bags b on b.secret_id = want.secret_id and b.version = want.version
   join apps a on a.id = b.app_id and b.release in (a.release, a.live_release)
   join vpcs v on v.id = a.vpc_id and v.namespace = $1`,
)

/**
 * Secret objects that no template and no pod of the namespace names, and to which no release that runs or should run is pinned. The picture is
 * looked at first: what an app was given since is pinned by its release, before it is made.
 */
export async function sweepSecrets(db: Database, cluster: Cluster, namespace: string): Promise<void> {
  const { picture } = cluster
  const named = new Set<string>()
  for (const kind of ['Deployment', 'Pod'] as const)
    for (const seen of picture.all(kind, namespace)) for (const name of secretsTakenBy(seen)) named.add(name)
  const unnamed = picture
    .all('Secret', namespace)
    .filter(({ metadata }) => !named.has(metadata.name) && !metadata.deletionTimestamp)
  if (unnamed.length === 0) return
  // What has other labels than we write is pinned by nothing.
  const asked = unnamed.filter((seen) => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12} \d{1,9}$/.test(pinOf(seen)))
  const ids = asked.map(({ metadata }) => metadata.labels[labels.secret])
  const versions = asked.map(({ metadata }) => Number(metadata.labels[labels.version]))
  const pins = new Set((await rows(db, pinned, [namespace, ids, versions])).map(({ pin }) => pin))
  const unused = unnamed.filter((seen) => !pins.has(pinOf(seen)))
  await Promise.all(unused.map((seen) => cluster.remove(seen)))
}

const pinOf = ({ metadata }: Seen) => `${metadata.labels[labels.secret]} ${metadata.labels[labels.version]}`

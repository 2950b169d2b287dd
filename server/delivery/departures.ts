import type { Logger } from 'pino'
import { ClusterAway, KubernetesError } from '../kubernetes/errors.ts'
import { type Database, execute, row, rows, sqlState, statement } from '../store/database.ts'
import { type Cluster, isOurs, type Seen } from './cluster.ts'
import { labels } from './desired.ts'
import { sweepSecrets } from './reconcile.ts'

/**
 * What was deleted here and has to go in the cluster: the objects of an app, or the namespace of a VPC. Only what is ours by its labels, and
 * only the app or the VPC that was meant: another may have its name by now.
 */

type Departure = { id: string; namespace: string; app_id: string | null; app: string | null; tries: number }
const claim = statement<Departure>(
  'departures.claim',
  `update departures set claimed_until = now() + interval '30 seconds'
   where id in (
     select id from departures where due_at <= now() and (claimed_until is null or claimed_until < now())
     order by due_at limit 8 for update skip locked)
   returning id, namespace, app_id, app, tries`,
)
const done = statement('departures.done', 'delete from departures where id = $1')
const later = statement(
  'departures.later',
  `update departures set claimed_until = null, tries = tries + 1, due_at = now() + $2::int * interval '1 millisecond' where id = $1`,
)

/** One pass; whether there may be more. */
export async function carryOutDepartures(db: Database, cluster: Cluster, log: Logger): Promise<boolean> {
  if (cluster.away !== undefined) return false
  const found = await rows(db, claim)
  await Promise.all(
    found.map(async (departure) => {
      try {
        const isGone =
          departure.app_id === null ? await depart(db, cluster, departure) : await departApp(db, cluster, departure)
        if (isGone) await execute(db, done, [departure.id])
        // On its way: pods take their time to end, and a namespace to be emptied.
        else await execute(db, later, [departure.id, departure.tries < 20 ? 250 : 5_000])
      } catch (error) {
        const isForeseen = error instanceof ClusterAway || error instanceof KubernetesError
        log.warn(
          {
            namespace: departure.namespace,
            err: error instanceof Error ? error.name : typeof error,
            code: sqlState(error),
          },
          isForeseen ? `objects are not gone yet: ${error.message}` : 'objects are not gone yet',
        )
        await execute(db, later, [departure.id, Math.min(60_000, 500 * 2 ** Math.min(departure.tries, 7))])
      }
    }),
  )
  return found.length > 0
}

const vpcIsThere = statement<{ name: string }>('departures.vpc', 'select name from vpcs where id = $1')
async function depart(db: Database, cluster: Cluster, { namespace }: Departure): Promise<boolean> {
  const seen = await cluster.ask('Namespace', { name: namespace })
  if (!seen || !isOurs(seen)) return true
  if (seen.metadata.deletionTimestamp) return false
  // The namespace of a VPC that was made since. One without the label was made by nobody we know.
  const vpc = seen.metadata.labels[labels.vpc]
  if (vpc === undefined || (await row(db, vpcIsThere, [vpc]))) return true
  await cluster.remove(seen)
  return false
}

async function departApp(db: Database, cluster: Cluster, { namespace, app_id, app }: Departure): Promise<boolean> {
  const place = await cluster.ask('Namespace', { name: namespace })
  // It takes everything with it.
  if (!place || !isOurs(place) || place.metadata.deletionTimestamp) return true
  const { picture } = cluster
  const name = app ?? ''
  const isTheirs = ({ metadata }: Seen) => metadata.labels[labels.appId] === app_id && !metadata.deletionTimestamp
  const objects = [...picture.ofApp('Service', namespace, name), ...picture.ofApp('Deployment', namespace, name)]
  await Promise.all(objects.filter(isTheirs).map((seen) => cluster.remove(seen)))
  // Pods that belong to a Deployment are another app's, which has taken its name.
  const isReplaced = picture
    .ofApp('Deployment', namespace, name)
    .some((seen) => seen.metadata.labels[labels.appId] !== app_id)
  const isGone = isReplaced || picture.ofApp('Pod', namespace, name).length === 0
  // Their secrets last: what no pod and no template names, of this app or shared, goes.
  await cluster.secretsKnown(namespace)
  await sweepSecrets(db, cluster, namespace)
  return isGone
}

// In a VPC of ours, or these would be the objects of another 1ctl in the same cluster.
const orphan = statement(
  'departures.orphan',
  `insert into departures (namespace, app_id, app)
   select v.namespace, $2, $3 from vpcs v
   where v.id = $1 and not exists (select from apps where id = $2)
     and not exists (select from departures d where d.app_id = $2)`,
)
/** Objects whose app is gone, made by a server that was at work on it when it was deleted. `known`: apps that are there. */
export async function findOrphans(
  db: Database,
  { picture }: Cluster,
  known: Set<string>,
  namespaces: Set<string> | undefined,
) {
  const found = new Map<string, { vpc: string; app: string }>()
  for (const { metadata } of picture.all('Deployment')) {
    const { namespace = '' } = metadata
    const id = metadata.labels[labels.appId]
    if (id === undefined || known.has(id) || (namespaces && !namespaces.has(namespace))) continue
    const vpc = picture.get('Namespace', { name: namespace })?.metadata.labels[labels.vpc]
    if (vpc !== undefined) found.set(id, { vpc, app: metadata.labels[labels.app] ?? '' })
  }
  for (const [id, { vpc, app }] of found) if (isUuid(vpc) && isUuid(id)) await execute(db, orphan, [vpc, id, app])
}

const isUuid = (text: string) => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text)

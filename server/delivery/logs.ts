import { PassThrough, type Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { appFor } from '../apps/apps.ts'
import type { Api, Ctx } from '../context.ts'
import type { Kubernetes } from '../kubernetes/client.ts'
import { ClusterAway, KubernetesError } from '../kubernetes/errors.ts'
import type { Found } from '../kubernetes/kinds.ts'
import { Refusal } from '../refusal.ts'
import { rows, statement } from '../store/database.ts'
import { type Blot, blotterFor } from './blot.ts'
import { labels } from './desired.ts'
import { type BagAt, openBags } from './values.ts'

/**
 * What the containers of an app write, each line behind `service/pod`, with the values of its secrets blotted out: those of now and those that
 * its pods may still run with. Nothing is kept: a reader who is slow makes the cluster wait.
 */
export const appLogs: Api['appLogs'] = async (ctx, { ref, vpc, service, follow = false, tail }) => {
  const app = await appFor(ctx, ref, { vpc })
  const { kubernetes } = ctx.cluster
  if (!kubernetes) throw new Refusal('cluster_away', 'This server delivers to no cluster; ask the one that does.')
  const names = app.services?.map(({ name }) => name) ?? []
  if (service !== undefined && !names.includes(service))
    throw new Refusal('service_not_found', `"${app.name}" has no service "${service}".`, {
      hint: `It has ${names.join(', ') || 'none: it was never deployed'}.`,
    })
  const selector = `${labels.app}=${app.name}${service === undefined ? '' : `,${labels.service}=${service}`}`
  const pods = () => kubernetes.list('Pod', { namespace: app.namespace, labels: selector })
  const first = await pods().catch(refuseAway)
  const source: Source = { kubernetes, follow, blot: await blotterOf(ctx, app.id) }
  const output = new PassThrough({ encoding: 'utf8' })
  const over = new AbortController()
  const signal = AbortSignal.any([over.signal, ...(ctx.request.ended ? [ctx.request.ended] : [])])
  const isRead = () => !follow || signal.aborted || output.destroyed
  // Values that are not known any more, as once it is sealed, cannot be blotted out: then it ends.
  void readAll(first.items)
    .catch(() => undefined)
    .finally(() => {
      over.abort()
      output.end()
    })
  return output

  async function readAll(items: Found<'Pod'>[]) {
    const seen = new Set<string>()
    const readNew = (found: Found<'Pod'>[], tail?: number) =>
      found
        .filter(({ metadata, status }) => !seen.has(metadata.uid) && status?.phase !== 'Pending')
        .map((pod) => {
          seen.add(pod.metadata.uid)
          return readPod(source, pod, tail, output, signal)
        })
    const reading = readNew(items, tail)
    // A rollout brings other pods, which are read from their beginning, and other values.
    while (!isRead()) {
      await sleep(lookMs, undefined, { signal }).catch(() => undefined)
      if (!(await ctx.request.stillCounts?.())) break
      // First the pods, then the values that they may have.
      const found = await pods().catch(() => undefined)
      source.blot = await blotterOf(ctx, app.id)
      if (found) reading.push(...readNew(found.items))
    }
    await Promise.all(reading)
  }
}

const lookMs = 2_000
const lineLengthMax = 64 * 1024

type Source = { kubernetes: Kubernetes; follow: boolean; blot: Blot }

async function readPod(
  source: Source,
  pod: Found<'Pod'>,
  tail: number | undefined,
  output: PassThrough,
  signal: AbortSignal,
): Promise<void> {
  const { namespace = '', name, labels: podLabels } = pod.metadata
  const prefix = `${podLabels?.[labels.service] ?? ''}/${name} `
  const { kubernetes, follow } = source
  try {
    const stream = await kubernetes.logs(
      { namespace, name },
      { follow, ...(tail === undefined ? {} : { tail }) },
      { signal },
    )
    for await (const line of linesOf(stream)) {
      if (output.destroyed) return
      if (!output.write(`${prefix}${source.blot(line)}\n`)) await drained(output, signal)
    }
  } catch (error) {
    // A container that has not begun has nothing to say yet; of one that is gone nothing more comes.
    if (!signal.aborted && !(error instanceof KubernetesError)) output.write(`${prefix}(the log broke off)\n`)
  }
}

const drained = (output: PassThrough, signal: AbortSignal) =>
  new Promise<void>((resolve) => {
    for (const event of ['drain', 'close']) output.once(event, resolve)
    signal.addEventListener('abort', () => resolve(), { once: true })
  })

/** Whole lines, since half a value would not be known; one beyond all measure is left out. */
async function* linesOf(stream: Readable): AsyncGenerator<string> {
  let rest = ''
  let isTooLong = false
  for await (const part of stream.setEncoding('utf8') as AsyncIterable<string>) {
    const lines = (rest + part).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) {
      yield isTooLong ? '(a line of more than 64 KiB)' : line
      isTooLong = false
    }
    if (rest.length > lineLengthMax) {
      rest = ''
      isTooLong = true
    }
  }
  if (rest !== '') yield rest
}

const bagsOf = statement<BagAt>(
  'logs.bags',
  `select distinct s.id, s.name, b.version
   from release_bags b join apps a on a.id = b.app_id join secrets s on s.id = b.secret_id
   where b.app_id = $1 and (b.release in (a.release, a.live_release, a.rejected_release) or b.release >= coalesce(a.live_release, 0))
   union
   select s.id, s.name, s.version from secrets s
   where s.id in (select secret_id from secret_uses where app_id = $1 union select secret_id from secret_links where app_id = $1)`,
)
async function blotterOf(ctx: Ctx<'read'>, app: string): Promise<Blot> {
  const bags = await rows(ctx.db, bagsOf, [app])
  // One by one, since several versions of a bag are among them.
  const opened = await Promise.all(bags.map((bag) => openBags(ctx, ctx.caller.organization.id, [bag])))
  return blotterFor(opened.flatMap((one) => [...one.values()].flatMap((values) => [...values.values()])))
}

function refuseAway(error: unknown): never {
  if (error instanceof ClusterAway || error instanceof KubernetesError)
    throw new Refusal('cluster_away', 'The cluster does not answer; its logs are there once it does.')
  throw error
}

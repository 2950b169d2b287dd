import type { Readable } from 'node:stream'
import type { Platform } from '../context.ts'
import { type Blot, blotterFor } from './blot.ts'
import type { Cluster } from './cluster.ts'
import type { ServiceState } from './observe.ts'
import type { DueApp } from './queue.ts'
import { openBags } from './values.ts'

const linesMax = 20
const bytesMax = 64 * 1024
const lineLengthMax = 500

/** What failed services said last, and what the cluster says of them, known values blotted out. Where they are not known, nothing is shown. */
export async function explain(
  platform: Platform,
  cluster: Cluster,
  app: DueApp,
  services: ServiceState[],
): Promise<(ServiceState & { logs: string[] })[]> {
  const blot = await blotterOf(platform, app)
  return Promise.all(
    services.map(async (service) => {
      const { pod, state } = service
      if (!pod || state !== 'failed') return { ...service, message: blotted(blot, service.message), logs: [] }
      const [logs, event] = blot
        ? await Promise.all([lastLines(cluster, pod, blot), service.message ? undefined : lastWarning(cluster, pod)])
        : [[], undefined]
      return {
        ...service,
        reason: service.reason ?? event?.reason ?? null,
        message: blotted(blot, service.message ?? event?.message ?? null),
        logs,
      }
    }),
  )
}

const blotted = (blot: Blot | undefined, text: string | null) => (text === null || !blot ? null : blot(text))

async function blotterOf(platform: Platform, { organizationId, bags }: DueApp): Promise<Blot | undefined> {
  try {
    const opened = await openBags(platform, organizationId, bags)
    return blotterFor([...opened.values()].flatMap((values) => [...values.values()]))
  } catch {
    // Sealed, or damaged: what is not known cannot be blotted out.
    return undefined
  }
}

type Pod = NonNullable<ServiceState['pod']>

/**
 * Of the container that runs now, or of the one before it: a kubelet keeps the last that ended, and which of the two that is depends on the
 * moment. Of one that is gone already it answers 200, and says so where the lines would be.
 */
export async function lastLines(
  { kubernetes }: Pick<Cluster, 'kubernetes'>,
  { namespace, name, hasRestarted }: Pod,
  blot: Blot,
): Promise<string[]> {
  for (const previous of [hasRestarted, !hasRestarted]) {
    try {
      const text = await endOf(await kubernetes.logs({ namespace, name }, { tail: linesMax, previous }))
      const lines = text.split('\n').filter((line) => line.trim() !== '')
      // Cut only then: half a value would not be known.
      if (lines.length > 0 && !/^unable to retrieve container logs for \S+$/.test(lines.join()))
        return lines.slice(-linesMax).map((line) => blot(line).slice(0, lineLengthMax))
    } catch {
      // A container that never ran has none; and the reason is known without.
    }
  }
  return []
}

async function endOf(stream: Readable): Promise<string> {
  let text = ''
  let isCut = false
  for await (const part of stream.setEncoding('utf8') as AsyncIterable<string>) {
    text += part
    isCut ||= text.length > bytesMax
    text = text.slice(-bytesMax)
  }
  // The rest of a line may begin within a value.
  return isCut ? text.slice(text.indexOf('\n') + 1) : text
}

async function lastWarning({ kubernetes }: Cluster, { namespace, name }: Pod) {
  try {
    const { items } = await kubernetes.list('Event', { namespace, fields: `involvedObject.name=${name}`, limit: 100 })
    const warnings = items.filter(({ type }) => type === 'Warning')
    const last = warnings
      .sort((one, other) => (one.lastTimestamp ?? '').localeCompare(other.lastTimestamp ?? ''))
      .at(-1)
    return last && { reason: last.reason ?? null, message: last.message ?? null }
  } catch {
    return undefined
  }
}

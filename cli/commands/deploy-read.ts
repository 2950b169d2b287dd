import { decodeId } from '@1ctl/contract/ids'
import { type App, type AppOptions, appFor, appInWords } from '../app.ts'
import { effectiveLines, noteStaged, sourceOf } from '../app-lines.ts'
import { aligned } from '../bag-lines.ts'
import type { Deps } from '../deps.ts'
import { CliError } from '../errors.ts'
import { everyPage } from '../pages.ts'
import { follow, isDetached, isOver, liveLine, type Receipt, type WaitOptions } from '../rollout.ts'
import { ago, nearest, plural } from '../words.ts'

/** What may be known of apps: what runs, what was deployed, where a variable comes from. */

export async function appList({ vpc }: { vpc?: string }, { client, out, note }: Deps): Promise<void> {
  const api = client()
  const apps = (await everyPage((page) => api.appList({ vpc, ...page }))).reverse()
  // A mistyped VPC has none either, and is not the same as an empty one.
  if (apps.length === 0 && vpc !== undefined) await api.vpcView({ name: vpc })
  out.list(
    apps,
    [
      { header: 'APP', cell: ({ name }) => name },
      { header: 'VPC', cell: ({ vpc }) => vpc },
      { header: 'STATE', cell: stateOf },
      { header: 'READY', cell: readyOf },
      { header: 'RELEASE', cell: ({ release }) => (release === null ? '-' : `v${release}`) },
      { header: 'IMAGE', cell: ({ services }) => [...new Set(services.map(({ image }) => image))].join(', ') || '-' },
      { header: 'CHANGED', cell: ({ updatedAt, updatedBy }) => `${ago(updatedAt)} by ${updatedBy}`, wide: true },
      { header: 'ID', cell: ({ id }) => id, wide: true },
    ],
    ({ name }) => name,
  )
  if (apps.length === 0) note(vpc === undefined ? 'No apps yet. To deploy one: 1ctl deploy' : 'No apps there.')
}

/** In one word; the rest is for `deploy status`. */
function stateOf({ rollout, rejected, staged, release }: App): string {
  if (release === null) return 'not deployed'
  if (rollout && rollout.finishedAt === null) return rollout.state
  if (rejected !== null) return 'rejected'
  return staged ? 'redeploy needed' : (rollout?.state ?? 'live')
}

const readyOf = ({ services }: App) => {
  const sum = (count: 'ready' | 'replicas') => services.reduce((total, service) => total + service[count], 0)
  return services.length === 0 ? '-' : `${sum('ready')}/${sum('replicas')}`
}

type StatusOptions = AppOptions & WaitOptions & { target?: string }

/** Follows a rollout or a wave: that of the id, or the last one of the app. */
export async function rolloutStatus({ target, ...options }: StatusOptions, deps: Deps): Promise<void> {
  const { client, flags, out } = deps
  const api = client()
  const isWave = target !== undefined && decodeId('wave', target) !== undefined && target.startsWith('wav_')
  if (isWave) {
    const { ended, failure } = await follow({ rollouts: [], wave: target }, waiting(options), deps)
    const wave = await api.waveView({ id: target })
    out.one(wave, wave.id, [
      ...ended.filter(({ receipt }) => receipt.state === 'live').map(liveLine),
      `${wave.secret} v${wave.version}: the wave through ${plural(wave.apps.length, 'app')} is ${wave.state}`,
    ])
    if (failure) throw failure
    return
  }
  const isRollout = target?.startsWith('rol_')
  const app = isRollout ? undefined : await api.appView(await appFor(target, options, deps))
  const id = isRollout ? target : app?.rollout?.id
  if (id === undefined) {
    if (app) out.one(app, stateOf(app), linesOf(app))
    if (app?.staged) noteStaged(app, deps)
    return
  }
  const first = await api.rolloutView({ id })
  const { ended, failure } = await follow({ rollouts: [first] }, waiting(options), deps)
  const [last] = ended
  if (!last) return
  // As it is now that it is over.
  const after = app && (isOver(first) ? app : await api.appView({ ref: app.id }))
  out.one(after ? { ...after, receipt: last.receipt } : last.receipt, last.receipt.state, [
    ...(after ? linesOf(after) : receiptLines(last.receipt)),
    ...(last.receipt.state === 'live' ? [liveLine(last)] : []),
  ])
  if (after?.staged && flags.output === 'table') noteStaged(after, deps)
  if (failure) throw failure
}

const waiting = (options: WaitOptions) => (isDetached(options) ? { ...options, waitTimeout: 0 } : options)

const linesOf = (app: App): string[] => [
  `${appInWords(app)} (${app.id}): ${stateOf(app)}${app.release === null ? '' : `, v${app.release}`}`,
  ...aligned(
    app.services.map(({ name, image, ready, replicas, port }) => [
      `  ${name}`,
      image,
      `${ready}/${replicas} ready`,
      port === null ? '' : `port ${port}`,
    ]),
  ),
  ...(app.rejected === null ? [] : [`  rejected: ${app.rejected}`]),
]

const receiptLines = ({ app, vpc, release, state, cause, createdAt, createdBy, services }: Receipt): string[] => [
  `${appInWords({ name: app, vpc })} v${release}: ${state.replace('_', ' ')} (${cause}, ${ago(createdAt)} by ${createdBy})`,
  ...aligned(
    services.map(({ name, ready, wanted, reason }) => [`  ${name}`, `${ready}/${wanted} ready`, reason ?? '']),
  ),
]

export async function releaseList({ app, ...options }: AppOptions, deps: Deps): Promise<void> {
  const { client, out, note } = deps
  const api = client()
  const found = await appFor(app, options, deps)
  const releases = await everyPage((page) => api.releaseList({ ...found, ...page }))
  out.list(
    releases,
    [
      { header: 'RELEASE', cell: ({ number, current }) => `${current ? '* ' : ''}v${number}` },
      { header: 'LIVE', cell: ({ live }) => (live ? 'yes' : '-') },
      { header: 'CHANGED', cell: ({ createdAt }) => out.time(createdAt) },
      { header: 'BY', cell: ({ createdBy }) => createdBy },
      { header: 'CAUSE', cell: ({ cause }) => cause },
      { header: 'IMAGE', cell: ({ services }) => [...new Set(services.map(({ image }) => image))].join(', ') },
      { header: 'NOTE', cell: ({ note }) => note ?? '' },
      {
        header: 'SECRETS',
        cell: ({ secrets }) => secrets.map((s) => `${s.name} v${s.version}`).join(', '),
        wide: true,
      },
    ],
    ({ number }) => String(number),
  )
  if (releases.length === 0) note('Nothing was deployed yet.')
}

type EffectiveOptions = AppOptions & { explain?: string; service?: string }

export async function effectiveEnv({ app, explain, service, ...options }: EffectiveOptions, deps: Deps): Promise<void> {
  const { client, flags, out } = deps
  const { items } = await client().effectiveEnv(await appFor(app, options, deps))
  const services = service === undefined ? items : items.filter((item) => item.service === service)
  if (services.length === 0)
    throw notFound(
      'service',
      service ?? '',
      items.map((item) => item.service),
    ) // an app has one at least
  if (explain === undefined) {
    if (flags.output === 'name' || (flags.quiet && flags.output === 'table'))
      return namesOf(services).forEach((name) => out.text(name))
    return out.one({ items: services }, '', effectiveLines(services))
  }
  const found = services.flatMap(({ service, variables }) =>
    variables.filter(({ name }) => name === explain).map((variable) => ({ service, ...variable })),
  )
  if (found.length === 0) throw notFound('variable', explain, namesOf(services))
  out.one(
    { items: found },
    explain,
    found.flatMap(({ service, overrides, ...winner }) => [
      `${explain} in ${service}: ${sourceOf(winner)}${winner.value === null ? '' : `, ${JSON.stringify(winner.value)}`}`,
      // The nearest first: what would count if the winner were not there.
      ...overrides.toReversed().map((entry) => `  overrides ${sourceOf(entry)}`),
    ]),
  )
}

const namesOf = (services: { variables: { name: string }[] }[]) => [
  ...new Set(services.flatMap(({ variables }) => variables.map(({ name }) => name))),
]

function notFound(what: 'service' | 'variable', typed: string, known: string[]): CliError {
  const guess = nearest(typed, known)
  return new CliError('notFound', `${what}_not_found`, `There is no ${what} ${typed}.`, {
    fix: guess ? `Did you mean ${guess}?` : '1ctl deploy env',
  })
}

import type { ApiContract, Output } from '@1ctl/contract'
import { type App, appInWords, namedAgain } from './app.ts'
import { aligned } from './bag-lines.ts'
import type { Deps } from './deps.ts'
import { showAndFollow, type WaitOptions } from './rollout.ts'

/** What a person reads about an app that was changed or would be. */

export type Deployed = Output<ApiContract['deploy']>
export type EffectiveService = Deployed['effectiveEnv'][number]
type Entry = EffectiveService['variables'][number]['overrides'][number]

/** What became of a change of an app: a rollout, which is waited for; something staged; or nothing. */
export async function showDeployed(
  deployed: Deployed,
  options: WaitOptions & { stage?: boolean },
  deps: Deps,
  lines: string[] = [],
): Promise<void> {
  const { app, release, rollout } = deployed
  if (rollout) {
    // As it is by then.
    const data = async ([last]: object[]) => ({
      ...deployed,
      app: await deps.client().appView({ ref: app.id }),
      rollout: last,
    })
    return showAndFollow({ name: rollout.id, lines, data }, { rollouts: [rollout] }, options, deps)
  }
  const where = appInWords(app)
  if (options.stage && app.staged) {
    deps.out.one(deployed, app.name, [...lines, `✓ ${where}: saved, not live yet`])
    return noteStaged(app, deps)
  }
  const runs = release > 0 ? `${where} has that already (v${release})` : `${where} has that already`
  deps.out.one(deployed, app.name, [`No change: ${runs}.`])
  if (app.staged) noteStaged(app, deps)
}

export function noteStaged(app: App, { note }: Deps): void {
  if (app.release === null) return note(`It counts from the first deploy on: 1ctl deploy --name ${namedAgain(app)}`)
  note(
    `Something is staged for ${appInWords(app)}. A restart of a pod does not apply it; run: 1ctl deploy redeploy ${namedAgain(app)}`,
  )
}

/** Each variable with what gives it its value, and what it hides. */
export function effectiveLines(services: EffectiveService[]): string[] {
  return services.flatMap(({ service, variables, files }) => [
    `${service}:${variables.length + files.length === 0 ? ' nothing' : ''}`,
    ...aligned([
      ...variables.map(({ overrides, ...winner }) => [
        `  ${winner.name}`,
        sourceOf(winner),
        overrides.length > 0 ? `overrides ${overrides.map(sourceOf).join(', ')}` : '',
      ]),
      ...files.map(({ path, secret, scope, version }) => [`  ${path}`, bagOf({ secret, scope, version }), '']),
    ]),
  ])
}

/** `env`, `env of the service`, `db-creds v3 (shared)`, `link to db-creds/URL v3 (app)` */
export function sourceOf({ source, level, key, name, ...bag }: Entry): string {
  const where = level === 'service' ? ', of the service' : ''
  if (source === 'env') return `env${where}`
  if (source === 'envFrom') return `${bagOf(bag)}${where}`
  return `link to ${bagOf(bag)}${key === name ? '' : `, key ${key}`}${where}`
}

const scopes = { org: 'shared', vpc: 'VPC', app: 'app' }
const bagOf = ({ secret, scope, version }: Pick<Entry, 'secret' | 'scope' | 'version'>) =>
  `${secret} v${version}${scope ? ` (${scopes[scope]})` : ''}`

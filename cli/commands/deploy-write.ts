import { decodeId } from '@1ctl/contract/ids'
import { type AppOptions, appFor, appInWords } from '../app.ts'
import { effectiveLines, showDeployed } from '../app-lines.ts'
import type { Deps } from '../deps.ts'
import { CliError, usage } from '../errors.ts'
import type { WaitOptions } from '../rollout.ts'
import { type Declared, readDeclaration } from '../satusky-toml.ts'
import { variablesOf } from '../variables.ts'
import { nearest } from '../words.ts'

/** What changes what an app runs. */

export type DeployOptions = WaitOptions & {
  /** a command that does not exist */
  command?: string
  deploymentId?: string
  config?: string
  name?: string
  app?: string
  vpc?: string
  image?: string
  port?: number
  replicas?: number
  env?: string[]
  envFrom?: string[]
  secretFile?: string[]
  onFailure?: 'rollback' | 'keep'
  note?: string
  stage?: boolean
  dryRun?: boolean
}

/** `known`: the commands of `deploy`, for who mistyped one. */
export const deploy = (known: string[]) =>
  async function deploy({ command, ...options }: DeployOptions, deps: Deps): Promise<void> {
    if (command !== undefined) throw unknownCommand(command, known)
    const { note, stage, dryRun } = options
    const { declared, ...target } = await targetOf(options, deps)
    const body = { ...withFlags(declared, options, deps), ...target, note, dryRun }
    const deployed = await deps.client().deploy({ ...body, ...(stage ? { rollout: 'stage' as const } : {}) })
    if (!dryRun) return showDeployed(deployed, options, deps)
    const { app, effectiveEnv, unchanged, release } = deployed
    const what = unchanged ? `no change, it runs v${release}` : `would be v${release}`
    deps.out.one(deployed, app.name, [`${appInWords(app)}: ${what}`, ...effectiveLines(effectiveEnv)])
    deps.note('Dry run: nothing was changed.')
  }

function unknownCommand(command: string, known: string[]): CliError {
  const guess = nearest(command, known)
  // Not more of it than the name that it might be.
  const shown = command.replace(/[^\w-].*/s, '')
  return usage(`There is no command "deploy ${shown}".`, guess ? `Did you mean "${guess}"?` : '1ctl deploy --help')
}

type Target = { name: string; vpc: string | undefined; declared: Declared }

/**
 * Flags say which app; the file that `--config` names, or satusky.toml if it is of this app, says how it runs. A file of another app that
 * happens to lie here is left alone.
 */
async function targetOf(options: DeployOptions, deps: Deps): Promise<Target> {
  const { deploymentId, config, vpc } = options
  if (options.name !== undefined && options.app !== undefined) throw usage('--name and --app name the same thing.')
  const name = options.name ?? options.app
  if (deploymentId !== undefined && name !== undefined)
    throw usage('This names several apps.', 'Use one of --name and --deployment-id.')
  const file = await readDeclaration(config, deps.note)
  const id = deploymentId ?? (name === undefined ? file?.deploymentId : undefined)
  const found = id === undefined ? undefined : await deps.client().appView({ ref: id })
  // An app stays in its VPC.
  if (found && vpc !== undefined && vpc !== found.vpc && decodeId('vpc', vpc) === undefined)
    throw usage(`${found.id} is in VPC ${found.vpc}, not in ${vpc}.`, 'Name the app, and it is deployed there too.')
  const app = found?.name ?? name ?? file?.name
  if (app === undefined) throw usage('Which app?', 'Name it with --name, or run this where a satusky.toml is.')
  const isMeant =
    file && (config !== undefined || (file.deploymentId === undefined ? file.name === app : file.deploymentId === id))
  if (file && !isMeant) deps.note(`${file.path} is of ${file.deploymentId ?? file.name}: it is not used.`)
  return {
    name: app,
    vpc: found?.vpc ?? vpc ?? (isMeant ? file.vpc : undefined),
    declared: isMeant ? file.declared : {},
  }
}

const merged = (before: string[] | undefined, more: string[] | undefined) =>
  more ? [...new Set([...(before ?? []), ...more])] : before

/** A flag comes before the file; lists and variables are added to it. */
function withFlags(declared: Declared, options: DeployOptions, deps: Deps): Declared {
  const { image, port, replicas, onFailure, env, envFrom, secretFile } = options
  return {
    ...declared,
    image: image ?? declared.image,
    port: port ?? declared.port,
    replicas: replicas ?? declared.replicas,
    onFailure: onFailure ?? declared.onFailure,
    env: env ? { ...declared.env, ...variablesOf(env, deps) } : declared.env,
    envFrom: merged(declared.envFrom, envFrom),
    secretFiles: merged(declared.secretFiles, secretFile),
  }
}

export type RollbackOptions = AppOptions &
  WaitOptions & { release: number; secrets?: 'current' | 'release'; note?: string }

export async function appRollback({ release, secrets, note, ...options }: RollbackOptions, deps: Deps): Promise<void> {
  const app = await appFor(undefined, options, deps)
  await showDeployed(await deps.client().appRollback({ ...app, release, secrets, note }), options, deps)
}

export async function appRedeploy({ app, ...options }: AppOptions & WaitOptions, deps: Deps): Promise<void> {
  const found = await appFor(app, options, deps)
  await showDeployed(await deps.client().appRedeploy({ ...found }), options, deps)
}

type DeleteOptions = Pick<AppOptions, 'vpc'> & { app: string; confirm?: string }

export async function appDelete({ app, confirm, vpc }: DeleteOptions, { client, out, prompt }: Deps): Promise<void> {
  const api = client()
  const found = await api.appView({ ref: app, vpc })
  const where = appInWords(found)
  await prompt.confirmName(`Delete ${where} and stop all its pods? Its own secrets stay.`, found.name, confirm)
  await api.appDelete({ ref: found.id, confirm: found.name })
  out.one({ id: found.id, name: found.name, deleted: true }, found.name, [`${where} deleted.`])
}

import type { ApiContract, Output } from '@1ctl/contract'
import type { Command } from 'commander'
import type { Deps } from './deps.ts'
import { usage } from './errors.ts'
import { readAppConfig } from './satusky-toml.ts'

/** Which app a command means: for the API's paths, where a name is looked up in a VPC. */
export type AppRef = { ref: string; vpc?: string | undefined }

export type AppOptions = { deploymentId?: string; config?: string; app?: string; vpc?: string }

export type App = Output<ApiContract['appView']>

/** `--app` is left out where the app is an argument `[app]`, which would have the same name. */
export const addAppOptions = (command: Command, { isArgument = false } = {}): Command => {
  command
    .option('-d, --deployment-id <dep-id>', 'the deployment (default: that of satusky.toml)')
    .option('--config <config>', 'staging means satusky.staging.toml; or a path')
  if (!isArgument) command.option('--app <app>', 'the app of this name')
  return command.option('--vpc <vpc>', 'the VPC it is in (default: that of satusky.toml, or "default")')
}

/** The one that was named, by the argument `[app]` or a flag; else that of satusky.toml. */
export async function appFor(typed: string | undefined, options: AppOptions, { note }: Deps): Promise<AppRef> {
  const { deploymentId, config, app, vpc } = options
  const named = [typed, deploymentId, config, app].filter((given) => given !== undefined)
  if (named.length > 1) {
    throw usage('This names several apps.', 'Use one of the argument, --deployment-id, --config and --app.')
  }
  const ref = typed ?? deploymentId ?? app
  if (ref !== undefined) return { ref, vpc }
  const found = await readAppConfig(config, note)
  if (!found) throw whichApp()
  return found.deploymentId === undefined
    ? { ref: found.name ?? '', vpc: vpc ?? found.vpc }
    : { ref: found.deploymentId, vpc }
}

export const whichApp = () =>
  usage('Which app?', 'Name it, with --app or as an argument, or run this where a satusky.toml is.')

/** As a command takes it, to be repeated for this app: `api`, `api --vpc staging`. */
export const namedAgain = ({ name, vpc }: Pick<App, 'name' | 'vpc'>): string =>
  vpc === 'default' ? name : `${name} --vpc ${vpc}`

/** `api`, `api in VPC staging` */
export const appInWords = ({ name, vpc }: Pick<App, 'name' | 'vpc'>): string =>
  vpc === 'default' ? name : `${name} in VPC ${vpc}`

import { limits } from '@1ctl/contract/limits'
import { type Command, Help, InvalidArgumentError, Option } from 'commander'
import { addAppOptions } from '../app.ts'
import { choiceOption, examples, noteOption } from '../command.ts'
import type { Run } from '../deps.ts'
import { addWaitOptions } from '../rollout.ts'
import { count, repeated } from '../words.ts'
import { appList, effectiveEnv, releaseList, rolloutStatus } from './deploy-read.ts'
import { appDelete, appRedeploy, appRollback, deploy } from './deploy-write.ts'

const known = ['list', 'status', 'releases', 'rollback', 'redeploy', 'env', 'delete']

export function deployCommands(noun: Command, run: Run): void {
  // `1ctl deploy` itself, a command of its own name: options of the noun would be taken from all of its commands.
  const itself = noun
    .command(noun.name(), { isDefault: true, hidden: true })
    .argument('[command]')
    .option('--name <app>', 'the app (default: that of satusky.toml)')
    .option('-d, --deployment-id <dep-id>', 'the app with this id')
    .addOption(new Option('--app <app>', 'the same as --name').hideHelp())
    .option('--config <config>', 'staging means satusky.staging.toml; or a path')
    .option('--vpc <vpc>', 'the VPC to deploy to (default: that of the file, or "default")')
    .option('--image <image>', 'the image to run: acme/api:1.0')
    .option('--port <number>', 'the port it listens on', count(1, 65_535))
    .option('--replicas <number>', 'how many pods', count(0, limits.replicasMax))
    .option('--env <pair>', 'KEY=VALUE: a variable that may be read; repeat for more', repeated(String))
    .option('--env-from <group>', 'a secret: each key becomes a variable; repeat for more', repeated(String))
    .option('--secret-file <group>', 'a secret: each key becomes a file /run/secrets/KEY; repeat', repeated(String))
    .addOption(choiceOption('--on-failure <word>', 'what to do when pods reject it', ['rollback', 'keep']))
    .option(...noteOption)
    .option('--stage', 'save without rolling out')
    .option('--dry-run', 'show the environment it would get and where each variable comes from; change nothing')
    .action(run(deploy(known)))
  addWaitOptions(itself)
  noun
    .usage('[command] [flags]')
    .configureHelp({
      ...noun.configureHelp(),
      visibleOptions(command) {
        return Help.prototype.visibleOptions.call(this, command === noun ? itself : command)
      },
    })
    .addHelpText('after', '\nWhat satusky.toml may say: 1ctl help satusky.toml. How rollouts end: 1ctl help rollouts')

  noun
    .command('list')
    .alias('ls')
    .description('List apps: what runs, and whether all pods do')
    .option('--vpc <vpc>', 'only those in this VPC')
    .addHelpText('before', examples('1ctl deploy list', '1ctl deploy list --vpc staging --wide'))
    .action(run(appList))

  addWaitOptions(addAppOptions(noun.command('status')))
    .description('Follow a rollout to its end, and show what runs; exit 7 if it failed')
    .argument('[target]', 'an app, or the id of a rollout (rol_…) or a wave (wav_…)')
    .addHelpText('before', examples('1ctl deploy status', '1ctl deploy status api', '1ctl deploy status rol_123abc'))
    .action(run(rolloutStatus))

  addAppOptions(noun.command('releases').alias('history'), { isArgument: true })
    .description('List what was deployed, newest first')
    .argument('[app]', 'name or id')
    .addHelpText('before', examples('1ctl deploy releases', '1ctl deploy releases api --wide'))
    .action(run(releaseList))

  addWaitOptions(addAppOptions(noun.command('rollback')))
    .description('Run an earlier release again, as a new one')
    .argument('<release>', 'its number, see 1ctl deploy releases', releaseNumber)
    .addOption(choiceOption('--secrets <word>', 'with the secrets of now, or those of then', ['current', 'release']))
    .option(...noteOption)
    .addHelpText(
      'before',
      examples('1ctl deploy rollback 3', '1ctl deploy rollback 3 --app api --secrets release --note "bad migration"'),
    )
    .action(run(appRollback))

  addWaitOptions(addAppOptions(noun.command('redeploy'), { isArgument: true }))
    .description('Roll out what is staged, with the current secrets; with nothing staged start all pods anew')
    .argument('[app]', 'name or id')
    .addHelpText('before', examples('1ctl deploy redeploy', '1ctl deploy redeploy api --vpc staging'))
    .action(run(appRedeploy))

  addAppOptions(noun.command('env'), { isArgument: true })
    .description('Show the environment that pods get: each variable, where it comes from, and what it overrides')
    .argument('[app]', 'name or id')
    .option('--explain <variable>', 'only this variable, with all that would give it a value')
    .option('--service <service>', 'only this service')
    .addHelpText('before', examples('1ctl deploy env', '1ctl deploy env api --explain DATABASE_URL'))
    .action(run(effectiveEnv))

  noun
    .command('delete')
    .alias('rm')
    .description('Delete an app and its pods, after its name was typed; its secrets stay')
    .argument('<app>', 'name or id')
    .option('--vpc <vpc>', 'the VPC it is in')
    .option('--confirm <name>', 'its name, instead of being asked for it')
    .addHelpText('before', examples('1ctl deploy delete api', '1ctl deploy delete api --confirm=api'))
    .action(run(appDelete))
}

function releaseNumber(text: string): number {
  const [, digits] = /^v?([1-9]\d{0,8})$/.exec(text) ?? []
  if (digits === undefined) throw new InvalidArgumentError('Write the number of a release: 3 or v3.')
  return Number(digits)
}

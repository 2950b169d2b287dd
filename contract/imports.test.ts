import { readdirSync, readFileSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { expect, test } from 'vitest'

/** Imports point one way: cli, dashboard and server to the contract; inside the server, capabilities do not reach into http. */
const root = resolve(import.meta.dirname, '..')

type Import = { from: string; to: string; isType: boolean }

/** What our own code imports; tests may reach anywhere. Paths from the root, packages by name. */
function importsOf(folder: string): Import[] {
  const files = readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.tsx?$/.test(entry.name))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .filter((file) => !/node_modules|dist\/|testing\/|\.test\.tsx?$/.test(file))
  return files.flatMap((from) => {
    const source = readFileSync(join(root, from), 'utf8')
    const found = source.matchAll(/^(?:import|export)\s+(type\s)?(?:[^'"]*?\sfrom\s+)?'([^']+)'|import\('([^']+)'\)/gm)
    return [...found].map(([, type, static_, dynamic]) => {
      const to = static_ ?? dynamic ?? ''
      return {
        from,
        isType: type !== undefined,
        to: to.startsWith('.') ? relative(root, resolve(root, from, '..', to)) : to,
      }
    })
  })
}
const shown = ({ from, to }: Import) => `${from} imports ${to}`
const isIn =
  (folder: string) =>
  ({ to }: Import) =>
    to.startsWith(`${folder}/`) || to.startsWith(`@1ctl/${folder}`)

test.each([
  ['contract', ['cli', 'dashboard', 'server']],
  ['cli', ['dashboard', 'server']],
  ['dashboard', ['cli', 'server']],
  ['server', ['cli', 'dashboard']],
  ['server/store', ['server/http', 'server/identity', 'server/audit']],
  ['server/audit', ['server/identity']],
])('%s imports nothing of %j', (folder, others) => {
  const imports = importsOf(folder)
  expect(imports.length).toBeGreaterThan(0)
  expect(imports.filter((one) => others.some((other) => isIn(other)(one))).map(shown)).toEqual([])
})

test('a capability takes from http only what has nothing to do with a request arriving', () => {
  const open = ['server/http/cookie.ts', 'server/http/view.ts', 'server/http/idempotency.ts']
  const imports = importsOf('server').filter(({ from }) => !/^server\/(http\/|main\.ts)/.test(from))
  const beyond = imports.filter((one) => isIn('server/http')(one) && !one.isType && !open.includes(one.to))
  expect(beyond.map(shown)).toEqual([])
})

test('the clients load no schemas: types, and modules that need none', () => {
  const loaded = importsOf('contract').filter(({ isType }) => !isType)
  const needsZod = (module: string): boolean =>
    loaded.some(({ from, to }) => from === module && (to === 'zod' || needsZod(to)))
  expect(needsZod('contract/index.ts')).toBe(true)
  const heavy = [...importsOf('cli'), ...importsOf('dashboard')]
    .filter((one) => isIn('contract')(one) && !one.isType)
    .map((one) => ({ ...one, to: `${one.to.replace(/^@1ctl\/contract$/, '$&/index').replace('@1ctl/', '')}.ts` }))
    // The build puts its result in its place.
    .filter(({ to }) => to !== 'contract/table.ts' && needsZod(to))
  expect(heavy.map(shown)).toEqual([])
})

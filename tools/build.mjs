// `npm run build`: server/dist, cli/dist and dashboard/dist, side by side.
import { cpSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import * as esbuild from 'esbuild'
import { contractTableEsbuild } from './contract-table.mjs'
import { alone, building, built, root } from './setup.mjs'

// React has a slow development build, which a NODE_ENV of the caller must not select.
process.env.NODE_ENV = 'production'

const shared = { bundle: true, platform: 'node', target: 'node20', legalComments: 'none', logLevel: 'silent' }

// `packages: 'external'` would leave out our own workspaces too, whose sources node cannot run.
const packagesExternal = {
  name: 'packages-external',
  setup: ({ onResolve }) =>
    onResolve({ filter: /^[^./]/ }, ({ path }) => (path.startsWith('@1ctl/') ? undefined : { external: true })),
}

await alone(async () => {
  if (process.argv.includes('--if-needed') && built()) return
  await building(async () => {
    const parts = await Promise.all([part('server', server), part('cli', cli), part('dashboard', dashboard)])
    if (parts.includes('failed')) process.exit(1)
  })
})

async function server() {
  rmSync(at('server/dist'), { recursive: true, force: true })
  await bundle({
    entryPoints: [at('server/main.ts')],
    outfile: at('server/dist/main.js'),
    format: 'esm',
    sourcemap: 'linked',
    plugins: [packagesExternal],
  })
  // `new URL('./migrations/', import.meta.url)` finds them from the sources and from the bundle.
  cpSync(at('server/store/migrations'), at('server/dist/migrations'), { recursive: true })
  return statSync(at('server/dist/main.js')).size
}

async function cli() {
  await bundle({
    entryPoints: [at('cli/main.ts')],
    outfile: at('cli/dist/1ctl.cjs'),
    format: 'cjs',
    minify: true,
    plugins: [contractTableEsbuild()],
  })
  return statSync(at('cli/dist/1ctl.cjs')).size
}

async function dashboard() {
  const { build } = await import('vite')
  await build({ root: at('dashboard'), logLevel: 'warn' })
  return compress(at('dashboard/dist'))
}

/** Writes x.gz beside each text x, so that the server compresses nothing while serving. */
function compress(folder) {
  let total = 0
  for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    if (!/\.(js|css|html|svg|json|txt|webmanifest)$/.test(name)) continue
    const plain = readFileSync(join(folder, name))
    const packed = gzipSync(plain, { level: 9 })
    if (plain.length > 1024) writeFileSync(join(folder, `${name}.gz`), packed)
    total += packed.length
  }
  return total
}

async function part(name, build) {
  const began = performance.now()
  try {
    const size = await build()
    console.log(`${name.padEnd(10)}${Math.round(performance.now() - began)} ms, ${Math.round(size / 1000)} kB`)
    return 'built'
  } catch (error) {
    console.error(`${name}: ${error.message}`)
    return 'failed'
  }
}

/** An esbuild whose failure is told once, by `part`, and whose warnings are told too. */
async function bundle(options) {
  const { warnings } = await esbuild.build({ ...shared, ...options })
  for (const text of await esbuild.formatMessages(warnings, { kind: 'warning' })) console.warn(text)
}

function at(path) {
  return join(root, path)
}

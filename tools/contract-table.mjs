// The clients need to know of each route only its method, path and query: plain data, which `contract/table.ts` computes from
// schemas. These plugins compute it while building, so that the schemas and zod stay out of the CLI and the browser.
import { join } from 'node:path'
import { build } from 'esbuild'
import { root } from './setup.mjs'

export const contractTableEsbuild = () => ({
  name: 'contract-table',
  setup({ initialOptions, onLoad, onEnd }) {
    initialOptions.metafile = true
    onLoad({ filter: isTable }, async () => ({ contents: (await evaluate()).code }))
    onEnd(({ metafile: { inputs, outputs } = {} }) => {
      const used = Object.values(outputs ?? {}).flatMap((output) => Object.keys(output.inputs))
      if (!used.some(isZod)) return {}
      const importers = Object.keys(inputs).filter((from) => inputs[from].imports.some(({ path }) => isZod(path)))
      return { errors: [{ text: tooMuch(importers) }] }
    })
  },
})

export const contractTableVite = () => ({
  name: 'contract-table',
  enforce: 'pre',
  async load(id) {
    if (!isTable.test(id.split('?')[0])) return undefined
    const { code, inputs } = await evaluate()
    for (const path of inputs) this.addWatchFile(join(root, path))
    return code
  },
  generateBundle(_, bundle) {
    const used = Object.values(bundle).flatMap(({ modules = {} }) => Object.keys(modules))
    const importers = [...this.getModuleIds()].filter(isZod).flatMap((id) => this.getModuleInfo(id).importers)
    if (used.some(isZod)) this.error(tooMuch(importers))
  },
})

const isTable = /[\\/]contract[\\/]table\.ts$/
const isZod = (path) => /node_modules[\\/]zod[\\/]/.test(path)
const tooMuch = (importers) =>
  `What the clients load must not contain zod: import types only, or from modules without schemas. It comes from ${[...new Set(importers)].filter((path) => !isZod(path)).join(', ')}.`

async function evaluate() {
  const { outputFiles, metafile } = await build({
    entryPoints: ['contract/table.ts'],
    absWorkingDir: root,
    bundle: true,
    format: 'esm',
    platform: 'node',
    write: false,
    metafile: true,
  })
  const { table } = await import(
    `data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString('base64')}`
  )
  return { code: `export const table = ${JSON.stringify(table)}`, inputs: Object.keys(metafile.inputs) }
}

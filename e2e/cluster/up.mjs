// A cluster to try things on, until Ctrl-C:
//
//   node e2e/cluster/up.mjs [--no-node]     prints the path of its kubeconfig
//
// Also the way in for programs that are not TypeScript: `import { startCluster } from '…/up.mjs'`.
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const { outputFiles } = await build({
  entryPoints: [join(import.meta.dirname, 'cluster.ts')],
  bundle: true,
  write: false,
  platform: 'node',
  format: 'esm',
  define: { 'import.meta.dirname': JSON.stringify(import.meta.dirname) },
})
export const { startCluster, clusterNeeds, busyboxImage } = await import(
  `data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString('base64')}`
)

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const cluster = await startCluster({ node: !process.argv.includes('--no-node') })
  console.log(cluster.kubeconfig)
  for (const signal of ['SIGINT', 'SIGTERM'])
    process.once(signal, () => void cluster.stop().then(() => process.exit(0)))
  setInterval(() => undefined, 2 ** 30)
}

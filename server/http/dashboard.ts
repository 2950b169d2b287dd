import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { FastifyInstance, FastifyReply } from 'fastify'

type Asset = { type: string; plain: Buffer; gzip: Buffer | undefined; immutable: boolean }
export type Dashboard = Map<string, Asset>

const types: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.txt': 'text/plain; charset=utf-8',
}

/** The built dashboard in memory: a few hundred kB that never change while the process runs, so no file is touched per request. */
export function loadDashboard(folder: string): Dashboard | undefined {
  if (!existsSync(`${folder}/index.html`)) return undefined
  const assets: Dashboard = new Map()
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const file = `${entry.parentPath}/${entry.name}`
    const type = types[extname(entry.name)]
    if (!entry.isFile() || !type) continue
    const path = file.slice(folder.length)
    assets.set(path, {
      type,
      plain: readFileSync(file),
      gzip: existsSync(`${file}.gz`) ? readFileSync(`${file}.gz`) : undefined,
      // Vite puts a hash of the content into these names.
      immutable: path.startsWith('/assets/'),
    })
  }
  return assets
}

/** Beside the server's own code, in the checkout and in an image alike: `dashboard/dist` next to `server/dist`. */
export const dashboardFolder = fileURLToPath(new URL('../../dashboard/dist', import.meta.url))

/** Serves the assets; returns what answers with the page itself, for every address that is a page's. */
export function serveDashboard(app: FastifyInstance, assets: Dashboard): (reply: FastifyReply) => FastifyReply {
  for (const [path, asset] of assets)
    if (path !== '/index.html') app.get(path, { config: { name: 'dashboard' } }, (_, reply) => send(reply, asset))
  const page = assets.get('/index.html')
  if (!page) throw new Error('the dashboard has no index.html')
  app.get('/', { config: { name: 'dashboard' } }, (_, reply) => send(reply, page))
  return (reply) => send(reply, page)
}

function send(reply: FastifyReply, { type, plain, gzip, immutable }: Asset): FastifyReply {
  reply.header('cache-control', immutable ? 'public, max-age=31536000, immutable' : 'no-cache').type(type)
  if (!gzip) return reply.send(plain)
  reply.header('vary', 'accept-encoding')
  const accepts = /\bgzip\b/.test(reply.request.headers['accept-encoding'] ?? '')
  return accepts ? reply.header('content-encoding', 'gzip').send(gzip) : reply.send(plain)
}

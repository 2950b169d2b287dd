// `npm start`: sets up what is missing, then becomes the server. One process, so that a signal reaches the server itself.
// (The script says `exec`: else npm signals a shell that dies without passing it on.)
import { ensureBuilt, ensureInstalled } from './setup.mjs'

console.log('Starting 1ctl …')
await ensureInstalled()
await ensureBuilt()
await import('../server/dist/main.js')

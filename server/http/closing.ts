import type { Socket } from 'node:net'
import type { FastifyInstance } from 'fastify'

const lookEveryMs = 20

/**
 * Closing answers the requests in flight and then ends every connection. Node alone would wait: a minute for one that was just
 * answered, for ever for one that a browser opened ahead of a request. How long a stop may take in all is main.ts's affair.
 */
export function closeGently(app: FastifyInstance): void {
  const sockets = new Set<Socket>()
  app.server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  let inFlight = 0
  const answered = () => void inFlight--
  app.server.on('request', (_request, response) => {
    inFlight++
    // Not `finish`, which does not come when the client goes away.
    response.once('close', answered)
  })
  app.addHook('preClose', (done) => {
    const timer = setInterval(() => {
      if (inFlight === 0) for (const socket of sockets) socket.destroy()
    }, lookEveryMs)
    app.server.once('close', () => clearInterval(timer))
    done()
  })
}

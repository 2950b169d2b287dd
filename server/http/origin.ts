import type { FastifyRequest } from 'fastify'
import { Refusal } from '../refusal.ts'

/**
 * A cookie travels with a request whoever caused it, so a cookie request that changes something must say that our own page did:
 * by Origin, or where a browser leaves that out, by Sec-Fetch-Site. (SameSite=Strict alone trusts every sibling subdomain.)
 */
export function refuseForeignOrigin(request: FastifyRequest, publicUrl: string | undefined): void {
  const { origin } = request.headers
  const own = publicUrl ? new URL(publicUrl).origin : `${request.protocol}://${request.host}`
  const isOwn = origin === undefined ? request.headers['sec-fetch-site'] === 'same-origin' : origin === own
  if (!isOwn)
    throw new Refusal(
      'foreign_origin',
      'A request with a session cookie that changes something must come from the dashboard itself.',
      {
        hint: 'Use an API token instead of the cookie. Behind a proxy, start the server with --public-url.',
      },
    )
}

import { isUtf8 } from 'node:buffer'
import type { FastifyInstance } from 'fastify'
import { Refusal } from '../refusal.ts'

/**
 * Bodies: JSON or nothing. They are only received here and read by mount.ts (`readBody`) once the caller was let in: a stranger
 * learns nothing from a 400, and a megabyte of brackets costs nothing.
 */
export function acceptJson(app: FastifyInstance): void {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, bytes, done) => done(null, bytes))
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, bytes, done) =>
    // Some clients announce a form or text with nothing in it.
    done(null, bytes.length === 0 ? bytes : 'other'),
  )
}

export function readBody(received: unknown): unknown {
  if (received === 'other')
    throw new Refusal('unsupported_media_type', 'Send JSON, with content-type: application/json.')
  if (!Buffer.isBuffer(received) || received.length === 0) return undefined
  // Decoding would put U+FFFD for what is not UTF-8, and a wrong value would be stored.
  if (!isUtf8(received)) throw new Refusal('malformed_json', 'The body is not UTF-8.')
  try {
    // Plain JSON.parse makes `__proto__` an ordinary own key, which the schema then refuses or takes like any other name.
    return JSON.parse(received.toString())
  } catch {
    // JSON.parse's own message quotes the text.
    throw new Refusal('malformed_json', 'The body is not JSON.')
  }
}

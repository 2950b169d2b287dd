import type { FastifyInstance } from 'fastify'
import { Refusal } from '../refusal.ts'

/**
 * Bodies: JSON or nothing. A body that is neither becomes a refusal in its place and is reported by mount.ts, after the caller was
 * looked at: a stranger learns nothing from a 400.
 */
export function acceptJson(app: FastifyInstance): void {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (_request, text, done) =>
    done(null, parse(text as string)),
  )
  app.addContentTypeParser('*', { parseAs: 'string' }, (_request, text, done) =>
    // Some clients announce a form or text with nothing in it.
    done(
      null,
      text === ''
        ? undefined
        : new Refusal('unsupported_media_type', 'Send JSON, with content-type: application/json.'),
    ),
  )
}

// Plain JSON.parse makes `__proto__` an ordinary own key, which the schema then refuses or takes like any other name.
function parse(text: string): unknown {
  if (text === '') return undefined
  try {
    return JSON.parse(text)
  } catch {
    // JSON.parse's own message quotes the text.
    return new Refusal('malformed_json', 'The body is not JSON.')
  }
}

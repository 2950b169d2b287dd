import { z } from 'zod'
import { route } from './dsl.ts'

/** What changed, without content: who hears it looks again at what they show. */
export const events = {
  eventStream: route({
    method: 'GET',
    path: '/events',
    summary:
      'Server-sent events: `change` with {"noun": "secret"}, or with null when anything may have changed. It ends now and then; connect again',
    access: 'read',
    stream: 'text/event-stream',
    output: z.string(),
  }),
}

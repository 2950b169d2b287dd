import { z } from 'zod'
import { encodeId, type Noun } from './ids.ts'
import { limits } from './limits.ts'
import { matches, type NameRule, nameRules } from './names.ts'
import { roles, scopes } from './permissions.ts'

/** Shapes that several endpoints share. */

export const id = (noun: Noun) =>
  z.string().meta({ description: `an id of the form ${encodeId(noun, '0190163d-8694-739b-aea5-966c26f8ad91')}` })

export const name = (rule: keyof typeof nameRules) => {
  const { says, lengthMax, pattern }: NameRule = nameRules[rule]
  return z
    .string()
    .refine((value) => matches(nameRules[rule], value), { error: says })
    .meta({ maxLength: lengthMax, pattern: pattern.source, description: says })
}

export const time = z.string().meta({ format: 'date-time' })

/** A moment given by a client, in UTC from here on: RFC 3339 can say years and offsets that PostgreSQL has not. */
export const moment = z.iso
  .datetime({ offset: true })
  .transform((text) => new Date(text))
  .refine((date) => date.getUTCFullYear() >= 1 && date.getUTCFullYear() <= 9999, {
    error: 'not in the years 1 to 9999',
  })
  .transform((date) => date.toISOString())

export const role = z.enum(roles)
export const scope = z.enum(scopes)

export const email = z
  .string()
  .max(254)
  .transform((text) => text.trim().toLowerCase())
  .pipe(z.email({ error: 'an email address: owner@example.test' }))

// NIST SP 800-63B: length is what counts; no composition rules.
export const newPassword = z
  .string()
  .min(limits.passwordLengthMin, { error: `at least ${limits.passwordLengthMin} characters` })
  .max(limits.passwordLengthMax, { error: `at most ${limits.passwordLengthMax} characters` })

export const secretText = z.string().min(1, { error: 'must not be empty' }).max(1024)

/** Lists: newest first, `cursor` is what the page before answered as `nextCursor`. */
export const pageQuery = {
  cursor: z.string().max(200).optional(),
  limit: z.coerce.number().int().min(1).max(limits.pageSizeMax).default(limits.pageSize),
}
export const page = <T extends z.ZodType>(item: T) =>
  z.object({ items: z.array(item), nextCursor: z.string().nullable() })

// A query says it in text; a client may pass the boolean.
export const flag = z.union([z.boolean(), z.stringbool({ truthy: ['true', '1'], falsy: ['false', '0'] })], {
  error: 'true or false',
})

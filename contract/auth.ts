import { z } from 'zod'
import { route } from './dsl.ts'
import { email, id, newPassword, role, scope, secretText, time } from './schemas.ts'

const organizationOfCaller = z.object({ id: id('organization'), name: z.string(), role })

/** Who is calling and what they may do. */
export const me = z.object({
  user: z.object({ id: id('user'), email: z.string(), operator: z.boolean() }),
  organization: z.object({ id: id('organization'), name: z.string() }).nullable(),
  role: role.nullable(),
  permissions: z.array(z.string()),
  session: z.object({ id: id('session'), expiresAt: time }).nullable(),
  token: z
    .object({
      id: id('token'),
      name: z.string(),
      scopes: z.array(scope).nullable(),
      vpcs: z.array(z.string()).nullable(),
      apps: z.array(z.string()).nullable(),
      expiresAt: time.nullable(),
    })
    .nullable(),
  organizations: z.array(organizationOfCaller),
})

export const auth = {
  sessionCreate: route({
    method: 'POST',
    path: '/auth/session',
    summary: 'Sign in: sets the session cookie',
    access: 'public',
    body: z.strictObject({ email, password: secretText }),
    output: me,
    errors: ['invalid_credentials'],
  }),
  sessionSwitch: route({
    method: 'PATCH',
    path: '/auth/session',
    summary: 'Make another of your organizations the current one',
    access: 'session',
    body: z.strictObject({ organization: z.string().max(100).meta({ description: 'name or id' }) }),
    output: me,
    errors: ['organization_not_found'],
  }),
  sessionEnd: route({
    method: 'DELETE',
    path: '/auth/session',
    summary: 'Sign out',
    access: 'session',
    output: z.object({}),
  }),
  meView: route({
    method: 'GET',
    path: '/auth/me',
    summary: 'Who am I: user, organization, role, token, what I may do',
    access: 'caller',
    honorsLimits: true,
    output: me,
  }),
  invitationAccept: route({
    method: 'POST',
    path: '/auth/invitation',
    summary: 'Accept an invitation with its one-time code, and be signed in; a known user gives the password they have',
    access: 'public',
    body: z.strictObject({ invitation: secretText, password: newPassword }),
    output: me,
    errors: ['invalid_invitation', 'invalid_credentials'],
  }),
  passwordChange: route({
    method: 'POST',
    path: '/auth/password',
    summary: 'Change the password; every other session of the user ends',
    access: 'session',
    body: z.strictObject({ current: secretText, new: newPassword }),
    output: z.object({ sessionsEnded: z.int() }),
    errors: ['wrong_password'],
  }),
}

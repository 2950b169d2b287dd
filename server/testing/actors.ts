import type { Role, Scope } from '@1ctl/contract/permissions'
import { expect } from 'vitest'
import type { Credential, TestServer } from './server.ts'

export const password = 'correct horse battery'

/** Signs in; the credential is the cookie a browser would send. */
export async function signIn(server: TestServer, email: string, secret = password): Promise<Credential> {
  const answer = await server.call('/auth/session', { body: { email, password: secret } })
  expect(answer.status, answer.text).toBe(200)
  return cookieOf(answer)
}

export const cookieOf = (answer: { headers: Headers }): Credential => ({
  cookie: answer.headers.get('set-cookie')?.split(';', 1)[0] ?? '',
})

/** A new person of this role in the organization of `by`, by invitation, signed in. */
export async function newMember(
  server: TestServer,
  role: Role,
  by?: Credential,
): Promise<Credential & { email: string; id: string }> {
  const email = `${role}-${counter++}@example.test`
  const { invitation, id } = await server.client(by).memberInvite({ email, role })
  const answer = await server.call('/auth/invitation', { body: { invitation, password } })
  expect(answer.status, answer.text).toBe(200)
  return { ...cookieOf(answer), email, id }
}
let counter = 0

export async function newToken(
  server: TestServer,
  input: { scopes?: Scope[]; vpcs?: string[]; apps?: string[] } = {},
  by?: Credential,
): Promise<{ token: string; id: string }> {
  const { token = '', id } = await server.client(by).tokenCreate({ name: `test-${counter++}`, ...input })
  return { token, id }
}

/** Another tenant: an organization of the first owner's, with its own admin token. */
export async function newOrganization(server: TestServer, name = `other-${counter++}`) {
  const { id, token = '' } = await server.client().organizationCreate({ name })
  return { id, name, token }
}

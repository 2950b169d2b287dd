import { z } from 'zod'
import { route } from './dsl.ts'
import { email, id, name, page, pageQuery, role, time } from './schemas.ts'

const organization = z.object({ id: id('organization'), name: z.string(), createdAt: time, role })

const member = z.object({
  id: id('member'),
  email: z.string(),
  role,
  status: z.enum(['active', 'invited']),
  createdAt: time,
  invitationExpiresAt: time.nullable(),
})

export const organizations = {
  organizationList: route({
    method: 'GET',
    path: '/organizations',
    summary: 'Organizations of the caller; a token has one',
    access: 'caller',
    query: z.strictObject(pageQuery),
    output: page(organization),
  }),
  organizationCreate: route({
    method: 'POST',
    path: '/organizations',
    summary: 'Found an organization: the caller becomes its owner; an admin token of it is in this answer only',
    access: 'account',
    body: z.strictObject({ name: name('organization') }),
    output: organization.extend({ token: z.string().optional() }),
    status: 201,
    errors: ['name_taken'],
  }),
  organizationView: route({
    method: 'GET',
    path: '/organizations/{organization}',
    summary: 'One organization, by name or id',
    access: 'read',
    output: organization,
    errors: ['organization_not_found'],
  }),
  organizationPatch: route({
    method: 'PATCH',
    path: '/organizations/{organization}',
    summary: 'Rename; namespaces of existing VPCs keep their names',
    access: 'owner',
    body: z.strictObject({ name: name('organization') }),
    output: organization,
    errors: ['organization_not_found', 'name_taken'],
  }),
  organizationDelete: route({
    method: 'DELETE',
    path: '/organizations/{organization}',
    summary: 'Delete with everything in it; `confirm` is its name',
    access: 'owner',
    query: z.strictObject({ confirm: z.string().optional() }),
    output: z.object({}),
    errors: ['organization_not_found', 'confirmation_needed', 'vpc_not_empty'],
  }),
  memberList: route({
    method: 'GET',
    path: '/members',
    summary: 'Members and open invitations of the current organization',
    access: 'read',
    query: z.strictObject(pageQuery),
    output: page(member),
  }),
  memberInvite: route({
    method: 'POST',
    path: '/members',
    summary: 'Invite; the one-time code is in this answer only. Inviting again replaces an open invitation',
    access: 'admin',
    body: z.strictObject({ email, role }),
    output: member.extend({ invitation: z.string().optional() }),
    status: 201,
    errors: ['already_member'],
  }),
  memberPatch: route({
    method: 'PATCH',
    path: '/members/{id}',
    summary: 'Change the role, on their next request',
    access: 'admin',
    body: z.strictObject({ role }),
    output: member,
    errors: ['member_not_found', 'last_owner'],
  }),
  memberDelete: route({
    method: 'DELETE',
    path: '/members/{id}',
    summary: 'Remove a member or an invitation, or leave; tokens they made stop working at once',
    access: 'account',
    output: z.object({}),
    errors: ['member_not_found', 'last_owner'],
  }),
}

import { z } from 'zod'
import { route } from './dsl.ts'
import { id, name, page, pageQuery, time } from './schemas.ts'

const vpc = z.object({
  id: id('vpc'),
  name: z.string(),
  namespace: z.string(),
  protected: z.boolean(),
  createdAt: time,
})

export const vpcs = {
  vpcList: route({
    method: 'GET',
    path: '/vpcs',
    summary: 'VPCs of the organization',
    access: 'read',
    honorsLimits: true,
    query: z.strictObject(pageQuery),
    output: page(vpc),
  }),
  vpcCreate: route({
    method: 'POST',
    path: '/vpcs',
    summary: 'Create a VPC',
    access: 'admin',
    body: z.strictObject({ name: name('vpc') }),
    output: vpc,
    status: 201,
    errors: ['name_taken'],
  }),
  vpcView: route({
    method: 'GET',
    path: '/vpcs/{name}',
    summary: 'One VPC, by name or id',
    access: 'read',
    honorsLimits: true,
    output: vpc,
    errors: ['vpc_not_found'],
  }),
  vpcPatch: route({
    method: 'PATCH',
    path: '/vpcs/{name}',
    summary: 'Protect: only admins change a protected VPC, and deleting it asks for its name',
    access: 'admin',
    body: z.strictObject({ protected: z.boolean() }),
    output: vpc,
    errors: ['vpc_not_found'],
  }),
  vpcDelete: route({
    method: 'DELETE',
    path: '/vpcs/{name}',
    summary: 'Delete an empty VPC; a protected one needs `confirm`, its name',
    access: 'admin',
    query: z.strictObject({ confirm: z.string().optional() }),
    output: z.object({}),
    errors: ['vpc_not_found', 'vpc_not_empty', 'last_vpc', 'confirmation_needed'],
  }),
}

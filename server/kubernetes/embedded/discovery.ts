import { apiVersionOf, type Kind, kinds } from './kinds.ts'

/** What a client asks to learn what is here, by path. Undefined: nothing of the kind. */
export function discovery(path: string, address: () => string): object | undefined {
  if (path === '/api')
    return {
      kind: 'APIVersions',
      versions: ['v1'],
      serverAddressByClientCIDRs: [
        {
          clientCIDR: '0.0.0.0/0',
          serverAddress: address(),
        },
      ],
    }
  if (path === '/apis') return { kind: 'APIGroupList', apiVersion: 'v1', groups: groups.map(groupOf) }
  if (path === '/version') return version
  if (path === '/openapi/v3')
    return { paths: Object.fromEntries(groupVersions.map((name) => [pathOf(name), link(name)])) }
  const described = groupVersions.find((name) => path === `/openapi/v3/${pathOf(name)}`)
  if (described) return openApi(described)
  const listed = groupVersions.find((name) => path === `/${pathOf(name)}`)
  if (listed) return resourceList(listed)
  const group = groups.find((name) => path === `/apis/${name}`)
  return group ? { kind: 'APIGroup', apiVersion: 'v1', ...groupOf(group) } : undefined
}

/** Of the release whose behavior is copied, with a mark that this is a copy. */
export const gitVersion = 'v1.34.0+1ctl-simulated'

const version = {
  major: '1',
  minor: '34',
  gitVersion,
  gitCommit: 'simulated',
  gitTreeState: 'clean',
  buildDate: '1970-01-01T00:00:00Z',
  goVersion: 'none',
  compiler: 'none',
  platform: 'simulated/none',
}

const groups = [...new Set(kinds.map(({ group }) => group))].filter(Boolean)
const groupVersions = [...new Set(kinds.map(apiVersionOf))]
const pathOf = (name: string) => (name === 'v1' ? 'api/v1' : `apis/${name}`)
const link = (name: string) => ({ serverRelativeURL: `/openapi/v3/${pathOf(name)}?hash=${gitVersion}` })

const groupOf = (name: string) => {
  const preferredVersion = { groupVersion: `${name}/v1`, version: 'v1' }
  return { name, versions: [preferredVersion], preferredVersion }
}

const verbs = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch']

function resourceList(groupVersion: string) {
  const resources = kinds.filter((kind) => apiVersionOf(kind) === groupVersion).flatMap(resourcesOf)
  return { kind: 'APIResourceList', ...(groupVersion !== 'v1' && { apiVersion: 'v1' }), groupVersion, resources }
}

function resourcesOf({ kind, plural, short, namespaced, inAll, subresources }: Kind): object[] {
  const main = {
    name: plural,
    singularName: kind.toLowerCase(),
    namespaced,
    kind,
    verbs,
    ...(short.length && { shortNames: short }),
    ...(inAll && { categories: ['all'] }),
  }
  const parts = Object.entries(subresources).map(([name, verbs]) => ({
    name: `${plural}/${name}`,
    singularName: '',
    namespaced,
    ...(name === 'scale'
      ? {
          group: 'autoscaling',
          version: 'v1',
          kind: 'Scale',
        }
      : { kind }),
    verbs,
  }))
  return [main, ...parts]
}

/** As much of a description as `kubectl apply` looks for: that the server itself checks fields and dry runs. */
function openApi(groupVersion: string) {
  const ours = kinds.filter((kind) => apiVersionOf(kind) === groupVersion)
  const parameters = ['dryRun', 'fieldManager', 'fieldValidation', 'force'].map((name) => ({
    name,
    in: 'query',
    schema: {
      type: name === 'force' ? 'boolean' : 'string',
      uniqueItems: true,
    },
  }))
  const paths = ours.map(({ group, version, kind, plural, namespaced }) => [
    `/${pathOf(groupVersion)}${namespaced ? '/namespaces/{namespace}' : ''}/${plural}/{name}`,
    { patch: { parameters, responses: {}, 'x-kubernetes-group-version-kind': { group, version, kind } } },
  ])
  return {
    openapi: '3.0.0',
    info: {
      title: 'Kubernetes',
      version: gitVersion,
    },
    paths: Object.fromEntries(paths),
    components: { schemas: {} },
  }
}

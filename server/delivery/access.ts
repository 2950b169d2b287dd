import { setTimeout as sleep } from 'node:timers/promises'
import type { Kubernetes } from '../kubernetes/client.ts'
import type { Manifest } from '../kubernetes/kinds.ts'
import { ours } from './desired.ts'

/** The role of deploy/kubernetes/rbac.yaml that we bind ourselves to in each namespace that we make. */
const role = '1ctl-namespace'

/**
 * The right to deal with Secrets and workloads, in this namespace alone. An administrator's kubeconfig has it everywhere and needs nothing;
 * our own account gives it to itself, which is all that it may give.
 */
export async function ensureAccess(kubernetes: Kubernetes, namespace: string): Promise<void> {
  const may = () => kubernetes.may('create', 'Secret', namespace)
  if (await may()) return
  await kubernetes.apply(bindingFor(await kubernetes.whoAmI(), namespace), { force: true })
  // The API server takes notice of it a moment later. If it does not, the next request tells why.
  for (let tries = 0; tries < 50 && !(await may()); tries++) await sleep(50)
}

function bindingFor(user: string, namespace: string): Manifest<'RoleBinding'> {
  const [, place, account] = /^system:serviceaccount:([^:]+):([^:]+)$/.exec(user) ?? []
  const apiGroup = 'rbac.authorization.k8s.io'
  return {
    apiVersion: `${apiGroup}/v1`,
    kind: 'RoleBinding',
    metadata: { name: '1ctl', namespace, labels: ours },
    roleRef: { apiGroup, kind: 'ClusterRole', name: role },
    subjects: [
      account ? { kind: 'ServiceAccount', name: account, namespace: place } : { kind: 'User', apiGroup, name: user },
    ],
  }
}

// One secret that a hundred apps share: from the change until a watch of ours has seen every Deployment with the new version.
import { busyboxImage } from '../cluster.mjs'
import { call } from '../servers.mjs'
import { allOver, inParallel } from './many.mjs'

export async function sharedBag(product, cluster, { count, rounds }) {
  await call(product, '/vpcs', { name: 'shared' })
  await call(product, '/secrets', { name: 'shared', data: { KEY: 'value' } })
  const names = Array.from({ length: count }, (_, number) => `shared-${number}`)
  await inParallel(8, 0, count, (number) =>
    call(product, '/deploy', {
      name: names[number],
      vpc: 'shared',
      image: busyboxImage,
      replicas: 0,
      envFrom: ['shared'],
    }),
  )
  await allOver(product)
  const watch = await cluster.watch('/apis/apps/v1/namespaces/main--shared/deployments')

  const samples = []
  for (let number = 0; number < rounds; number++) {
    watch.forget()
    const sent = performance.now()
    const change = { set: { KEY: `value number ${number}` }, rollout: { waves: { size: 1000 } } }
    const { version } = await call(product, '/secrets/shared', change, 'PATCH')
    const left = new Set(names)
    let first
    const { at } = await watch.first(`all of ${count} with version ${version}`, ({ at, object }) => {
      if (JSON.stringify(object.spec.template).includes(`"org.shared.v${version}"`)) {
        first ??= at
        left.delete(object.metadata.name)
      }
      return left.size === 0
    })
    samples.push({ all: at - sent, first: first - sent })
    await allOver(product)
  }
  return samples
}

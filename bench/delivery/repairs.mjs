// Objects that someone changes or deletes by hand: from the moment that this is sent until a watch of ours sees them as they were.
import { setTimeout as sleep } from 'node:timers/promises'
import { bare, busyboxImage } from '../cluster.mjs'
import { namespace } from './many.mjs'

/**
 * Each on another app: where one app is changed again and again, the product takes its time, by design. The apps that are edited have one
 * secret; what a Deployment with hundreds of variables takes is mostly the API server's own time.
 */
export async function repairs(cluster, count) {
  const edited = []
  const deployments = '/apis/apps/v1/namespaces/main--shared/deployments'
  const ofDeployments = await cluster.watch(deployments)
  for (let number = 0; number < count; number++) {
    await sleep(100 + Math.random() * 400)
    ofDeployments.forget()
    const name = `shared-${number}`
    const image = 'docker.io/local/by-hand:1'
    const body = { spec: { template: { spec: { containers: [{ name, image }] } } } }
    const type = 'application/strategic-merge-patch+json'
    const imageOf = ({ object }) =>
      object.metadata.name === name ? object.spec.template.spec.containers[0].image : undefined
    const sent = performance.now()
    await cluster.call('PATCH', `${deployments}/${name}?fieldManager=kubectl-edit`, { body, type })
    const answered = performance.now()
    let wasEdited = false
    const { at } = await ofDeployments.first(`${name} put back`, (event) => {
      wasEdited ||= imageOf(event) === image
      return wasEdited && imageOf(event) === busyboxImage
    })
    edited.push({ all: at - sent, byHand: answered - sent })
  }

  const deleted = []
  const secrets = `/api/v1/namespaces/${namespace}/secrets`
  const ofSecrets = await cluster.watch(secrets, { accept: bare })
  for (let number = 0; number < count; number++) {
    await sleep(100 + Math.random() * 400)
    ofSecrets.forget()
    const name = `org.bag-${number * 50}.v1`
    const sent = performance.now()
    await cluster.call('DELETE', `${secrets}/${name}`)
    const answered = performance.now()
    const isBack = ({ type, object }) => type === 'ADDED' && object.metadata.name === name
    const { at } = await ofSecrets.first(`${name} made again`, isBack)
    deleted.push({ all: at - sent, byHand: answered - sent })
  }
  return { edited, deleted }
}

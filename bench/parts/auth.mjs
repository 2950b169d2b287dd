// What every request pays: finding the caller. Two small reads, so that it is most of their cost.
import { compareGet } from '../compare.mjs'
import { call, startBare, startProduct } from '../servers.mjs'

export async function figures() {
  const product = await startProduct()
  for (let number = 1; number < 10; number++)
    await call(product, '/tokens', { name: `token-${number}`, scopes: ['read'] })
  const { items } = await call(product, '/tokens')
  if (items.length !== 10) throw new Error(`The list should have 10 tokens and has ${items.length}.`)
  const bare = await startBare(product)
  return [
    ...(await compareGet(product, bare, '/v1/cli/auth/me')),
    ...(await compareGet(product, bare, '/v1/cli/tokens')),
  ]
}

// Successful sign-ins, one after another, each beside the argon2 check that should be nearly all of its cost.
import { cpuSeconds } from '../processes.mjs'
import { call, productRequire, select, startProduct } from '../servers.mjs'
import { mean, median } from '../statistics.mjs'

export async function figures() {
  const product = await startProduct()
  const { email, password, pid } = product
  const [{ password_hash }] = await select(product, 'select password_hash from users where email = $1', [email])
  const { verify } = productRequire('@node-rs/argon2')
  const signIn = () => timed(pid, () => call(product, '/auth/session', { email, password }))
  const argon2 = () => timed(process.pid, () => verify(password_hash, password))
  for (let round = 0; round < 5; round++) await signIn()

  const samples = []
  for (let round = 0; round < 40; round++) samples.push({ signIn: await signIn(), argon2: await argon2() })
  const ms = (who) => median(samples.map((sample) => sample[who].ms))
  // Not the median: CPU time comes in steps of 10 ms.
  const cpuMs = (who) => mean(samples.map((sample) => sample[who].cpuMs))
  const added = median(samples.map((sample) => sample.signIn.ms - sample.argon2.ms))
  return [
    { name: 'sign-in: median', value: ms('signIn'), unit: 'ms', note: `argon2 alone ${ms('argon2').toFixed(1)}` },
    { name: 'sign-in: what it adds to argon2', value: added, unit: 'ms' },
    { name: 'sign-in: CPU', value: cpuMs('signIn'), unit: 'ms', note: `argon2 alone ${cpuMs('argon2').toFixed(1)}` },
  ]
}

async function timed(pid, work) {
  const [began, cpuBefore] = [performance.now(), cpuSeconds(pid)]
  await work()
  return { ms: performance.now() - began, cpuMs: (cpuSeconds(pid) - cpuBefore) * 1000 }
}

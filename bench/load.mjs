// The load generator, in a process of its own: it shares the cores with what it measures, and its CPU time must be told apart.
// Takes autocannon's options as a message, answers with what came of it.
import autocannon from 'autocannon'

process.on('message', (options) => void measure(options))
process.on('disconnect', () => process.exit())

async function measure(options) {
  const before = process.cpuUsage()
  const { requests, duration, non2xx, errors } = await autocannon(options)
  const { user, system } = process.cpuUsage(before)
  process.send({
    requests: requests.total,
    seconds: duration,
    failed: non2xx + errors,
    cpuSeconds: (user + system) / 1e6,
  })
}

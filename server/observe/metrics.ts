import { monitorEventLoopDelay } from 'node:perf_hooks'
import { Gauge, type GaugeConfiguration, Histogram, Registry } from 'prom-client'
import type { Database } from '../store/database.ts'

export type Metrics = ReturnType<typeof createMetrics>

export function createMetrics(db: Database) {
  const registry = new Registry()
  const registers = [registry]
  const requests = new Histogram({
    name: 'satusky_http_request_seconds',
    help: 'Time to answer, by endpoint of the contract, method and status',
    labelNames: ['route', 'method', 'status'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5],
    registers,
  })
  const gauge = (config: Omit<GaugeConfiguration<string>, 'registers'>) =>
    registry.registerMetric(new Gauge({ ...config, registers: [] }))
  const lag = monitorEventLoopDelay({ resolution: 20 })
  lag.enable()
  gauge({
    name: 'satusky_event_loop_lag_seconds',
    help: 'How late the event loop was since the last scrape: 99 of 100 times less than this',
    collect() {
      // The histogram includes the 20 ms it waits between looks.
      this.set(Math.max(0, lag.percentile(99) / 1e9 - 0.02) || 0)
      lag.reset()
    },
  })
  gauge({
    name: 'satusky_database_connections',
    help: 'Connections of the pool: in use, idle, and requests waiting for one',
    labelNames: ['state'],
    collect() {
      this.set({ state: 'in_use' }, db.totalCount - db.idleCount)
      this.set({ state: 'idle' }, db.idleCount)
      this.set({ state: 'waiting' }, db.waitingCount)
    },
  })
  gauge({
    name: 'satusky_memory_bytes',
    help: 'Resident memory of the process',
    collect() {
      this.set(process.memoryUsage.rss())
    },
  })
  return { registry, requests, close: () => lag.disable() }
}

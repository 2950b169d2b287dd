import { monitorEventLoopDelay } from 'node:perf_hooks'
import { Counter, Gauge, type GaugeConfiguration, Histogram, Registry } from 'prom-client'
import type { Database } from '../store/database.ts'

export type Metrics = ReturnType<typeof createMetrics>
export type DeliveryMetrics = Metrics['delivery']

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
  return { registry, requests, delivery: deliveryMetrics(registers), close: () => lag.disable() }
}

function deliveryMetrics(registers: Registry[]) {
  const buckets = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300]
  return {
    savedToApplied: new Histogram({
      name: 'satusky_delivery_saved_to_applied_seconds',
      help: 'From the commit of a change until the cluster has all of its objects',
      buckets,
      registers,
    }),
    savedToLive: new Histogram({
      name: 'satusky_delivery_saved_to_live_seconds',
      help: 'From the commit of a change until every pod runs it',
      buckets,
      registers,
    }),
    rollouts: new Counter({
      name: 'satusky_delivery_rollouts_total',
      help: 'Rollouts that are over, by how they ended',
      labelNames: ['state'],
      registers,
    }),
    repairs: new Counter({
      name: 'satusky_delivery_repairs_total',
      help: 'Objects put back that someone had changed or deleted. Found by a watch, or only by the timer: that should stay flat',
      labelNames: ['found'],
      registers,
    }),
    kubernetesWrites: new Counter({
      name: 'satusky_kubernetes_writes_total',
      help: 'Writing requests to the cluster',
      labelNames: ['verb', 'kind'],
      registers,
    }),
    queue: new Gauge({
      name: 'satusky_delivery_queue',
      help: 'Apps that are due: waiting for a free hand',
      registers,
    }),
  }
}

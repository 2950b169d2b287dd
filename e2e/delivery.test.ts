import { describe, vi } from 'vitest'
import { describeDelivery } from '../server/delivery/story.ts'
import { needs } from '../server/testing/needs.ts'
import { startTimeoutMs } from './cluster/cluster.ts'
import { realPlace } from './real-place.ts'

// Containers start and end in their own time, and a crash loop takes ten seconds to be one.
vi.setConfig({ testTimeout: 180_000 })

describe(
  'on a genuine cluster, with the rights that the product ships',
  needs('cluster', 'containers', 'kubectl'),
  () => describeDelivery(realPlace, startTimeoutMs),
)

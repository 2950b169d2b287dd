import { describe } from 'vitest'
import { describeDelivery } from './story.ts'
import { embeddedPlace } from './testing.ts'

describe('on the embedded cluster', () => describeDelivery(embeddedPlace))

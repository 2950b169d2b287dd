import { tableOf } from './dsl.ts'
import { contract } from './index.ts'

// The bundles of CLI and dashboard contain the result of this line, not the schemas: the build evaluates it.
export const table = tableOf(contract)

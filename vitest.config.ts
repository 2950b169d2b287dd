import { existsSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'
import { findChromium } from './tools/chromium.mjs'

const globalSetup = 'server/testing/global-setup.ts'

export default defineConfig({
  test: {
    include: ['{contract,server,cli,dashboard,e2e}/**/*.test.ts'],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // Processes, because tests load a native module and send signals. Two at least: on two cores vitest would use one, and
    // ours mostly wait for a database.
    pool: 'forks',
    maxWorkers: Math.max(2, availableParallelism() - 1),
    globalSetup: existsSync(globalSetup) ? globalSetup : [],
    env: { CHROMIUM: findChromium() ?? '' },
  },
})

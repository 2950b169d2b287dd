import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['{contract,server,cli,dashboard,e2e}/**/*.test.ts'],
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
})

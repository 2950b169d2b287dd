import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestProject } from 'vitest/node'
import { openDatabase } from '../store/database.ts'
import { startEmbedded } from '../store/embedded.ts'
import { migrate } from '../store/migrate.ts'

export type TestDatabase = { host: string; port: number; user: string }

declare module 'vitest' {
  export interface ProvidedContext {
    postgres: TestDatabase
  }
}

/** The database that every test copies: PostgreSQL clones it in some ten milliseconds. */
export const template = 'template_1ctl'

/** One PostgreSQL for the whole run, made by the product's own supervisor; without fsync, because nothing outlives the run. */
export default async function setup(project: TestProject) {
  const dataDir = mkdtempSync(join(tmpdir(), '1ctl-test-'))
  const postgres = await startEmbedded({
    dataDir,
    progress: () => undefined,
    exited: (reason) => console.error(`PostgreSQL ended: ${reason}`),
    settings: { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off', max_connections: '500' },
  })
  const { database, ...server } = postgres.connection
  const admin = openDatabase({ ...server, database }, () => undefined)
  await admin.query(`create database ${template}`)
  await admin.end()
  const db = openDatabase({ ...server, database: template }, () => undefined)
  await migrate(db, () => undefined)
  await db.end()
  project.provide('postgres', server)
  return async () => {
    await postgres.stop()
    rmSync(dataDir, { recursive: true, force: true })
  }
}

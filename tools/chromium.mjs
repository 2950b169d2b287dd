import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { run, step } from './setup.mjs'

/** The browser for tests: the one named in CHROMIUM, the system's, or the one that playwright keeps for this user. */
export function findChromium() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM
  const usual = [
    '/usr/bin/chromium',
    '/usr/bin/chromium-browser',
    '/usr/bin/google-chrome',
    '/Applications/Chromium.app/Contents/MacOS/Chromium',
    '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
  ].filter(runs)
  return usual[0] ?? [playwrights()].find(runs)
}

/** Gets one where there is none. If that fails, tests that need it are skipped: no reason to stop the others. */
export async function ensureChromium() {
  if (process.env.CHROMIUM || findChromium()) return
  await step('Getting a browser for the tests', async () => {
    for (const get of [fromDebian, fromPlaywright]) {
      await get().catch(() => {})
      if (findChromium()) return
    }
  })
  if (!findChromium()) console.log('There is no browser to be had: the tests that need one are skipped.')
}

async function fromDebian() {
  if (process.getuid?.() !== 0) return
  const apt = ['-qq', '-o', 'Acquire::http::Timeout=10', '-o', 'Acquire::Retries=0']
  await run('apt-get', [...apt, 'update'])
  await run('apt-get', [...apt, 'install', '-y', '--no-install-recommends', 'chromium', 'fonts-liberation'], {
    DEBIAN_FRONTEND: 'noninteractive',
  })
}

const fromPlaywright = () =>
  run('npx', ['playwright-core', 'install', '--no-shell', 'chromium'], {
    PLAYWRIGHT_DOWNLOAD_CONNECTION_TIMEOUT: '10000',
  })

const playwrights = () => createRequire(import.meta.url)('playwright-core').chromium.executablePath()

// Being there is not enough: Ubuntu's /usr/bin/chromium-browser may only say that it wants to be a snap.
const runs = (path) => existsSync(path) && spawnSync(path, ['--version'], { timeout: 10_000 }).status === 0

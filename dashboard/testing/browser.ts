import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, expect } from 'vitest'
import { startTestServer, type TestServer } from '../../server/testing/server.ts'

type Visit = BrowserContextOptions & {
  /** before the page loads anything */
  prepare?: (page: Page) => Promise<unknown>
}

/**
 * A real server and a real browser for the tests of a `describe`. Each visit is a person with a browser of their own. A test fails if a
 * page wrote an error to its console: an exception, or something the content security policy kept out.
 */
export function useBrowser(): { server: TestServer; visit: (path: string, options?: Visit) => Promise<Page> } {
  let browser: Browser
  let complaints: string[] = []
  const used = {
    server: undefined as unknown as TestServer,
    async visit(path: string, { prepare, ...options }: Visit = {}) {
      const context = await browser.newContext({ baseURL: used.server.url, ...options })
      // Below the test's own limit, so that a failure tells which element was waited for.
      context.setDefaultTimeout(8000)
      const page = await context.newPage()
      page.on('pageerror', (error) => complaints.push(String(error)))
      page.on('console', (message) => {
        // The browser itself reports each refusal of the API, which is what many tests are about.
        const isRefusal = message.location().url.startsWith(used.server.apiUrl)
        if (message.type() !== 'log' && !isRefusal) complaints.push(message.text())
      })
      await prepare?.(page)
      await page.goto(path)
      return page
    },
  }
  beforeAll(async () => {
    used.server = await startTestServer()
    browser = await chromium.launch({
      executablePath: process.env['CHROMIUM'] ?? '',
      // Chromium's sandbox refuses to work for root, which test machines often run as. It opens nothing but our own pages.
      args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update'],
    })
  })
  afterEach(async () => {
    await Promise.all(browser.contexts().map((context) => context.close()))
    const found = complaints
    complaints = []
    expect(found).toEqual([])
  })
  afterAll(async () => {
    await browser?.close()
    await used.server?.close()
  })
  return used
}

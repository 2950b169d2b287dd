import { attemptLimits } from '@1ctl/contract/limits'
import type { Page, Route } from 'playwright-core'
import { describe, expect, test } from 'vitest'
import { newMember, newOrganization, password, signIn } from '../server/testing/actors.ts'
import { needs } from '../server/testing/needs.ts'
import { useBrowser } from './testing/browser.ts'

describe('the dashboard in a browser', needs('chromium'), () => {
  const browser = useBrowser()

  test('signing in by keyboard shows who and where; signing out ends the session', async () => {
    const { email, password } = browser.server
    const page = await browser.visit('/login')
    await page.getByRole('textbox', { name: 'Email' }).and(page.locator(':focus')).waitFor()
    await page.keyboard.type(email)
    await page.keyboard.press('Tab')
    await page.keyboard.type(password)
    await page.keyboard.press('Enter')
    await page.getByRole('heading', { name: `Signed in as ${email} of ` }).waitFor()
    await page.getByRole('listitem').filter({ hasText: 'owner' }).first().waitFor()
    expect(new URL(page.url()).pathname).toBe('/')
    expect(await page.title()).toBe('Account · 1ctl')

    const [cookie] = await page.context().cookies()
    await page.getByRole('button', { name: 'Sign out' }).click()
    await page.getByRole('heading', { name: 'Sign in' }).waitFor()
    await page.reload()
    await page.getByRole('heading', { name: 'Sign in' }).waitFor()
    expect(await page.getByText('Your session has ended').count()).toBe(0)
    const stolen = await browser.server.call('/auth/me', { as: { cookie: `${cookie?.name}=${cookie?.value}` } })
    expect(stolen.body.error.code).toBe('session_expired')
  })

  test('a wrong password is said at its field, and what was typed stays', async () => {
    const page = await browser.visit('/login')
    await fillIn(page, { Email: 'owner@example.test', Password: 'not the password' })
    await page.getByRole('button', { name: 'Sign in' }).click()
    await page.getByText('Email and password do not match.').waitFor()
    const wrong = page.getByLabel('Password')
    expect(await wrong.evaluate((field) => field === document.activeElement)).toBe(true)
    expect(await wrong.getAttribute('aria-invalid')).toBe('true')
    expect(await describedBy(wrong)).toContain('do not match')
    expect(await page.getByLabel('Email').inputValue()).toBe('owner@example.test')
    expect(page.url()).not.toContain('?')
  })

  test('an empty form is told what each field lacks, and the first of them gets the focus', async () => {
    const page = await browser.visit('/login')
    await page.getByRole('button', { name: 'Sign in' }).click()
    await page.getByText('An email address: owner@example.test.').waitFor()
    expect(await describedBy(page.getByLabel('Password'))).toBe('Must not be empty.')
    expect(await page.getByLabel('Email').evaluate((field) => field === document.activeElement)).toBe(true)
  })

  test('too many failed attempts are told how long to wait', async () => {
    const { email } = await newMember(browser.server, 'viewer')
    const guess = { body: { email, password: 'guess' }, from: '192.0.2.1' }
    await Promise.all(
      Array.from({ length: attemptLimits.account.failuresMax }, () => browser.server.call('/auth/session', guess)),
    )
    const page = await browser.visit('/login')
    await fillIn(page, { Email: email, Password: password })
    await page.keyboard.press('Enter')
    await page.getByRole('alert').getByText('Too many failed attempts. Try again in 15 minutes.').waitFor()
  })

  test('without a network the form says so, keeps what was typed and works again afterwards', async () => {
    const page = await browser.visit('/login')
    await fillIn(page, { Email: browser.server.email, Password: browser.server.password })
    await page.context().setOffline(true)
    await page.keyboard.press('Enter')
    await page.getByRole('alert').getByText('This browser cannot reach 1ctl.').waitFor()
    await page.context().setOffline(false)
    await page.keyboard.press('Enter')
    await page.getByRole('heading', { name: 'Signed in as' }).waitFor()
  })

  test('a server that does not answer is said, and asked again', async () => {
    const page = await browser.visit('/', {
      prepare: (page) => page.route('**/auth/me', (route) => route.fulfill({ status: 502, body: 'Bad gateway' })),
    })
    await page.getByRole('heading', { name: '1ctl does not answer' }).waitFor()
    await page.getByText('status 502').waitFor()
    await page.unroute('**/auth/me')
    await page.getByRole('button', { name: 'Try again' }).click()
    await page.getByRole('heading', { name: 'Sign in' }).waitFor()
  })

  test('an answer that was under way while signing in does not sign out again', async () => {
    const page = await browser.visit('/login')
    await fillIn(page, { Email: browser.server.email, Password: browser.server.password })
    let held: Route | undefined
    await page.route('**/auth/me', (route) => {
      held = route
    })
    // What coming back to the tab does: it asks again who is signed in.
    const asked = page.waitForRequest('**/auth/me')
    await page.evaluate(() => dispatchEvent(new Event('visibilitychange')))
    await asked
    await page.keyboard.press('Enter')
    await page.getByRole('heading', { name: 'Signed in as' }).waitFor()
    await held?.fulfill({ status: 401, json: { error: { code: 'missing_token', message: 'Not signed in.' } } })
    await page.waitForTimeout(100)
    expect(await page.getByRole('heading', { name: 'Signed in as' }).count()).toBe(1)
  })

  test('a session that was ended elsewhere leads back to sign-in and to where one was', async () => {
    const member = await newMember(browser.server, 'developer')
    const page = await signedIn({ ...member, password })
    await browser.server.client(member).sessionRevokeAll()
    await fillIn(page, { 'Current password': password, 'New password': 'a password that is new' })
    await page.keyboard.press('Enter')
    await page.getByText('Your session has ended. Sign in again.').waitFor()
    await fillIn(page, { Email: member.email, Password: password })
    await page.keyboard.press('Enter')
    await page.getByRole('heading', { name: `Signed in as ${member.email}` }).waitFor()
  })

  test('an invitation is accepted with the code of the address, which then no longer shows it', async () => {
    const { invitation } = await browser.server.client().memberInvite({ email: 'new@example.test', role: 'viewer' })
    const page = await browser.visit(`/invitation#${invitation}`)
    expect(await page.getByLabel('One-time code').inputValue()).toBe(invitation)
    expect(page.url()).toBe(`${browser.server.url}/invitation`)
    await page.getByLabel('Password').fill('short')
    await page.keyboard.press('Enter')
    await page.getByText('At least 12 characters.', { exact: true }).waitFor()
    await page.getByLabel('Password').fill(password)
    await page.keyboard.press('Enter')
    await page.getByRole('heading', { name: 'Signed in as new@example.test' }).waitFor()

    const second = await browser.visit(`/invitation#${invitation}`)
    await second.getByLabel('Password').fill(password)
    await second.keyboard.press('Enter')
    await second.getByText('This invitation does not exist, was used, or is older than 7 days.').waitFor()
  })

  test('someone of several organizations switches between them', async () => {
    const { name } = await newOrganization(browser.server)
    const page = await signedIn()
    await page.getByRole('button', { name: `Switch to ${name}` }).click()
    await page
      .getByRole('heading', { name: `of ${name}` })
      .and(page.locator(':focus'))
      .waitFor()
    await page.reload()
    await page.getByRole('heading', { name: `of ${name}` }).waitFor()
  })

  test('someone whose membership was removed is told so and can still sign out', async () => {
    const member = await newMember(browser.server, 'developer')
    const page = await signedIn({ ...member, password })
    await browser.server.client().memberDelete({ id: member.id })
    await page.reload()
    await page.getByText('You are a member of no organization now.').waitFor()
    await page.getByRole('button', { name: 'Sign out' }).click()
    await page.getByRole('heading', { name: 'Sign in' }).waitFor()
  })

  test('changing the password ends the other sessions and keeps this one', async () => {
    const member = await newMember(browser.server, 'developer')
    const page = await signedIn({ ...member, password })
    await fillIn(page, { 'Current password': 'not the password', 'New password': 'a password that is new' })
    await page.getByRole('button', { name: 'Change password' }).click()
    await page.getByText('The current password is not this one.').waitFor()
    await page.getByLabel('Current password').fill(password)
    await page.getByRole('button', { name: 'Change password' }).click()
    await page.getByRole('status').getByText('Password changed. 1 other session ended.').waitFor()
    expect(await page.getByLabel('New password').inputValue()).toBe('')
    await page.reload()
    await page.getByRole('heading', { name: `Signed in as ${member.email}` }).waitFor()
    expect((await browser.server.call('/auth/me', { as: member })).status).toBe(401)
    await signIn(browser.server, member.email, 'a password that is new')
  })

  test('the theme follows the system until one is chosen, which then holds before the app runs', async () => {
    const page = await browser.visit('/login', { colorScheme: 'dark' })
    await page.getByLabel('Email').waitFor()
    expect(await background(page)).toBe(dark)
    await page.getByRole('button', { name: 'Theme: system. Change to light' }).click()
    expect(await background(page)).toBe(light)
    await page.getByRole('button', { name: 'Theme: light. Change to dark' }).click()
    await page.emulateMedia({ colorScheme: 'light' })
    await page.route('**/assets/*.js', (route) => route.fulfill({ contentType: 'text/javascript', body: '' }))
    await page.reload()
    expect(await background(page)).toBe(dark)
  })

  test.each(['/login', '/invitation', '/', '/no-such-page'])('%s does not scroll sideways at 320 px', async (path) => {
    const narrow = { viewport: { width: 320, height: 568 } }
    const page = path === '/login' || path === '/invitation' ? await browser.visit(path, narrow) : await signedIn()
    await page.setViewportSize(narrow.viewport)
    await page.goto(path)
    await page.getByRole('heading', { level: 1 }).waitFor()
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(320)
  })

  async function signedIn({ email, password } = browser.server as { email: string; password: string }) {
    const page = await browser.visit('/login')
    await fillIn(page, { Email: email, Password: password })
    await page.keyboard.press('Enter')
    await page.getByRole('heading', { name: `Signed in as ${email}` }).waitFor()
    return page
  }
})

const light = 'rgb(245, 245, 244)'
const dark = 'rgb(13, 14, 16)'
const background = (page: Page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor)

async function fillIn(page: Page, fields: Record<string, string>) {
  for (const [label, text] of Object.entries(fields)) await page.getByLabel(label).fill(text)
}

const describedBy = (field: ReturnType<Page['getByLabel']>) =>
  field.evaluate(
    (field) => document.querySelector(`#${CSS.escape(field.getAttribute('aria-describedby') ?? '')}`)?.textContent,
  )

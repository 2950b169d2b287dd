import type { Agent, IncomingHttpHeaders } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { ApiError, type Send } from '@1ctl/contract/client'
import type { ErrorBody } from '@1ctl/contract/errors'
import type { Base } from './address.ts'
import { crypto } from './crypto.ts'
import { CliError, usage } from './errors.ts'
import { version } from './version.ts'
import { day, dayMs, plural } from './words.ts'

type Options = {
  base: Base
  /** undefined: the request goes without */
  token: string | undefined
  timeoutMs: number
  debug: boolean
  note: (text: string) => void
}

const pausesMs = [150, 600]

/** How the CLI talks to the server. Redirects are not followed, so that a token goes nowhere but to its own address. */
export function createSend({ base, token, timeoutMs, debug, note }: Options): Send {
  if (token !== undefined && !/^[\x21-\x7e]+$/.test(token)) {
    throw usage('The token has characters in it that no token has.')
  }
  const log = debug ? (line: string) => void process.stderr.write(`${line}\n`) : () => {}
  const exchange = exchangeOver(base, log)
  const warnOfExpiry = expiryWarning(note)

  return async ({ method, path, headers, body }) => {
    const all = {
      ...headers,
      accept: 'application/json',
      'user-agent': `1ctl/${version}`,
      ...(token === undefined ? {} : { 'x-satusky-api-key': token }),
      // By this key the server knows a repetition, so that a POST can be sent again too.
      ...(method === 'POST' ? { 'idempotency-key': crypto().randomUUID() } : {}),
    }
    // A timer takes whole milliseconds, and not more than fit into 31 bits.
    const deadline = AbortSignal.timeout(Math.min(Math.ceil(timeoutMs), 2 ** 31 - 1))
    try {
      for (let attempt = 0; ; attempt++) {
        const pauseMs = method === 'GET' || method === 'POST' ? pausesMs[attempt] : undefined
        const answer = await exchange({ method, path, headers: all, body }, deadline).catch((error: unknown) => {
          if (pauseMs === undefined || !connectionLost.has(codeOf(error))) throw error
          log(`< ${String(error)}`)
        })
        if (answer && (pauseMs === undefined || ![502, 503, 504].includes(answer.status))) {
          if (answer.status >= 300 && answer.status < 400) throw redirected(base, answer.headers.location)
          warnOfExpiry(answer.headers['x-satusky-token-expires-at'])
          return { ...answer, headers: { get: (name) => answer.headers[name]?.toString() } }
        }
        log(`< again in ${pauseMs} ms`)
        await sleep(pauseMs, undefined, { signal: deadline })
      }
    } catch (error) {
      throw error instanceof CliError ? error : unreachable(error, base, timeoutMs)
    }
  }
}

/** A GET whose answer is text that comes bit by bit, maybe without an end: it is passed on as it comes. */
export type Stream = (path: string, onText: (bytes: Buffer) => Promise<void>) => Promise<void>

export function createStream({ base, token, timeoutMs, debug }: Options): Stream {
  const log = debug ? (line: string) => void process.stderr.write(`${line}\n`) : () => {}
  const exchange = exchangeOver(base, log)
  return async (path, onText) => {
    const headers = {
      accept: 'text/plain',
      'user-agent': `1ctl/${version}`,
      ...(token === undefined ? {} : { 'x-satusky-api-key': token }),
    }
    // Only until the answer begins.
    const deadline = new AbortController()
    const timer = setTimeout(() => deadline.abort(), Math.min(Math.ceil(timeoutMs), 2 ** 31 - 1))
    const onBegin = () => clearTimeout(timer)
    try {
      const request = { method: 'GET' as const, path, headers, body: undefined }
      const { status, text, headers: answered } = await exchange(request, deadline.signal, { onBegin, onText })
      if (status >= 300 && status < 400) throw redirected(base, answered.location)
      if (status >= 300) throw new ApiError(status, refusalIn(text))
    } catch (error) {
      throw error instanceof CliError || error instanceof ApiError ? error : unreachable(error, base, timeoutMs)
    } finally {
      clearTimeout(timer)
    }
  }
}

function refusalIn(text: string): Partial<ErrorBody['error']> {
  try {
    return (JSON.parse(text) as Partial<ErrorBody>).error ?? {}
  } catch {
    return {}
  }
}

type Exchange = (
  request: Parameters<Send>[0],
  signal: AbortSignal,
  streamed?: { onBegin: () => void; onText: (bytes: Buffer) => Promise<void> },
) => Promise<{ status: number; headers: IncomingHttpHeaders; text: string }>

/** `node:http(s)`, because loading `fetch` costs 70 ms; one connection for all requests of a command. */
function exchangeOver(base: Base, log: (line: string) => void): Exchange {
  let agent: Agent | undefined
  return async ({ method, path, headers, body = '' }, signal, streamed) => {
    const { request, Agent } = process.getBuiltinModule(base.startsWith('https:') ? 'node:https' : 'node:http')
    agent ??= new Agent({ keepAlive: true })
    const length = Buffer.byteLength(body)
    const sent = length > 0 ? { ...headers, 'content-length': String(length) } : headers
    log(`> ${method} ${base}${path}`)
    logHeaders(log, '>', sent)
    if (length > 0) log(`> (${length} bytes, not shown)`)
    const began = performance.now()

    return new Promise((resolve, reject) => {
      const outgoing = request(`${base}${path}`, { method, headers: sent, agent, signal }, (answer) => {
        if (streamed && answer.statusCode === 200) {
          log('< 200')
          logHeaders(log, '<', answer.headers)
          streamed.onBegin()
          const passOn = async () => {
            for await (const bytes of answer as AsyncIterable<Buffer>) await streamed.onText(bytes)
            return { status: 200, headers: answer.headers, text: '' }
          }
          return void passOn().then(resolve, reject)
        }
        const chunks: Buffer[] = []
        answer.on('data', (chunk: Buffer) => chunks.push(chunk))
        answer.on('error', reject)
        answer.on('end', () => {
          const bytes = Buffer.concat(chunks)
          log(`< ${answer.statusCode} after ${Math.round(performance.now() - began)} ms`)
          logHeaders(log, '<', answer.headers)
          log(`< (${bytes.length} bytes, not shown)`)
          resolve({ status: answer.statusCode ?? 0, headers: answer.headers, text: bytes.toString('utf8') })
        })
      })
      outgoing.on('error', reject)
      outgoing.end(body)
    })
  }
}

const secretHeaders = new Set(['x-satusky-api-key', 'authorization', 'cookie', 'set-cookie'])

function logHeaders(log: (line: string) => void, mark: string, headers: Record<string, unknown>): void {
  for (const [name, value] of Object.entries(headers)) {
    log(`${mark} ${name}: ${secretHeaders.has(name) ? '[redacted]' : String(value)}`)
  }
}

const connectionLost = new Set([
  'EAI_AGAIN',
  'ECONNABORTED',
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EPIPE',
  'ETIMEDOUT',
])

const codeOf = (error: unknown) => (error as NodeJS.ErrnoException).code ?? ''

function unreachable(error: unknown, base: Base, timeoutMs: number): CliError {
  return new CliError('unavailable', 'unreachable', `Cannot reach ${base}.`, {
    fix: 'Is the server running, and is this its address? See: 1ctl config show --sources',
    ...reasonOf(error, timeoutMs),
  })
}

function reasonOf(error: unknown, timeoutMs: number): { why: string; fix?: string } {
  const code = codeOf(error)
  const reason = error instanceof Error ? error.message || code : String(error)
  if (code === 'ABORT_ERR') {
    return { why: `No answer within ${timeoutMs / 1000} s.`, fix: 'Try again, or wait longer with --timeout.' }
  }
  if (code === 'ECONNREFUSED') return { why: 'Nothing listens there: the connection was refused.' }
  if (code === 'EPROTO') return { why: 'It does not speak TLS.' }
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return { why: 'The name of the host could not be resolved.' }
  if (/CERT|SIGNATURE/.test(code)) {
    return {
      why: `Its certificate is not trusted: ${reason}.`,
      fix: 'Name a file with the certificate of your authority in NODE_EXTRA_CA_CERTS.',
    }
  }
  return { why: reason }
}

const redirected = (base: Base, location: string | undefined) =>
  new CliError('failed', 'redirected', `${base} answers that it has moved${location ? ` to ${location}` : ''}.`, {
    why: 'Redirects are not followed: a token goes only to the address stored with it.',
    fix: 'If you trust the new address, sign in with it.',
  })

const warnBelowDays = 14

function expiryWarning(note: (text: string) => void) {
  let warned = false
  return (header: string | string[] | undefined) => {
    if (warned || typeof header !== 'string' || !process.stderr.isTTY) return
    const daysLeft = (Date.parse(header) - Date.now()) / dayMs
    if (!(daysLeft < warnBelowDays)) return
    warned = true
    note(`Warning: this token expires in ${plural(Math.max(0, Math.floor(daysLeft)), 'day')}, on ${day(header)}.`)
  }
}

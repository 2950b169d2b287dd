import { connect } from 'node:net'
import { type ErrorCode, errors } from '@1ctl/contract/errors'
import { expect } from 'vitest'
import type { Answer } from './server.ts'

/** A refusal as every client may rely on it; returns its code. */
export function codeOf({ status, headers, body, text }: Answer): ErrorCode {
  expect(headers.get('content-type'), text).toBe('application/json; charset=utf-8')
  expect(headers.get('cache-control')).toBe('no-store')
  const { code, message, hint, details, requestId, ...more } = body.error
  expect([Object.keys(body), more]).toEqual([['error'], {}])
  expect(errors[code as ErrorCode], code).toBe(status)
  expect(message).toMatch(/^.{3,}$/su)
  expect(['undefined', 'string']).toContain(typeof hint)
  expect(['undefined', 'object']).toContain(typeof details)
  expect(requestId).toBe(headers.get('x-request-id'))
  return code
}

/** Bytes as they are, and the one answer to them. */
export function sendRaw(url: string, bytes: string | Buffer): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const socket = connect(Number(new URL(url).port), '127.0.0.1', () => socket.write(bytes))
    let received = ''
    socket.setTimeout(10_000, () => socket.destroy())
    socket.on('error', () => undefined)
    socket.on('close', () => reject(new Error(`no whole answer: ${received}`)))
    socket.on('data', (data) => {
      received += data.toString()
      const [head = '', text = ''] = received.split('\r\n\r\n')
      const [first = '', ...fields] = head.split('\r\n')
      const headers = new Headers(fields.map((field) => field.split(/: (.*)/, 2) as [string, string]))
      if (Buffer.byteLength(text) !== Number(headers.get('content-length') ?? Number.NaN)) return
      resolve({ status: Number(first.split(' ')[1]), headers, text, body: JSON.parse(text) })
      socket.destroy()
    })
  })
}

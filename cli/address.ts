import { apiBase } from '@1ctl/contract/client'
import { usage } from './errors.ts'

export const defaultUrl = `https://api.satusky.com${apiBase}`

declare const checked: unique symbol
/** An address that a token may be sent to. */
export type Base = string & { [checked]: true }

/**
 * The base of all requests: an address with an empty path gets `/v1/cli`. Refuses addresses to which no token may go, which are all but
 * https and this machine itself.
 */
export function baseOf(address: string): Base {
  const url = URL.canParse(address) ? new URL(address) : undefined
  if (!url || (url.protocol !== 'https:' && url.protocol !== 'http:')) {
    throw usage(`"${address}" is not an address.`, `Write it in full: https://${address.replace(/^\w+:\/\//, '')}`)
  }
  if (url.username || url.password || url.search || url.hash) {
    throw usage(`The address "${url.origin}${url.pathname}" must not carry credentials, a query or a fragment.`)
  }
  if (url.protocol === 'http:' && !isLoopback(url.hostname)) {
    throw usage(
      `A token is sent only over https, and ${address} is not.`,
      'Use https://; plain http is for this machine alone (localhost, 127.0.0.1, ::1).',
    )
  }
  const path = url.pathname.replace(/\/+$/, '')
  return `${url.origin}${path || apiBase}` as Base
}

/** Where the server itself answers (`/readyz`, the dashboard), without the path of the API. */
export const rootOf = (address: string) => baseOf(address).replace(new RegExp(`${apiBase}$`), '') as Base

// URL has brought every way of writing an IPv4 address to its four numbers.
const isLoopback = (host: string) => host === 'localhost' || host === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(host)

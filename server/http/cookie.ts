/**
 * The session cookie. On https its name starts with `__Host-`, which makes the browser itself refuse it from a subdomain or without
 * Secure. https://developer.mozilla.org/docs/Web/HTTP/Cookies#cookie_prefixes
 */
const nameOf = (secure: boolean) => (secure ? '__Host-1ctl_session' : '1ctl_session')

export const sessionCookie = (value: string, days: number, secure: boolean) =>
  `${nameOf(secure)}=${value}; Path=/; HttpOnly; SameSite=Strict; Max-Age=${days * 86_400}${secure ? '; Secure' : ''}`

export const cleared = (secure: boolean) => sessionCookie('', 0, secure)

export function readSessionCookie(header: string | undefined, secure: boolean): string | undefined {
  if (!header) return undefined
  const wanted = `${nameOf(secure)}=`
  const found = header.split('; ').find((pair) => pair.startsWith(wanted))
  return found?.slice(wanted.length) || undefined
}

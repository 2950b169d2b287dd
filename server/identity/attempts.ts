import { type AttemptKind, attemptLimits } from '@1ctl/contract/limits'
import { Refusal } from '../refusal.ts'
import { type Database, execute, row, statement } from '../store/database.ts'

/**
 * Failed sign-ins and bad tokens, counted in the database so that several processes count together. An attempt is counted before the
 * answer is known and taken back when it was good: a burst of parallel guesses cannot slip past the limit.
 */
export type Attempts = ReturnType<typeof attemptsIn>

const count = statement<{ failures: number; waitSeconds: number }>(
  'attempts.count',
  `insert into attempts as a (key, failures, until) values ($1, 1, now() + $2::interval)
   on conflict (key) do update set
     failures = case when a.until <= now() then 1 else a.failures + 1 end,
     until = case when a.until <= now() then excluded.until else a.until end
   returning failures, ceil(extract(epoch from until - now()))::int as "waitSeconds"`,
)
const takeBack = statement(
  'attempts.takeBack',
  'update attempts set failures = failures - 1 where key = $1 and failures > 0',
)
const forget = statement('attempts.forget', 'delete from attempts where key = $1')

export const attemptsIn = (db: Database) => ({
  /** Counts one; refuses when there were too many. Returns how many are left. */
  async count(kind: AttemptKind, who: string): Promise<number> {
    const { failuresMax, windowMinutes } = attemptLimits[kind]
    const counted = await row(db, count, [keyOf(kind, who), `${windowMinutes} minutes`])
    if (!counted) throw new Error('attempts.count returned no row')
    if (counted.failures > failuresMax)
      throw new Refusal(
        'too_many_attempts',
        `Too many ${kind === 'compare' ? 'comparisons' : 'failed attempts'}. Try again in ${inWords(counted.waitSeconds)}.`,
        {
          headers: { 'retry-after': String(counted.waitSeconds) },
          details: { retryAfterSeconds: counted.waitSeconds },
        },
      )
    return failuresMax - counted.failures
  },
  takeBack: (kind: AttemptKind, who: string) => execute(db, takeBack, [keyOf(kind, who)]),
  forget: (kind: AttemptKind, who: string) => execute(db, forget, [keyOf(kind, who)]),
})

const keyOf = (kind: AttemptKind, who: string) => `${kind} ${kind === 'account' ? who : network(who)}`

/** A machine with IPv6 has 2^64 addresses, its whole /64, to come from: they count as one. */
function network(address: string): string {
  if (!address.includes(':') || address.includes('.')) return address // IPv4, which may read ::ffff:203.0.113.7
  const [left = [], right = []] = address.split('::').map((part) => part.split(':'))
  const zeros = Array.from({ length: 8 - left.length - right.length }, () => '0')
  return `${[...left, ...zeros, ...right].slice(0, 4).join(':')}::/64`
}

const inWords = (seconds: number) => (seconds < 90 ? `${seconds} seconds` : `${Math.ceil(seconds / 60)} minutes`)

import { randomFillSync } from 'node:crypto'

const random = Buffer.alloc(10 * 256)
let used = random.length
let lastMs = 0
let counter = 0

/**
 * A UUIDv7: in order of making within a process (a 12-bit counter inside the millisecond), so that rows land at the end of their
 * index and "newest first" is "order by id desc".
 */
export function uuidv7(): string {
  const now = Date.now()
  if (now > lastMs) {
    lastMs = now
    counter = 0
  } else if (++counter > 0xfff) {
    // The clock stands still or went back: borrow the next millisecond.
    lastMs++
    counter = 0
  }
  if (used + 8 > random.length) {
    randomFillSync(random)
    used = 0
  }
  const time = lastMs.toString(16).padStart(12, '0')
  const sequence = counter.toString(16).padStart(3, '0')
  random[used] = ((random[used] ?? 0) & 0x3f) | 0x80
  const tail = random.toString('hex', used, used + 8)
  used += 8
  return `${time.slice(0, 8)}-${time.slice(8)}-7${sequence}-${tail.slice(0, 4)}-${tail.slice(4)}`
}

import { afterEach, expect, test, vi } from 'vitest'
import { uuidv7 } from './uuid.ts'

afterEach(() => {
  vi.useRealTimers()
})

const make = (count: number) => Array.from({ length: count }, uuidv7)

test('ids are UUIDs of version 7 with the time in front', () => {
  for (const id of make(1000)) {
    expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    expect(Math.abs(Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16) - Date.now())).toBeLessThan(1_000)
  }
})

test('they are in order and different, however many a millisecond and also when the clock goes back', () => {
  vi.useFakeTimers()
  const ids = make(10_000)
  vi.setSystemTime(Date.now() - 60_000)
  ids.push(...make(10_000))
  vi.setSystemTime(Date.now() + 120_000)
  ids.push(...make(10))
  expect(ids).toEqual(ids.toSorted())
  expect(new Set(ids).size).toBe(ids.length)
})

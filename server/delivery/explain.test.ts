import { Readable } from 'node:stream'
import { expect, test } from 'vitest'
import type { Kubernetes } from '../kubernetes/client.ts'
import { lastLines } from './explain.ts'

/** As a kubelet answers for the container of now and for the one before it. */
const podThatSaid = (now: string | Error, before: string | Error) => ({
  kubernetes: {
    logs: async (_, { previous } = {}) => {
      const text = previous ? before : now
      if (text instanceof Error) throw text
      return Readable.from([text])
    },
  } as Partial<Kubernetes> as Kubernetes,
})
const gone = 'unable to retrieve container logs for containerd://0123abcd'
const pod = { namespace: 'team', name: 'web-1' }
const blot = (text: string) => text.replaceAll('hunter2', '***')

test('the last lines of a pod are those of its container before, without values', async () => {
  const cluster = podThatSaid('starting', 'starting\n\nno hunter2\n')
  expect(await lastLines(cluster, { ...pod, hasRestarted: true }, blot)).toEqual(['starting', 'no ***'])
  expect(await lastLines(cluster, { ...pod, hasRestarted: false }, blot)).toEqual(['starting'])
})

test.each([gone, '', new Error('previous terminated container not found')])(
  'they are those of the other one where there are none: %s',
  async (none) => {
    expect(await lastLines(podThatSaid('now', none), { ...pod, hasRestarted: true }, blot)).toEqual(['now'])
    expect(await lastLines(podThatSaid(none, 'before'), { ...pod, hasRestarted: false }, blot)).toEqual(['before'])
    expect(await lastLines(podThatSaid(none, none), { ...pod, hasRestarted: true }, blot)).toEqual([])
  },
)

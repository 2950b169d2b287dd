import { describe, expect, test } from 'vitest'
import { isWithin, othersFields, undoing } from './drift.ts'

describe('what is wanted', () => {
  const wanted = {
    replicas: 2,
    env: [{ name: 'A', value: '' }],
    resources: { limits: { cpu: '0.5', memory: '1024Mi' } },
    on: false,
  }

  test('is there whatever the API server adds or leaves out', () => {
    const found = {
      replicas: 2,
      extra: 1,
      env: [{ name: 'A', added: true }],
      resources: { limits: { cpu: '500m', memory: '1Gi' } },
    }
    expect(isWithin(wanted, found)).toBe(true)
  })

  test.each([
    ['another number', { replicas: 3 }],
    ['a member more', { env: [{ name: 'A' }, { name: 'B' }] }],
    ['another order', { env: [{ name: 'B' }] }],
    ['another amount', { resources: { limits: { cpu: '501m', memory: '1Gi' } } }],
    ['something switched on', { on: true }],
    ['a field that is gone', { env: undefined }],
  ])('is not there with %s', (_, change) => {
    const found = {
      replicas: 2,
      env: [{ name: 'A' }],
      resources: { limits: { cpu: '500m', memory: '1Gi' } },
      ...change,
    }
    expect(isWithin(wanted, found)).toBe(false)
  })
})

describe('what others have added', () => {
  const wanted = {
    replicas: 1,
    template: {
      metadata: { labels: { a: 'b' } },
      spec: { containers: [{ name: 'api', image: 'x', env: [{ name: 'A', value: '1' }] }] },
    },
  }

  test('is told by the fields they own', () => {
    const managedFields = [
      { manager: '1ctl', operation: 'Apply' as const, fieldsV1: { 'f:spec': { 'f:replicas': {} } } },
      {
        manager: 'kube-controller-manager',
        operation: 'Update' as const,
        subresource: 'status',
        fieldsV1: { 'f:status': {} },
      },
      { manager: 'kubectl-edit', operation: 'Update' as const, fieldsV1: { 'f:spec': { 'f:paused': {} } } },
    ]
    expect(othersFields({ managedFields }, 'spec')).toEqual([{ 'f:paused': {} }])
    expect(othersFields({}, 'spec')).toEqual([])
  })

  test('is taken away: a field by null, a member by the whole list', () => {
    expect(undoing({ 'f:paused': {} }, wanted)).toEqual({ paused: null })
    expect(undoing({ 'f:template': { 'f:spec': { 'f:hostNetwork': {} } } }, wanted)).toEqual({
      template: { spec: { hostNetwork: null } },
    })
    const { containers } = wanted.template.spec
    const whole = { template: { spec: { containers } } }
    expect(undoing(inContainer({ 'f:env': { 'k:{"name":"EVIL"}': { '.': {}, 'f:value': {} } } }), wanted)).toEqual(
      whole,
    )
    expect(undoing(inContainer({ 'f:command': {} }), wanted)).toEqual(whole)
    expect(
      undoing({ 'f:template': { 'f:spec': { 'f:containers': { 'k:{"name":"sidecar"}': { '.': {} } } } } }, wanted),
    ).toEqual(whole)
  })

  test('is nothing where they own what is wanted anyway, or asked for a restart', () => {
    expect(undoing({ 'f:replicas': {} }, wanted)).toBeUndefined()
    expect(
      undoing(inContainer({ 'f:image': {}, 'f:env': { 'k:{"name":"A"}': { 'f:value': {} } } }), wanted),
    ).toBeUndefined()
    const restart = {
      'f:template': { 'f:metadata': { 'f:annotations': { '.': {}, 'f:kubectl.kubernetes.io/restartedAt': {} } } },
    }
    expect(undoing(restart, wanted)).toBeUndefined()
  })
})

const inContainer = (fields: object) => ({
  'f:template': { 'f:spec': { 'f:containers': { 'k:{"name":"api"}': fields } } },
})

import { describe, expect, test } from 'vitest'
import { baseOf, rootOf } from './address.ts'

test.each([
  ['https://api.satusky.com', 'https://api.satusky.com/v1/cli'],
  ['https://api.satusky.com/', 'https://api.satusky.com/v1/cli'],
  ['https://api.satusky.com/v1/cli', 'https://api.satusky.com/v1/cli'],
  ['https://api.satusky.com/v1/cli/', 'https://api.satusky.com/v1/cli'],
  ['https://intern.example.test/1ctl/v1/cli', 'https://intern.example.test/1ctl/v1/cli'],
  ['http://localhost:7117', 'http://localhost:7117/v1/cli'],
  ['http://127.0.0.1:7117', 'http://127.0.0.1:7117/v1/cli'],
  ['http://127.1.2.3', 'http://127.1.2.3/v1/cli'],
  ['http://127.1', 'http://127.0.0.1/v1/cli'],
  ['http://[::1]:7117', 'http://[::1]:7117/v1/cli'],
])('%s means %s', (address, base) => expect(baseOf(address)).toBe(base))

test('the server itself lies above the path of the API', () => {
  expect(rootOf('https://api.satusky.com')).toBe('https://api.satusky.com')
  expect(rootOf('https://intern.example.test/1ctl/v1/cli')).toBe('https://intern.example.test/1ctl')
})

describe('no token goes to', () => {
  test.each([
    'http://api.satusky.com',
    'http://localhost.example.test',
    'http://127.0.0.1.example.test',
    'http://127.example.test',
    'http://10.0.0.1',
    'http://[::2]',
    'http://0.0.0.0',
  ])('%s, which is neither https nor this machine', (address) => {
    expect(() => baseOf(address)).toThrow('A token is sent only over https')
  })

  test.each(['api.satusky.com', 'ftp://api.satusky.com', 'localhost:7117', '', 'https://'])(
    '%j, which is no address',
    (address) => {
      expect(() => baseOf(address)).toThrow('is not an address')
    },
  )

  test.each(['https://a:b@api.satusky.com', 'https://api.satusky.com/?x=1', 'https://api.satusky.com/#x'])(
    '%s',
    (address) => {
      expect(() => baseOf(address)).toThrow('must not carry')
      expect(() => baseOf(address)).not.toThrow('a:b')
    },
  )
})

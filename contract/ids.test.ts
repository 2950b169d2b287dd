import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { decodeId, encodeId, idPrefixes, type Noun } from './ids.ts'

const nouns = Object.keys(idPrefixes) as Noun[]

// https://github.com/jetify-com/typeid/blob/main/spec/valid.yml
test.each([
  ['00000000000000000000000000', '00000000-0000-0000-0000-000000000000'],
  ['00000000000000000000000001', '00000000-0000-0000-0000-000000000001'],
  ['0000000000000000000000000a', '00000000-0000-0000-0000-00000000000a'],
  ['0000000000000000000000000g', '00000000-0000-0000-0000-000000000010'],
  ['00000000000000000000000010', '00000000-0000-0000-0000-000000000020'],
  ['7zzzzzzzzzzzzzzzzzzzzzzzzz', 'ffffffff-ffff-ffff-ffff-ffffffffffff'],
  ['0123456789abcdefghjkmnpqrs', '0110c853-1d09-52d8-d73e-1194e95b5f19'],
  ['01h455vb4pex5vsknk084sn02q', '01890a5d-ac96-774b-bcce-b302099a8057'],
])('TypeID %s is %s', (suffix, uuid) => {
  for (const noun of nouns) {
    expect(encodeId(noun, uuid)).toBe(`${idPrefixes[noun]}_${suffix}`)
    expect(decodeId(noun, `${idPrefixes[noun]}_${suffix}`)).toBe(uuid)
  }
})

test('every UUID is one id and comes back from it, and is taken as it is in every usual spelling', () => {
  fc.assert(
    fc.property(fc.constantFrom(...nouns), fc.uuid({ version: undefined }), (noun, uuid) => {
      const id = encodeId(noun, uuid)
      expect(decodeId(noun, id)).toBe(uuid)
      expect(decodeId(undefined, id)).toBe(uuid)
      for (const spelling of [uuid, uuid.toUpperCase(), uuid.replaceAll('-', '')])
        expect(decodeId(noun, spelling)).toBe(uuid)
      for (const other of nouns) if (other !== noun) expect(decodeId(other, id)).toBeUndefined()
    }),
  )
})

test('ids sort like their UUIDs, so "newest first" is the same for both', () => {
  fc.assert(
    fc.property(fc.uuid(), fc.uuid(), (one, two) => {
      expect(encodeId('token', one) < encodeId('token', two)).toBe(one < two)
    }),
  )
})

test.each([
  ['too large for 128 bits', 'tok_8zzzzzzzzzzzzzzzzzzzzzzzzz'],
  ['too short', 'tok_1234567890123456789012345'],
  ['too long', 'tok_123456789012345678901234567'],
  ['upper case', 'tok_0123456789ABCDEFGHJKMNPQRS'],
  ['letters that are taken for digits', 'tok_ooooooiiiiiiuuuuuuulllllll'],
  ['with dashes', 'tok_123456789-0123456789-0123456'],
  ['another prefix', 'usr_01h455vb4pex5vsknk084sn02q'],
  ['no prefix', '01h455vb4pex5vsknk084sn02q'],
  ['nothing after the prefix', 'tok_'],
  ['nothing', ''],
  ['a line more', 'tok_01h455vb4pex5vsknk084sn02q\n'],
  ['a UUID and more', '01890a5d-ac96-774b-bcce-b302099a8057\n'],
])('is no id: %s', (_, id) => {
  expect(decodeId('token', id)).toBeUndefined()
})

test('any text is either no id or one that is written back the same', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      const uuid = decodeId('token', text)
      expect(uuid === undefined || encodeId('token', uuid) === text).toBe(true)
    }),
  )
})

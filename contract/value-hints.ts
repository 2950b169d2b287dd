/** What looks like a mistake in a value: told before it is stored, and kept with it instead of it. */
export const valueHints = (value: string): string[] =>
  hints.flatMap(([hint, applies]) => (applies(value) ? [hint] : []))

const hints: [string, (value: string) => boolean][] = [
  [
    'looks like a placeholder',
    (value) => /^(?:change[-_ ]?me|todo|fixme|x{3,}|<[^>]*>|your[-_ ].*|example|placeholder)$/i.test(value.trim()),
  ],
  // A certificate ends with one as it should.
  ['ends with a newline', (value) => value.endsWith('\n') && value.indexOf('\n') === value.length - 1],
  ['has spaces around it', (value) => value.trimStart() !== value || value.trimEnd() !== value.replace(/\r?\n$/, '')],
  ['has quotes around it', (value) => /^(["']).*\1$/s.test(value)],
  ['contains a NUL character', (value) => value.includes('\0')],
]

/** Whether a plain setting should be a secret, going by its name or by what its value begins with. */
export const looksSecret = (name: string, value: string): boolean =>
  (secretName.test(name) && value !== '') || secretValue.test(value)

const secretName =
  /(?:^|_)(?:password|passwd|pwd|secret|token|credentials?|(?:api|access|private|secret|signing|encryption)_?key)$/i
const secretValue =
  /^(?:-----BEGIN [A-Z ]*PRIVATE KEY|sk_(?:live|test)_|gh[pousr]_|github_pat_|xox[abprs]-|AKIA[0-9A-Z]{16}|sat_|eyJ[\w-]+\.eyJ|[a-z][a-z+]*:\/\/[^/\s:@]*:[^/\s@]+@)/

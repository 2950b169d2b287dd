import { matches, nameRules } from '@1ctl/contract/names'
import { looksSecret } from '@1ctl/contract/value-hints'
import type { Deps } from './deps.ts'
import { usage } from './errors.ts'
import type { Variable } from './satusky-toml.ts'

/** Plain variables from the command line. */

/** `KEY=VALUE`, or `KEY` alone. What is no name is not repeated: it may be a value. */
export function splitVariable(pair: string): [name: string, value: string | undefined] {
  const [, name = pair, value] = /^([^=]*)=(.*)$/s.exec(pair) ?? []
  if (!matches(nameRules.variable, name))
    throw usage('A variable has no valid name.', `Write KEY=VALUE; a name can have ${nameRules.variable.says}.`)
  return [name, value]
}

/** `--env KEY=VALUE`, several times. */
export function variablesOf(pairs: string[], deps: Deps): Record<string, Variable> {
  const variables = pairs.map((pair): [string, string] => {
    const [name, value] = splitVariable(pair)
    if (value === undefined) throw usage(`${name} has no value.`, `Write ${name}=VALUE.`)
    return [name, value]
  })
  warnOfSecrets(variables, deps)
  return Object.fromEntries(variables)
}

/** Everybody who may see an app may read its variables. */
export function warnOfSecrets(variables: Iterable<[string, Variable]>, { note }: Pick<Deps, 'note'>): void {
  for (const [name, value] of variables)
    if (typeof value === 'string' && looksSecret(name, value))
      note(`Warning: ${name} looks like a secret, and variables can be read. Better: 1ctl secret create --kv ${name}`)
}

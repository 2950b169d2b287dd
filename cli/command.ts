import { limits } from '@1ctl/contract/limits'
import { Argument, Option } from 'commander'
import { oneOf } from './words.ts'

/** What the files in `commands/` are built with. */

/** Help begins with examples: `.addHelpText('before', examples('1ctl token list', …))`. */
export const examples = (...lines: string[]): string =>
  `Examples:\n${lines.map((line) => (line ? `  ${line}` : line)).join('\n')}\n`

/** An option or argument that takes one word of a closed set; help and completion list it. */
export const choiceOption = (flags: string, description: string, words: readonly string[]): Option =>
  new Option(flags, description).choices(words).argParser(oneOf(words))

export const choiceArgument = (name: string, description: string, words: readonly string[]): Argument =>
  new Argument(name, description).choices(words).argParser(oneOf(words))

/** The same in every command that changes something with a history: `.option(...noteOption)`. */
export const noteOption = [
  '--note <text>',
  `why; shown in the history (at most ${limits.noteLengthMax} characters)`,
] as const

import { CliError, usage } from './errors.ts'

/** Questions to the person at the terminal. Without one they end in exit 2, naming the flag that answers. */
export type Prompt = {
  /** yes or no; "no" ends the command */
  confirm(question: string): Promise<void>
  /** for what cannot be undone: the name must be typed, or come as `--confirm=<name>` */
  confirmName(question: string, name: string, confirmed: string | undefined): Promise<void>
  secret(question: string, flag: string): Promise<string>
}

export function createPrompt({ input, yes }: { input: boolean; yes: boolean }): Prompt {
  const able = () => input && process.stdin.isTTY

  return {
    async confirm(question) {
      if (yes) return
      if (!able()) throw needed(question, 'Repeat the command with -y.')
      const agreed = await ask((clack, shared) =>
        clack.confirm({ message: `${question} (y/N)`, initialValue: false, ...shared }),
      )
      if (!agreed) throw cancelled()
    },
    async confirmName(question, name, confirmed) {
      if (confirmed === name) return
      if (confirmed !== undefined) throw needed(`--confirm=${confirmed} is not the name "${name}".`)
      if (!able()) throw needed(question, `Repeat the command with --confirm=${name}.`)
      const typed = await ask((clack, shared) =>
        clack.text({ message: `${question} Type its name to confirm:`, ...shared }),
      )
      if (typed !== name) throw cancelled()
    },
    async secret(question, flag) {
      if (!able()) throw usage(`${question} is missing.`, `Give it with ${flag}.`)
      return ask<string>((clack, shared) => clack.password({ message: `${question} (hidden)`, mask: '', ...shared }))
    },
  }
}

type Clack = typeof import('./clack.ts')
type Shared = { output: NodeJS.WriteStream; withGuide: boolean }

// Loaded only when a question is really asked. On stderr, so that stdout holds nothing but results, unless only stdout is seen.
async function ask<T>(question: (clack: Clack, shared: Shared) => Promise<T | symbol>): Promise<T> {
  const output = process.stdout.isTTY && !process.stderr.isTTY ? process.stdout : process.stderr
  // Some pseudo-terminals say that they have no columns, and clack would put every letter on a line of its own.
  output.columns ||= 80
  const clack = await import('./clack.ts')
  const answer = await question(clack, { output, withGuide: false })
  if (typeof answer === 'symbol') throw new CliError('interrupted', 'interrupted', 'Interrupted: nothing was done.')
  return answer
}

const needed = (question: string, fix?: string) =>
  new CliError('usage', 'confirmation_needed', `A confirmation is needed. ${question}`, { fix })

const cancelled = () => new CliError('usage', 'cancelled', 'Cancelled: nothing was done.')

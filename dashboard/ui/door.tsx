import { SquareTerminal } from 'lucide-react'
import type { ReactNode } from 'react'
import { version } from '../../package.json'
import { Brand } from './brand.tsx'
import { Heading } from './heading.tsx'
import { ThemeToggle } from './theme-toggle.tsx'

/** The card that stands before everything else: what one sees without being signed in. */
export function Door({ title, children }: { title: string; children: ReactNode }) {
  return (
    <main className="relative flex min-h-dvh flex-col items-center justify-center gap-4 px-4 py-6">
      <div className="w-full max-w-[388px] overflow-hidden rounded-4 border border-line-strong bg-surface shadow-menu">
        <div className="sealed-paper h-11 border-b border-seal-line" aria-hidden="true" />
        <div className="flex flex-col gap-4 p-6 sm:px-8">
          <Brand />
          <Heading title={title} />
          {children}
        </div>
        <p className="flex items-center gap-2.25 border-t border-line bg-sunken px-6 py-3 text-sm text-ink-2 sm:px-8">
          <SquareTerminal className="text-ink-3" />
          <span>
            Command line: <code>1ctl auth login</code>
          </span>
        </p>
      </div>
      <p className="text-sm text-ink-3">
        {location.host}, version {version}
      </p>
      <div className="absolute top-4 right-4">
        <ThemeToggle />
      </div>
    </main>
  )
}

import type { ReactNode } from 'react'
import { paths } from '../paths.ts'
import { Brand } from './brand.tsx'
import { ThemeToggle } from './theme-toggle.tsx'

/** The frame around every page of someone who is signed in. */
export function Page({ actions, children }: { actions?: ReactNode; children: ReactNode }) {
  return (
    <div className="min-h-dvh bg-surface">
      <header className="flex h-12 items-center gap-2 border-b border-line px-4 md:px-8">
        <a href={paths.home} className="mr-auto rounded-1">
          <Brand />
        </a>
        <ThemeToggle />
        {actions}
      </header>
      <main className="mx-auto flex max-w-[704px] flex-col gap-6 px-4 pt-6 pb-12 md:px-8">{children}</main>
    </div>
  )
}

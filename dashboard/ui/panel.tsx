import { type ReactNode, useId } from 'react'

export function Panel({ title, children }: { title: string; children: ReactNode }) {
  const id = useId()
  return (
    <section aria-labelledby={id} className="min-w-0 rounded-3 border border-line-strong bg-surface">
      <h2 id={id} className="flex min-h-11 items-center border-b border-line px-4 font-semibold">
        {title}
      </h2>
      {children}
    </section>
  )
}

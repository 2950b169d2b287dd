import type { ReactNode } from 'react'

/** The title of a page, on the tab too. It takes the focus unless a field did, so that a screen reader says where one has arrived. */
export function Heading({ title, children = title }: { title: string; children?: ReactNode }) {
  return (
    <>
      <title>{`${title} · 1ctl`}</title>
      <h1 ref={focus} tabIndex={-1} className="text-xl font-semibold tracking-[-0.015em] wrap-anywhere outline-none">
        {children}
      </h1>
    </>
  )
}

// Outside, because React would call a function that is new at every render at every render.
const focus = (heading: HTMLElement | null) => {
  if (document.activeElement === document.body) heading?.focus({ preventScroll: true })
}

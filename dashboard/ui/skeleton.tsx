import { useEffect, useState } from 'react'
import { Page } from './page.tsx'

/** What a page shows while it waits, from 200 ms on: before that it would only flicker. */
export function PageSkeleton() {
  const [late, setLate] = useState(false)
  useEffect(() => {
    const timer = setTimeout(() => setLate(true), 200)
    return () => clearTimeout(timer)
  }, [])
  if (!late) return null
  return (
    <Page>
      <p role="status" className="sr-only">
        Loading
      </p>
      <div className="flex flex-col gap-3 py-2">
        <span className="bone h-4 w-3/5" />
        <span className="bone h-3 w-24" />
      </div>
      <div className="flex flex-col gap-4 rounded-3 border border-line-strong p-4">
        <span className="bone h-3 w-28" />
        <span className="bone h-3 w-2/5" />
        <span className="bone h-3 w-1/3" />
      </div>
    </Page>
  )
}

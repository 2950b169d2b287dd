import { CircleCheck, Info } from 'lucide-react'
import type { ReactNode } from 'react'

const looks = {
  info: { Icon: Info, frame: 'border-line-strong', icon: 'text-ink-3' },
  done: { Icon: CircleCheck, frame: 'border-line-strong', icon: 'text-ok' },
}

/** A sentence about what stands around it. One that appears later belongs in an element with `role="status"` that was there before. */
export function Notice({ look = 'info', children }: { look?: keyof typeof looks; children: ReactNode }) {
  const { Icon, frame, icon } = looks[look]
  return (
    <p className={`flex gap-2.5 rounded-2 border px-3 py-2.5 text-ink-2 ${frame}`}>
      <Icon className={`mt-0.5 ${icon}`} />
      <span className="min-w-0">{children}</span>
    </p>
  )
}

import { LoaderCircle } from 'lucide-react'
import type { ComponentProps } from 'react'

const looks = {
  primary: 'border-primary bg-primary text-on-primary hover:border-primary-hover hover:bg-primary-hover active:bg-ink',
  default: 'border-line-strong bg-surface text-ink hover:bg-hover active:bg-pressed',
}

type ButtonProps = ComponentProps<'button'> & {
  look?: keyof typeof looks
  busy?: boolean
  /** what it says while busy: "Saving…"; without it only the icon turns, for small buttons that it would make wide */
  doing?: string
}

export function Button({ look = 'default', busy = false, doing, className = '', children, ...rest }: ButtonProps) {
  return (
    <button
      type="button"
      {...rest}
      // Not `disabled`, which would take the focus away from under the keyboard.
      aria-disabled={busy}
      onClick={busy ? (event) => event.preventDefault() : rest.onClick}
      className={`tap inline-grid h-10 flex-none cursor-pointer place-items-center *:col-start-1 *:row-start-1 aria-disabled:cursor-progress rounded-2 border px-3 font-medium whitespace-nowrap sm:h-8 ${looks[look]} ${className}`}
    >
      {/* Both lie in one cell, so that the width never changes. */}
      <span className={busy ? (doing ? 'invisible' : 'opacity-0') : ''}>{children}</span>
      <span className={`flex items-center gap-1.5 ${busy ? '' : 'invisible'}`}>
        <LoaderCircle className="animate-turn" />
        {doing}
      </span>
    </button>
  )
}

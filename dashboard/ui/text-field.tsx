import { type ComponentProps, type ReactNode, useId } from 'react'

type TextFieldProps = ComponentProps<'input'> & {
  name: string
  label: string
  hint?: string
  /** takes the hint's place; `useForm` gives both name and error */
  error: ReactNode
}

export function TextField({ label, hint, error, className = '', ...input }: TextFieldProps) {
  const id = useId()
  return (
    <div className="min-w-0">
      <label htmlFor={id} className="font-medium">
        {label}
      </label>
      <input
        {...input}
        id={id}
        aria-invalid={Boolean(error)}
        aria-describedby={`${id}-about`}
        className={`mt-1.5 h-10 w-full rounded-2 border border-line-control bg-surface px-2.5 text-lg hover:border-ink-3 focus:border-transparent focus:outline-2 focus:-outline-offset-1 focus:outline-focus aria-invalid:border-bad sm:h-8 md:text-base ${className}`}
      />
      <div id={`${id}-about`} aria-live="polite" className="text-sm text-ink-3">
        {error || (hint && <p className="mt-1.5">{hint}</p>)}
      </div>
    </div>
  )
}

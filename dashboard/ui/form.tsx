import { useMutation } from '@tanstack/react-query'
import { CircleAlert } from 'lucide-react'
import { type ReactNode, type RefObject, type SubmitEvent, useRef, useState } from 'react'
import { flushSync } from 'react-dom'
import { problemsOf } from '../api.ts'
import { Button } from './button.tsx'

type FormOptions<Name extends string, Answer> = {
  /** names as in the contract, so that what the server says about one is shown beside it */
  fields: readonly Name[]
  send: (values: Record<Name, string>) => Promise<Answer>
  done: (answer: Answer) => void
}

/**
 * A form whose rules are the server's: it sends what was typed and shows each refusal beside its field. What is typed stays in the
 * inputs, so that no password or value is kept anywhere else.
 */
export function useForm<Name extends string, Answer>({ fields, send, done }: FormOptions<Name, Answer>) {
  const element = useRef<HTMLFormElement>(null)
  const [refused, setRefused] = useState(nothing)
  const sending = useMutation({
    mutationFn: send,
    onSuccess: (answer) => {
      setRefused(nothing)
      element.current?.reset()
      done(answer)
    },
    onError: (error) => {
      const problems = problemsOf(error, fields)
      // At once, so that the field is marked when it is looked for.
      flushSync(() => setRefused(({ attempt }) => ({ problems, attempt: attempt + 1 })))
      const wrong = element.current?.querySelector<HTMLInputElement>('[aria-invalid=true]')
      wrong?.focus()
      wrong?.select()
    },
  })

  const onSubmit = (event: SubmitEvent<HTMLFormElement>) => {
    event.preventDefault()
    const typed = new FormData(event.currentTarget)
    const values = Object.fromEntries(fields.map((name) => [name, typed.get(name)])) as Record<Name, string>
    if (!sending.isPending) sending.mutate(values, { onSettled: sending.reset })
  }
  // The key makes a new node each time, so that a screen reader says the same sentence again after the next attempt.
  const errorOf = (name: string): ReactNode =>
    refused.problems[name] && <ErrorText key={refused.attempt}>{refused.problems[name]}</ErrorText>
  return {
    form: { element, onSubmit, busy: sending.isPending, error: errorOf('form') },
    field: (name: Name) => ({ name, error: errorOf(name) }),
  }
}

const nothing: { problems: Record<string, string>; attempt: number } = { problems: {}, attempt: 0 }

type FormProps = {
  element: RefObject<HTMLFormElement | null>
  onSubmit: (event: SubmitEvent<HTMLFormElement>) => void
  busy: boolean
  /** what is wrong with no field in particular */
  error: ReactNode
  /** what the button says, and what it says while that is being done */
  action: string
  doing: string
  wide?: boolean
  /** what follows from it, said before the button is pressed */
  consequence?: string
  children: ReactNode
}

export function Form({ element, onSubmit, busy, error, action, doing, wide, consequence, children }: FormProps) {
  return (
    <form ref={element} onSubmit={onSubmit} noValidate className="flex flex-col gap-4">
      {children}
      <div role="alert" className="-mt-1.5 empty:-mt-4">
        {error}
      </div>
      <div className="flex flex-wrap items-center gap-x-3 gap-y-2">
        <Button type="submit" look="primary" busy={busy} doing={doing} className={wide ? 'w-full sm:h-9' : ''}>
          {action}
        </Button>
        {consequence && <p className="text-ink-2">{consequence}</p>}
      </div>
    </form>
  )
}

export function ErrorText({ children }: { children: ReactNode }) {
  return (
    <p className="mt-1.5 flex gap-1.5 text-sm text-bad-ink">
      <CircleAlert className="mt-px size-3.5 stroke-2" />
      {children}
    </p>
  )
}

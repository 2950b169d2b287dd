import { limits } from '@1ctl/contract/limits'
import { useEffect, useRef } from 'react'
import { api } from '../api.ts'
import { paths } from '../paths.ts'
import { Door } from '../ui/door.tsx'
import { Form, useForm } from '../ui/form.tsx'
import { TextField } from '../ui/text-field.tsx'

export function InvitationPage() {
  const code = useCodeOfFragment()
  const { form, field } = useForm({
    fields: ['invitation', 'password'],
    send: (it) => api.invitationAccept(it),
    done: () => location.replace(paths.home),
  })
  return (
    <Door title="Accept an invitation">
      <Form {...form} action="Accept invitation" doing="Accepting…" wide>
        <TextField
          {...field('invitation')}
          ref={code}
          autoFocus
          label="One-time code"
          hint="From the person who invited you. It starts with inv_."
          autoComplete="off"
          autoCapitalize="none"
          spellCheck={false}
          className="font-mono sm:h-9"
        />
        <TextField
          {...field('password')}
          label="Password"
          hint={`At least ${limits.passwordLengthMin} characters. If you already have an account here, its password.`}
          type="password"
          autoComplete="new-password"
          className="sm:h-9"
        />
      </Form>
      <p className="text-sm text-ink-2">
        Accepted already?{' '}
        <a href={paths.signIn} className="link">
          Sign in
        </a>
      </p>
    </Door>
  )
}

/**
 * `/invitation#inv_…`: the fragment, because browsers send it to no server. It is taken out of the address at once, before it is
 * copied, photographed or bookmarked.
 */
function useCodeOfFragment() {
  const field = useRef<HTMLInputElement>(null)
  useEffect(() => {
    const take = () => {
      const code = location.hash.slice(1)
      if (!code || !field.current) return
      history.replaceState(null, '', paths.invitation)
      field.current.value = code
      field.current.form?.querySelector<HTMLInputElement>('[name=password]')?.focus()
    }
    take()
    addEventListener('hashchange', take)
    return () => removeEventListener('hashchange', take)
  }, [])
  return field
}

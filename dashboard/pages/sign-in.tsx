import { api } from '../api.ts'
import { paths } from '../paths.ts'
import { signedIn } from '../session.ts'
import { Door } from '../ui/door.tsx'
import { Form, useForm } from '../ui/form.tsx'
import { Notice } from '../ui/notice.tsx'
import { TextField } from '../ui/text-field.tsx'

export function SignInPage({ ended }: { ended: boolean }) {
  const { form, field } = useForm({
    fields: ['email', 'password'],
    send: (it) => api.sessionCreate(it),
    done: signedIn,
  })
  return (
    <Door title="Sign in">
      {ended && (
        <div role="alert">
          <Notice>Your session has ended. Sign in again.</Notice>
        </div>
      )}
      <Form {...form} action="Sign in" doing="Signing in…" wide>
        <TextField
          {...field('email')}
          label="Email"
          type="email"
          autoComplete="username"
          autoFocus
          className="sm:h-9"
        />
        <TextField
          {...field('password')}
          label="Password"
          type="password"
          autoComplete="current-password"
          className="sm:h-9"
        />
      </Form>
      <p className="text-sm text-ink-2">
        Invited?{' '}
        <a href={paths.invitation} className="link">
          Accept an invitation
        </a>
      </p>
    </Door>
  )
}

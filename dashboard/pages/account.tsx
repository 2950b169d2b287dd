import { limits } from '@1ctl/contract/limits'
import { useMutation } from '@tanstack/react-query'
import { Building, CircleCheck, ServerCog, UserRound } from 'lucide-react'
import { useState } from 'react'
import { api, inWords } from '../api.ts'
import { type Me, signedIn, signedOut } from '../session.ts'
import { Button } from '../ui/button.tsx'
import { ErrorText, Form, useForm } from '../ui/form.tsx'
import { Heading } from '../ui/heading.tsx'
import { Notice } from '../ui/notice.tsx'
import { Page } from '../ui/page.tsx'
import { Panel } from '../ui/panel.tsx'
import { TextField } from '../ui/text-field.tsx'

export function AccountPage({ me }: { me: Me }) {
  const signOut = useMutation({ mutationFn: () => api.sessionEnd(), onSuccess: signedOut })
  return (
    <Page
      actions={
        <Button onClick={() => signOut.mutate()} busy={signOut.isPending}>
          Sign out
        </Button>
      }
    >
      <Who me={me} />
      <div role="alert" className="empty:-mt-6">
        {signOut.error && <ErrorText>{inWords(signOut.error)}</ErrorText>}
      </div>
      <Organizations me={me} />
      <Password email={me.user.email} />
    </Page>
  )
}

function Who({ me: { user, organization, role } }: { me: Me }) {
  return (
    <div className="flex flex-col gap-1.5">
      <Heading title="Account">
        Signed in as {user.email}
        {organization && ` of ${organization.name}`}
      </Heading>
      <ul className="flex flex-wrap gap-x-5 gap-y-1 text-ink-2">
        {role && (
          <li className="flex items-center gap-1.5">
            <UserRound className="text-ink-3" />
            <span className="first-letter:uppercase">{role}</span>
          </li>
        )}
        {user.operator && (
          <li className="flex items-center gap-1.5">
            <ServerCog className="text-ink-3" />
            Operator of this installation
          </li>
        )}
      </ul>
    </div>
  )
}

function Organizations({ me: { organization: current, organizations } }: { me: Me }) {
  const change = useMutation({
    mutationFn: (organization: string) => api.sessionSwitch({ organization }),
    onSuccess: signedIn,
  })
  return (
    <Panel title="Organizations">
      <div className="px-4 py-1.5">
        {!current && (
          <div className="py-2.5">
            <Notice>{organizations.length > 0 ? removed : inNone}</Notice>
          </div>
        )}
        <ul className="divide-y divide-line">
          {organizations.map(({ id, name, role }) => (
            <li key={id} className="flex min-h-11 items-center gap-2.25 py-1">
              <Building className="text-ink-3" />
              <span className="min-w-0 wrap-anywhere">
                <span className="font-medium">{name}</span> <span className="text-ink-3">{role}</span>
              </span>
              <span className="ml-auto">
                {id === current?.id ? (
                  <span className="flex items-center gap-1.25 text-sm font-medium">
                    <CircleCheck className="size-3.5 stroke-2 text-ok" />
                    Current
                  </span>
                ) : (
                  <Button
                    onClick={() => change.mutate(id)}
                    busy={change.isPending && change.variables === id}
                    aria-label={`Switch to ${name}`}
                  >
                    Switch
                  </Button>
                )}
              </span>
            </li>
          ))}
        </ul>
        <div role="alert" className="*:mb-2.5">
          {change.error && <ErrorText>{inWords(change.error)}</ErrorText>}
        </div>
      </div>
    </Panel>
  )
}

const removed = 'You are no longer a member of the organization you worked in. Switch to another, or sign out.'
const inNone = 'You are a member of no organization now. An admin of one can invite you.'

function Password({ email }: { email: string }) {
  const [sessionsEnded, setSessionsEnded] = useState<number>()
  const { form, field } = useForm({
    fields: ['current', 'new'],
    send: (it) => api.passwordChange(it),
    done: (answer) => setSessionsEnded(answer.sessionsEnded),
  })
  return (
    <Panel title="Password">
      <div className="flex flex-col gap-4 p-4">
        <Form
          {...form}
          action="Change password"
          doing="Changing…"
          consequence="Ends every other browser session of yours. API tokens keep working."
        >
          {/* For password managers: whose password this is. */}
          <input type="text" autoComplete="username" value={email} readOnly hidden />
          <div className="grid items-start gap-4 sm:grid-cols-2">
            <TextField {...field('current')} label="Current password" type="password" autoComplete="current-password" />
            <TextField
              {...field('new')}
              label="New password"
              hint={`At least ${limits.passwordLengthMin} characters.`}
              type="password"
              autoComplete="new-password"
            />
          </div>
        </Form>
        <div role="status" className="empty:-mt-4">
          {sessionsEnded !== undefined && (
            <Notice look="done">Password changed. {counted(sessionsEnded)} ended.</Notice>
          )}
        </div>
      </div>
    </Panel>
  )
}

const counted = (sessions: number) => (sessions === 1 ? '1 other session' : `${sessions || 'No'} other sessions`)

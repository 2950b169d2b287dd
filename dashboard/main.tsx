import { QueryClientProvider, useQuery } from '@tanstack/react-query'
import { StrictMode, useEffect } from 'react'
import { createRoot } from 'react-dom/client'
import { AccountPage } from './pages/account.tsx'
import { InvitationPage } from './pages/invitation.tsx'
import { NotFoundPage } from './pages/not-found.tsx'
import { SignInPage } from './pages/sign-in.tsx'
import { UnreachablePage } from './pages/unreachable.tsx'
import { paths } from './paths.ts'
import { type Me, queryClient, sessionQuery } from './session.ts'
import { PageSkeleton } from './ui/skeleton.tsx'

function App() {
  return location.pathname === paths.invitation ? <InvitationPage /> : <SignedIn />
}

/** Signing in is a state and not a place: whoever is signed out sees the form wherever they are, and then what they came for. */
function SignedIn() {
  const session = useQuery(sessionQuery)
  if (session.data?.me) return <Here me={session.data.me} />
  if (session.data) return <SignInPage ended={session.data.ended} />
  if (session.errorUpdateCount > 0) return <UnreachablePage {...session} />
  return <PageSkeleton />
}

function Here({ me }: { me: Me }) {
  useEffect(() => {
    if (location.pathname === paths.signIn) history.replaceState(null, '', paths.home)
  }, [])
  // The key: in another organization everything starts anew, focus and half-typed forms included.
  return isHome() ? <AccountPage key={me.organization?.id} me={me} /> : <NotFoundPage />
}

const isHome = () => location.pathname === paths.home || location.pathname === paths.signIn

createRoot(document.querySelector('#root') as HTMLElement).render(
  <StrictMode>
    <QueryClientProvider client={queryClient}>
      <App />
    </QueryClientProvider>
  </StrictMode>,
)

import { ApiError, type Client } from '@1ctl/contract/client'
import { MutationCache, QueryCache, QueryClient, queryOptions } from '@tanstack/react-query'
import { api, isSignedOut } from './api.ts'

export type Me = Awaited<ReturnType<Client['meView']>>

/** Who is signed in. `ended`: someone was, and did not sign out here. */
export type Session = { me: Me } | { me: null; ended: boolean }

export const sessionQuery = queryOptions({
  queryKey: ['session'],
  queryFn: async ({ client, queryKey }): Promise<Session> => {
    try {
      return { me: await api.meView() }
    } catch (error) {
      if (!isSignedOut(error)) throw error
      const before = client.getQueryData<Session>(queryKey)
      const wasIn = before !== undefined && (before.me !== null || before.ended)
      return { me: null, ended: wasIn || error.code === 'session_expired' }
    }
  },
})

export const signedIn = (me: Me) => setSession({ me })
export const signedOut = () => setSession({ me: null, ended: false })

/** Another person or another organization: nothing that was fetched for the one before may show. */
function setSession(session: Session) {
  // An answer that is under way was meant for who was here before.
  void queryClient.cancelQueries(sessionQuery)
  queryClient.removeQueries({ predicate: ({ queryKey }) => queryKey[0] !== sessionQuery.queryKey[0] })
  queryClient.setQueryData(sessionQuery.queryKey, session)
}

// The one place that notices that a session ended elsewhere, whatever was being done when it showed.
const onError = (error: Error) => {
  if (isSignedOut(error)) setSession({ me: null, ended: true })
}

export const queryClient = new QueryClient({
  queryCache: new QueryCache({ onError }),
  mutationCache: new MutationCache({ onError }),
  defaultOptions: {
    // `always`: a server in the same house answers also when the browser thinks that it is offline.
    queries: {
      networkMode: 'always',
      retry: (failures, error) => failures < 2 && !(error instanceof ApiError && error.code && error.status < 500),
    },
    // What was sent may be a password or a secret's value, so it is forgotten at once.
    mutations: { networkMode: 'always', gcTime: 0 },
  },
})

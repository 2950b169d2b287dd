/** Every place of the dashboard. Links are made from here, so that a search for a path finds all that lead to it. */
export const paths = {
  home: '/',
  signIn: '/login',
  invitation: '/invitation',
} as const

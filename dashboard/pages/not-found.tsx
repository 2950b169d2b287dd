import { paths } from '../paths.ts'
import { Heading } from '../ui/heading.tsx'
import { Page } from '../ui/page.tsx'

export function NotFoundPage() {
  return (
    <Page>
      <Heading title="Not found">There is no page at {location.pathname}</Heading>
      <p>
        <a href={paths.home} className="link">
          Go to the start
        </a>
      </p>
    </Page>
  )
}

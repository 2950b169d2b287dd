import { inWords } from '../api.ts'
import { Button } from '../ui/button.tsx'
import { Door } from '../ui/door.tsx'
import { ErrorText } from '../ui/form.tsx'

type UnreachablePageProps = { error: Error | null; isFetching: boolean; refetch: () => Promise<unknown> }

export function UnreachablePage({ error, isFetching, refetch }: UnreachablePageProps) {
  return (
    <Door title="1ctl does not answer">
      <div role="alert">{error && <ErrorText>{inWords(error)}</ErrorText>}</div>
      <Button look="primary" onClick={() => void refetch()} busy={isFetching} doing="Trying again…" className="sm:h-9">
        Try again
      </Button>
    </Door>
  )
}

/**
 * The API server refused. Its own words are kept for all kinds but Secrets, whose values it quotes (`Invalid value: "hunter2"`): of
 * those only the reason and the names of the fields remain.
 */
export class KubernetesError extends Error {
  override name = 'KubernetesError'

  /** the HTTP status, e.g. 409 */
  readonly status: number
  /** e.g. NotFound, AlreadyExists, Conflict, Invalid, Forbidden, Expired */
  readonly reason: string
  /** what it complains about, e.g. `metadata.name` */
  readonly fields: string[]

  constructor(message: string, status: number, reason: string, fields: string[]) {
    super(message)
    this.status = status
    this.reason = reason
    this.fields = fields
  }
}

/** No answer, or none that tells anything about the request: the network, TLS, credentials, a timeout, an overloaded server. */
export class ClusterAway extends Error {
  override name = 'ClusterAway'
}

/**
 * Every way a request can be refused: the closed table of codes. The status says what kind, the code says which, the message
 * (written where the refusal happens) is a sentence for its reader.
 */
export const errors = {
  // the request itself
  malformed_json: 400,
  invalid_body: 400,
  invalid_query: 400,
  invalid_request: 400,
  confirmation_needed: 400,
  invalid_invitation: 400,
  invalid_share: 400,
  not_comparable: 400,
  bag_too_large: 400,
  unknown_secret: 400,
  invalid_env_key: 400,
  request_timeout: 408,
  body_too_large: 413,
  url_too_long: 414,
  unsupported_media_type: 415,
  headers_too_large: 431,
  // who is calling
  missing_token: 401,
  token_expired: 401,
  token_disabled: 401,
  session_expired: 401,
  invalid_credentials: 401,
  invalid_token: 403,
  wrong_password: 403,
  insufficient_scope: 403,
  insufficient_role: 403,
  session_required: 403,
  foreign_origin: 403,
  too_many_attempts: 429,
  // what is asked for
  endpoint_not_found: 404,
  organization_not_found: 404,
  member_not_found: 404,
  session_not_found: 404,
  token_not_found: 404,
  vpc_not_found: 404,
  app_not_found: 404,
  secret_not_found: 404,
  key_not_found: 404,
  version_not_found: 404,
  service_not_found: 404,
  variable_not_found: 404,
  release_not_found: 404,
  rollout_not_found: 404,
  wave_not_found: 404,
  method_not_allowed: 405,
  // what stands in the way
  name_taken: 409,
  already_member: 409,
  last_owner: 409,
  last_vpc: 409,
  vpc_not_empty: 409,
  secret_in_use: 409,
  file_key_collision: 409,
  release_incomplete: 409,
  nothing_staged: 409,
  wave_over: 409,
  secret_managed: 409,
  wrong_key_source: 409,
  rotation_running: 409,
  version_conflict: 412,
  idempotency_key_reused: 409,
  // us
  internal_error: 500,
  value_damaged: 500,
  unavailable: 503,
  cluster_away: 503,
  sealed: 503,
} as const

export type ErrorCode = keyof typeof errors

/** Refusals that any endpoint can answer; a route lists only those of its own. */
export const commonErrors = [
  'malformed_json',
  'invalid_body',
  'invalid_query',
  'invalid_request',
  'request_timeout',
  'body_too_large',
  'url_too_long',
  'unsupported_media_type',
  'headers_too_large',
  'missing_token',
  'token_expired',
  'token_disabled',
  'session_expired',
  'invalid_token',
  'insufficient_scope',
  'insufficient_role',
  'session_required',
  'foreign_origin',
  'too_many_attempts',
  'idempotency_key_reused',
  'internal_error',
  'unavailable',
  'sealed',
] as const satisfies readonly ErrorCode[]

/** The body of every refusal. */
export type ErrorBody = {
  error: {
    code: ErrorCode
    message: string
    hint?: string
    details?: Record<string, unknown>
    requestId: string
  }
}

/** One thing wrong with an input; `400 invalid_body` and `invalid_query` list all of them in `details.problems`. */
export type Problem = { path: string; message: string }

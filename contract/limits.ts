/** The numbers that bound what a client may send. One home, so that form, command and server agree. */
export const limits = {
  bodyBytesMax: 1024 * 1024,
  headerBytesMax: 16 * 1024,
  requestTimeoutMs: 30_000,
  pageSize: 50,
  pageSizeMax: 200,
  passwordLengthMin: 12,
  passwordLengthMax: 256,
  tokenExpiresDaysMax: 3650,
  tokenGraceHoursMax: 720,
  tokenLimitsMax: 50,
  invitationDays: 7,
  idempotencyHours: 24,
  bagKeysMax: 500,
  valueBytesMax: 256 * 1024,
  bagBytesMax: 1_000_000,
  noteLengthMax: 140,
  versionsKept: 20,
  servicesMax: 20,
  envMax: 500,
  envValueLengthMax: 32 * 1024,
  bagsOfAppMax: 50,
  replicasMax: 1000,
  argumentsMax: 100,
  releasesKept: 50,
  rolloutWaitSecondsMax: 60,
  logLinesMax: 5000,
  // Below this a value could be found by asking often enough.
  comparableLengthMin: 8,
  sharesMax: 20,
  idempotencyKeyLengthMax: 255,
} as const

/** Failures before a pause: per account and per address within the window. */
export const attemptLimits = {
  account: { failuresMax: 10, windowMinutes: 15 },
  address: { failuresMax: 30, windowMinutes: 15 },
  token: { failuresMax: 100, windowMinutes: 1 },
  /** verify and diff: every comparison counts, per bag and caller */
  compare: { failuresMax: 30, windowMinutes: 15 },
  share: { failuresMax: 10, windowMinutes: 15 },
  /** of a caller nobody knows: refusals that are audited */
  stranger: { failuresMax: 200, windowMinutes: 1 },
} as const

export type AttemptKind = keyof typeof attemptLimits

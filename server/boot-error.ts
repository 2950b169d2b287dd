/** A start that cannot succeed: one sentence that says what is wrong and what to do next. main.ts prints it and exits with 1. */
export class BootError extends Error {
  override name = 'BootError'
}

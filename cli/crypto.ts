/** Loaded when asked for: it takes 1.5 ms, and most commands only read. */
export const crypto = (): typeof import('node:crypto') => process.getBuiltinModule('node:crypto')

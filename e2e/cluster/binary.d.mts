export const binary: string
export function ensureBinary(say?: (line: string) => void): Promise<void>

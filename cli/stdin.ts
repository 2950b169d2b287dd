import { usage } from './errors.ts'

/** All of stdin, to its very end and without a timer: who writes slowly has not finished. */
export async function readStdin(bytesMax: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    length += chunk.length
    if (length > bytesMax) throw usage(`More than ${bytesMax} bytes came on stdin.`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

/** Bytes as the text they are; a wrong byte is refused, because another character in its place would be another value. */
export function decode(bytes: Buffer, what: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    throw usage(`${what} is not text in UTF-8.`, 'Encode binary data first, for example with base64.')
  }
}

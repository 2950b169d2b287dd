// The one binary of all that a cluster runs (main.go), built from Kubernetes' own Go modules, once for each user of a machine.
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'

const version = 'v1.34.3'
const sources = ['go.mod', 'go.sum', 'main.go'].map((name) => readFileSync(join(import.meta.dirname, name)))
const hash = createHash('sha256').update(Buffer.concat(sources)).digest('hex').slice(0, 8)
const cache = process.env.XDG_CACHE_HOME || join(homedir(), '.cache')

/** Where it is, or will be. */
export const binary = process.env.KUBE_BINARY || join(cache, '1ctl', `kube-${version}-${hash}`, 'kube')

/** Builds it where it is missing: 4 to 6 minutes on two cores. Of several that ask at once, in any process, one builds. */
export async function ensureBinary(say = console.log) {
  if (existsSync(binary)) return
  if (process.env.KUBE_BINARY) throw new Error(`KUBE_BINARY names ${binary}, which does not exist.`)
  mkdirSync(dirname(binary), { recursive: true })
  const began = Date.now()
  const seconds = () => Math.round((Date.now() - began) / 1000)
  say(`Building Kubernetes ${version} for tests, once on this machine (4 to 6 minutes on two cores) …`)
  let [packages, words] = [0, '']
  const ticker = setInterval(() => say(`Building Kubernetes … ${seconds()} s, ${packages} packages`), 15_000)
  try {
    // The kernel gives a lock back however its holder ends. Renamed when whole, so that a killed build leaves none.
    const script = `test -x "$0" || { go build -v -trimpath -o "$0.part" -ldflags "$1" . && mv "$0.part" "$0"; }`
    const build = spawn('flock', [`${binary}.lock`, 'sh', '-c', script, binary, flags], {
      cwd: import.meta.dirname,
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    build.stderr.setEncoding('utf8').on('data', (text) => {
      packages += text.split('\n').length - 1
      words = (words + text).slice(-2_000)
    })
    await new Promise((resolve, reject) => {
      build.on('error', reject)
      build.on('close', resolve)
    })
  } finally {
    clearInterval(ticker)
  }
  if (!existsSync(binary))
    throw new Error(`Kubernetes could not be built (with Go, in ${import.meta.dirname}): ${words}`)
  say(`Building Kubernetes: done in ${seconds()} s`)
}

const stamp = 'k8s.io/component-base/version'
const [major, minor] = version.slice(1).split('.')
const flags = `-s -w -X ${stamp}.gitVersion=${version} -X ${stamp}.gitMajor=${major} -X ${stamp}.gitMinor=${minor}`

// Histograms as SVG, small enough to write by hand: a row for each series over the same axis, a line at its median. The colors
// follow the reader's light or dark mode; the background comes along, as a page around the picture may have the other one.
import { median, quantile } from './statistics.mjs'

const [width, left, right, top, rowHeight, bottom] = [720, 48, 28, 44, 130, 52]
const barHeight = rowHeight - 42
const binCount = 48

/** `series`: `{ name, values }`, ours first. Far outliers are counted at the right edge, and said to be. */
export function histogram({ title, axis, series }) {
  const all = series.flatMap(({ values }) => values)
  const widest = Math.max(...series.map(({ values }) => quantile(values, 0.99)))
  // From zero, unless that would leave most of it empty.
  const least = Math.min(...all)
  const ticks = ticksOf(least < widest / 2 ? 0 : least, widest)
  const [from, to] = [ticks[0], ticks.at(-1)]
  const x = (value) => left + ((Math.min(value, to) - from) / (to - from)) * (width - left - right)
  const height = top + rowHeight * series.length + bottom
  const base = height - bottom
  const rows = series.map((one, row) => rowOf(one, row, { x, from, to }))
  const axisMarks = ticks.map(
    (tick) => `<path class="axis" d="M${fixed(x(tick))} ${base}v5"/>
<text x="${fixed(x(tick))}" y="${base + 20}" text-anchor="middle">${tick.toLocaleString('en-US')}</text>`,
  )
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-label="${escape(title)}">
<style>
svg { --paper: #fff; --ink: #1f2328; --quiet: #59636e; --ours: #0969da; --peer: #8c6d1f }
@media (prefers-color-scheme: dark) { svg { --paper: #0d1117; --ink: #f0f6fc; --quiet: #9198a1; --ours: #4493f8; --peer: #d4a72c } }
text { font: 13px system-ui, sans-serif; fill: var(--quiet) }
.title, .name { fill: var(--ink) }
.title { font-size: 15px; font-weight: 600 }
.axis { stroke: var(--quiet); fill: none }
.median { stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 4 3 }
</style>
<rect width="${width}" height="${height}" rx="6" style="fill: var(--paper)"/>
<text class="title" x="24" y="28">${escape(title)}</text>
${rows.join('\n')}
<path class="axis" d="M${left} ${base}H${width - right}"/>
${axisMarks.join('\n')}
<text x="${width / 2}" y="${height - 10}" text-anchor="middle">${escape(axis)}</text>
</svg>
`
}

function rowOf({ name, values }, row, { x, from, to }) {
  const counts = Array.from({ length: binCount }, () => 0)
  for (const value of values) {
    const bin = Math.floor(((value - from) / (to - from)) * binCount)
    counts[Math.max(0, Math.min(binCount - 1, bin))]++
  }
  const floor = top + rowHeight * (row + 1)
  const most = Math.max(...counts)
  const step = (to - from) / binCount
  const bars = counts.flatMap((count, bin) => {
    if (count === 0) return []
    const [begin, end] = [x(from + bin * step), x(from + (bin + 1) * step)]
    const tall = (count / most) * barHeight
    return `<rect x="${fixed(begin)}" y="${fixed(floor - tall)}" width="${fixed(end - begin - 1)}" height="${fixed(tall)}"/>`
  })
  const beyond = values.filter((value) => value > to).length
  const middle = median(values)
  const says = [
    `${escape(name)}: median ${Math.round(middle).toLocaleString('en-US')} ms`,
    `${values.length} times`,
    ...(beyond > 0 ? [`${beyond} beyond, up to ${Math.round(Math.max(...values)).toLocaleString('en-US')} ms`] : []),
  ]
  return `<text class="name" x="${left}" y="${floor - rowHeight + 20}">${says.join(', ')}</text>
<text x="${left - 8}" y="${fixed(floor - barHeight + 5)}" text-anchor="end">${most}</text>
<text x="${left - 8}" y="${floor}" text-anchor="end">0</text>
<g style="fill: var(--${row === 0 ? 'ours' : 'peer'})">${bars.join('')}</g>
<path class="median" d="M${fixed(x(middle))} ${floor}V${floor - rowHeight + 30}"/>${
    row > 0
      ? `
<path class="axis" d="M${left} ${floor - rowHeight}H${width - right}"/>`
      : ''
  }`
}

/** About eight round numbers that hold all from `least` to `most`. */
function ticksOf(least, most) {
  const rough = (most - least || 1) / 8
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough)
  const first = Math.floor(least / step)
  return Array.from({ length: Math.ceil(most / step) - first + 1 }, (_, at) =>
    Number(((first + at) * step).toPrecision(6)),
  )
}

const fixed = (number) => number.toFixed(1)
const escape = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;')

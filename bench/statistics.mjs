export const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length

export const median = (values) => quantile(values, 0.5)

/** Half of the values lie between these two. */
export const quartiles = (values) => [quantile(values, 0.25), quantile(values, 0.75)]

export function quantile(values, share) {
  const sorted = values.toSorted((a, b) => a - b)
  const place = (sorted.length - 1) * share
  const [below, above] = [sorted[Math.floor(place)], sorted[Math.ceil(place)]]
  return below + (above - below) * (place % 1)
}

export function Brand() {
  return (
    <span className="flex items-center gap-2.25 text-md font-semibold tracking-[-0.01em]">
      <svg viewBox="0 0 20 20" className="size-5 flex-none fill-none stroke-canvas" aria-hidden="true">
        <rect width="20" height="20" rx="4.5" className="fill-ink stroke-none" />
        <path d="M6 6.6L8.2 5.2V15" strokeWidth="2" strokeLinejoin="round" />
        <path d="M11.6 15L16.2 10.4M11.6 11.6L16.2 7M11.6 8.2L14.6 5.2" strokeWidth="1.2" />
      </svg>
      1ctl
    </span>
  )
}

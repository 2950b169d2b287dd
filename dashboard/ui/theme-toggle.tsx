import { Contrast, Moon, Sun } from 'lucide-react'
import { useState } from 'react'

const themes = {
  system: { Icon: Contrast, next: 'light' },
  light: { Icon: Sun, next: 'dark' },
  dark: { Icon: Moon, next: 'system' },
} as const
type Theme = keyof typeof themes

// On <html> it is what public/theme.js has read before the first paint.
const { dataset } = document.documentElement

export function ThemeToggle() {
  const [theme, setTheme] = useState((dataset['theme'] ?? 'system') as Theme)
  const { Icon, next } = themes[theme]
  const change = () => {
    setTheme(next)
    if (next === 'system') delete dataset['theme']
    else dataset['theme'] = next
    localStorage.setItem('theme', next)
  }
  return (
    <button
      type="button"
      onClick={change}
      aria-label={`Theme: ${theme}. Change to ${next}`}
      title={`Theme: ${theme}`}
      className="tap grid size-10 cursor-pointer place-items-center rounded-2 text-ink-3 hover:bg-hover hover:text-ink active:bg-pressed sm:size-8"
    >
      <Icon className="[&>path]:fill-current" />
    </button>
  )
}

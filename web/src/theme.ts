/** Light, dark, or what the system says. */

import {useEffect, useState} from 'preact/hooks'

export const THEMES = ['system', 'light', 'dark'] as const
export type Theme = (typeof THEMES)[number]
const KEPT = 'leaderboard.theme'

function kept(): Theme {
  const found = localStorage.getItem(KEPT)
  return THEMES.find((theme) => theme === found) ?? 'system'
}

export function useTheme(): [Theme, (theme: Theme) => void] {
  const [theme, set] = useState(kept)
  useEffect(() => {
    if (theme === 'system') {
      localStorage.removeItem(KEPT)
      delete document.documentElement.dataset['theme']
    } else {
      localStorage.setItem(KEPT, theme)
      document.documentElement.dataset['theme'] = theme
    }
  }, [theme])
  return [theme, set]
}

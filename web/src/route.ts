/**
 * Which view is shown, and the back button. The path below /dashboard/ has the view and the leaderboard; a user is in the
 * query, since a browser takes `.` and `..` out of a path, however they are encoded.
 */

import {useEffect, useState} from 'preact/hooks'

const BASE = '/dashboard'
const USER = 'user'
const listeners = new Set<() => void>()

/** The view, the leaderboard and the user, as far as there are. An address that cannot be decoded is the overview. */
function current(): string[] {
  try {
    const parts = location.pathname.slice(BASE.length).split('/').filter(Boolean).map(decodeURIComponent)
    const user = new URLSearchParams(location.search).get(USER)
    // Addresses of before have the user as the third part of the path.
    return parts.length === 2 && user ? [...parts, user] : parts
  } catch {
    return []
  }
}

/** `href('boards', 'global')` -> `/dashboard/boards/global`, `href('activity', 'global', 'ann')` -> `…/global?user=ann`. */
export function href(...parts: string[]): string {
  const path = [BASE, ...parts.slice(0, 2).map(encodeURIComponent)].join('/')
  return parts[2] === undefined ? path : `${path}?${USER}=${encodeURIComponent(parts[2])}`
}

export function go(...parts: string[]): void {
  history.pushState(null, '', href(...parts))
  for (const listener of listeners) listener()
}

/** A click that the page itself follows; one with a modifier key is the browser's. */
export function follow(event: MouseEvent, ...parts: string[]): void {
  if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return
  event.preventDefault()
  go(...parts)
}

export function useRoute(): string[] {
  const [parts, set] = useState(current)
  useEffect(() => {
    const changed = () => set(current())
    listeners.add(changed)
    addEventListener('popstate', changed)
    return () => {
      listeners.delete(changed)
      removeEventListener('popstate', changed)
    }
  }, [])
  return parts
}

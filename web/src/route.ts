/** Which view is shown: the path below /dashboard/, and the back button. */

import {useEffect, useState} from 'preact/hooks'

const BASE = '/dashboard'
const listeners = new Set<() => void>()

/** The parts of the path below the base, decoded. An address that cannot be decoded is the overview. */
function current(): string[] {
  try {
    return location.pathname.slice(BASE.length).split('/').filter(Boolean).map(decodeURIComponent)
  } catch {
    return []
  }
}

/** `href('boards', 'global')` -> `/dashboard/boards/global`. */
export const href = (...parts: string[]): string => [BASE, ...parts.map(encodeURIComponent)].join('/')

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

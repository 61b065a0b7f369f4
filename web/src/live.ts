/** The snapshots of one board, as they come. */

import {useEffect, useState} from 'preact/hooks'
import {boardPath} from './api'
import type {Entry, Problem, Standings, Taken} from './shapes'

export interface Live {
  /** `connecting` at first and after a loss, which the browser mends by itself; `ended` with a problem for good. */
  state: 'connecting' | 'live' | 'ended'
  standings: Standings | null
  /** When it came, in milliseconds of `performance.now()`: with `age_ms`, its age now. */
  cameAt: number
  /** Users whose score changed with the last event. */
  changed: ReadonlySet<string>
  problem: Problem | null
}

const FIRST: Live = {state: 'connecting', standings: null, cameAt: 0, changed: new Set(), problem: null}

export function useLive(board: string, limit: number): Live {
  const [live, set] = useState(FIRST)
  useEffect(() => {
    set(FIRST)
    const source = new EventSource(boardPath(board, `/standings/stream?limit=${limit}`))
    source.addEventListener('standings', (event) => {
      const standings = JSON.parse(event.data as string) as Standings
      set((before) => ({
        state: 'live', standings, cameAt: performance.now(), problem: null,
        changed: before.standings === null ? new Set() : changedIn(before.standings.entries, standings.entries),
      }))
    })
    source.addEventListener('taken', (event) => {
      const taken = JSON.parse(event.data as string) as Taken
      set((before) => ({
        ...before, state: 'live', cameAt: performance.now(), changed: new Set(),
        standings: before.standings && {...before.standings, ...taken},
      }))
    })
    source.addEventListener('problem', (event) => {
      source.close()
      set((before) => ({...before, state: 'ended', problem: JSON.parse(event.data as string) as Problem}))
    })
    source.onerror = () => {
      // Closed for good where the answer was no stream: the standings themselves, asked beside it, say why.
      set((before) => ({...before, state: source.readyState === EventSource.CLOSED ? 'ended' : 'connecting'}))
    }
    return () => source.close()
  }, [board, limit])
  return live
}

function changedIn(before: Entry[], after: Entry[]): Set<string> {
  const scores = new Map(before.map((entry) => [entry.user, entry.score]))
  return new Set(after.filter((entry) => scores.get(entry.user) !== entry.score).map((entry) => entry.user))
}

/** The snapshots of one board, as they come. */

import {useEffect, useState} from 'preact/hooks'
import {boardPath, get} from './api'
import type {Entry, Problem, Standings, Taken} from './shapes'
import {problemIn} from './ui'

export interface Live {
  /** `connecting` at first and after a loss, which mends itself; `ended` with a problem for good. */
  state: 'connecting' | 'live' | 'ended'
  standings: Standings | null
  /** When it came, in milliseconds of `performance.now()`: with `age_ms`, its age now. */
  cameAt: number
  /** Users whose score changed with the last event. */
  changed: ReadonlySet<string>
  problem: Problem | null
}

const FIRST: Live = {state: 'connecting', standings: null, cameAt: 0, changed: new Set(), problem: null}

/** What may be better soon: no answer at all, too much asked for, a store or a server that is away. */
const TRANSIENT: ReadonlySet<number> = new Set([0, 429, 502, 503, 504])
/** Between two attempts: what the stream itself tells browsers at first, then twice as long each time. */
const PAUSE_MS = 2_000
const LONGEST_PAUSE_MS = 30_000

export function useLive(board: string, limit: number): Live {
  const [live, set] = useState(FIRST)
  useEffect(() => {
    set(FIRST)
    return follow(board, limit, set)
  }, [board, limit])
  return live
}

/** Keep a stream open until the function it returns is called, or the API refuses it for good. */
function follow(board: string, limit: number, set: (change: (before: Live) => Live) => void): () => void {
  const abort = new AbortController()
  let source: EventSource
  let timer: number | undefined
  let attempts = 0

  function open() {
    source = new EventSource(boardPath(board, `/standings/stream?limit=${limit}`))
    source.addEventListener('standings', (event) => {
      attempts = 0
      const standings = JSON.parse(event.data as string) as Standings
      set((before) => ({
        state: 'live', standings, cameAt: performance.now(), problem: null,
        changed: before.standings === null ? new Set() : changedIn(before.standings.entries, standings.entries),
      }))
    })
    source.addEventListener('taken', (event) => {
      attempts = 0
      const taken = JSON.parse(event.data as string) as Taken
      set((before) => ({
        ...before, state: 'live', cameAt: performance.now(), changed: new Set(), problem: null,
        standings: before.standings && {...before.standings, ...taken},
      }))
    })
    source.addEventListener('problem', (event) => stop(JSON.parse(event.data as string) as Problem))
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) void ask()
      else set((before) => ({...before, state: 'connecting'}))
    }
  }

  /** The answer was no stream, and an EventSource keeps to itself why: the standings are refused for the same. */
  async function ask() {
    set((before) => ({...before, state: 'connecting'}))
    try {
      await get<Standings>(boardPath(board, '/standings?limit=1'), abort.signal)
      stop(null)
    } catch (error) {
      if (!abort.signal.aborted) stop(problemIn(error))
    }
  }

  function stop(problem: Problem | null) {
    source.close()
    const again = problem === null || TRANSIENT.has(problem.status)
    set((before) => ({...before, state: again ? 'connecting' : 'ended', problem}))
    if (!again || abort.signal.aborted) return
    const pause = Math.min(PAUSE_MS * 2 ** attempts, LONGEST_PAUSE_MS)
    attempts += 1
    // Not all pages at once, where it was the API that went away.
    timer = setTimeout(open, pause * (0.5 + Math.random() / 2))
  }

  open()
  return () => {
    abort.abort()
    clearTimeout(timer)
    source.close()
  }
}

function changedIn(before: Entry[], after: Entry[]): Set<string> {
  const scores = new Map(before.map((entry) => [entry.user, entry.score]))
  return new Set(after.filter((entry) => scores.get(entry.user) !== entry.score).map((entry) => entry.user))
}

/** Who is signed in, the frame around every view, and which view it is. */

import {useEffect, useRef, useState} from 'preact/hooks'
import {followOtherPages, resume, signOut, whenSignedOut} from './api'
import {words} from './format'
import {follow, href, useRoute} from './route'
import type {Problem, Session} from './shapes'
import {THEMES, type Theme, useTheme} from './theme'
import {Link, ProblemNote, problemIn, useAction} from './ui'
import {Activity} from './views/activity'
import {Board} from './views/board'
import {Boards} from './views/boards'
import {Keys} from './views/keys'
import {Overview} from './views/overview'
import {SignIn} from './views/signin'
import {Usage} from './views/usage'

const VIEWS = [
  ['', 'Overview'],
  ['boards', 'Leaderboards'],
  ['usage', 'Usage and plan'],
  ['keys', 'API keys'],
  ['activity', 'Activity'],
] as const

type State = {kind: 'starting'} | {kind: 'failed'; problem: Problem} | {kind: 'in'; session: Session} | {kind: 'out'; ended: boolean}

export function App() {
  const [state, set] = useState<State>({kind: 'starting'})
  useEffect(() => {
    followOtherPages()
    whenSignedOut(() => set({kind: 'out', ended: true}))
    resume().then(
      (session) => set(session === null ? {kind: 'out', ended: false} : {kind: 'in', session}),
      (error: unknown) => set({kind: 'failed', problem: problemIn(error)}),
    )
  }, [])
  const theme = useTheme()
  switch (state.kind) {
    case 'starting':
      return <p class="quiet alone" role="status">Loading…</p>
    case 'failed':
      return <main class="alone"><h1>Leaderboard</h1><ProblemNote problem={state.problem} /></main>
    case 'out':
      return <SignIn ended={state.ended} onIn={(session) => set({kind: 'in', session})} />
    case 'in':
      return <Frame session={state.session} theme={theme} onOut={() => set({kind: 'out', ended: false})} />
  }
}

function Frame({session, theme, onOut}: {session: Session; theme: [Theme, (theme: Theme) => void]; onOut: () => void}) {
  const route = useRoute()
  const main = useRef<HTMLElement>(null)
  const [run, busy, problem] = useAction()
  const [view = ''] = route
  const name = VIEWS.find(([path]) => path === view)?.[1] ?? 'Not found'
  const heading = view === 'boards' && route[1] !== undefined ? route[1] : name
  const first = useRef(true)
  useEffect(() => {
    document.title = `${heading} · ${session.project} · Leaderboard`
    // A new view starts at its top, and who reads with a screen reader hears of it.
    if (!first.current) main.current?.focus()
    first.current = false
    scrollTo(0, 0)
  }, [heading])
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); main.current?.focus() }}>Skip to content</a>
      <header class="frame">
        <div class="whose">
          <img src={href('icon.svg')} alt="" width="28" height="28" />
          <span><strong>{session.tenant}</strong> <span class="quiet">/ {session.project}</span></span>
        </div>
        <nav aria-label="Views">
          {VIEWS.map(([path, label]) => (
            <Link key={path} to={path === '' ? [] : [path]} aria-current={path === view ? 'page' : undefined}>{label}</Link>
          ))}
        </nav>
        <div class="tools">
          <label>
            <span class="hidden">Colours</span>
            <select value={theme[0]} onChange={(event) => theme[1](event.currentTarget.value as Theme)}>
              {THEMES.map((option) => <option key={option} value={option}>{words(option)}</option>)}
            </select>
          </label>
          <button type="button" disabled={busy} onClick={() => run(async () => { await signOut(); onOut() })}>Sign out</button>
        </div>
      </header>
      <main id="main" ref={main} tabIndex={-1}>
        <ProblemNote problem={problem} />
        <h1>{view === 'boards' && route[1] !== undefined && (
          <><a href={href('boards')} onClick={(event: MouseEvent) => follow(event, 'boards')}>Leaderboards</a> <span class="quiet">/</span> </>
        )}<span class="name">{heading}</span></h1>
        <View route={route} session={session} />
      </main>
    </>
  )
}

function View({route, session}: {route: string[]; session: Session}) {
  const [view = '', board] = route
  switch (view) {
    case '': return <Overview />
    case 'boards': return board === undefined ? <Boards session={session} /> : <Board key={board} board={board} session={session} />
    case 'usage': return <Usage />
    case 'keys': return <Keys session={session} />
    case 'activity': return <Activity />
    default: return <p>There is no such page. <Link to={[]}>Go to the overview</Link>.</p>
  }
}

/** One leaderboard: its top as it changes, who is around a member, its settings. */

import type {ComponentChildren} from 'preact'
import {useEffect, useState} from 'preact/hooks'
import {boardPath, get, patch, post, remove} from '../api'
import {count, score, time, words} from '../format'
import {type Live, useLive} from '../live'
import {go} from '../route'
import type {Bounds, Entry, Leaderboard, ResetRule, Season, Seasons, PastTop, SeasonTop, Session, SignedSeason, Standings, Tier} from '../shapes'
import {Answered, Buttons, Card, Dialog, Field, Link, ProblemNote, Table, useAction, useAsked} from '../ui'
import {Tags} from './boards'
import {Held} from './held'

/** What is older is not live, whatever the connection seems to be: in order, it is two seconds old at most. */
const LIVE_SECONDS = 3
/** Seasons to choose from, and entries of one: the newest and the best. */
const SEASONS = 50
const FINAL = 100
const SHOWN = [['10', 'Top 10'], ['50', 'Top 50'], ['100', 'Top 100']] as const

export function Board({board, session}: {board: string; session: Session}) {
  const asked = useAsked((signal) => get<Leaderboard>(boardPath(board), signal), [board])
  return (
    <Answered asked={asked}>{(found) => (
      <div class="columns">
        <div>
          {found.suspended
            ? <p class="note">This leaderboard is suspended: its entries are neither read nor written.</p>
            : <>
              <Top board={board} />
              {session.scope === 'admin' && <Held board={found} onChanged={asked.again} />}
              <Around board={board} />
              <PastSeasons board={board} running={found.season} />
              <AsOf board={board} />
            </>}
        </div>
        <Settings board={found} session={session} onChanged={asked.again} />
      </div>
    )}</Answered>
  )
}

function Top({board}: {board: string}) {
  const [limit, setLimit] = useState('10')
  const live = useLive(board, Number(limit))
  return (
    <Card title="Top" aside={
      <label><span class="hidden">How many</span>
        <select value={limit} onChange={(event) => setLimit(event.currentTarget.value)}>
          {SHOWN.map(([value, name]) => <option key={value} value={value}>{name}</option>)}
        </select></label>
    }>
      <Pulse live={live} />
      <ProblemNote problem={live.problem} />
      {live.standings !== null && <Entries entries={live.standings.entries} changed={live.changed} label="Entries of the top" />}
    </Card>
  )
}

/** Whether what is shown is live, of how many, and how old. */
function Pulse({live}: {live: Live}) {
  const [now, setNow] = useState(performance.now())
  useEffect(() => {
    const timer = setInterval(() => setNow(performance.now()), 500)
    return () => clearInterval(timer)
  }, [])
  const age = live.standings === null ? 0 : (live.standings.age_ms + Math.max(0, now - live.cameAt)) / 1000
  const state = live.state === 'live' && age > LIVE_SECONDS ? 'waiting' : live.state
  return (
    <p class={`pulse ${state}`}>
      <span role="status">{{connecting: 'Connecting…', live: 'Live', waiting: 'Waiting…', ended: 'Ended'}[state]}</span>
      {live.standings !== null && <span class="quiet">{count(live.standings.total)} {live.standings.total === 1 ? 'entry' : 'entries'}, {age.toFixed(1)} s old</span>}
      {live.state === 'ended' && <span class="quiet">Reload the page to try again.</span>}
    </p>
  )
}

function Entries({entries, changed, label, marked}: {entries: Entry[]; changed?: ReadonlySet<string>; label: string; marked?: string}) {
  if (entries.length === 0) return <p class="quiet">Nobody has a score yet.</p>
  return (
    <Table label={label} head={[['Rank', 'number rank'], ['User', ''], ['Score', 'number']]}>
      {entries.map((entry) => (
        <tr key={entry.user} class={[changed?.has(entry.user) && 'changed', entry.user === marked && 'marked'].filter(Boolean).join(' ')}>
          <td class="number rank">{count(entry.rank)}</td>
          <td class="name"><bdi>{entry.user}</bdi></td>
          <td class="number">{score(entry.score)}</td>
        </tr>
      ))}
    </Table>
  )
}

function Around({board}: {board: string}) {
  const [typed, setTyped] = useState('')
  const [user, setUser] = useState('')
  return (
    <Card title="Around a user">
      <form class="inline" role="search" onSubmit={(event) => { event.preventDefault(); setUser(typed) }}>
        <label><span class="hidden">User id</span><input type="search" placeholder="User id" maxLength={128} value={typed} onInput={(event) => setTyped(event.currentTarget.value)} /></label>
        <button type="submit">Find</button>
      </form>
      {user !== '' && <AroundUser key={user} board={board} user={user} />}
    </Card>
  )
}

function AroundUser({board, user}: {board: string; user: string}) {
  const asked = useAsked(
    (signal) => get<Standings>(boardPath(board, `/standings?limit=11&around=${encodeURIComponent(user)}`), signal), [board, user],
  )
  return (
    <>
      <Answered asked={asked}>{(found) => <Entries entries={found.entries} label={`Around ${user}`} marked={user} />}</Answered>
      {asked.value !== null && <div class="bar">
        <button type="button" onClick={asked.again}>Refresh</button>
        <Link to={['activity', board, user]}>Events of this user</Link>
      </div>}
    </>
  )
}

function PastSeasons({board, running}: {board: string; running: number}) {
  const asked = useAsked((signal) => get<Seasons>(boardPath(board, `/seasons?limit=${SEASONS}`), signal), [board, running])
  return (
    <Answered asked={asked}>{(found) => found.seasons.length === 0
      ? null
      : <Past key={found.season} board={board} seasons={found.seasons} again={asked.again} />
    }</Answered>
  )
}

function Past({board, seasons, again}: {board: string; seasons: Season[]; again: () => void}) {
  const [chosen, setChosen] = useState(String(seasons[0]!.season))
  const season = seasons.find((each) => String(each.season) === chosen)!
  // One that ended a moment ago is on its way to the archive.
  useEffect(() => {
    if (season.archived) return undefined
    const timer = setTimeout(again, 1000)
    return () => clearTimeout(timer)
  }, [season])
  return (
    <Card title="Past seasons" aside={
      <label><span class="hidden">Season</span>
        <select value={chosen} onChange={(event) => setChosen(event.currentTarget.value)}>
          {seasons.map((each) => <option key={each.season} value={each.season}>Season {each.season}, to {time(each.ended_at)}</option>)}
        </select></label>
    }>
      {season.archived
        ? <Final key={chosen} board={board} season={chosen} />
        : <p class="quiet" role="status">Its standings are on their way to the archive…</p>}
    </Card>
  )
}

function Final({board, season}: {board: string; season: string}) {
  const asked = useAsked(
    (signal) => get<SeasonTop>(boardPath(board, `/seasons/${season}/top?limit=${FINAL}`), signal), [board, season],
  )
  return (
    <Answered asked={asked}>{(found) => (
      <>
        {found.total > found.entries.length && <p class="quiet">The best {count(found.entries.length)} of {count(found.total)}.</p>}
        <Entries entries={found.entries} label={`Final standings of season ${season}`} />
        <Seal board={board} season={season} />
      </>
    )}</Answered>
  )
}

/** What the season's standings add up to, and whose key vouches for it. */
function Seal({board, season}: {board: string; season: string}) {
  const asked = useAsked((signal) => get<SignedSeason>(boardPath(board, `/seasons/${season}`), signal), [board, season])
  return (
    <Answered asked={asked}>{({checksum, public_key}) => (
      <dl class="facts seal">
        <div><dt>SHA-256</dt><dd><code>{checksum}</code></dd></div>
        <div><dt>Signed with</dt><dd>{public_key === null ? 'no key: the platform has none' : <code>{public_key}</code>}</dd></div>
      </dl>
    )}</Answered>
  )
}

/** The top as it was at a moment, by this browser's clock. */
function AsOf({board}: {board: string}) {
  const [typed, setTyped] = useState('')
  const [at, setAt] = useState('')
  return (
    <Card title="As of a time">
      <form class="inline" onSubmit={(event) => { event.preventDefault(); setAt(new Date(typed).toISOString()) }}>
        <label><span class="hidden">Time</span><input type="datetime-local" step={1} required value={typed} onInput={(event) => setTyped(event.currentTarget.value)} /></label>
        <button type="submit">Show</button>
      </form>
      {at !== '' && <TopAsOf key={at} board={board} at={at} />}
    </Card>
  )
}

function TopAsOf({board, at}: {board: string; at: string}) {
  const asked = useAsked(
    (signal) => get<PastTop>(boardPath(board, `/history/top?limit=${FINAL}&at=${encodeURIComponent(at)}`), signal), [board, at],
  )
  return (
    <Answered asked={asked}>{(found) => (
      <>
        <p class="quiet">{time(found.at)}: {found.total > found.entries.length ? `the best ${count(found.entries.length)} of ${count(found.total)}` : `${count(found.total)} ${found.total === 1 ? 'entry' : 'entries'}`}</p>
        <Entries entries={found.entries} label={`The top as of ${time(found.at)}`} />
      </>
    )}</Answered>
  )
}

function Settings({board, session, onChanged}: {board: Leaderboard; session: Session; onChanged: () => void}) {
  const [open, setOpen] = useState<'change' | 'reset' | 'delete' | null>(null)
  const facts: [string, ComponentChildren][] = [
    ['An update', {sum: 'adds to the score', best: 'keeps the better score', latest: 'replaces the score'}[board.score_update]],
    ['Rank 1', board.sort_order === 'descending' ? 'the highest score' : 'the lowest score'],
    ['Ties', words(board.tie_policy)],
    ['Keeps', board.max_entries === 0 ? 'all entries' : `the best ${count(board.max_entries)}`],
    ...(board.tiers.length > 0 ? [['Tiers', <Tiers tiers={board.tiers} />] as [string, ComponentChildren]] : []),
    ['Season', count(board.season)],
    ['It ends', board.next_reset === null ? 'when somebody ends it' : time(board.next_reset)],
    ...(board.reset?.schedule ? [['Schedule', `${board.reset.schedule} (${board.reset.time_zone})`] as [string, string]] : []),
    ...(board.reset?.grace_seconds ? [['Late updates', `until ${count(board.reset.grace_seconds)} s after a season's end`] as [string, string]] : []),
    ...(board.reset?.keep_seasons ? [['Past seasons', `the newest ${count(board.reset.keep_seasons)} are kept`] as [string, string]] : []),
    ...(board.bounds ? [['Held back', brokenBy(board.bounds)] as [string, string]] : []),
    ['Made', time(board.created_at)],
    ['Changed', time(board.updated_at)],
  ]
  return (
    <Card title="Settings" aside={<Tags board={board} />}>
      <dl class="facts">{facts.map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}</dl>
      <p><Link to={['activity', board.key]}>Events of this leaderboard</Link></p>
      {board.managed && <p class="quiet">A Leaderboard resource owns it: change it there.</p>}
      {session.scope === 'admin' && (
        <div class="bar">
          {!board.managed && <button type="button" onClick={() => setOpen('change')}>Change</button>}
          <button type="button" onClick={() => setOpen('reset')}>End the season</button>
          {!board.managed && <button type="button" class="danger" onClick={() => setOpen('delete')}>Delete</button>}
        </div>
      )}
      {open === 'change' && <Change board={board} onClose={() => setOpen(null)} onDone={onChanged} />}
      {open === 'reset' && <Reset board={board} onClose={() => setOpen(null)} onDone={onChanged} />}
      {open === 'delete' && <Delete board={board} onClose={() => setOpen(null)} />}
    </Card>
  )
}

/** Best first, one a line: a rank is in the first that holds it. */
function Tiers({tiers}: {tiers: Tier[]}) {
  return (
    <ol class="tiers">
      {tiers.map(({name, top, percent}) => (
        <li key={name}><bdi>{name}</bdi>: {top === undefined ? `the best ${percent} %` : top === 1 ? 'rank 1' : `ranks 1 to ${count(top)}`}</li>
      ))}
    </ol>
  )
}

/** What updates are held for: `scores above 1,000, gains past 50 in 3,600 s`. */
function brokenBy(bounds: Bounds): string {
  return [
    bounds.min_score !== null && `scores below ${score(bounds.min_score)}`,
    bounds.max_score !== null && `scores above ${score(bounds.max_score)}`,
    bounds.max_gain !== null && `gains past ${score(bounds.max_gain)} in ${count(bounds.per_seconds!)} s`,
  ].filter(Boolean).join(', ')
}

function Change({board, onClose, onDone}: {board: Leaderboard; onClose: () => void; onDone: () => void}) {
  const [wanted, set] = useState({max_entries: board.max_entries, public_read: board.public_read})
  const [reset, setReset] = useState<ResetRule>(board.reset ?? {schedule: null, time_zone: 'UTC', keep_seasons: 0, grace_seconds: 0})
  const [run, busy, problem] = useAction()
  return (
    <Dialog title={`Change ${board.key}`} onClose={onClose}>
      <form onSubmit={(event) => {
        event.preventDefault()
        run(async () => { await patch(boardPath(board.key), {...wanted, reset}); onDone(); onClose() })
      }}>
        <Field label="Entries to keep" hint="0 keeps all. A smaller number removes the worst for good.">
          <input type="number" min={0} max={10_000_000} required value={wanted.max_entries}
            onInput={(event) => set({...wanted, max_entries: event.currentTarget.valueAsNumber})} />
        </Field>
        <label class="check"><input type="checkbox" checked={wanted.public_read} onChange={(event) => set({...wanted, public_read: event.currentTarget.checked})} /> Anybody may read its top without a key</label>
        <Field label="Ends by schedule" hint="Minute, hour, day of the month, month, day of the week: 0 9 * * 1 is Mondays at nine. Empty: only by hand.">
          <input autocomplete="off" spellcheck={false} maxLength={100} value={reset.schedule ?? ''}
            onInput={(event) => setReset({...reset, schedule: event.currentTarget.value.trim() || null})} />
        </Field>
        <Field label="Time zone" hint="Such as UTC or Europe/Berlin.">
          <input autocomplete="off" spellcheck={false} required maxLength={64} value={reset.time_zone}
            onInput={(event) => setReset({...reset, time_zone: event.currentTarget.value})} />
        </Field>
        <Field label="Past seasons to keep" hint="0 keeps all. What is older goes when the next one ends.">
          <input type="number" min={0} max={10_000} required value={reset.keep_seasons}
            onInput={(event) => setReset({...reset, keep_seasons: event.currentTarget.valueAsNumber})} />
        </Field>
        <ProblemNote problem={problem} />
        <Buttons onCancel={onClose}><button type="submit" class="main" disabled={busy}>Save</button></Buttons>
      </form>
    </Dialog>
  )
}

function Reset({board, onClose, onDone}: {board: Leaderboard; onClose: () => void; onDone: () => void}) {
  const [run, busy, problem] = useAction()
  return (
    <Dialog title={`End season ${count(board.season)} of ${board.key}`} onClose={onClose}>
      <form onSubmit={(event) => {
        event.preventDefault()
        run(async () => { await post(boardPath(board.key, '/reset'), {season: board.season}); onDone(); onClose() })
      }}>
        <p>Its standings go to the archive, where they stay readable, and the leaderboard starts empty. This cannot be undone.</p>
        <ProblemNote problem={problem} />
        <Buttons onCancel={onClose}><button type="submit" class="danger" disabled={busy}>End the season</button></Buttons>
      </form>
    </Dialog>
  )
}

function Delete({board, onClose}: {board: Leaderboard; onClose: () => void}) {
  const [typed, setTyped] = useState('')
  const [run, busy, problem] = useAction()
  return (
    <Dialog title={`Delete ${board.key}`} onClose={onClose}>
      <form onSubmit={(event) => {
        event.preventDefault()
        run(async () => { await remove(boardPath(board.key)); go('boards') })
      }}>
        <p>All its entries go with it. This cannot be undone.</p>
        <Field label="Type its key to go on">
          <input autoFocus autocomplete="off" spellcheck={false} value={typed} onInput={(event) => setTyped(event.currentTarget.value)} />
        </Field>
        <ProblemNote problem={problem} />
        <Buttons onCancel={onClose}><button type="submit" class="danger" disabled={busy || typed !== board.key}>Delete</button></Buttons>
      </form>
    </Dialog>
  )
}

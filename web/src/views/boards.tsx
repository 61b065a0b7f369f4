/** The project's leaderboards, a page at a time, and making one. */

import {useState} from 'preact/hooks'
import {get, post} from '../api'
import {count, words} from '../format'
import {go} from '../route'
import type {Leaderboard, LeaderboardList, Session} from '../shapes'
import {Answered, Buttons, Dialog, Field, Link, ProblemNote, Table, useAction, useAsked} from '../ui'

const PAGE = 50

export function Boards({session}: {session: Session}) {
  const [cursors, setCursors] = useState<string[]>([])
  const [making, setMaking] = useState(false)
  const cursor = cursors.at(-1)
  const page = useAsked(
    (signal) => get<LeaderboardList>(`/v1/leaderboards?limit=${PAGE}${cursor === undefined ? '' : `&cursor=${encodeURIComponent(cursor)}`}`, signal),
    [cursor],
  )
  const [wanted, setWanted] = useState('')
  return (
    <>
      <div class="bar">
        <form class="inline" role="search" onSubmit={(event) => { event.preventDefault(); if (wanted) go('boards', wanted) }}>
          <label><span class="hidden">Key of a leaderboard</span>
            <input type="search" placeholder="Key of a leaderboard" value={wanted} onInput={(event) => setWanted(event.currentTarget.value.trim())} /></label>
          <button type="submit">Open</button>
        </form>
        {session.scope === 'admin' && <button type="button" class="main" onClick={() => setMaking(true)}>New leaderboard</button>}
      </div>
      <Answered asked={page}>{({leaderboards, next_cursor}) => leaderboards.length === 0 ? (
        <p class="note">There is no leaderboard yet. Make one here, through the REST API, or by applying a Leaderboard resource.</p>
      ) : (
        <>
          <Table label="Leaderboards" head={[['Key', ''], ['Updates', 'wide'], ['First is', 'wide'], ['Ties', 'wide'], ['Keeps', 'number wide'], ['State', '']]}>
            {leaderboards.map((board) => <Row key={board.key} board={board} />)}
          </Table>
          <div class="bar pager">
            <button type="button" disabled={cursors.length === 0} onClick={() => setCursors(cursors.slice(0, -1))}>Back</button>
            <button type="button" disabled={next_cursor === null} onClick={() => next_cursor !== null && setCursors([...cursors, next_cursor])}>Next</button>
          </div>
        </>
      )}</Answered>
      {making && <NewBoard onClose={() => setMaking(false)} />}
    </>
  )
}

function Row({board}: {board: Leaderboard}) {
  const first = board.sort_order === 'descending' ? 'Highest' : 'Lowest'
  const keeps = board.max_entries === 0 ? 'All' : count(board.max_entries)
  return (
    <tr>
      <td class="item">
        <Link to={['boards', board.key]}>{board.key}</Link>
        <small class="narrow quiet">{words(board.score_update)}, {first.toLowerCase()} first, ties: {words(board.tie_policy).toLowerCase()}, keeps {keeps.toLowerCase()}</small>
      </td>
      <td class="wide">{words(board.score_update)}</td>
      <td class="wide">{first}</td>
      <td class="wide">{words(board.tie_policy)}</td>
      <td class="number wide">{keeps}</td>
      <td><Tags board={board} /></td>
    </tr>
  )
}

export function Tags({board}: {board: Leaderboard}) {
  return (
    <span>
      <span class={board.suspended ? 'tag warn' : 'tag'}>{board.suspended ? 'Suspended' : 'Active'}</span>
      {board.public_read && <> <span class="tag">Public</span></>}
      {board.managed && <> <span class="tag">Managed</span></>}
    </span>
  )
}

function NewBoard({onClose}: {onClose: () => void}) {
  const [board, set] = useState({
    key: '', score_update: 'sum', sort_order: 'descending', tie_policy: 'first_to_reach', max_entries: 0, public_read: false,
  })
  const [run, busy, problem] = useAction()
  const pick = (name: keyof typeof board, options: [string, string][], label: string, hint?: string) => (
    <Field label={label} hint={hint}>
      <select value={board[name] as string} onChange={(event) => set({...board, [name]: event.currentTarget.value})}>
        {options.map(([value, text]) => <option key={value} value={value}>{text}</option>)}
      </select>
    </Field>
  )
  return (
    <Dialog title="New leaderboard" onClose={onClose}>
      <form onSubmit={(event) => {
        event.preventDefault()
        run(async () => go('boards', (await post<Leaderboard>('/v1/leaderboards', board)).key))
      }}>
        <Field label="Key" hint="Lower case letters, digits, “_”, “.” and “-”. It is fixed from then on.">
          <input required autoFocus maxLength={128} pattern="[a-z0-9][a-z0-9_.\-]*" spellcheck={false} autocomplete="off" value={board.key}
            onInput={(event) => set({...board, key: event.currentTarget.value})} />
        </Field>
        {pick('score_update', [['sum', 'Sum: add what is sent'], ['best', 'Best: keep the better score'], ['latest', 'Latest: keep the last score']], 'An update')}
        {pick('sort_order', [['descending', 'The highest score'], ['ascending', 'The lowest score']], 'Rank 1 is')}
        {pick('tie_policy', [['first_to_reach', 'Who reached it first'], ['user_id', 'The order of user ids'], ['shared', 'They share a rank']], 'Of equal scores, first is')}
        <Field label="Entries to keep" hint="0 keeps all. The worst fall out.">
          <input type="number" min={0} max={10_000_000} required value={board.max_entries}
            onInput={(event) => set({...board, max_entries: event.currentTarget.valueAsNumber})} />
        </Field>
        <label class="check"><input type="checkbox" checked={board.public_read} onChange={(event) => set({...board, public_read: event.currentTarget.checked})} /> Anybody may read its top without a key</label>
        <ProblemNote problem={problem} />
        <Buttons onCancel={onClose}><button type="submit" class="main" disabled={busy}>Make it</button></Buttons>
      </form>
    </Dialog>
  )
}

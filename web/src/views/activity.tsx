/** What happened on a leaderboard, newest first, from the ledger; of one member where asked. The address has the choice. */

import {Fragment} from 'preact'
import {useEffect, useState} from 'preact/hooks'
import {boardPath, get} from '../api'
import {dayOf, score, time, timeOfDay, words} from '../format'
import {go, useRoute} from '../route'
import type {Events, LeaderboardList} from '../shapes'
import {Answered, Field, Link, Table, useAsked} from '../ui'

const PAGE = 50

export function Activity() {
  const [, board, user] = useRoute()
  const boards = useAsked((signal) => get<LeaderboardList>('/v1/leaderboards?limit=100', signal), [])
  const first = boards.value?.leaderboards[0]?.key
  const shown = board ?? first
  const [typed, setTyped] = useState(user ?? '')
  const [wanted, setWanted] = useState(board ?? '')
  useEffect(() => { setTyped(user ?? ''); setWanted(shown ?? '') }, [user, shown])
  return (
    <>
      <form class="bar filter" role="search" onSubmit={(event) => {
        event.preventDefault()
        if (wanted !== '') go(...['activity', wanted, typed].filter(Boolean))
      }}>
        <Field label="Leaderboard">
          <input list="boards" required value={wanted} onInput={(event) => setWanted(event.currentTarget.value)} />
        </Field>
        <datalist id="boards">{boards.value?.leaderboards.map(({key}) => <option key={key} value={key} />)}</datalist>
        <Field label="User"><input maxLength={128} placeholder="Everybody" value={typed} onInput={(event) => setTyped(event.currentTarget.value)} /></Field>
        <button type="submit">Show</button>
      </form>
      {shown === undefined
        ? <Answered asked={boards}>{() => <p class="note">There is no leaderboard yet.</p>}</Answered>
        : <List key={`${shown}/${user ?? ''}`} board={shown} user={user} />}
    </>
  )
}

function List({board, user}: {board: string; user: string | undefined}) {
  const [cursors, setCursors] = useState<string[]>([])
  const cursor = cursors.at(-1)
  const asked = useAsked((signal) => {
    const query = new URLSearchParams({limit: String(PAGE)})
    if (user !== undefined) query.set('user', user)
    if (cursor !== undefined) query.set('cursor', cursor)
    return get<Events>(boardPath(board, `/events?${query.toString()}`), signal)
  }, [board, user, cursor])
  return (
    <Answered asked={asked}>{({events, next_cursor}) => (
      <>
        {events.length === 0 ? <p class="note">Nothing has happened here yet.</p> : (
          <Table label="Events" head={[['Time', ''], ['Event', 'wide'], ['User', ''], ['Sent', 'number'], ['Score after', 'number']]}>
            {events.map((event, index) => <Fragment key={event.id}>
              {(index === 0 || dayOf(event.time) !== dayOf(events[index - 1]!.time)) && (
                <tr class="day narrow"><td colSpan={4}>{dayOf(event.time)}</td></tr>
              )}
              <tr>
                <td>
                  <span class="wide">{time(event.time)}</span>
                  <time class="narrow" dateTime={event.time} title={time(event.time)}>{timeOfDay(event.time)}</time>
                  <small class="narrow quiet">{words(event.kind)}</small>
                </td>
                <td class="wide">{words(event.kind)}</td>
                <td class="name">{event.user === null ? <span class="quiet">whole board</span> : <Link to={['activity', board, event.user]}><bdi>{event.user}</bdi></Link>}</td>
                <td class="number">{event.submitted === null ? '–' : score(event.submitted)}</td>
                <td class="number">{event.score === null ? '–' : score(event.score)}</td>
              </tr>
            </Fragment>)}
          </Table>
        )}
        <div class="bar pager">
          <button type="button" disabled={cursors.length === 0} onClick={() => setCursors(cursors.slice(0, -1))}>Newer</button>
          <button type="button" disabled={next_cursor === null} onClick={() => next_cursor !== null && setCursors([...cursors, next_cursor])}>Older</button>
          <button type="button" onClick={() => cursors.length === 0 ? asked.again() : setCursors([])}>Newest</button>
        </div>
      </>
    )}</Answered>
  )
}

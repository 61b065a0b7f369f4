/** Updates that a leaderboard holds because they break its bounds: looked at, released, rejected. */

import {useState} from 'preact/hooks'
import {boardPath, get, post} from '../api'
import {count, score, time} from '../format'
import type {HeldUpdate, HeldUpdates, Leaderboard} from '../shapes'
import {Buttons, Card, Choice, Dialog, Field, ProblemNote, Table, useAction, useAsked} from '../ui'

const SHOWN = 50
const STATES = [['held', 'Waiting'], ['released', 'Released'], ['rejected', 'Rejected']] as const
const BROKEN = {min_score: 'score too low', max_score: 'score too high', max_gain: 'gained too fast'} as const

type Decision = {verb: 'release' | 'reject'; update: HeldUpdate}

export function Held({board, onChanged}: {board: Leaderboard; onChanged: () => void}) {
  const [state, setState] = useState<(typeof STATES)[number][0]>('held')
  const [deciding, setDeciding] = useState<Decision | null>(null)
  const asked = useAsked((signal) => get<HeldUpdates>(boardPath(board.key, `/held?state=${state}&limit=${SHOWN}`), signal), [board.key, state])
  const held = asked.value?.held
  // Most leaderboards have no bounds, and never had any.
  if (board.bounds === null && state === 'held' && asked.problem === null && !held?.length) return null
  return (
    <Card title="Held updates" aside={<Choice label="Which" value={state} options={STATES} onPick={setState} />}>
      <ProblemNote problem={asked.problem} />
      {held !== undefined && (held.length === 0
        ? <p class="quiet">{state === 'held' ? 'Nothing waits for a decision.' : `Nothing was ${state}.`}</p>
        : <>
          {asked.value!.next_cursor !== null && <p class="quiet">The newest {count(held.length)}.</p>}
          <Table label="What is held" layout="tight" head={[['User', ''], ['Sent', 'number'], ['Why', 'wide'], ['When', 'wide'], state === 'held' ? ['', ''] : ['Decided', '']]}>
            {held.map((update) => (
              <tr key={update.id}>
                <td class="name"><bdi>{update.user}</bdi><small class="narrow quiet">{BROKEN[update.bound]}</small></td>
                <td class="number">{score(update.submitted)}</td>
                <td class="wide">{BROKEN[update.bound]}{update.season !== board.season && <small class="quiet"> season {count(update.season)}</small>}</td>
                <td class="wide">{time(update.held_at)}</td>
                {update.decided_at === null || update.state === 'releasing'
                  ? <td><div class="bar">
                    <button type="button" aria-label={`Release the update of ${update.user}`} onClick={() => setDeciding({verb: 'release', update})}>Release</button>
                    {update.state === 'held' && <button type="button" class="danger" aria-label={`Reject the update of ${update.user}`} onClick={() => setDeciding({verb: 'reject', update})}>Reject</button>}
                  </div></td>
                  : <td>{time(update.decided_at)}{update.note !== null && <small class="quiet"> {update.note}</small>}</td>}
              </tr>
            ))}
          </Table>
        </>)}
      <div class="bar"><button type="button" onClick={asked.again}>Refresh</button></div>
      {deciding !== null && (
        <Decide board={board.key} {...deciding} onClose={() => setDeciding(null)} onDone={() => { asked.again(); onChanged() }} />
      )}
    </Card>
  )
}

function Decide({board, verb, update, onClose, onDone}: Decision & {board: string; onClose: () => void; onDone: () => void}) {
  const [note, setNote] = useState('')
  const [run, busy, problem] = useAction()
  return (
    <Dialog title={verb === 'release' ? 'Release the update' : 'Reject the update'} onClose={onClose}>
      <form onSubmit={(event) => {
        event.preventDefault()
        run(async () => {
          await post(boardPath(board, `/held/${update.id}/${verb}`), note === '' ? {} : {note})
          onDone()
          onClose()
        })
      }}>
        <p>{score(update.submitted)} by <bdi>{update.user}</bdi>: {verb === 'release'
          ? 'it is applied as if it came now, and everybody sees what comes of it.'
          : 'it will never count. The decision stands.'}</p>
        <Field label="Why (nobody has to say)">
          <input autoFocus maxLength={200} value={note} onInput={(event) => setNote(event.currentTarget.value)} />
        </Field>
        <ProblemNote problem={problem} />
        <Buttons onCancel={onClose}><button type="submit" class={verb === 'release' ? 'main' : 'danger'} disabled={busy}>{verb === 'release' ? 'Release' : 'Reject'}</button></Buttons>
      </form>
    </Dialog>
  )
}

/** The project's API keys. A secret is shown once, in the dialog that made it, and is then nowhere in the page. */

import {useEffect, useState} from 'preact/hooks'
import {get, keepPage, post, remove} from '../api'
import {time, words} from '../format'
import type {Key, NewKey, Scope, Session} from '../shapes'
import {Answered, Buttons, Dialog, Field, ProblemNote, Table, useAction, useAsked} from '../ui'

const GRACE = [['0', 'At once'], ['3600', 'In an hour'], ['86400', 'In a day'], ['604800', 'In a week']] as const
const MAY = [
  ['read', 'Read: entries, ranks, usage'],
  ['write', 'Write: send scores, and read'],
  ['admin', 'Admin: leaderboards and keys, and all else'],
] as const

type Open = {kind: 'make'} | {kind: 'rotate' | 'revoke'; key: Key} | {kind: 'made'; made: NewKey}

export function Keys({session}: {session: Session}) {
  if (session.scope !== 'admin') {
    return <p class="note">Keys are shown to keys with scope admin; you signed in with one of scope {session.scope}.</p>
  }
  return <AllKeys />
}

function AllKeys() {
  const asked = useAsked((signal) => get<{keys: Key[]}>('/v1/keys', signal), [])
  const [open, setOpen] = useState<Open | null>(null)
  const isOpen = open !== null
  useEffect(() => (isOpen ? keepPage() : undefined), [isOpen])
  const close = () => setOpen(null)
  // Nothing is asked before the secret was read: of a key that ended at once, the answer ends the session and this view.
  const done = (made: NewKey) => setOpen({kind: 'made', made})
  return (
    <>
      <div class="bar end"><button type="button" class="main" onClick={() => setOpen({kind: 'make'})}>New key</button></div>
      <Answered asked={asked}>{({keys}) => (
        <Table label="API keys" layout="stacked" head={[['Id', ''], ['Name', ''], ['Scope', ''], ['Made', ''], ['Ends', ''], ['', '']]}>
          {keys.map((key) => (
            <tr key={key.id} role="row">
              <td role="cell" data-name="Id"><code>{key.id}</code>{key.current && <> <span class="tag">This session</span></>}</td>
              <td role="cell" data-name="Name" class="name"><bdi>{key.name ?? <span class="quiet">none</span>}</bdi></td>
              <td role="cell" data-name="Scope">{words(key.scope)}</td>
              <td role="cell" data-name="Made">{time(key.created_at)}</td>
              <td role="cell" data-name="Ends">{key.expires_at === null ? <span class="quiet">Never</span> : time(key.expires_at)}</td>
              <td role="cell" class="actions">{key.managed ? <span class="quiet">Rotated by its Tenant resource</span> : <>
                <button type="button" aria-label={`Rotate ${key.name ?? key.id}`} onClick={() => setOpen({kind: 'rotate', key})}>Rotate</button>
                <button type="button" class="danger" aria-label={`Revoke ${key.name ?? key.id}`} onClick={() => setOpen({kind: 'revoke', key})}>Revoke</button>
              </>}</td>
            </tr>
          ))}
        </Table>
      )}</Answered>
      {open?.kind === 'make' && <Make onClose={close} onDone={done} />}
      {open?.kind === 'rotate' && <Rotate key={open.key.id} old={open.key} onClose={close} onDone={done} />}
      {open?.kind === 'revoke' && <Revoke old={open.key} onClose={close} onDone={asked.again} />}
      {open?.kind === 'made' && <Made made={open.made} onClose={() => { close(); asked.again() }} />}
    </>
  )
}

function Make({onClose, onDone}: {onClose: () => void; onDone: (made: NewKey) => void}) {
  const [wanted, set] = useState<{name: string; scope: Scope}>({name: '', scope: 'read'})
  const [run, busy, problem] = useAction()
  return (
    <Dialog title="New key" onClose={onClose}>
      <form onSubmit={(event) => {
        event.preventDefault()
        run(async () => onDone(await post<NewKey>('/v1/keys', {scope: wanted.scope, name: wanted.name.trim() || null})))
      }}>
        <Field label="Name" hint="For people: who has it.">
          <input autoFocus maxLength={64} autocomplete="off" value={wanted.name} onInput={(event) => set({...wanted, name: event.currentTarget.value})} />
        </Field>
        <Field label="Scope">
          <select value={wanted.scope} onChange={(event) => set({...wanted, scope: event.currentTarget.value as Scope})}>
            {MAY.map(([scope, text]) => <option key={scope} value={scope}>{text}</option>)}
          </select>
        </Field>
        <ProblemNote problem={problem} />
        <Buttons onCancel={onClose}><button type="submit" class="main" disabled={busy}>Make it</button></Buttons>
      </form>
    </Dialog>
  )
}

function Rotate({old, onClose, onDone}: {old: Key; onClose: () => void; onDone: (made: NewKey) => void}) {
  const [grace, setGrace] = useState('86400')
  const [run, busy, problem] = useAction()
  return (
    <Dialog title={`Rotate ${old.name ?? old.id}`} onClose={onClose}>
      <form onSubmit={(event) => {
        event.preventDefault()
        run(async () => onDone(await post<NewKey>(`/v1/keys/${old.id}/rotate`, {grace_seconds: Number(grace)})))
      }}>
        <p>A new key takes its place, with the same scope and name.</p>
        {old.current && <p class="note">You are signed in with this key: your session ends with it.</p>}
        <Field label="The old key stops working">
          <select value={grace} onChange={(event) => setGrace(event.currentTarget.value)}>
            {GRACE.map(([seconds, text]) => <option key={seconds} value={seconds}>{text}</option>)}
          </select>
        </Field>
        <ProblemNote problem={problem} />
        <Buttons onCancel={onClose}><button type="submit" class="main" disabled={busy}>Rotate</button></Buttons>
      </form>
    </Dialog>
  )
}

function Revoke({old, onClose, onDone}: {old: Key; onClose: () => void; onDone: () => void}) {
  const [run, busy, problem] = useAction()
  return (
    <Dialog title={`Revoke ${old.name ?? old.id}`} onClose={onClose}>
      <form onSubmit={(event) => {
        event.preventDefault()
        run(async () => { await remove(`/v1/keys/${old.id}`); onClose(); onDone() })
      }}>
        <p>It is refused within a second, everywhere. This cannot be undone.</p>
        {old.current && <p class="note">You are signed in with this key: your session ends with it.</p>}
        <ProblemNote problem={problem} />
        <Buttons onCancel={onClose}><button type="submit" class="danger" disabled={busy}>Revoke</button></Buttons>
      </form>
    </Dialog>
  )
}

function Made({made, onClose}: {made: NewKey; onClose: () => void}) {
  const [copied, setCopied] = useState(false)
  return (
    <Dialog title="The new key" onClose={onClose}>
      <p>Copy it now: this is the only time it is shown. The platform keeps a hash.</p>
      <Field label="Secret">
        <input class="secret" readOnly value={made.secret} onFocus={(event) => event.currentTarget.select()} />
      </Field>
      {made.previous_id !== null && made.previous_expires_at !== null && (
        <p class="quiet">The old key <code>{made.previous_id}</code> works until {time(made.previous_expires_at)}.</p>
      )}
      <div class="buttons">
        <button type="button" onClick={() => void navigator.clipboard.writeText(made.secret).then(() => setCopied(true))}>{copied ? 'Copied' : 'Copy'}</button>
        <button type="button" class="main" onClick={onClose}>I have it</button>
      </div>
    </Dialog>
  )
}

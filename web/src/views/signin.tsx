/** Signing in: an API key goes into the body of one request, and stays nowhere in the page. */

import {useState} from 'preact/hooks'
import {signIn} from '../api'
import type {Session} from '../shapes'
import {Field, ProblemNote, useAction} from '../ui'

export function SignIn({ended, onIn}: {ended: boolean; onIn: (session: Session) => void}) {
  const [key, setKey] = useState('')
  const [run, busy, problem] = useAction()
  return (
    <main class="alone">
      <h1>Leaderboard</h1>
      {ended && problem === null && <p class="note" role="status">Your session has ended. Sign in again to go on.</p>}
      <form onSubmit={(event) => {
        event.preventDefault()
        run(async () => onIn(await signIn(key.trim())))
      }}>
        <Field label="API key" hint="A key with scope read shows everything but keys; with scope admin you can also change things. The browser keeps a session, never the key.">
          <input type="password" autocomplete="off" spellcheck={false} required autoFocus value={key} placeholder="lb_live_…"
            onInput={(event) => setKey(event.currentTarget.value)} />
        </Field>
        <ProblemNote problem={problem} />
        <button type="submit" class="main" disabled={busy}>{busy ? 'Signing in…' : 'Sign in'}</button>
      </form>
    </main>
  )
}

/** The REST API, as the browser's session may use it. */

import type {Problem, Session} from './shapes'

/** Where the pages of one browser see whose session its one cookie is: the public id of a key, never the key. */
const SIGNED_IN = 'leaderboard.signed-in'
const TIMEOUT_MS = 15_000

/** An answer that was no success, or no answer at all (`status` 0). */
export class Refused extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail ?? problem.title)
  }
}

/** The session of this page. The cookie itself is out of any script's reach; its CSRF token lives here alone. */
let session: Session | null = null
let onEnd: () => void = () => undefined
let keeping = 0
let outdated = false

/** Call `then` whenever the API says that the session is over. */
export function whenSignedOut(then: () => void): void {
  onEnd = then
}

/** Start anew whenever another page of this browser signs in with another key, or out: the cookie is then not ours. */
export function followOtherPages(): void {
  addEventListener('storage', (event) => {
    // Without a key the whole storage was emptied.
    if (event.key !== SIGNED_IN && event.key !== null) return
    if (event.newValue === (session?.key_id ?? null)) return
    outdated = true
    if (keeping === 0) location.reload()
  })
}

/** Let other pages not take this one away while it shows what is nowhere else, until the answer is called. */
export function keepPage(): () => void {
  keeping += 1
  return () => {
    keeping -= 1
    if (outdated && keeping === 0) location.reload()
  }
}

export async function signIn(apiKey: string): Promise<Session> {
  return remember(await call<Session>('POST', '/dashboard/session', {api_key: apiKey}))
}

/** The session that an earlier page of this browser left, null without one. */
export async function resume(): Promise<Session | null> {
  // Not asked where nobody ever signed in: browsers print every 401 as an error.
  if (localStorage.getItem(SIGNED_IN) === null) return null
  try {
    return remember(await call<Session>('GET', '/dashboard/session'))
  } catch (error) {
    if (!(error instanceof Refused) || error.problem.status !== 401) throw error
    forget()
    return null
  }
}

export async function signOut(): Promise<void> {
  await call('DELETE', '/dashboard/session')
  forget()
}

function remember(found: Session): Session {
  session = found
  localStorage.setItem(SIGNED_IN, found.key_id)
  return found
}

function forget(): void {
  session = null
  localStorage.removeItem(SIGNED_IN)
}

export const get = <T>(path: string, signal?: AbortSignal): Promise<T> => call<T>('GET', path, undefined, signal)
export const post = <T>(path: string, body: unknown): Promise<T> => call<T>('POST', path, body)
export const patch = <T>(path: string, body: unknown): Promise<T> => call<T>('PATCH', path, body)
export const remove = (path: string): Promise<void> => call<void>('DELETE', path)

/** The path of a board, or of something below it. */
export function boardPath(key: string, below = ''): string {
  return `/v1/leaderboards/${encodeURIComponent(key)}${below}`
}

async function call<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const headers: Record<string, string> = {}
  if (body !== undefined) headers['Content-Type'] = 'application/json'
  if (method !== 'GET' && session !== null) headers['X-CSRF-Token'] = session.csrf_token
  const limit = AbortSignal.timeout(TIMEOUT_MS)
  let refusal: Response
  try {
    const answer = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: 'same-origin',
      signal: signal === undefined ? limit : AbortSignal.any([signal, limit]),
    })
    // Its body too: what is cut, late, or a proxy's page is no answer of the API.
    if (answer.ok) return (answer.status === 204 ? undefined : await answer.json()) as T
    refusal = answer
  } catch (error) {
    if (signal?.aborted) throw error
    throw new Refused(unreachable(limit.aborted))
  }
  const problem = await problemOf(refusal)
  if (refusal.status === 401 && session !== null) {
    forget()
    onEnd()
  }
  throw new Refused(problem)
}

async function problemOf(answer: Response): Promise<Problem> {
  try {
    return (await answer.json()) as Problem
  } catch {
    // A proxy's page, say.
    const title = `The answer was ${answer.status} ${answer.statusText}`
    return {type: 'about:blank', title, status: answer.status, advice: 'Try again in a moment.', trace_id: ''}
  }
}

function unreachable(late: boolean): Problem {
  const title = late ? 'The API did not answer in time' : 'The API cannot be reached'
  return {type: 'about:blank', title, status: 0, advice: 'Check the connection, then try again.', trace_id: ''}
}

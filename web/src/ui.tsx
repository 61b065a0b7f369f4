/** What several views are made of. */

import {cloneElement, type ComponentChildren, type VNode} from 'preact'
import {useCallback, useEffect, useId, useRef, useState} from 'preact/hooks'
import {Refused} from './api'
import {follow, href} from './route'
import type {Problem} from './shapes'

export interface Asked<T> {
  value: T | null
  problem: Problem | null
  again: () => void
}

/** Ask for something when `keys` change, and whenever `again` is called; the last answer stays until the next is there. */
export function useAsked<T>(ask: (signal: AbortSignal) => Promise<T>, keys: readonly unknown[]): Asked<T> {
  const [state, set] = useState<{value: T | null; problem: Problem | null}>({value: null, problem: null})
  const [turn, setTurn] = useState(0)
  useEffect(() => {
    const abort = new AbortController()
    ask(abort.signal).then(
      (value) => abort.signal.aborted || set({value, problem: null}),
      (error: unknown) => {
        if (!abort.signal.aborted) set((before) => ({...before, problem: problemIn(error)}))
      },
    )
    return () => abort.abort()
  }, [...keys, turn])
  return {...state, again: useCallback(() => setTurn((before) => before + 1), [])}
}

/** The problem of an error; what is none of the API's is a fault of the page, and is thrown on. */
export function problemIn(error: unknown): Problem {
  if (error instanceof Refused) return error.problem
  throw error
}

/** Something a person started: busy while it runs, its problem afterwards. */
export function useAction(): [(act: () => Promise<void>) => void, boolean, Problem | null] {
  const [busy, setBusy] = useState(false)
  const [problem, setProblem] = useState<Problem | null>(null)
  const run = (act: () => Promise<void>) => {
    setBusy(true)
    setProblem(null)
    act()
      .catch((error: unknown) => setProblem(problemIn(error)))
      .finally(() => setBusy(false))
  }
  return [run, busy, problem]
}

export function ProblemNote({problem}: {problem: Problem | null}) {
  if (problem === null) return null
  return (
    <div class="note problem" role="alert">
      <strong>{problem.title}</strong>
      {problem.detail !== undefined && <p>{problem.detail}</p>}
      <p>{problem.advice}</p>
      {problem.trace_id !== '' && <p class="quiet">Trace <code>{problem.trace_id}</code></p>}
    </div>
  )
}

/** What is shown of something asked for: its problem, that it is on its way, or `children` of it. */
export function Answered<T>({asked, children}: {asked: Asked<T>; children: (value: T) => ComponentChildren}) {
  return (
    <>
      <ProblemNote problem={asked.problem} />
      {asked.value !== null ? children(asked.value) : asked.problem === null && <p class="quiet" role="status">Loading…</p>}
    </>
  )
}

export function Link({to, children, ...rest}: {to: string[]; children: ComponentChildren; [name: string]: unknown}) {
  return <a href={href(...to)} onClick={(event: MouseEvent) => follow(event, ...to)} {...rest}>{children}</a>
}

export function Card({title, aside, children}: {title: string; aside?: ComponentChildren; children: ComponentChildren}) {
  const id = useId()
  return (
    <section class="card" aria-labelledby={id}>
      <header><h2 id={id}>{title}</h2>{aside}</header>
      {children}
    </section>
  )
}

/** A table that scrolls inside itself where the page is too narrow for it. `wide` cells are on wide screens alone.
 * On narrow screens a `tight` one has its columns closer; the rows of a `stacked` one have a line for each cell, with its
 * data-name: those say their roles themselves, since what is laid out otherwise is no table to every browser. */
export function Table({label, head, layout, children}: {
  label: string; head: [name: string, kind: string][]; layout?: 'stacked' | 'tight'; children: ComponentChildren
}) {
  const role = (name: 'table' | 'rowgroup' | 'row' | 'columnheader') => layout === 'stacked' ? name : undefined
  return (
    <div class="scroll" role="region" aria-label={label} tabIndex={0}>
      <table class={layout} role={role('table')}>
        <thead role={role('rowgroup')}>
          <tr role={role('row')}>{head.map(([name, kind]) => (
            <th key={name} scope="col" class={kind} role={role('columnheader')}>{name || <span class="hidden">Actions</span>}</th>
          ))}</tr>
        </thead>
        <tbody role={role('rowgroup')}>{children}</tbody>
      </table>
    </div>
  )
}

/** One input with its name and, apart from the name, a hint. */
export function Field({label, hint, children}: {label: string; hint?: string; children: VNode}) {
  const id = useId()
  return (
    <div class="field">
      <label><span>{label}</span>{hint === undefined ? children : cloneElement(children, {'aria-describedby': id})}</label>
      {hint !== undefined && <small id={id} class="quiet">{hint}</small>}
    </div>
  )
}

export function Choice<T extends string>({label, value, options, onPick}: {
  label: string; value: T; options: readonly (readonly [T, string])[]; onPick: (value: T) => void
}) {
  return (
    <div class="choice" role="group" aria-label={label}>
      {options.map(([option, name]) => (
        <button key={option} type="button" aria-pressed={option === value} onClick={() => onPick(option)}>{name}</button>
      ))}
    </div>
  )
}

/** A modal dialog: the browser keeps the focus in it and closes it on Escape. The focus goes back to where it was. */
export function Dialog({title, onClose, children}: {title: string; onClose: () => void; children: ComponentChildren}) {
  const ref = useRef<HTMLDialogElement>(null)
  const id = useId()
  useEffect(() => {
    const before = document.activeElement
    ref.current?.showModal()
    // Once it is out of the document: until then nothing outside of it takes the focus. Closing it instead would send
    // an event, late, that closes the dialog that follows.
    return () => queueMicrotask(() => { if (before instanceof HTMLElement && before.isConnected) before.focus() })
  }, [])
  return (
    <dialog ref={ref} aria-labelledby={id} onClose={onClose}>
      <h2 id={id}>{title}</h2>
      {children}
    </dialog>
  )
}

export function Buttons({children, onCancel}: {children: ComponentChildren; onCancel: () => void}) {
  return <div class="buttons"><button type="button" onClick={onCancel}>Cancel</button>{children}</div>
}

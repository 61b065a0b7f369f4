/** Bars over time, drawn as SVG: every point can be pointed at, reached by arrow keys, and read as a table. */

import {useEffect, useId, useRef, useState} from 'preact/hooks'
import {compact, count, pointTime} from './format'
import type {UsagePoint} from './shapes'
import {Table} from './ui'

export type Series = 'requests' | 'score_updates' | 'rate_limited' | 'client_errors' | 'server_errors'

const HEIGHT = 150
const LEFT = 44
const BOTTOM = 22
const TOP = 8

/** The next number with one or two simple digits that is not below `n`: its half, on the middle line, reads well too. */
function roundUp(n: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(n, 1)))
  return [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= n) ?? 10 * power
}

export function Chart({title, points, step, series}: {
  title: string; points: UsagePoint[]; step: 'hour' | 'day'; series: readonly (readonly [Series, string])[]
}) {
  const box = useRef<HTMLDivElement>(null)
  const [width, setWidth] = useState(600)
  const [at, setAt] = useState<number | null>(null)
  const [asTable, setAsTable] = useState(false)
  const id = useId()
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => entry && setWidth(Math.max(entry.contentRect.width, 200)))
    if (box.current) observer.observe(box.current)
    return () => observer.disconnect()
  }, [asTable])
  const sum = (point: UsagePoint) => series.reduce((total, [name]) => total + point[name], 0)
  const top = roundUp(Math.max(0, ...points.map(sum)))
  const slot = (width - LEFT) / Math.max(points.length, 1)
  const y = (value: number) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top)
  const every = Math.max(1, Math.ceil(points.length / Math.max(1, Math.floor((width - LEFT) / (step === 'day' ? 70 : 120)))))
  const chosen = at === null ? undefined : points[at]
  const totals = series.map(([name, label]) => [label, points.reduce((total, point) => total + point[name], 0)] as const)
  const move = (event: KeyboardEvent) => {
    const by = {ArrowLeft: -1, ArrowRight: 1}[event.key]
    if (by === undefined || points.length === 0) return
    event.preventDefault()
    setAt((before) => Math.min(points.length - 1, Math.max(0, (before ?? (by > 0 ? -1 : points.length)) + by)))
  }
  return (
    <section class="card chart" aria-labelledby={id}>
      <header>
        <h2 id={id}>{title}</h2>
        <button type="button" class="plain" aria-pressed={asTable} onClick={() => setAsTable(!asTable)}>Table</button>
      </header>
      <ul class="legend">
        {totals.map(([label, total], index) => (
          <li key={label}><i class={`series-${series[index]![0]}`} /> {label} <strong>{count(total)}</strong></li>
        ))}
      </ul>
      {asTable ? (
        <div class="tall"><Table label={`${title}, as a table`} head={[['Time', ''], ...series.map(([, label]): [string, 'number'] => [label, 'number'])]}>
          {points.map((point) => (
            <tr key={point.at}>
              <td>{pointTime(point.at, step)}</td>
              {series.map(([name]) => <td key={name} class="number">{count(point[name])}</td>)}
            </tr>
          ))}
        </Table></div>
      ) : (
        <div ref={box} class="plot" role="group" tabIndex={0} aria-label={`${title}: arrow keys read the points`} onKeyDown={move}
          onBlur={() => setAt(null)} onPointerLeave={() => setAt(null)}>
          <svg width={width} height={HEIGHT} aria-hidden="true">
            {[0, top / 2, top].map((value) => (
              <g key={value} class="grid">
                <line x1={LEFT} x2={width} y1={y(value)} y2={y(value)} />
                <text x={LEFT - 6} y={y(value) + 4} text-anchor="end">{compact(value)}</text>
              </g>
            ))}
            {points.map((point, index) => {
              let below = 0
              return (
                <g key={point.at} class={index === at ? 'at' : undefined} onPointerEnter={() => setAt(index)}>
                  <rect class="reach" x={LEFT + index * slot} y={TOP} width={slot} height={HEIGHT - TOP - BOTTOM} />
                  {series.map(([name]) => {
                    const value = point[name]
                    below += value
                    const height = value === 0 ? 0 : Math.max(1, y(0) - y(value))
                    return <rect key={name} class={`series-${name}`} x={LEFT + index * slot + slot * 0.1} y={y(below)} width={slot * 0.8} height={height} />
                  })}
                  {index % every === 0 && (
                    <text class="tick" x={LEFT + index * slot + 2} y={HEIGHT - 6}>{pointTime(point.at, step).replace(' UTC', '')}</text>
                  )}
                </g>
              )
            })}
          </svg>
          <p class="readout" aria-live="polite">
            {chosen === undefined ? <span class="quiet">{points.length} {step === 'day' ? 'days' : 'hours'}, UTC</span> : (
              <><strong>{pointTime(chosen.at, step)}</strong>{series.map(([name, label]) => <span key={name}>{label} {count(chosen[name])}</span>)}</>
            )}
          </p>
        </div>
      )}
    </section>
  )
}

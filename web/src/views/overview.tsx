/** What the project does: requests, updates, refusals and errors over time. */

import {useState} from 'preact/hooks'
import {get} from '../api'
import {Chart} from '../chart'
import {count} from '../format'
import type {Plan, UsageSeries} from '../shapes'
import {Answered, Choice, Link, useAsked} from '../ui'

const PERIODS = [['1', '24 hours'], ['7', '7 days'], ['30', '30 days'], ['90', '90 days']] as const
type Days = (typeof PERIODS)[number][0]
const DAY_MS = 86_400_000

function seriesPath(days: Days): string {
  const from = new Date(Date.now() - (days === '1' ? 1 : Number(days) - 1) * DAY_MS).toISOString().slice(0, 10)
  return `/v1/usage/series?step=${days === '1' ? 'hour' : 'day'}&from=${from}`
}

export function Overview() {
  const [days, setDays] = useState<Days>('30')
  const series = useAsked(async (signal) => {
    const found = await get<UsageSeries>(seriesPath(days), signal)
    return {...found, points: days === '1' ? found.points.slice(-24) : found.points}
  }, [days])
  const plan = useAsked((signal) => get<Plan>('/v1/plan', signal), [])
  return (
    <>
      <div class="bar">
        <Choice label="Period" value={days} options={PERIODS} onPick={setDays} />
        <button type="button" onClick={() => { series.again(); plan.again() }}>Refresh</button>
      </div>
      <Answered asked={plan}>{(plan) => (
        <dl class="figures">
          <div><dt>Leaderboards</dt><dd><Link to={['boards']}>{count(plan.leaderboards)}</Link></dd></div>
          <div><dt>Requests this month</dt><dd>{count(plan.month.requests)}</dd></div>
          <div><dt>Updates this month</dt><dd>{count(plan.month.score_updates)}</dd></div>
          <div><dt>Rate limited this month</dt><dd>{count(plan.month.rate_limited)}</dd></div>
        </dl>
      )}</Answered>
      <Answered asked={series}>{({points, step}) => (
        <div class="charts">
          <Chart title="Requests" points={points} step={step} series={[['requests', 'Admitted']]} />
          <Chart title="Score updates" points={points} step={step} series={[['score_updates', 'In the ledger']]} />
          <Chart title="Rate limited" points={points} step={step} series={[['rate_limited', 'Answered 429']]} />
          <Chart title="Errors" points={points} step={step} series={[['client_errors', '4xx'], ['server_errors', '5xx']]} />
        </div>
      )}</Answered>
      <p class="quiet">Requests are written every few seconds, updates as the ledger gets them. The month's figures are the whole tenant's.</p>
    </>
  )
}

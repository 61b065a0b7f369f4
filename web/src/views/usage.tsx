/** What was used of the plan, the bill so far, and the days one by one. */

import {get} from '../api'
import {compact, count, date, money} from '../format'
import type {Bill, Plan, UsageSeries} from '../shapes'
import {Answered, Card, Table, useAsked} from '../ui'

export function Usage() {
  const plan = useAsked((signal) => get<Plan>('/v1/plan', signal), [])
  const days = useAsked((signal) => get<UsageSeries>('/v1/usage/series?step=day', signal), [])
  return (
    <>
      <Answered asked={plan}>{(plan) => (
        <div class="halves">
          <Card title={`Plan ${plan.plan}`} aside={<span class="quiet">{plan.display_name ?? plan.tenant}</span>}>
            <Meter label="Leaderboards" used={plan.leaderboards} limit={plan.limits.max_leaderboards} />
            <dl class="facts">
              <div><dt>Requests a second</dt><dd>{count(plan.limits.requests_per_second)} at most</dd></div>
              <div><dt>Period</dt><dd>{date(plan.month.from)} to {date(plan.month.to)}, UTC</dd></div>
              <div><dt>Requests</dt><dd>{count(plan.month.requests)}</dd></div>
              <div><dt>Score updates</dt><dd>{count(plan.month.score_updates)}</dd></div>
              <div><dt>Rate limited</dt><dd>{count(plan.month.rate_limited)}</dd></div>
            </dl>
          </Card>
          <Card title="Bill so far" aside={<span class="quiet">A preview until the month is over</span>}>
            {plan.bill === null ? <p class="quiet">Shown to keys with scope admin.</p> : <Lines bill={plan.bill} />}
          </Card>
        </div>
      )}</Answered>
      <Card title="By day" aside={<span class="quiet">This project, 30 days, UTC</span>}>
        <Answered asked={days}>{({points}) => (
          <Table label="Usage by day" layout="tight" head={[['Day', ''], ['Requests', 'number'], ['Score updates', 'number'], ['Rate limited', 'number'], ['4xx', 'number'], ['5xx', 'number']]}>
            {points.toReversed().map((point) => (
              <tr key={point.at}>
                <td>{date(point.at)}</td>
                <td class="number">{count(point.requests)}</td>
                <td class="number">{count(point.score_updates)}</td>
                <td class="number">{count(point.rate_limited)}</td>
                <td class="number">{count(point.client_errors)}</td>
                <td class="number">{count(point.server_errors)}</td>
              </tr>
            ))}
          </Table>
        )}</Answered>
      </Card>
    </>
  )
}

function Meter({label, used, limit}: {label: string; used: number; limit: number}) {
  return (
    <label class="meter">
      <span>{label}</span><strong>{count(used)} of {count(limit)}</strong>
      <meter min={0} max={limit} high={limit * 0.9} value={used} />
    </label>
  )
}

function Lines({bill}: {bill: Bill}) {
  const price = (line: Bill['lines'][number]) => money(line.unit_price, bill.currency) + (line.per > 1 ? ` per ${compact(line.per)}` : '')
  return (
    <Table label="Lines of the bill" head={[['Item', ''], ['Quantity', 'number wide'], ['Included', 'number wide'], ['Price', 'number wide'], ['Amount', 'number']]}>
      {bill.lines.map((line) => (
        <tr key={line.item}>
          <td class="item">
            {{plan: 'Plan', score_updates: 'Score updates'}[line.item]}
            <small class="narrow quiet">{count(line.quantity)} at {price(line)}{line.included > 0 && `, ${count(line.included)} included`}</small>
          </td>
          <td class="number wide">{count(line.quantity)}</td>
          <td class="number wide">{count(line.included)}</td>
          <td class="number wide">{price(line)}</td>
          <td class="number">{money(line.amount, bill.currency)}</td>
        </tr>
      ))}
      <tr class="total"><th scope="row">Total</th><td class="wide" /><td class="wide" /><td class="wide" /><td class="number">{money(bill.total, bill.currency)}</td></tr>
    </Table>
  )
}

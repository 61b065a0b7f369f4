/** Numbers, times and names, for people. */

const whole = new Intl.NumberFormat('en')
const short = new Intl.NumberFormat('en', {notation: 'compact', maximumFractionDigits: 1})
const exact = new Intl.NumberFormat('en', {maximumFractionDigits: 17})
const day = new Intl.DateTimeFormat('en', {day: 'numeric', month: 'short', timeZone: 'UTC'})
const hour = new Intl.DateTimeFormat('en', {
  day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit', hourCycle: 'h23', timeZone: 'UTC',
})
const clock = new Intl.DateTimeFormat('en', {hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23', timeZone: 'UTC'})
const fullDay = new Intl.DateTimeFormat('en', {day: 'numeric', month: 'short', year: 'numeric', timeZone: 'UTC'})
const moment = new Intl.DateTimeFormat('en', {
  day: 'numeric', month: 'short', year: 'numeric', hour: '2-digit', minute: '2-digit', second: '2-digit',
  hourCycle: 'h23', timeZone: 'UTC',
})

export const count = (n: number): string => whole.format(n)
export const compact = (n: number): string => short.format(n)
export const score = (n: number): string => exact.format(n)
export const date = (iso: string): string => day.format(new Date(iso))
export const time = (iso: string): string => `${moment.format(new Date(iso))} UTC`
/** The two halves of `time`. */
export const dayOf = (iso: string): string => `${fullDay.format(new Date(iso))} UTC`
export const timeOfDay = (iso: string): string => clock.format(new Date(iso))
export const pointTime = (iso: string, step: 'hour' | 'day'): string =>
  step === 'day' ? date(iso) : `${hour.format(new Date(iso))} UTC`

export function money(amount: string, currency: string): string {
  return new Intl.NumberFormat('en', {style: 'currency', currency, maximumFractionDigits: 6}).format(Number(amount))
}

/** `first_to_reach` -> `First to reach`. */
export function words(name: string): string {
  const text = name.replaceAll('_', ' ')
  return text.charAt(0).toUpperCase() + text.slice(1)
}

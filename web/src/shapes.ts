/** What the API answers; the names are those of openapi.yaml's schemas. */

export type Scope = 'read' | 'write' | 'admin'

export interface Session {
  tenant: string
  project: string
  scope: Scope
  key_id: string
  csrf_token: string
  expires_at: string
}

export interface Leaderboard {
  key: string
  score_update: 'sum' | 'best' | 'latest'
  sort_order: 'descending' | 'ascending'
  tie_policy: 'first_to_reach' | 'user_id' | 'shared'
  max_entries: number
  public_read: boolean
  suspended: boolean
  managed: boolean
  reset: ResetRule | null
  bounds: Bounds | null
  tiers: Tier[]
  season: number
  next_reset: string | null
  created_at: string
  updated_at: string
}

export interface Tier {
  name: string
  top?: number
  percent?: number
}

export interface ResetRule {
  schedule: string | null
  time_zone: string
  keep_seasons: number
  grace_seconds: number
}

export interface Bounds {
  min_score: number | null
  max_score: number | null
  max_gain: number | null
  per_seconds: number | null
}

export interface Season {
  season: number
  ended_at: string
  archived: boolean
  entries: number | null
  checksum: string | null
}

export interface Seasons {
  leaderboard: string
  season: number
  seasons: Season[]
  next_cursor: string | null
}

export interface SeasonTop {
  leaderboard: string
  season: number
  total: number
  entries: Entry[]
  next_cursor: string | null
}

export interface SignedSeason {
  season: number
  checksum: string
  signature: string | null
  public_key: string | null
}

export interface PastTop {
  at: string
  total: number
  entries: Entry[]
}

export interface HeldUpdate {
  id: string
  user: string
  season: number
  submitted: number
  bound: 'min_score' | 'max_score' | 'max_gain'
  held_at: string
  state: 'held' | 'releasing' | 'released' | 'rejected'
  decided_at: string | null
  note: string | null
}

export interface HeldUpdates {
  leaderboard: string
  held: HeldUpdate[]
  next_cursor: string | null
}

export interface LeaderboardList {
  leaderboards: Leaderboard[]
  next_cursor: string | null
}

export interface Entry {
  rank: number
  user: string
  score: number
}

export interface Taken {
  total: number
  taken_at: string
  age_ms: number
}

export interface Standings extends Taken {
  leaderboard: string
  entries: Entry[]
}

export interface Event {
  id: string
  time: string
  kind: 'update' | 'remove' | 'trim' | 'reset' | 'delete' | 'import'
  user: string | null
  submitted: number | null
  score: number | null
}

export interface Events {
  leaderboard: string
  events: Event[]
  next_cursor: string | null
}

export interface UsagePoint {
  at: string
  requests: number
  score_updates: number
  rate_limited: number
  client_errors: number
  server_errors: number
}

export interface UsageSeries {
  project: string
  step: 'hour' | 'day'
  from: string
  to: string
  points: UsagePoint[]
}

export interface Bill {
  currency: string
  lines: {
    item: 'plan' | 'score_updates'
    quantity: number
    included: number
    unit_price: string
    per: number
    amount: string
  }[]
  total: string
}

export interface Plan {
  tenant: string
  display_name: string | null
  plan: string
  limits: {max_leaderboards: number; requests_per_second: number}
  leaderboards: number
  month: {from: string; to: string; requests: number; score_updates: number; rate_limited: number}
  bill: Bill | null
}

export interface Key {
  id: string
  name: string | null
  scope: Scope
  managed: boolean
  current: boolean
  created_at: string
  expires_at: string | null
}

export interface NewKey {
  id: string
  name: string | null
  scope: Scope
  secret: string
  previous_id: string | null
  previous_expires_at: string | null
}

/** RFC 9457. */
export interface Problem {
  type: string
  title: string
  status: number
  detail?: string
  advice: string
  trace_id: string
}

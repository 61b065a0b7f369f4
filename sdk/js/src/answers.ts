/** One update: `increment` for a sum leaderboard, `score` for a best or latest one. */
export interface Update {
  leaderboard: string;
  user: string;
  increment?: number;
  score?: number;
  /** The season it is for; in another it is a Conflict. */
  season?: number;
}

/** `rank` is null for who fell out, the previous ones for who was not on the board. */
export interface UpdateResult {
  leaderboard: string;
  user: string;
  score: number;
  rank: number | null;
  previousScore: number | null;
  previousRank: number | null;
  /** The update had been done before under its key, by an earlier attempt for one. */
  replayed: boolean;
  /** There only where it broke the leaderboard's bounds. Then nothing changed: `score` is what it would have been. */
  held?: Held;
}
export type Bound = "min_score" | "max_score" | "max_gain";
/** Why an update waits for a decision, and under which id. */
export interface Held { id: string; bound: Bound }

export interface Entry { rank: number; user: string; score: number }
export interface Around { leaderboard: string; total: number; entries: Entry[] }
export interface Top extends Around { nextCursor: string | null }
export interface Members extends Around { missing: string[] }
/** `percentile` is the share of the entries that are not better, itself among them: rank 1 has 100. */
interface Placed extends Entry { leaderboard: string; total: number; percentile: number }
/** `tier` is the name of the first tier of the leaderboard that holds it, null where none does. */
export interface Rank extends Placed { tier: string | null }
/** As it was at `at`, RFC 3339 text in UTC. */
export interface HistoryTop extends Top { at: string }
export interface HistoryRank extends Placed { at: string }

/**
 * How a leaderboard's seasons come and go: cron's five fields, or by hand only; `keepSeasons` 0 keeps all. For `graceSeconds`
 * after its end a season takes late updates that name it.
 */
export interface ResetRule { schedule?: string | null; timeZone?: string; keepSeasons?: number; graceSeconds?: number }

/** A name for ranks 1 to `top`, or for the best `percent` of the entries. */
export type Tier = { name: string } & ({ top: number; percent?: undefined } | { percent: number; top?: undefined });

/** What a leaderboard believes; null is no bound. `maxGain`, toward its best end, is for each `perSeconds`. */
export interface Bounds {
  minScore?: number | null;
  maxScore?: number | null;
  maxGain?: number | null;
  perSeconds?: number | null;
}

/** The rules of one leaderboard; `maxEntries` 0 is no bound. Times are RFC 3339 text. */
export interface Leaderboard {
  key: string;
  scoreUpdate: string;
  sortOrder: string;
  tiePolicy: string;
  maxEntries: number;
  publicRead: boolean;
  suspended: boolean;
  managed: boolean;
  reset: Required<ResetRule> | null;
  bounds: Required<Bounds> | null;
  /** Best first. */
  tiers: Tier[];
  /** The season that runs, until `nextReset` by its schedule. */
  season: number;
  nextReset: string | null;
  createdAt: string;
  updatedAt: string;
}
export interface LeaderboardPage { leaderboards: Leaderboard[]; nextCursor: string | null }

/**
 * A season that is over. `entries` and `checksum` are null until it is `archived`, and can be read: not before `lateUntil`,
 * where it takes late updates.
 */
export interface Season {
  season: number;
  endedAt: string;
  archived: boolean;
  entries: number | null;
  checksum: string | null;
  lateUntil: string | null;
}
/** Newest first; `season` is the one that runs. */
export interface Seasons { leaderboard: string; season: number; seasons: Season[]; nextCursor: string | null }
/**
 * What a season ended with, signed with Ed25519: the text of the first eight values, a line feed after each. The last two
 * are null where the platform has no key; trust a public key that you know from elsewhere, not this one.
 */
export interface SignedSeason {
  format: string;
  tenant: string;
  project: string;
  leaderboard: string;
  season: number;
  endedAt: string;
  entries: number;
  checksum: string;
  signature: string | null;
  publicKey: string | null;
}
export interface SeasonTop extends Top { season: number }
export interface SeasonRank extends Placed { season: number }

/** An update that broke the leaderboard's bounds, and what became of it. Times are RFC 3339 text. */
export interface HeldUpdate {
  id: string;
  user: string;
  season: number;
  submitted: number;
  bound: Bound;
  heldAt: string;
  /** "releasing" is a release that was cut short; releasing it again finishes that. */
  state: "held" | "releasing" | "released" | "rejected";
  /** While it waits, what it would come to if it were released now; null where it cannot be. */
  score: number | null;
  rank: number | null;
  decidedAt: string | null;
  /** The id of an API key. */
  decidedBy: string | null;
  note: string | null;
}
/** Newest first. */
export interface HeldUpdates { leaderboard: string; held: HeldUpdate[]; nextCursor: string | null }

/** One UTC day (YYYY-MM-DD): requests admitted, updates in the ledger, requests answered 429. */
export interface UsageDay { day: string; requests: number; scoreUpdates: number; rateLimited: number }
export interface Usage { project: string; from: string; to: string; days: UsageDay[] }

/** Where a user is, or was: on a board now, by a checkpoint of the ledger, in final standings, in an event, held. */
export type UserRecord = { leaderboard: string; deleted: boolean } & (
  | { kind: "standing"; score: number; rank: number }
  | { kind: "checkpoint"; score: number }
  | { kind: "season"; season: number; score: number; rank: number }
  | { kind: "event"; id: string; time: string; event: string; submitted: number | null; score: number | null }
  | {
      kind: "held"; id: string; time: string; season: number; submitted: number; bound: Bound;
      state: HeldUpdate["state"]; note: string | null;
    }
);
export interface UserData { user: string; records: UserRecord[]; nextCursor: string | null }

/** How much there was of a user, or is. */
export interface Touched {
  entries: number;
  events: number;
  checkpoints: number;
  seasonLines: number;
  snapshots: number;
  setAside: number;
  held: number;
}
/** An erasure; once `state` is "done", its receipt. Times are RFC 3339 text. */
export interface Erasure {
  id: string;
  state: "pending" | "done";
  subject: string;
  requestedBy: string;
  requestedAt: string;
  finishedAt: string | null;
  attempts: number;
  waitsFor: string | null;
  touched: Touched;
  leaderboardsTouched: number;
  leaderboards: ({ leaderboard: string } & Touched)[];
  mac: string | null;
}
/** `verified`: the receipt is intact, it is the user's (`subject`), and nothing of the user was found. */
export interface ErasureCheck {
  id: string;
  state: "pending" | "done";
  verified: boolean;
  intact: boolean;
  subject: boolean;
  found: Touched;
}

/** The names of an answer in camel case, at every depth: no object of the API has names that users choose. */
export function camel(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(camel);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, each]) => [name.replace(/_([a-z])/g, (_, c: string) => c.toUpperCase()), camel(each)]),
  );
}

/** Read an answer that must have these fields. Throws TypeError if one is missing. */
export function reader<T>(...names: (keyof T & string)[]): (body: unknown) => T {
  return (body) => {
    const value = camel(body) as Record<string, unknown> | null;
    for (const name of names) {
      if (value?.[name] === undefined) throw new TypeError(`the answer has no ${name}`);
    }
    return value as T;
  };
}

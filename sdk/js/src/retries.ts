import { ApiError, LeaderboardError, TransportError, ofProblem } from "./errors.js";

const FIRST_PAUSE = 100;
const LONGEST_PAUSE = 5000;
const TRANSIENT = new Set([429, 502, 503, 504]);

/** safe: a second attempt does nothing more. delete: but it is answered 404. unsafe: only where nothing was done. */
export type Repeat = "safe" | "delete" | "unsafe";

export interface Call<T> {
  method: string;
  path: string;
  read: (body: unknown, headers: Headers) => T;
  repeat: Repeat;
  content?: string;
  idempotencyKey?: string;
  /** Sent without the API key. */
  open?: boolean;
}

/** Pauses are in milliseconds; `maxWait` is for all of a call together. */
export interface Patience { maxAttempts: number; maxWait: number }
export type Step<T> = { done: true; value: T } | { done: false; pause: number };

/** Any pause up to the ceiling (full jitter) spreads clients that failed together. `made` is at least 1. */
export function jitter(made: number): number {
  return Math.random() * Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (made - 1));
}

export function isTransient(status: number): boolean {
  return TRANSIENT.has(status);
}

/** Retry-After in seconds. A date (a proxy's) counts from the answer's own: clocks need not agree. Null: none that helps. */
function secondsOf(after: string | null, date: string | null): number | null {
  if (after === null) return null;
  if (/^[0-9]+$/.test(after)) return Number(after);
  const seconds = (Date.parse(after) - Date.parse(date ?? "")) / 1000;
  return Number.isNaN(seconds) ? null : Math.max(0, seconds);
}

/** The error of an answer that is no 2xx. */
export function refusal(status: number, headers: Headers, content: string): ApiError {
  const retryAfter = secondsOf(headers.get("retry-after"), headers.get("date"));
  let document: unknown = null;
  try {
    document = JSON.parse(content);
  } catch {
    // Not the API's: it stays without a type.
  }
  return ofProblem(status, document, retryAfter);
}

/** The state of one call: told what each attempt came to, it says what to do, or throws what to throw. */
export class Attempts<T> {
  private made = 0;
  private waited = 0;
  private uncertain = false;
  private partial: { value: T } | null = null;

  constructor(private readonly call: Call<T>, private readonly patience: Patience) {}

  answered(status: number, headers: Headers, content: string): Step<T> {
    if (status >= 200 && status < 300) {
      let value: T;
      try {
        value = this.call.read(content ? JSON.parse(content) : null, headers);
      } catch (cause) {
        return this.lost(new TransportError(`the answer cannot be read: ${String(cause)}`, true, { cause }));
      }
      // A batch is repeated whole, under its key: what was applied is answered as it was.
      const refused = Array.isArray(value)
        ? value.find((item): item is ApiError => item instanceof ApiError && isTransient(item.status))
        : undefined;
      if (refused === undefined) return { done: true, value };
      this.partial = { value };
      return this.again(refused, refused.type === "in-doubt", null);
    }
    const error = refusal(status, headers, content);
    if (this.uncertain && this.call.repeat === "delete" && ["user-not-found", "board-not-found"].includes(error.type)) {
      return { done: true, value: this.call.read(null, headers) };
    }
    if (!isTransient(status)) return this.giveUp(error);
    // Only the API itself can promise that nothing was done; a proxy's 503 (no type) may come after it was.
    const nothingDone = status === 429 || (status === 503 && error.type !== "" && error.type !== "in-doubt");
    return this.again(error, !nothingDone, error.retryAfter);
  }

  lost(error: TransportError): Step<T> {
    return this.again(error, error.sent, null);
  }

  private again(error: LeaderboardError, uncertain: boolean, retryAfter: number | null): Step<T> {
    this.made += 1;
    if (uncertain) {
      this.uncertain = true;
      if (this.call.repeat === "unsafe") return this.giveUp(error);
    }
    const pause = jitter(this.made) + (retryAfter ?? 0) * 1000;
    if (this.made >= this.patience.maxAttempts || this.waited + pause > this.patience.maxWait) return this.giveUp(error);
    this.waited += pause;
    return { done: false, pause };
  }

  private giveUp(error: LeaderboardError): Step<T> {
    if (this.partial !== null) return { done: true, value: this.partial.value };
    error.idempotencyKey = this.call.idempotencyKey ?? null;
    throw error;
  }
}

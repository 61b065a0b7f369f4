import {
  type Around, type Bounds, type Entry, type Erasure, type ErasureCheck, type HeldUpdate, type HeldUpdates, type HistoryRank, type HistoryTop, type Leaderboard,
  type LeaderboardPage, type Members, type Rank, type ResetRule, type Season, type SeasonRank, type SeasonTop,
  type Seasons, type SignedSeason, type Tier, type Top, type Update, type UpdateResult, type Usage, type UserData, type UserRecord, camel, reader,
} from "./answers.js";
import { Batcher } from "./batcher.js";
import { ApiError, LeaderboardError, TransportError, ofProblem } from "./errors.js";
import { Attempts, type Call, isTransient, jitter, refusal } from "./retries.js";
import { EventParser } from "./sse.js";

const MAX_BATCH = 1000;
// Bytes of updates in one request; the API takes 256 KiB unless the installation says otherwise.
const MAX_BODY = 250_000;
// Milliseconds without a byte after which a stream counts as dead: the API sends something every 15 s.
const SILENCE = 45_000;

export interface ClientOptions {
  /** Milliseconds one attempt may take, 5,000 by default. */
  timeout?: number;
  /** Attempts of one call, 5 by default. */
  maxAttempts?: number;
  /** Milliseconds of pauses of one call in all, 30,000 by default. */
  maxWait?: number;
}
export interface Page { limit?: number; offset?: number; cursor?: string }
/** A `reset` of `{}` takes a schedule away, `tiers` of `[]` the tiers, and `bounds` of `{}` or null the bounds. */
export interface Changes { maxEntries?: number; publicRead?: boolean; reset?: ResetRule; bounds?: Bounds | null; tiers?: Tier[] }
export interface Rules extends Changes { scoreUpdate?: string; sortOrder?: string; tiePolicy?: string }
/** Which held updates: those that wait for a decision, unless `state` says otherwise. */
export interface WhichHeld { state?: "held" | "released" | "rejected"; user?: string }
/** One top of a stream; it has no cursor. */
export type WatchedTop = Around;

const readTop = reader<Top>("leaderboard", "total", "entries", "nextCursor");
const readAround = reader<Around>("leaderboard", "total", "entries");
const readMembers = reader<Members>("leaderboard", "total", "entries", "missing");
const readRank = reader<Rank>("leaderboard", "rank", "user", "score", "total", "percentile", "tier");
const readHistoryTop = reader<HistoryTop>("leaderboard", "at", "total", "entries", "nextCursor");
const readHistoryRank = reader<HistoryRank>("leaderboard", "at", "rank", "user", "score", "total", "percentile");
const readBoard = reader<Leaderboard>("key", "scoreUpdate", "sortOrder", "maxEntries", "tiers");
const readBoards = reader<LeaderboardPage>("leaderboards", "nextCursor");
const readSeasons = reader<Seasons>("leaderboard", "season", "seasons", "nextCursor");
const readSignedSeason = reader<SignedSeason>(
  "leaderboard", "season", "endedAt", "entries", "checksum", "signature", "publicKey",
);
const readSeasonTop = reader<SeasonTop>("leaderboard", "season", "total", "entries", "nextCursor");
const readSeasonRank = reader<SeasonRank>("leaderboard", "season", "rank", "user", "score", "total", "percentile");
const readHeldUpdates = reader<HeldUpdates>("leaderboard", "held", "nextCursor");
const readHeldUpdate = reader<HeldUpdate>("id", "user", "season", "submitted", "bound", "state");
const readUsage = reader<Usage>("project", "from", "to", "days");
const readData = reader<UserData>("user", "records", "nextCursor");
const readErasure = reader<Erasure>("id", "state", "touched", "leaderboards");
const readCheck = reader<ErasureCheck>("id", "verified", "found");
const readUpdate = reader<UpdateResult>("leaderboard", "user", "score", "rank");

/** Calls of the API, each tried again where that is safe. They reject with a LeaderboardError. */
export class Client {
  readonly #base: string;
  readonly #apiKey: string | null;
  readonly #timeout: number;
  readonly #patience: { maxAttempts: number; maxWait: number };

  constructor(baseUrl: string, apiKey: string | null = null, options: ClientOptions = {}) {
    this.#base = baseUrl.replace(/\/+$/, "");
    if (apiKey !== null && !/^[!-~]+$/.test(apiKey)) {
      throw new TypeError("the API key is empty, or has characters that no key has; null is for calls without a key");
    }
    this.#apiKey = apiKey;
    this.#timeout = options.timeout ?? 5000;
    this.#patience = { maxAttempts: options.maxAttempts ?? 5, maxWait: options.maxWait ?? 30_000 };
  }

  /**
   * Update one score. A key of your own makes a repetition, even by another process, count once. With `season`, it counts
   * in that one or not at all: in another it is a Conflict.
   */
  async update(
    leaderboard: string, user: string,
    options: { increment?: number; score?: number; season?: number; idempotencyKey?: string },
  ): Promise<UpdateResult> {
    return this.#run({
      method: "POST", path: "/v1/scores/update", repeat: "safe",
      content: body({ leaderboard, user, increment: options.increment, score: options.score, season: options.season }),
      idempotencyKey: options.idempotencyKey ?? crypto.randomUUID(),
      read: (answer, headers) => ({ ...readUpdate(answer), replayed: headers.get("idempotency-replayed") === "true" }),
    });
  }

  /**
   * Update many scores, 1,000 in a request: one result each in their order, an ApiError where refused. Rejects where a
   * whole request failed; requests before it were done. The same updates under a key of your own count once.
   */
  async updateMany(updates: Iterable<Update>, options: { idempotencyKey?: string } = {}): Promise<(UpdateResult | ApiError)[]> {
    const base = options.idempotencyKey ?? crypto.randomUUID();
    const results: (UpdateResult | ApiError)[] = [];
    for (const [part, key] of keyed(updates, base)) {
      try {
        results.push(...(await this.#run(batch(part, key))));
      } catch (error) {
        // Of all of them: under the part's own key the updates before it would be taken for it.
        if (error instanceof LeaderboardError) error.idempotencyKey = base;
        throw error;
      }
    }
    return results;
  }

  /** For the batcher: as `updateMany`, but a request that fails is an error for each of its updates, under its key. */
  async #updateEach(updates: Update[]): Promise<(UpdateResult | LeaderboardError)[]> {
    const results: (UpdateResult | LeaderboardError)[] = [];
    for (const [part, key] of keyed(updates, crypto.randomUUID())) {
      try {
        results.push(...(await this.#run(batch(part, key))));
      } catch (error) {
        if (!(error instanceof LeaderboardError)) throw error;
        results.push(...part.map((_, index) => error.under(`${key}:${index}`)));
      }
    }
    return results;
  }

  /** The best entries: the first page, or the one at `offset` or after `cursor`. */
  async top(leaderboard: string, page: Page = {}): Promise<Top> {
    return this.#get(`${board(leaderboard)}/top${query({ ...page })}`, readTop);
  }

  /** All entries from the best, `pageSize` in a request. */
  async *iterTop(leaderboard: string, options: { pageSize?: number } = {}): AsyncGenerator<Entry, void, undefined> {
    for await (const page of pages((cursor) => this.top(leaderboard, { limit: options.pageSize ?? 100, cursor }))) yield* page.entries;
  }

  /** One user's score and rank. */
  async rank(leaderboard: string, user: string): Promise<Rank> {
    return this.#get(`${board(leaderboard)}/rank/${segment(user)}`, readRank);
  }

  /**
   * The best entries as they were at a moment, a Date or RFC 3339 text. Pages cost alike. One of the last two seconds is
   * waited for, as for any other 503.
   */
  async historyTop(leaderboard: string, page: { at: Date | string; limit?: number; cursor?: string }): Promise<HistoryTop> {
    return this.#get(`${board(leaderboard)}/history/top${query({ ...page, at: moment(page.at) })}`, readHistoryTop);
  }

  /** One user's score and rank as they were at a moment. */
  async historyRank(leaderboard: string, user: string, options: { at: Date | string }): Promise<HistoryRank> {
    return this.#get(`${board(leaderboard)}/history/rank/${segment(user)}${query({ at: moment(options.at) })}`, readHistoryRank);
  }

  /** `limit` entries with the user in the middle. */
  async around(leaderboard: string, user: string, options: { limit?: number } = {}): Promise<Around> {
    return this.#get(`${board(leaderboard)}/around/${segment(user)}${query({ ...options })}`, readAround);
  }

  /** Up to 100 users' entries. */
  async members(leaderboard: string, ids: readonly string[]): Promise<Members> {
    const asked = ids.map((id) => `ids=${encodeURIComponent(id)}`).join("&");
    return this.#get(`${board(leaderboard)}/members?${asked}`, readMembers);
  }

  /** Take a user off. Who is not on the board is NotFound, unless an earlier attempt may have done it. */
  async removeMember(leaderboard: string, user: string): Promise<void> {
    return this.#delete(`${board(leaderboard)}/members/${segment(user)}`);
  }

  async listLeaderboards(page: { limit?: number; cursor?: string } = {}): Promise<LeaderboardPage> {
    return this.#get(`/v1/leaderboards${query({ ...page })}`, readBoards);
  }

  async *iterLeaderboards(options: { pageSize?: number } = {}): AsyncGenerator<Leaderboard, void, undefined> {
    for await (const page of pages((cursor) => this.listLeaderboards({ limit: options.pageSize ?? 100, cursor }))) yield* page.leaderboards;
  }

  /** Make a leaderboard. After a lost answer it is not tried again: the second attempt would be a Conflict. */
  async createLeaderboard(key: string, rules: Rules = {}): Promise<Leaderboard> {
    return this.#change("POST", "/v1/leaderboards", { key, ...asked(rules) });
  }

  async getLeaderboard(leaderboard: string): Promise<Leaderboard> {
    return this.#get(board(leaderboard), readBoard);
  }

  /** Change a leaderboard; what is not given stays. */
  async changeLeaderboard(leaderboard: string, changes: Changes): Promise<Leaderboard> {
    return this.#change("PATCH", board(leaderboard), asked(changes));
  }

  /** Delete a leaderboard with its entries. */
  async deleteLeaderboard(leaderboard: string): Promise<void> {
    return this.#delete(board(leaderboard));
  }

  /**
   * End the season that runs, whose number has to be given; the next starts empty. After a lost answer it is not tried
   * again: the second attempt would be a Conflict.
   */
  async reset(leaderboard: string, season: number): Promise<Leaderboard> {
    return this.#change("POST", `${board(leaderboard)}/reset`, { season });
  }

  /** The seasons that are over, newest first, a page at a time. */
  async seasons(leaderboard: string, page: { limit?: number; cursor?: string } = {}): Promise<Seasons> {
    return this.#get(`${board(leaderboard)}/seasons${query({ ...page })}`, readSeasons);
  }

  async *iterSeasons(leaderboard: string, options: { pageSize?: number } = {}): AsyncGenerator<Season, void, undefined> {
    for await (const page of pages((cursor) => this.seasons(leaderboard, { limit: options.pageSize ?? 100, cursor }))) yield* page.seasons;
  }

  /**
   * How many a season ended with, the checksum over all of them, and the signature. Waits for one that is on its way to the
   * archive.
   */
  async season(leaderboard: string, season: number): Promise<SignedSeason> {
    return this.#get(`${board(leaderboard)}/seasons/${season}`, readSignedSeason);
  }

  /** What a season ended with, a page at a time. Waits for one that is on its way to the archive. */
  async seasonTop(
    leaderboard: string, season: number, page: { limit?: number; cursor?: string } = {},
  ): Promise<SeasonTop> {
    return this.#get(`${board(leaderboard)}/seasons/${season}/top${query({ ...page })}`, readSeasonTop);
  }

  async *iterSeasonTop(
    leaderboard: string, season: number, options: { pageSize?: number } = {},
  ): AsyncGenerator<Entry, void, undefined> {
    for await (const page of pages((cursor) => this.seasonTop(leaderboard, season, { limit: options.pageSize ?? 100, cursor }))) yield* page.entries;
  }

  /** The score and rank that one user ended a season with. */
  async seasonRank(leaderboard: string, season: number, user: string): Promise<SeasonRank> {
    return this.#get(`${board(leaderboard)}/seasons/${season}/rank/${segment(user)}`, readSeasonRank);
  }

  /** The updates that broke the leaderboard's bounds, newest first, a page at a time. */
  async heldUpdates(
    leaderboard: string, page: WhichHeld & { limit?: number; cursor?: string } = {},
  ): Promise<HeldUpdates> {
    return this.#get(`${board(leaderboard)}/held${query({ ...page })}`, readHeldUpdates);
  }

  async *iterHeldUpdates(
    leaderboard: string, options: WhichHeld & { pageSize?: number } = {},
  ): AsyncGenerator<HeldUpdate, void, undefined> {
    const { pageSize = 100, ...which } = options;
    for await (const page of pages((cursor) => this.heldUpdates(leaderboard, { ...which, limit: pageSize, cursor }))) yield* page.held;
  }

  /** An update that was held, whatever became of it. */
  async heldUpdate(leaderboard: string, id: string): Promise<HeldUpdate> {
    return this.#get(`${board(leaderboard)}/held/${segment(id)}`, readHeldUpdate);
  }

  /**
   * Apply a held update as if it came now, its bounds aside; once, however often this is called. Of one that was rejected,
   * or is for a season that is over, it is a Conflict.
   */
  async release(leaderboard: string, id: string, options: { note?: string } = {}): Promise<HeldUpdate> {
    return this.#decide(leaderboard, id, "release", options.note);
  }

  /** Let a held update never count. Of one that was released it is a Conflict. */
  async reject(leaderboard: string, id: string, options: { note?: string } = {}): Promise<HeldUpdate> {
    return this.#decide(leaderboard, id, "reject", options.note);
  }

  /** The project's use by UTC day (YYYY-MM-DD), both days included; by default the last 30. */
  async usage(days: { from?: string; to?: string } = {}): Promise<Usage> {
    return this.#get(`/v1/usage${query({ ...days })}`, readUsage);
  }

  /** A page of all that the project has of a user. */
  async userData(user: string, page: { limit?: number; cursor?: string } = {}): Promise<UserData> {
    return this.#get(`/v1/users/${segment(user)}/data${query({ ...page })}`, readData);
  }

  /** All that the project has of a user, `pageSize` records in a request. */
  async *iterUserData(user: string, options: { pageSize?: number } = {}): AsyncGenerator<UserRecord, void, undefined> {
    for await (const page of pages((cursor) => this.userData(user, { limit: options.pageSize ?? 100, cursor }))) yield* page.records;
  }

  /** Ask for a user to be erased from the whole project; read `erasure` until its state is "done". */
  async eraseUser(user: string): Promise<Erasure> {
    return this.#run({ method: "POST", path: `/v1/users/${segment(user)}/erasure`, repeat: "safe", read: readErasure });
  }

  /** How far an erasure is, or its receipt. */
  async erasure(id: string): Promise<Erasure> {
    return this.#get(`/v1/erasures/${segment(id)}`, readErasure);
  }

  /** Whether a receipt is as it was written, is this user's, and whether there is nothing of the user. */
  async checkErasure(id: string, user: string): Promise<ErasureCheck> {
    return this.#run({
      method: "POST", path: `/v1/erasures/${segment(id)}/check`, repeat: "safe", content: JSON.stringify({ user }),
      read: readCheck,
    });
  }

  /** The best entries of an open leaderboard; the API key is not sent. */
  async publicTop(tenant: string, project: string, leaderboard: string, page: Page = {}): Promise<Top> {
    const path = `/v1/public/${segment(tenant)}/${segment(project)}/leaderboards/${segment(leaderboard)}/top`;
    return this.#get(path + query({ ...page }), readTop, true);
  }

  /** A batcher sends updates together: `maxBatch` at once, or those of `maxDelay` milliseconds. Await each `submit`. */
  batcher(options: { maxBatch?: number; maxDelay?: number } = {}): Batcher {
    return new Batcher((updates) => this.#updateEach(updates), options.maxBatch, options.maxDelay);
  }

  /**
   * Follow the top of a leaderboard: the whole top at once, and then whenever it changed. Connections that were lost or
   * fell silent are made anew, without end once the first was made; `signal` ends the iteration without an error.
   */
  async *watchTop(
    leaderboard: string, options: { limit?: number; signal?: AbortSignal } = {},
  ): AsyncGenerator<WatchedTop, void, undefined> {
    const { limit, signal } = options;
    const url = `${this.#base}${board(leaderboard)}/stream${query({ limit })}`;
    let lastId = "";
    let retry = 0;
    let failures = 0;
    let connected = false;
    while (!signal?.aborted) {
      const stop = new AbortController();
      const abort = (): void => stop.abort();
      signal?.addEventListener("abort", abort);
      let timer = setTimeout(abort, this.#timeout);
      let failure: ApiError | TransportError | null = null;
      try {
        const headers = this.#headers("text/event-stream");
        if (lastId !== "") headers.set("Last-Event-ID", lastId);
        const response = await fetch(url, { headers, signal: stop.signal, cache: "no-store" });
        if (!response.ok || response.body === null) {
          failure = refusal(response.status, response.headers, await response.text());
        } else {
          clearTimeout(timer);
          connected = true;
          const parser = new EventParser(lastId);
          const text = new TextDecoder("utf-8", { ignoreBOM: true });
          const pieces = response.body.getReader();
          for (;;) {
            // A connection that is open at one end only says nothing, and is never closed.
            timer = setTimeout(abort, SILENCE);
            const piece = await pieces.read();
            clearTimeout(timer);
            if (piece.done) break;
            const events = parser.push(text.decode(piece.value, { stream: true }));
            retry = parser.retry ?? retry;
            for (const event of events) {
              if (event.event === "problem") {
                const problem = JSON.parse(event.data) as { status?: number };
                if (isTransient(problem.status ?? 0)) continue; // an outage: the API closes, and it is a lost connection
                throw ofProblem(problem.status ?? 0, problem);
              }
              failures = 0;
              lastId = event.id;
              if (event.event === "top") yield readAround(JSON.parse(event.data));
              if (signal?.aborted) return;
            }
          }
        }
      } catch (error) {
        if (error instanceof ApiError) throw error;
        failure = lost(error);
      } finally {
        clearTimeout(timer);
        signal?.removeEventListener("abort", abort);
        stop.abort();
      }
      if (signal?.aborted) return;
      failures += 1;
      if (failure instanceof ApiError && !isTransient(failure.status)) throw failure;
      if (failure !== null && !connected && failures >= this.#patience.maxAttempts) throw failure;
      const after = failure instanceof ApiError ? (failure.retryAfter ?? 0) * 1000 : 0;
      await sleep(Math.max(retry, after) + jitter(failures), signal);
    }
  }

  #get<T>(path: string, read: (body: unknown) => T, open = false): Promise<T> {
    return this.#run({ method: "GET", path, read, repeat: "safe", open });
  }

  #delete(path: string): Promise<void> {
    return this.#run({ method: "DELETE", path, read: () => undefined, repeat: "delete" });
  }

  #change(method: string, path: string, fields: Record<string, unknown>): Promise<Leaderboard> {
    return this.#run({ method, path, read: readBoard, repeat: "unsafe", content: JSON.stringify(snake(fields)) });
  }

  /** Either decision counts once, however often it is sent. */
  #decide(leaderboard: string, id: string, decision: string, note: string | undefined): Promise<HeldUpdate> {
    return this.#run({
      method: "POST", path: `${board(leaderboard)}/held/${segment(id)}/${decision}`, repeat: "safe",
      content: JSON.stringify({ note }), read: readHeldUpdate,
    });
  }

  #headers(accept: string, open = false): Headers {
    const headers = new Headers({ Accept: accept });
    if (this.#apiKey !== null && !open) headers.set("Authorization", `Bearer ${this.#apiKey}`);
    return headers;
  }

  async #run<T>(call: Call<T>): Promise<T> {
    const state = new Attempts(call, this.#patience);
    const headers = this.#headers("application/json", call.open);
    if (call.content !== undefined) headers.set("Content-Type", "application/json");
    if (call.idempotencyKey !== undefined) headers.set("Idempotency-Key", call.idempotencyKey);
    for (;;) {
      let answer: [number, Headers, string] | TransportError;
      try {
        const response = await fetch(this.#base + call.path, {
          method: call.method, headers, body: call.content, signal: AbortSignal.timeout(this.#timeout), cache: "no-store",
        });
        answer = [response.status, response.headers, await response.text()];
      } catch (error) {
        answer = lost(error);
      }
      const step = answer instanceof TransportError ? state.lost(answer) : state.answered(...answer);
      if (step.done) return step.value;
      await sleep(step.pause);
    }
  }
}

/** All pages; `read` takes the cursor of one, undefined for the first. */
async function* pages<P extends { nextCursor: string | null }>(
  read: (cursor: string | undefined) => Promise<P>,
): AsyncGenerator<P, void, undefined> {
  let cursor: string | undefined;
  do {
    const page: P = await read(cursor);
    yield page;
    cursor = page.nextCursor ?? undefined;
  } while (cursor !== undefined);
}

/** The updates in requests' worth, each with the key of its request. */
function keyed(updates: Iterable<Update>, base: string): [string[], string][] {
  return parts(Array.from(updates, body)).map((part, index) => [part, index === 0 ? base : `${base}.${index}`]);
}

function batch(bodies: string[], key: string): Call<(UpdateResult | ApiError)[]> {
  return {
    method: "POST", path: "/v1/scores/batch", repeat: "safe", content: `{"updates":[${bodies.join(",")}]}`,
    idempotencyKey: key,
    read: (answer) => {
      const results = (answer as { results: { status: number }[] }).results.map((each, index) => {
        if (each.status === 200) return camel(each) as UpdateResult;
        const error = ofProblem(each.status, each);
        error.idempotencyKey = `${key}:${index}`;
        return error;
      });
      if (results.length !== bodies.length) {
        throw new TypeError(`${bodies.length} updates were answered with ${results.length} results`);
      }
      return results;
    },
  };
}

function body(update: Update): string {
  const { leaderboard, user, increment, score, season } = update;
  if ((increment === undefined) === (score === undefined)) {
    throw new TypeError("send exactly one of increment (sum) and score (best, latest)");
  }
  // JSON.stringify would make null of what is no finite number.
  if (!Number.isFinite(increment ?? score)) throw new TypeError(`${increment ?? score} is no number that can be sent`);
  return JSON.stringify({ leaderboard, user, increment, score, season });
}

function parts(bodies: string[]): string[][] {
  const all: string[][] = [];
  let size = 0;
  const bytes = new TextEncoder();
  for (const each of bodies) {
    const length = bytes.encode(each).length;
    const last = all.at(-1);
    if (last === undefined || last.length === MAX_BATCH || size + length > MAX_BODY) {
      all.push([each]);
      size = length + 1;
    } else {
      last.push(each);
      size += length + 1;
    }
  }
  return all;
}

/** Rules as the API takes them: bounds without one are null. */
function asked(rules: Rules): Record<string, unknown> {
  const empty = rules.bounds && Object.values(rules.bounds).every((bound) => bound == null);
  return empty ? { ...rules, bounds: null } : { ...rules };
}

/** The names of a body in snake case, at every depth. */
function snake(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(snake);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, each]) => [name.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`), snake(each)]),
  );
}

function board(leaderboard: string): string {
  return `/v1/leaderboards/${segment(leaderboard)}`;
}

function segment(text: string): string {
  // URLs take them for steps within the path, escaped too (WHATWG URL 4.1), and would ask for something else.
  if (text === "." || text === "..") {
    throw new TypeError(
      `the id "${text}" cannot be sent in a path, where URLs drop it even escaped: `
        + "read such users with members or top, and remove them with another client",
    );
  }
  return encodeURIComponent(text);
}

function moment(at: Date | string): string {
  return typeof at === "string" ? at : at.toISOString();
}

function query(given: Record<string, string | number | undefined>): string {
  const known = Object.entries(given).filter(([, value]) => value !== undefined);
  return known.length > 0 ? `?${known.map(([name, value]) => `${name}=${encodeURIComponent(value!)}`).join("&")}` : "";
}

/** What fetch rejects with. Only Node says that there was no connection; else the request may have been done. */
function lost(error: unknown): TransportError {
  const code = (error as { cause?: { code?: string } } | null)?.cause?.code ?? "";
  const sent = !["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "UND_ERR_CONNECT_TIMEOUT"].includes(code);
  return new TransportError(`${String(error)}${code ? ` (${code})` : ""}`, sent, { cause: error });
}

function sleep(pause: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, pause);
    signal?.addEventListener("abort", end);
    if (signal?.aborted) end();
  });
}

/** Base of all errors. Repeat the same update under `idempotencyKey` and it counts once, whatever became of the first. */
export class LeaderboardError extends Error {
  idempotencyKey: string | null = null;

  /** Another error of the same, for one of the updates that failed together: it is repeated under `key`. */
  under(key: string): LeaderboardError {
    const own = this.copied();
    own.idempotencyKey = key;
    return own;
  }

  protected copied(): LeaderboardError {
    return new LeaderboardError(this.message, { cause: this.cause });
  }

  constructor(message: string, options?: { cause?: unknown }) {
    super(message);
    this.name = new.target.name;
    if (options?.cause !== undefined) Object.defineProperty(this, "cause", { value: options.cause });
  }
}

/** No answer came, or none that could be read. `sent` says whether the request may have been done. */
export class TransportError extends LeaderboardError {
  constructor(message: string, readonly sent: boolean, options?: { cause?: unknown }) {
    super(message, options);
  }

  protected override copied(): TransportError {
    return new TransportError(this.message, this.sent, { cause: this.cause });
  }
}

export interface Problem {
  status: number;
  type: string;
  title: string;
  detail: string;
  traceId: string | null;
  /** In seconds. */
  retryAfter: number | null;
}

/** A problem document (RFC 9457). Decide by `type` ("board-not-found"); it is "" where a proxy answered. */
export class ApiError extends LeaderboardError implements Problem {
  readonly status: number;
  readonly type: string;
  readonly title: string;
  readonly detail: string;
  readonly traceId: string | null;
  readonly retryAfter: number | null;

  constructor(problem: Problem) {
    super(`${problem.status} ${problem.type || "no problem document"}: ${problem.detail || problem.title}`);
    this.status = problem.status;
    this.type = problem.type;
    this.title = problem.title;
    this.detail = problem.detail;
    this.traceId = problem.traceId;
    this.retryAfter = problem.retryAfter;
  }

  protected override copied(): ApiError {
    return new (this.constructor as typeof ApiError)(this);
  }
}

/** 400, 413, 415, 422: the request is wrong; `detail` says where. */
export class InvalidRequest extends ApiError {}
/** 401: there is no key, or it opens nothing. */
export class InvalidApiKey extends ApiError {}
/** 403: the key may not do this. */
export class InsufficientScope extends ApiError {}
/** 404: there is no such leaderboard, or what is asked of it is not there: a user, a season, a held update. */
export class NotFound extends ApiError {}
/**
 * 409: it is otherwise by now (a leaderboard of this key, another season, another decision about a held update), or a custom
 * resource owns the leaderboard.
 */
export class Conflict extends ApiError {}
/** 429: the plan's tokens are used up. Nothing was done. */
export class RateLimited extends ApiError {}
/** 502, 503, 504: the platform cannot serve now. */
export class Unavailable extends ApiError {}
/** 503 in-doubt: it is not known whether the update was done; repeat it under `idempotencyKey`. */
export class InDoubt extends ApiError {}

const BY_TYPE = new Map<string, typeof ApiError>([["in-doubt", InDoubt], ["insufficient-scope", InsufficientScope]]);
const BY_STATUS = new Map<number, typeof ApiError>([
  [400, InvalidRequest], [401, InvalidApiKey], [404, NotFound], [409, Conflict], [413, InvalidRequest],
  [415, InvalidRequest], [422, InvalidRequest], [429, RateLimited], [502, Unavailable], [503, Unavailable],
  [504, Unavailable],
]);

/** The error that a problem document is. Fields it does not have, or has as something else, are empty. */
export function ofProblem(status: number, document: unknown, retryAfter: number | null = null): ApiError {
  const fields = (typeof document === "object" && document !== null ? document : {}) as Record<string, unknown>;
  const text = (name: string): string => (typeof fields[name] === "string" ? (fields[name] as string) : "");
  const type = text("type").replace(/^\/problems\//, "");
  const kind = BY_TYPE.get(type) ?? BY_STATUS.get(status) ?? ApiError;
  return new kind({
    status, type, title: text("title"), detail: text("detail"), traceId: text("trace_id") || null, retryAfter,
  });
}

import type { Update, UpdateResult } from "./answers.js";
import { LeaderboardError } from "./errors.js";

/** Updates that may wait to be sent; past it `submit` waits, so that a slow API slows who feeds it. */
const MAX_WAITING = 10_000;

/** An update that a batcher took. `result` is the update's own, or rejects with its own error. */
export interface Submitted { result: Promise<UpdateResult> }

interface Waiting {
  update: Update;
  take: () => void;
  resolve: (result: UpdateResult) => void;
  reject: (error: unknown) => void;
}

/** What a batcher needs of a client: for each update its own result or its own error. */
export type Sender = (updates: Update[]) => Promise<(UpdateResult | LeaderboardError)[]>;

/** Sends updates together: `maxBatch` at once, or those of `maxDelay` milliseconds. One request is under way at a time. */
export class Batcher {
  private waiting: Waiting[] = [];
  private timer: ReturnType<typeof setTimeout> | undefined;
  private sending: Promise<void> | null = null;
  private closed = false;

  constructor(private readonly send: Sender, private readonly maxBatch = 500, private readonly maxDelay = 20) {}

  /**
   * Hand in an update: resolves when it is taken, at once unless 10,000 wait already, and rejects after `close`. The
   * result is wrapped, since a promise of a promise would wait for both.
   */
  async submit(
    leaderboard: string, user: string, number: { increment?: number; score?: number },
  ): Promise<Submitted> {
    if (this.closed) throw new Error("the batcher is closed");
    if ((number.increment === undefined) === (number.score === undefined)) {
      throw new TypeError("send exactly one of increment (sum) and score (best, latest)");
    }
    const given = number.increment ?? number.score;
    if (!Number.isFinite(given)) throw new TypeError(`${given} is no number that can be sent`);
    let taken = Promise.resolve();
    const result = new Promise<UpdateResult>((resolve, reject) => {
      taken = new Promise((take) => this.waiting.push({ update: { leaderboard, user, ...number }, take, resolve, reject }));
    });
    // Who looks at the result later, or never, is no reason for Node.js to end the process.
    result.catch(() => {});
    if (this.waiting.length <= MAX_WAITING) this.waiting.at(-1)!.take();
    if (this.waiting.length >= this.maxBatch) this.begin();
    else this.timer ??= setTimeout(() => this.begin(), this.maxDelay);
    await taken;
    return { result };
  }

  /** Sends what waits; resolves when all of it is answered. */
  async close(): Promise<void> {
    this.closed = true;
    this.begin();
    await this.sending;
  }

  private begin(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    if (this.waiting.length > 0) this.sending ??= this.work();
  }

  private async work(): Promise<void> {
    while (this.waiting.length > 0) {
      const batch = this.waiting.splice(0, this.maxBatch);
      for (const each of this.waiting.slice(Math.max(0, MAX_WAITING - batch.length), MAX_WAITING)) each.take();
      try {
        const results = await this.send(batch.map((each) => each.update));
        batch.forEach((each, index) => {
          const result = results[index]!;
          if (result instanceof LeaderboardError) each.reject(result);
          else each.resolve(result);
        });
      } catch (error) {
        for (const each of batch) each.reject(error);
      }
    }
    // In the same turn as the last look at what waits: what is handed in from now on begins anew.
    this.sending = null;
  }
}

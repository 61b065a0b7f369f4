import type { Update, UpdateResult } from "./answers.js";
import { ApiError } from "./errors.js";

interface Waiting { update: Update; resolve: (result: UpdateResult) => void; reject: (error: unknown) => void }

/** What a batcher needs of a client. */
export interface Sender { updateMany(updates: Update[]): Promise<(UpdateResult | ApiError)[]> }

/** Sends updates together: `maxBatch` at once, or those of `maxDelay` milliseconds. One request is under way at a time. */
export class Batcher {
  private waiting: Waiting[] = [];
  private timer: ReturnType<typeof setTimeout> | undefined;
  private sending: Promise<void> | null = null;
  private closed = false;

  constructor(private readonly client: Sender, private readonly maxBatch = 500, private readonly maxDelay = 20) {}

  /** The update's own result, or its own error. Rejects after `close`. */
  submit(leaderboard: string, user: string, number: { increment?: number; score?: number }): Promise<UpdateResult> {
    if (this.closed) return Promise.reject(new Error("the batcher is closed"));
    if ((number.increment === undefined) === (number.score === undefined)) {
      return Promise.reject(new TypeError("send exactly one of increment (sum) and score (best, latest)"));
    }
    const given = number.increment ?? number.score;
    if (!Number.isFinite(given)) return Promise.reject(new TypeError(`${given} is no number that can be sent`));
    return new Promise((resolve, reject) => {
      this.waiting.push({ update: { leaderboard, user, ...number }, resolve, reject });
      if (this.waiting.length >= this.maxBatch) this.begin();
      else this.timer ??= setTimeout(() => this.begin(), this.maxDelay);
    });
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
    this.sending ??= this.work().finally(() => {
      this.sending = null;
    });
  }

  private async work(): Promise<void> {
    while (this.waiting.length > 0) {
      const batch = this.waiting.splice(0, this.maxBatch);
      try {
        const results = await this.client.updateMany(batch.map((each) => each.update));
        batch.forEach((each, index) => {
          const result = results[index]!;
          if (result instanceof ApiError) each.reject(result);
          else each.resolve(result);
        });
      } catch (error) {
        for (const each of batch) each.reject(error);
      }
    }
  }
}

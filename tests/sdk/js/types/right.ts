// A program as its users write them; it is compiled, not run.
import {
  ApiError, type Batcher, Client, type Entry, type HeldUpdate, type HistoryRank, InDoubt, NotFound, RateLimited, type Submitted, type Top, TransportError,
  type UpdateResult,
} from "leaderboard-sdk";

export async function play(client: Client, signal: AbortSignal): Promise<string[]> {
  const one: UpdateResult = await client.update("season-1", "u42", { increment: 5, idempotencyKey: "match-7" });
  // Who fell out has no rank: it cannot be used as a number before it was looked at.
  const said: string[] = [one.rank === null ? "out" : one.rank.toFixed()];

  const results = await client.updateMany([{ leaderboard: "season-1", user: "u42", score: 5 }]);
  for (const result of results) said.push(result instanceof ApiError ? result.type : result.user);

  const batcher: Batcher = client.batcher({ maxBatch: 100, maxDelay: 10 });
  const submitted: Submitted = await batcher.submit("season-1", "u42", { increment: 5 });
  await batcher.close();
  said.push((await submitted.result).score.toFixed());

  let page: Top = await client.top("season-1", { limit: 10 });
  if (page.nextCursor !== null) page = await client.top("season-1", { cursor: page.nextCursor });
  const entries: Entry[] = page.entries;
  const past: HistoryRank = await client.historyRank("season-1", "u42", { at: new Date() });
  said.push(past.at, past.percentile.toFixed());
  entries.push(...(await client.historyTop("season-1", { at: "2030-01-31T09:00:00Z", limit: 5 })).entries);
  const made = await client.createLeaderboard("season-2", { tiers: [{ name: "Gold", percent: 10 }, { name: "Fifty", top: 50 }] });
  await client.changeLeaderboard("season-1", { tiers: made.tiers });
  said.push((await client.rank("season-1", "u42")).tier ?? "none");
  for await (const entry of client.iterTop("season-1", { pageSize: 50 })) entries.push(entry);
  for await (const board of client.iterLeaderboards()) said.push(board.key);
  const strict = await client.createLeaderboard("strict", { bounds: { maxScore: 10 } });
  await client.changeLeaderboard("season-1", { bounds: strict.bounds });
  if (one.held !== undefined) said.push((await client.heldUpdate("season-1", one.held.id)).heldAt);
  for await (const held of client.iterHeldUpdates("season-1", { user: "u42", pageSize: 10 })) {
    const decided: HeldUpdate = await client.reject("season-1", held.id, { note: "too much" });
    said.push(decided.note ?? decided.state);
  }
  for await (const top of client.watchTop("season-1", { limit: 3, signal })) said.push(top.entries[0]?.user ?? "nobody");
  return said;
}

export async function rank(url: string, key: string, user: string): Promise<number | string | null> {
  const client = new Client(url, key, { timeout: 1000, maxAttempts: 2, maxWait: 5000 });
  try {
    return (await client.rank("season-1", user)).rank;
  } catch (error) {
    if (error instanceof NotFound) return error.traceId;
    if (error instanceof RateLimited) return error.retryAfter;
    if (error instanceof InDoubt) return error.idempotencyKey;
    if (error instanceof TransportError) return error.sent ? "perhaps" : "no";
    throw error;
  }
}

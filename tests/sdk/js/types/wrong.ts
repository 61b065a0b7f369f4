// Each line that is expected to be refused is: where the types let it pass, the expectation itself is an error.
import { type Batcher, type Client, NotFound, type UpdateResult } from "leaderboard-sdk";

export async function wrong(client: Client, batcher: Batcher, result: UpdateResult): Promise<void> {
  // @ts-expect-error: a user is text
  await client.update("season-1", 42, { increment: 5 });
  // @ts-expect-error: by how much?
  await client.update("season-1", "u42");
  // @ts-expect-error: an increment is a number
  await client.update("season-1", "u42", { increment: "5" });
  // @ts-expect-error: no such option
  await client.update("season-1", "u42", { incremnt: 5 });
  // @ts-expect-error: whose?
  await client.updateMany([{ leaderboard: "season-1", increment: 5 }]);
  // @ts-expect-error: a user is text
  await client.updateMany([{ leaderboard: "season-1", user: 42, increment: 5 }]);
  // @ts-expect-error: some of the results may be errors
  (await client.updateMany([])).map((each) => each.rank);
  // @ts-expect-error: a user is text
  await batcher.submit("season-1", 42, { increment: 5 });
  // @ts-expect-error: taken is not answered
  (await batcher.submit("season-1", "u42", { increment: 5 })).rank;
  // @ts-expect-error: an option has this type
  await client.top("season-1", { limit: "10" });
  // @ts-expect-error: by rank or by share, not both
  await client.changeLeaderboard("season-1", { tiers: [{ name: "Gold", top: 1, percent: 1 }] });
  // @ts-expect-error: the past has no tiers
  (await client.historyRank("season-1", "u42", { at: new Date() })).tier;
  // @ts-expect-error: who fell out has no rank
  result.rank.toFixed();
  // @ts-expect-error: no such field
  for await (const entry of client.iterTop("season-1")) entry.name;
  // @ts-expect-error: a live top has no cursor
  for await (const top of client.watchTop("season-1")) top.nextCursor;
  // @ts-expect-error: what ends it is a signal, not a controller
  client.watchTop("season-1", { signal: new AbortController() });
  // @ts-expect-error: a trace id is text or null
  const id: number = new NotFound({ status: 404, type: "", title: "", detail: "", traceId: null, retryAfter: null }).traceId;
}

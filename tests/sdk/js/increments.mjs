// Increments over some users, from standard input as {url, key, count, users, batched, timeout}.
import { readFileSync } from "node:fs";
import { Client } from "leaderboard-sdk";

const { url, key, count, users, batched, timeout } = JSON.parse(readFileSync(0, "utf8"));
const client = new Client(url, key, { timeout, maxAttempts: 20, maxWait: 120_000 });
if (batched) {
  const batcher = client.batcher({ maxBatch: 100 });
  const results = [];
  for (let number = 0; number < count; number += 1) {
    results.push((await batcher.submit("global", `u${number % users}`, { increment: 1 })).result);
  }
  await batcher.close();
  await Promise.all(results);
} else {
  let next = 0;
  const work = async () => {
    while (next < count) {
      const user = `u${next % users}`;
      next += 1;
      await client.update("global", user, { increment: 1 });
    }
  };
  await Promise.all(Array.from({ length: 16 }, work));
}

// Follow a top through a connection that is cut, from standard input as {url, key}.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { Client } from "leaderboard-sdk";

const { url, key } = JSON.parse(readFileSync(0, "utf8"));
const target = new URL(url);
const heads = [];
const sockets = new Set();
let answered = () => {};
const proxy = createServer((near) => {
  const far = connect(Number(target.port), target.hostname);
  for (const [from, to] of [[near, far], [far, near]]) {
    sockets.add(from);
    from.on("error", () => {}).on("close", () => to.destroy());
    from.pipe(to);
  }
  near.once("data", (head) => heads.push(head.toString().toLowerCase()));
  far.once("data", () => answered());
});
await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));

const direct = new Client(url, key);
const end = new AbortController();
const tops = new Client(`http://127.0.0.1:${proxy.address().port}`, key).watchTop("global", { limit: 3, signal: end.signal });
const users = async () => (await tops.next()).value.entries.map((entry) => `${entry.user} ${entry.score}`);

assert.deepEqual(await users(), []);
await direct.update("global", "ann", { increment: 5 });
assert.deepEqual(await users(), ["ann 5"]);

// Without the id the first event of the new connection would be the same top again.
const again = new Promise((resolve) => (answered = resolve));
const next = users();
for (const socket of sockets) socket.destroy();
await again;
await direct.update("global", "bob", { increment: 7 });
assert.deepEqual(await next, ["bob 7", "ann 5"]);
assert.equal(heads.length, 2);
assert.doesNotMatch(heads[0], /last-event-id/);
assert.match(heads[1], /\r\nlast-event-id: \S+\r\n/);

const last = tops.next();
end.abort();
assert.equal((await last).done, true);
proxy.close();
await assert.rejects(direct.watchTop("nowhere").next(), { type: "board-not-found" });

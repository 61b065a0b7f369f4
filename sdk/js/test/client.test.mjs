import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import test from "node:test";
import { ApiError, Client, EventParser, NotFound, RateLimited, TransportError } from "leaderboard-sdk";

const UPDATED = { leaderboard: "b", user: "u", score: 5, rank: 1, previous_score: null, previous_rank: null };
const CUT = Symbol("cut");

/** Run `use` with a server that gives the answers one after the other: [status, body, headers] or CUT. */
async function serving(answers, use) {
  const seen = [];
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const piece of request) body += piece;
    seen.push({ method: request.method, url: request.url, key: request.headers["idempotency-key"], body,
      auth: request.headers.authorization });
    const answer = answers[seen.length - 1];
    if (answer === CUT) return request.socket.destroy();
    const [status, document, headers = {}] = answer;
    response.writeHead(status, { "Content-Type": "application/json", ...headers });
    return response.end(document === null ? "" : JSON.stringify(document));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    await use(new Client(`http://127.0.0.1:${server.address().port}/`, "secret"), seen);
    assert.equal(seen.length, answers.length);
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}

const problem = (status, type, headers) => [status, { type: `/problems/${type}`, title: type, trace_id: "t" }, headers];

test("an update is repeated under one key with one body", async () => {
  const answers = [CUT, problem(503, "in-doubt"), [502, "<html>"], [200, UPDATED, { "Idempotency-Replayed": "true" }]];
  await serving(answers, async (client, seen) => {
    const result = await client.update("b", "u", { increment: 5 });
    assert.deepEqual(result, {
      leaderboard: "b", user: "u", score: 5, rank: 1, previousScore: null, previousRank: null, replayed: true,
    });
    assert.ok(seen[0].key);
    assert.equal(new Set(seen.map((each) => each.key)).size, 1);
    assert.equal(new Set(seen.map((each) => each.body)).size, 1);
  });
});

test("two updates have two keys", async () => {
  await serving([[200, UPDATED], [200, UPDATED]], async (client, seen) => {
    await client.update("b", "u", { increment: 5 });
    await client.update("b", "u", { increment: 5 });
    assert.notEqual(seen[0].key, seen[1].key);
  });
});

test("an answer that cannot be read is one that was lost", async () => {
  await serving([[200, { nothing: 1 }], [200, UPDATED]], async (client) => {
    assert.equal((await client.update("b", "u", { increment: 5 })).score, 5);
  });
});

test("another 4xx is not tried again, and says what it was", async () => {
  await serving([problem(404, "board-not-found")], async (client) => {
    await assert.rejects(client.update("b", "u", { increment: 5, idempotencyKey: "k" }), (error) => {
      assert.ok(error instanceof NotFound && error instanceof ApiError);
      assert.deepEqual([error.type, error.traceId, error.idempotencyKey], ["board-not-found", "t", "k"]);
      return true;
    });
  });
});

test("a Retry-After longer than the patience rejects at once", async () => {
  await serving([problem(429, "rate-limited", { "Retry-After": "31" })], async (client) => {
    await assert.rejects(client.top("b"), RateLimited);
  });
});

test("a delete answered 404 after a lost answer is done", async () => {
  await serving([CUT, problem(404, "user-not-found")], (client) => client.removeMember("b", "u"));
  await serving([problem(404, "user-not-found")], (client) => assert.rejects(client.removeMember("b", "u"), NotFound));
});

test("making a board whose answer was lost is not tried again", async () => {
  await serving([CUT], (client) => assert.rejects(client.createLeaderboard("b"), (error) => error instanceof TransportError && error.sent));
});

test("nobody who listens is nothing sent", async () => {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  const client = new Client(`http://127.0.0.1:${port}`, null, { maxAttempts: 2 });
  await assert.rejects(client.createLeaderboard("b"), (error) => error instanceof TransportError && !error.sent);
});

const item = (score) => ({ ...UPDATED, status: 200, score, replayed: false });

test("a batch with an item that may pass later is repeated whole under its key", async () => {
  const inDoubt = { status: 503, type: "/problems/in-doubt", title: "" };
  const updates = [{ leaderboard: "b", user: "u", increment: 1 }, { leaderboard: "b", user: "v", increment: 1 }];
  await serving([[200, { results: [item(1), inDoubt] }], [200, { results: [item(1), item(2)] }]], async (client, seen) => {
    assert.deepEqual((await client.updateMany(updates)).map((each) => each.score), [1, 2]);
    assert.deepEqual([seen[0].key, seen[0].body], [seen[1].key, seen[1].body]);
  });
});

test("a batch that fails after a partial answer gives what is known of each item", async () => {
  const inDoubt = { status: 503, type: "/problems/in-doubt", title: "" };
  const updates = [{ leaderboard: "b", user: "u", increment: 1 }, { leaderboard: "b", user: "v", increment: 1 }];
  await serving([[200, { results: [item(1), inDoubt] }], problem(500, "internal-error")], async (client) => {
    const [done, doubtful] = await client.updateMany(updates, { idempotencyKey: "k" });
    assert.equal(done.score, 1);
    assert.deepEqual([doubtful.type, doubtful.idempotencyKey], ["in-doubt", "k:1"]);
  });
});

test("updates are split at a thousand under keys that repeat", async () => {
  const answers = [1000, 1000, 1].map((count) => [200, { results: Array(count).fill(item(1)) }]);
  await serving(answers, async (client, seen) => {
    await client.updateMany(Array(2001).fill({ leaderboard: "b", user: "u", increment: 1 }), { idempotencyKey: "k" });
    assert.deepEqual(seen.map((each) => each.key), ["k", "k.1", "k.2"]);
    assert.deepEqual(seen.map((each) => JSON.parse(each.body).updates.length), [1000, 1000, 1]);
  });
});

test("ids that a path would lose are refused before anything is sent, with what to do instead", async () => {
  await serving([], async (client) => {
    for (const id of [".", ".."]) {
      const refused = { name: "TypeError", message: `the id "${id}" cannot be sent in a path, where URLs drop it even escaped: `
        + "read such users with members or top, and remove them with another client" };
      for (const call of ["rank", "around", "removeMember"]) await assert.rejects(client[call]("b", id), refused, call);
      for (const call of ["top", "getLeaderboard", "deleteLeaderboard"]) await assert.rejects(client[call](id), refused, call);
      await assert.rejects(client.watchTop(id).next(), refused);
    }
  });
});

test("the public top is read without the key", async () => {
  const top = { leaderboard: "b", total: 0, entries: [], next_cursor: null };
  await serving([[200, top]], async (client, seen) => {
    await client.publicTop("acme", "default", "b", { limit: 3 });
    assert.equal(seen[0].auth, undefined);
    assert.equal(seen[0].url, "/v1/public/acme/default/leaderboards/b/top?limit=3");
  });
});

/** Resolves when a client's stream has read this piece of text. */
function read(t, wanted) {
  const push = EventParser.prototype.push;
  return new Promise((resolve) => {
    t.mock.method(EventParser.prototype, "push", function (piece) {
      if (piece === wanted) resolve();
      return push.call(this, piece);
    });
  });
}

test("a stream that fell silent is made anew, and a comment is no silence", { timeout: 30_000 }, async (t) => {
  const asked = [];
  const streams = [];
  const top = (total) => `id: ${total}\nevent: top\ndata: {"leaderboard":"b","total":${total},"entries":[]}\n\n`;
  const server = createServer((request, response) => {
    asked.push(request.headers["last-event-id"]);
    streams.push(response);
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.write(`retry: 1\n${top(asked.length)}`);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  // Only the client's clock: the server and its connections are real, and the server never closes one.
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const end = new AbortController();
  try {
    const tops = new Client(`http://127.0.0.1:${server.address().port}`).watchTop("b", { signal: end.signal });
    assert.equal((await tops.next()).value.total, 1);
    t.mock.timers.tick(3_600_000); // whoever is busy with a top does not listen, and hears no silence
    let next = tops.next();
    t.mock.timers.tick(44_999);
    const heartbeat = read(t, ":\n\n");
    streams[0].write(":\n\n");
    await heartbeat;
    t.mock.timers.tick(44_999);
    const gone = once(streams[0], "close");
    streams[0].write(top(7));
    assert.equal((await Promise.race([next, gone])).value?.total, 7);
    next = tops.next();
    t.mock.timers.tick(45_000);
    await gone;
    t.mock.timers.tick(5000); // the pause before it connects again
    assert.equal((await next).value.total, 2);
    assert.deepEqual(asked, [undefined, "7"]);
  } finally {
    end.abort();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

test("what cannot be a key is said at once", () => {
  for (const key of ["", "two words", "line\nend", "\u00e9"]) assert.throws(() => new Client("http://127.0.0.1:1", key), TypeError);
});

test("an outage that ends a stream is outlived, and an event that was cut off is asked for again", async () => {
  const event = (id) => `id: ${id}\nevent: top\ndata: {"leaderboard":"b","total":${id},"entries":[]}\n\n`;
  const outage = 'event: problem\ndata: {"type":"/problems/store-unavailable","status":503}\n\n';
  const answers = [event(1) + outage, outage, event(2) + event(3).slice(0, -20), event(3)];
  const asked = [];
  const server = createServer((request, response) => {
    asked.push(request.headers["last-event-id"]);
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.end(`retry: 1\n${answers.shift()}`);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    const tops = new Client(`http://127.0.0.1:${server.address().port}`, null, { maxAttempts: 1 }).watchTop("b");
    for (const total of [1, 2, 3]) assert.equal((await tops.next()).value.total, total);
    await tops.return();
    assert.deepEqual(asked, [undefined, "1", "1", "2"]);
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

test("updates that failed together are each repeated under a key of its own", async () => {
  await serving([problem(500, "internal-error")], async (client, seen) => {
    const batcher = client.batcher();
    const taken = [await batcher.submit("b", "u", { increment: 1 }), await batcher.submit("b", "v", { increment: 1 })];
    await batcher.close();
    const errors = (await Promise.allSettled(taken.map((each) => each.result))).map((each) => each.reason);
    assert.ok(errors.every((error) => error instanceof ApiError && error.type === "internal-error" && error.stack));
    assert.deepEqual(errors.map((error) => error.idempotencyKey), [`${seen[0].key}:0`, `${seen[0].key}:1`]);
  });
});

test("updates of several requests are repeated under the key of them all", async () => {
  const answers = [[200, { results: Array(1000).fill(item(1)) }], problem(500, "internal-error")];
  await serving(answers, (client) => assert.rejects(
    client.updateMany(Array(1001).fill({ leaderboard: "b", user: "u", increment: 1 }), { idempotencyKey: "k" }),
    { type: "internal-error", idempotencyKey: "k" },
  ));
});

test("a Retry-After that is a date counts from the answer's own date", async () => {
  const headers = { Date: "Mon, 30 Nov 2026 00:00:00 GMT", "Retry-After": "Mon, 30 Nov 2026 00:00:31 GMT" };
  await serving([problem(503, "store-unavailable", headers)], (client) =>
    assert.rejects(client.top("b"), { type: "store-unavailable", retryAfter: 31 }));
});

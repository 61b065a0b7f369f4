import assert from "node:assert/strict";
import { createRequire } from "node:module";
import test from "node:test";
import * as imported from "leaderboard-sdk";
import { Attempts } from "../dist/esm/retries.js";

const { Batcher, Conflict, EventParser, InDoubt, InvalidRequest, NotFound, RateLimited, TransportError } = imported;
const LOST = new TransportError("cut", true);
const NOT_SENT = new TransportError("refused", false);

function attempts(repeat, { maxAttempts = 5, maxWait = 30_000 } = {}) {
  const call = { method: "POST", path: "/", repeat, idempotencyKey: "k", read: (body) => body };
  return new Attempts(call, { maxAttempts, maxWait });
}

function problem(state, status, type, headers = {}) {
  return state.answered(status, new Headers(headers), JSON.stringify({ type: `/problems/${type}` }));
}

test("the package is required as it is imported", () => {
  const required = createRequire(import.meta.url)("leaderboard-sdk");
  assert.deepEqual(Object.keys(required).sort(), Object.keys(imported).sort());
  assert.equal(typeof new required.Client("http://localhost").update, "function");
});

test("pauses are at most twice the one before, up to five seconds", () => {
  const state = attempts("safe", { maxAttempts: 9, maxWait: 100_000 });
  for (const ceiling of [100, 200, 400, 800, 1600, 3200, 5000, 5000]) {
    const { pause } = state.lost(LOST);
    assert.ok(pause >= 0 && pause <= ceiling, `${pause}`);
  }
});

test("the last attempt's error is thrown with its key", () => {
  const state = attempts("safe", { maxAttempts: 2 });
  state.lost(LOST);
  assert.throws(() => problem(state, 503, "in-doubt"), (error) => error instanceof InDoubt && error.idempotencyKey === "k");
});

test("Retry-After is the least pause", () => {
  assert.ok(problem(attempts("safe"), 429, "rate-limited", { "Retry-After": "3" }).pause >= 3000);
});

test("a Retry-After past the patience throws at once", () => {
  assert.throws(
    () => problem(attempts("safe"), 429, "rate-limited", { "Retry-After": "31" }),
    (error) => error instanceof RateLimited && error.retryAfter === 31,
  );
});

test("a delete answered 404 is done only after an uncertain attempt", () => {
  const state = attempts("delete");
  state.lost(LOST);
  assert.equal(problem(state, 404, "user-not-found").done, true);
  const other = attempts("delete");
  other.lost(NOT_SENT);
  assert.throws(() => problem(other, 404, "user-not-found"), NotFound);
});

test("making a board is tried again only where nothing was done", () => {
  assert.equal(attempts("unsafe").lost(NOT_SENT).done, false);
  assert.equal(problem(attempts("unsafe"), 503, "overloaded").done, false);
  assert.throws(() => attempts("unsafe").lost(LOST), TransportError);
  assert.throws(() => attempts("unsafe").answered(503, new Headers(), "<html>"), imported.Unavailable);
  assert.throws(() => problem(attempts("unsafe"), 409, "board-exists"), Conflict);
});

const STREAM = '\uFEFFretry: 2000\r\n\r\n: a comment\r\nid: 1\r\nevent: top\r\ndata: {"a":\r\ndata: "ü🏆"}\r\n\r\nid: 2\n'
  + "data:x\n\ndata: y\r\revent: none\n\ndata: never ended";
const EVENTS = [
  { event: "top", data: '{"a":\n"ü🏆"}', id: "1" },
  { event: "message", data: "x", id: "2" },
  { event: "message", data: "y", id: "2" },
];

test("a stream cut anywhere gives the same events", () => {
  for (let cut = 0; cut <= STREAM.length; cut += 1) {
    const parser = new EventParser();
    const events = [...parser.push(STREAM.slice(0, cut)), ...parser.push(STREAM.slice(cut))];
    assert.deepEqual(events, EVENTS, `cut at ${cut}`);
    assert.equal(parser.retry, 2000);
  }
  const parser = new EventParser();
  assert.deepEqual(STREAM.split("").flatMap((piece) => parser.push(piece)), EVENTS);
});

/** Answers each update with its score as the rank, and refuses "bad"; remembers what was sent together. */
const batched = (sender, ...how) => new Batcher((updates) => sender.updateMany(updates), ...how);

class Sent {
  batches = [];
  async updateMany(updates) {
    this.batches.push(updates.map((each) => each.user));
    return updates.map((each) => each.user === "bad"
      ? new InvalidRequest({ status: 422, type: "invalid-request", title: "", detail: "", traceId: null, retryAfter: null })
      : { ...each, rank: each.score });
  }
}

test("a batcher sends maxBatch at once and the rest on close", async () => {
  const sent = new Sent();
  const batcher = batched(sent, 2, 3_600_000);
  const submitted = await Promise.all(["a", "b", "c"].map((user, score) => batcher.submit("b", user, { score })));
  await batcher.close();
  assert.deepEqual(sent.batches, [["a", "b"], ["c"]]);
  assert.deepEqual((await Promise.all(submitted.map((each) => each.result))).map((each) => each.rank), [0, 1, 2]);
});

test("a batcher sends fewer after its delay", async () => {
  const batcher = batched(new Sent(), 500, 1);
  const { result } = await batcher.submit("b", "a", { score: 4 });
  assert.equal((await result).rank, 4);
  await batcher.close();
});

test("an update handed in as soon as the last one is answered is sent too", async () => {
  const sent = new Sent();
  const sender = { updateMany: async (updates) => (await new Promise(setImmediate), sent.updateMany(updates)) };
  const batcher = batched(sender, 1, 3_600_000);
  for (const score of [1, 2]) {
    const { result } = await batcher.submit("b", "a", { score });
    assert.equal((await result).rank, score);
  }
});

/** What became of the results of all these. */
async function settled(batcher, users) {
  const submitted = await Promise.all(users.map((user) => batcher.submit("b", user, { score: 1 })));
  return Promise.allSettled(submitted.map((each) => each.result));
}

test("a refused update rejects alone", async () => {
  const results = await settled(batched(new Sent(), 3, 3_600_000), ["a", "bad", "c"]);
  assert.deepEqual(results.map((each) => each.status), ["fulfilled", "rejected", "fulfilled"]);
  assert.ok(results[1].reason instanceof InvalidRequest);
});

test("a refusal can be looked at after it came", async () => {
  const batcher = batched(new Sent());
  const { result } = await batcher.submit("b", "bad", { score: 1 });
  await batcher.close();
  await new Promise(setImmediate); // here Node.js would end the process for a rejection that nobody handles
  await assert.rejects(result, InvalidRequest);
});

test("a batch that fails rejects all of it, and the next one is sent", async () => {
  const failure = new Error("no");
  const sent = new Sent();
  const sender = { updateMany: () => Promise.reject(failure) };
  const batcher = batched(sender, 2, 3_600_000);
  assert.deepEqual((await settled(batcher, ["a", "b"])).map((each) => each.reason), [failure, failure]);
  sender.updateMany = (updates) => sent.updateMany(updates);
  assert.deepEqual((await settled(batcher, ["c", "d"])).map((each) => each.value.user), ["c", "d"]);
  await batcher.close();
});

test("a batcher whose updates are not sent takes 10,000 and lets the next ones wait for room, in their order", async () => {
  const sent = new Sent();
  let answer;
  const answered = new Promise((resolve) => (answer = resolve));
  const sender = { updateMany: (updates) => answered.then(() => sent.updateMany(updates)) };
  const batcher = batched(sender, 4, 3_600_000);
  const taken = [];
  const submit = async (user) => {
    const submitted = await batcher.submit("b", user, { score: 1 });
    taken.push(user);
    return submitted.result;
  };
  // Four are on their way, 10,000 wait.
  const users = Array.from({ length: 10_007 }, (_, number) => `u${number}`);
  const results = users.map(submit);
  await new Promise(setImmediate);
  assert.deepEqual(taken, users.slice(0, 10_004));
  const closing = batcher.close();
  answer();
  await closing;
  assert.deepEqual((await Promise.all(results)).map((each) => each.user), users);
  assert.deepEqual(taken, users);
  assert.deepEqual(sent.batches.flat(), users);
});

test("room is there again as soon as a batch is on its way", async () => {
  const batches = [];
  const sender = { updateMany: (updates) => new Promise((resolve) => batches.push(() => resolve(updates))) };
  const batcher = batched(sender, 2, 3_600_000);
  for (let number = 0; number < 10_002; number += 1) await batcher.submit("b", `u${number}`, { score: 1 });
  const taken = [];
  const late = ["a", "b", "c"].map((user) => batcher.submit("b", user, { score: 1 }).then(() => taken.push(user)));
  await new Promise(setImmediate);
  assert.deepEqual(taken, []);
  batches[0](); // the next two are sent, though not answered
  await Promise.all(late.slice(0, 2));
  await new Promise(setImmediate);
  assert.deepEqual(taken, ["a", "b"]);
});

test("a batcher takes no update that is none, and none after close", async () => {
  const sent = new Sent();
  const batcher = batched(sent);
  await assert.rejects(batcher.submit("b", "a", {}), TypeError);
  await assert.rejects(batcher.submit("b", "a", { score: 1, increment: 1 }), TypeError);
  await assert.rejects(batcher.submit("b", "a", { score: Number.NaN }), TypeError);
  await batcher.close();
  await batcher.close();
  await assert.rejects(batcher.submit("b", "a", { score: 1 }), /closed/);
  assert.deepEqual(sent.batches, []);
});

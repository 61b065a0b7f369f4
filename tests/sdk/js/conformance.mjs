// One case of sdk/conformance/cases.json, from standard input as {url, key, case}.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { ApiError, Client } from "leaderboard-sdk";

const given = JSON.parse(readFileSync(0, "utf8"));
const camel = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
// What the methods take by position, in its order; all else is an option, and of these calls that too.
const PLACES = ["tenant", "project", "leaderboard", "key", "season", "updates", "id", "user", "ids"];
const OPTIONS = { update: ["season"], held_updates: ["user"], iter_held_updates: ["user"] };
const deep = (value) => value !== null && typeof value === "object" && !Array.isArray(value)
  ? Object.fromEntries(Object.entries(value).map(([name, each]) => [camel(name), deep(each)]))
  : value;

async function call(key, name, args) {
  const placed = PLACES.filter((place) => place in args && !OPTIONS[name]?.includes(place));
  const rest = Object.entries(args).filter(([each]) => !placed.includes(each));
  const got = new Client(given.url, key)[camel(name)](...placed.map((place) => args[place]), deep(Object.fromEntries(rest)));
  return name.startsWith("iter_") ? collect(got) : got;
}

async function collect(entries) {
  const all = [];
  for await (const entry of entries) all.push(entry);
  return all;
}

function assertHas(got, wanted) {
  if (Array.isArray(wanted)) {
    assert.equal(got.length, wanted.length);
    wanted.forEach((each, index) => assertHas(got[index], each));
  } else if (wanted !== null && typeof wanted === "object") {
    for (const [name, each] of Object.entries(wanted)) assertHas(got[camel(name)], each);
  } else {
    assert.equal(got ?? null, wanted);
  }
}

// The step with each {name} that an earlier one kept replaced.
const names = {};
const filled = (value) => typeof value === "string" ? value.replace(/\{(\w+)\}/g, (text, name) => names[name] ?? text)
  : Array.isArray(value) ? value.map(filled)
  : value !== null && typeof value === "object" ? Object.fromEntries(Object.entries(value).map(([name, each]) => [name, filled(each)]))
  : value;

for (const board of given.case.boards) await call(given.key, "create_leaderboard", board);
for (const unfilled of given.case.steps) {
  const step = filled(unfilled);
  const answer = call(given.case.api_key ?? given.key, step.call, step.args);
  if ("error" in step) {
    await assert.rejects(answer, (error) => {
      assert.ok(error instanceof ApiError, String(error));
      assertHas(error, step.error);
      return true;
    });
  } else {
    const got = await answer;
    assertHas(got, step.expect);
    for (const [name, path] of Object.entries(step.keep ?? {})) {
      names[name] = path.split(".").reduce((value, each) => value[camel(each)], got);
    }
  }
}

"""What is measured. Each section returns rows; repetitions are interleaved (A B A B ...), so that a slow minute of the
machine falls on all cases alike."""

from collections.abc import Callable, Mapping

import msgspec

import openloop
import shapes
from load import Load, Sample, median
from stack import SLUG, Server, Stack

SATURATED = 0.7
"""The share at which p99 is measured of what is served when more than that is asked for at a constant rate."""
QUIET_STOLEN = 1.0
"""Percent of the two cores. While the host gives more of them to others, a p99 is the host's: a core that is away for
10 ms once a second is a p99 of 10 ms, whoever answers."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured. `seconds` of one run of a case, `repeats` runs each; a p99 is the host's as much as ours,
    so there are `latency_repeats` of it."""

    seconds: int = 5
    repeats: int = 3
    latency_repeats: int = 7
    members: int = 100_000
    growth: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    boards: tuple[int, ...] = (1, 100, 10_000)
    growth_seconds: int = 2
    backlog_seconds: int = 6


class Row(msgspec.Struct, kw_only=True):
    """One line of a table: its samples, and numbers that are not a sample's."""

    case: str
    samples: list[Sample] = []
    numbers: dict[str, float] = {}
    note: str = ""


class Bench:
    """One run over one stack. `say` gets a line per step."""

    def __init__(self, stack: Stack, load: Load, plan: Plan, *, say: Callable[[str], None]) -> None:
        self.stack = stack
        self.load = load
        self.plan = plan
        self.say = say
        self.ours = stack.api("api")
        stack.fill("global", members=plan.members)
        stack.fill("lean", members=plan.members, ordered=False)
        self.saturate(self.ours, shapes.write(stack.key), seconds=1)  # warm

    def saturate(
        self, server: Server, shape: shapes.Shape, *, seconds: int = 0, boards: int = 1, members: int = 0
    ) -> Sample:
        """Run wrk once and drop what it left in Redis."""
        sample = self.load.saturate(
            server, shape, seconds=seconds or self.plan.seconds, boards=boards, members=members or None
        )
        self.stack.tidy()
        return sample

    def constant(self, server: Server, shape: shapes.Shape, *, rate: float) -> Sample:
        """Run the constant-rate generator once and drop what it left in Redis."""
        sample = self.load.constant(server, shape, rate=rate, requests=int(rate * self.plan.seconds))
        self.stack.tidy()
        return sample

    def flood(self, server: Server, shape: shapes.Shape) -> Sample:
        """Ask at a constant rate for more than is served: what wrk gets with every connection always busy. The
        sample's rate is what was served; its latencies are the length of the run."""
        return self.constant(server, shape, rate=self.saturate(server, shape, seconds=1).rate)

    def interleave(self, cases: Mapping[str, Callable[[], Sample | None]], *, repeats: int = 0) -> list[Row]:
        """Run each case in turn, as often as the plan or `repeats` says."""
        rows = [Row(case=name, samples=[]) for name in cases]
        for _ in range(repeats or self.plan.repeats):
            self._round(rows, cases)
        return rows

    def interleave_quietly(self, cases: Mapping[str, Callable[[], Sample | None]]) -> list[Row]:
        """Run each case in turn until there are `latency_repeats` quiet runs of each, or four times as many in all.

        The rows keep that many runs, those in which the host took least, and say how many were left out: chosen by
        what the host did, never by what came out.
        """
        rows = [Row(case=name, samples=[]) for name in cases]
        wanted = self.plan.latency_repeats
        for _ in range(4 * wanted):
            self._round(rows, cases)
            if all(row.note or sum(s.stolen <= QUIET_STOLEN for s in row.samples) >= wanted for row in rows):
                break
        for row in rows:
            if row.samples:
                row.numbers["left out"] = max(0, len(row.samples) - wanted)
            row.samples = sorted(row.samples, key=lambda sample: sample.stolen)[:wanted]
        return rows

    def _round(self, rows: list[Row], cases: Mapping[str, Callable[[], Sample | None]]) -> None:
        for row, run in zip(rows, cases.values(), strict=True):
            sample = run()
            if sample is None:
                row.note = "not on PATH"
            else:
                row.samples.append(sample)
                self.say(f"    {row.case}: {sample.rate:,.0f}/s, {sample.stolen:.1f}% stolen")


def paths(bench: Bench) -> dict[str, list[Row]]:
    """The API's paths beside the baseline, redis-benchmark and nginx."""
    stack, key = bench.stack, bench.stack.key
    baseline = stack.api("baseline", program="baseline.py")
    bench.saturate(baseline, shapes.write(key), seconds=1)
    nginx = stack.nginx(
        small=_answer_size(bench.ours, shapes.write(key)), large=_answer_size(bench.ours, shapes.top(key))
    )
    write = shapes.write(key)
    small = msgspec.structs.replace(write, path="/small")
    large = msgspec.structs.replace(shapes.top(key), path="/large")

    def api(shape: shapes.Shape, server: Server = bench.ours) -> Callable[[], Sample]:
        return lambda: bench.saturate(server, shape)

    def static(shape: shapes.Shape) -> Callable[[], Sample | None]:
        return lambda: None if nginx is None else bench.saturate(nginx, shape)

    def redis_benchmark(pipeline: int) -> Callable[[], Sample | None]:
        def run() -> Sample | None:
            sample = bench.load.redis_benchmark(pipeline=pipeline, seconds=bench.plan.seconds)
            stack.tidy()
            return sample

        return run

    paths = bench.interleave(
        {
            "single write": api(write),
            "baseline: single write on redis-py": api(write, baseline),
            "single write, Idempotency-Key": api(shapes.write(key, idempotent=True)),
            "batch of 500, per update": api(shapes.batch(key)),
            "top 100": api(shapes.top(key)),
            "rank": api(shapes.rank(key)),
            "public top 100": api(shapes.public_top(SLUG)),
            "redis-benchmark, the same script": redis_benchmark(1),
            "redis-benchmark, pipeline of 16": redis_benchmark(16),
            "nginx, static answer of a write's size": static(small),
            "nginx, static answer of a top 100's size": static(large),
        }
    )
    stack.stop_server(baseline)
    if nginx is not None:
        stack.stop_server(nginx)
    return {"paths": paths}


def latency(bench: Bench) -> dict[str, list[Row]]:
    """A single write at a constant rate below saturation, beside the baseline and nginx."""
    stack, write = bench.stack, shapes.write(bench.stack.key)
    baseline = stack.api("baseline", program="baseline.py")
    bench.saturate(baseline, write, seconds=1)
    size = _answer_size(bench.ours, write)
    nginx = stack.nginx(small=size, large=size)
    small = msgspec.structs.replace(write, path="/small")
    # Saturated by the same generator in the same mode: it shares a core with Redis and costs that core more than wrk
    # does, and requests that come one by one are more work than a connection that always has the next one ready.
    full = bench.interleave(
        {
            "single write, more asked for than is served": lambda: bench.flood(bench.ours, write),
            "baseline, more asked for than is served": lambda: bench.flood(baseline, write),
        }
    )
    ours, theirs = (SATURATED * (median(row.samples, "rate") or 0) for row in full)
    steady = bench.interleave_quietly(
        {
            "single write": lambda: bench.constant(bench.ours, write, rate=ours),
            "baseline, at 70% of its own": lambda: bench.constant(baseline, write, rate=theirs),
            "nginx at the same rate: the generator itself": (
                lambda: None if nginx is None else bench.constant(nginx, small, rate=ours)
            ),
        }
    )
    stack.stop_server(baseline)
    if nginx is not None:
        stack.stop_server(nginx)
    return {"latency": full + steady}


def peer(bench: Bench, *, server: Server, board: str) -> dict[str, list[Row]]:
    """The same three requests to ours and to a peer, by its own routes; the peer's board is filled first."""
    theirs = shapes.podium(board)
    bench.load.constant(server, theirs["single write"], rate=None, requests=bench.plan.members, ordered=True)
    ours = {
        "single write": shapes.write(bench.stack.key),
        "top 100": shapes.top(bench.stack.key),
        "rank": shapes.rank(bench.stack.key),
    }
    cases: dict[str, Callable[[], Sample | None]] = {}
    for name, shape in ours.items():
        cases[f"ours: {name}"] = lambda shape=shape: bench.saturate(bench.ours, shape)  # type: ignore[misc]
        cases[f"peer: {name}"] = lambda shape=theirs[name]: bench.saturate(server, shape)  # type: ignore[misc]
    return {"peer": bench.interleave(cases)}


def _answer_size(server: Server, shape: shapes.Shape) -> int:
    """Return the size of the body of one answer, in bytes."""
    request = next(shapes.fill(shape.template(server.host), members=iter([0]), boards=1, seed=1))
    return len(openloop.ask((server.host, server.port), request))

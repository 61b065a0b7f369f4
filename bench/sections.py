"""What is measured. Each section returns rows; repetitions are interleaved (A B A B ...), so that a slow minute of the
machine falls on all cases alike."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

import leaderboard
import openloop
import shapes
from leaderboard.store.redis import keys
from load import Load, Sample, median
from stack import SLUG, Server, Stack, cpu_seconds

SATURATED = 0.7
"""The share of the saturated rate at which p99 is measured."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured. `seconds` of one run of a case, `repeats` runs each."""

    seconds: int = 5
    repeats: int = 3
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
        self._stack = stack
        self._load = load
        self._plan = plan
        self._say = say
        self.ours = stack.api("api")
        stack.fill("global", members=plan.members)
        stack.fill("lean", members=plan.members, ordered=False)
        self.saturate(self.ours, shapes.write(stack.key), seconds=1)  # warm

    def saturate(
        self, server: Server, shape: shapes.Shape, *, seconds: int = 0, boards: int = 1, members: int = 0
    ) -> Sample:
        """Run wrk once and drop what it left in Redis."""
        sample = self._load.saturate(
            server, shape, seconds=seconds or self._plan.seconds, boards=boards, members=members or None
        )
        self._stack.tidy()
        return sample

    def constant(self, server: Server, shape: shapes.Shape, *, rate: float) -> Sample:
        """Run the constant-rate generator once and drop what it left in Redis."""
        sample = self._load.constant(server, shape, rate=rate, requests=int(rate * self._plan.seconds))
        self._stack.tidy()
        return sample

    def _interleave(self, cases: Mapping[str, Callable[[], Sample | None]], *, repeats: int = 0) -> list[Row]:
        rows = [Row(case=name, samples=[]) for name in cases]
        for _ in range(repeats or self._plan.repeats):
            for row, run in zip(rows, cases.values(), strict=True):
                sample = run()
                if sample is None:
                    row.note = "not on PATH"
                else:
                    row.samples.append(sample)
                    self._say(f"    {row.case}: {sample.rate:,.0f}/s")
        return rows

    def paths(self) -> dict[str, list[Row]]:
        """The API's paths beside the baseline, redis-benchmark and nginx; then latency at a constant rate."""
        stack, key = self._stack, self._stack.key
        baseline = stack.api("baseline", baseline=True)
        self.saturate(baseline, shapes.write(key), seconds=1)
        nginx = stack.nginx(
            small=_answer_size(self.ours, shapes.write(key)), large=_answer_size(self.ours, shapes.top(key))
        )
        write = shapes.write(key)
        small = msgspec.structs.replace(write, path="/small")
        large = msgspec.structs.replace(shapes.top(key), path="/large")

        def api(shape: shapes.Shape, server: Server = self.ours) -> Callable[[], Sample]:
            return lambda: self.saturate(server, shape)

        def static(shape: shapes.Shape) -> Callable[[], Sample | None]:
            return lambda: None if nginx is None else self.saturate(nginx, shape)

        def redis_benchmark(pipeline: int) -> Callable[[], Sample | None]:
            def run() -> Sample | None:
                sample = self._load.redis_benchmark(pipeline=pipeline, seconds=self._plan.seconds)
                stack.tidy()
                return sample

            return run

        paths = self._interleave(
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
        at = {row.case: SATURATED * (median(row.samples, "rate") or 0) for row in paths}
        ours, theirs = at["single write"], at["baseline: single write on redis-py"]
        latency = self._interleave(
            {
                "single write": lambda: self.constant(self.ours, write, rate=ours),
                "baseline, at 70% of its own": lambda: self.constant(baseline, write, rate=theirs),
                "nginx at the same rate: the generator itself": (
                    lambda: None if nginx is None else self.constant(nginx, small, rate=ours)
                ),
            }
        )
        stack.stop_server(baseline)
        if nginx is not None:
            stack.stop_server(nginx)
        return {"paths": paths, "latency": latency}

    def members(self) -> dict[str, list[Row]]:
        """Throughput and memory per member as a board grows, for both ways members are stored."""
        rows, stack = [], self._stack
        for count in self._plan.growth:
            runs: dict[str, Callable[[], Sample | None]] = {}
            memory = {}
            for kind, board, ordered in (("FirstToReach", "global", True), ("UserId", "lean", False)):
                stack.fill(board, members=count, ordered=ordered)
                case = f"{kind}, {count:,}"
                names = [stack.board(board), *([keys.order(stack.board(board))] if ordered else [])]
                memory[case] = sum(stack.client.memory_usage(name, samples=0) or 0 for name in names) / count
                shape = shapes.write(stack.key, board=board)
                runs[case] = lambda shape=shape, count=count: self.saturate(  # type: ignore[misc]
                    self.ours, shape, seconds=self._plan.growth_seconds, members=count
                )
            done = self._interleave(runs)
            for row in done:
                row.numbers = {"bytes": memory[row.case]}
            rows += done
        stack.fill("global", members=self._plan.members)
        stack.fill("lean", members=self._plan.members, ordered=False)
        return {"members": rows}

    def boards(self) -> dict[str, list[Row]]:
        """Throughput with the same members spread over more and more boards."""
        rows, stack, total = [], self._stack, self._plan.members
        for count in self._plan.boards:
            each = max(1, total // count)
            for number in range(count):
                stack.fill(f"b{number:05d}", members=each)
            shape = shapes.write(stack.key, board=f"b{shapes.BOARD}")
            rows += self._interleave(
                {
                    f"{count:,} of {each:,} members": lambda shape=shape, count=count, each=each: self.saturate(  # type: ignore[misc]
                        self.ours, shape, seconds=self._plan.growth_seconds, boards=count, members=each
                    )
                }
            )
            for number in range(count):
                stack.drop(f"b{number:05d}")
        return {"boards": rows}

    def records(self) -> dict[str, list[Row]]:
        """Redis memory of one event that waits in the outbox, and of one idempotency record."""
        client, rows = self._stack.client, []
        count = 10_000
        for case, idempotent in (("event in the outbox", False), ("Idempotency-Key record", True)):
            before = client.info("memory")["used_memory"]
            self._load.constant(
                self.ours, shapes.write(self._stack.key, idempotent=idempotent), rate=None, requests=count
            )
            after = client.info("memory")["used_memory"]
            if idempotent:
                after -= client.memory_usage(keys.OUTBOX, samples=0) or 0
                size = (after - before) / count
            else:
                size = (client.memory_usage(keys.OUTBOX, samples=0) or 0) / count
            rows.append(Row(case=case, numbers={"bytes": size}))
            self._stack.tidy()
        return {"records": rows}

    def worker(self) -> dict[str, list[Row]]:
        """How fast the worker empties an outbox that filled without it, and writes with the worker at work."""
        stack, shape = self._stack, shapes.batch(self._stack.key)
        rates, costs = [], []
        for _ in range(self._plan.repeats):
            self._load.saturate(self.ours, shape, seconds=self._plan.backlog_seconds)
            worker = stack.worker()
            backlog = left = stack.client.xlen(keys.OUTBOX)
            began: tuple[float, int, float] | None = None
            while left:
                time.sleep(0.02)
                left, now = stack.client.xlen(keys.OUTBOX), time.monotonic()
                if began is None and left < backlog:
                    began = now, left, cpu_seconds(worker.pid)
            assert began is not None
            moved = began[1]
            rates.append(moved / (time.monotonic() - began[0]))
            costs.append((cpu_seconds(worker.pid) - began[2]) / moved * 1e6)
            self._say(f"    worker: {rates[-1]:,.0f} events/s of {backlog:,}")
            stack.stop_server(worker)
        drain = Row(
            case="events moved to Postgres",
            samples=[Sample(rate=rate, server_us=cost) for rate, cost in zip(rates, costs, strict=True)],
        )
        worker = stack.worker()
        beside = self._interleave(
            {
                "single write, the worker on the API's core": lambda: self._load.saturate(
                    self.ours, shapes.write(stack.key), seconds=self._plan.seconds
                )
            }
        )
        beside[0].numbers = {"backlog": stack.client.xlen(keys.OUTBOX)}
        stack.stop_server(worker)
        stack.client.unlink(keys.OUTBOX)
        return {"worker": [drain, *beside]}

    def telemetry(self) -> dict[str, list[Row]]:
        """A single write with OpenTelemetry on against off."""
        package = Path(leaderboard.__file__).parent
        if not any("config.telemetry" in file.read_text() for file in package.rglob("*.py")):
            return {"telemetry": [Row(case="single write", note="LEADERBOARD_TELEMETRY has no effect in this version")]}
        stack, shape = self._stack, shapes.write(self._stack.key)
        traced = stack.api("traced", env={"LEADERBOARD_TELEMETRY": "1"})
        self.saturate(traced, shape, seconds=1)
        rows = self._interleave(
            {
                "telemetry off": lambda: self.saturate(self.ours, shape),
                "telemetry on": lambda: self.saturate(traced, shape),
            }
        )
        stack.stop_server(traced)
        return {"telemetry": rows}

    def durability(self) -> dict[str, list[Row]]:
        """What Redis's durability settings cost a single write: saturated, and p99 at 70% of that."""
        shape = shapes.write(self._stack.key)
        names = {"no": "no append-only file", "everysec": "appendfsync everysec", "always": "appendfsync always"}
        rows = {mode: (Row(case=name, samples=[]), Row(case=name, samples=[])) for mode, name in names.items()}
        for _ in range(self._plan.repeats):
            for mode, (saturated, steady) in rows.items():
                self._persist(mode)
                sample = self.saturate(self.ours, shape, seconds=self._plan.growth_seconds)
                saturated.samples.append(sample)
                steady.samples.append(self.constant(self.ours, shape, rate=SATURATED * sample.rate))
                self._say(f"    {saturated.case}: {sample.rate:,.0f}/s, p99 {steady.samples[-1].p99_ms:.2f} ms")
        self._persist("everysec")
        return {
            "durability": [pair[0] for pair in rows.values()],
            "durability_latency": [pair[1] for pair in rows.values()],
        }

    def _persist(self, mode: str) -> None:
        client = self._stack.client
        client.config_set("appendonly", "no" if mode == "no" else "yes")
        client.config_set("appendfsync", "everysec" if mode == "no" else mode)
        while (info := client.info("persistence"))["aof_rewrite_in_progress"] or info.get("aof_rewrite_scheduled"):
            time.sleep(0.05)


SECTIONS = ("paths", "members", "boards", "records", "worker", "telemetry", "durability")


def peer(bench: Bench, stack: Stack, load_: Load, plan: Plan, *, server: Server, board: str) -> dict[str, list[Row]]:
    """The same three requests to ours and to a peer, by its own routes; the peer's board is filled first."""
    theirs = shapes.podium(board)
    load_.constant(server, theirs["single write"], rate=None, requests=plan.members, ordered=True)
    ours = {"single write": shapes.write(stack.key), "top 100": shapes.top(stack.key), "rank": shapes.rank(stack.key)}
    cases: dict[str, Callable[[], Sample | None]] = {}
    for name, shape in ours.items():
        cases[f"ours: {name}"] = lambda shape=shape: bench.saturate(bench.ours, shape)  # type: ignore[misc]
        cases[f"peer: {name}"] = lambda shape=theirs[name]: bench.saturate(server, shape)  # type: ignore[misc]
    return {"peer": bench._interleave(cases)}


def _answer_size(server: Server, shape: shapes.Shape) -> int:
    """Return the size of the body of one answer, in bytes."""
    request = next(shapes.fill(shape.template(server.host), members=iter([0]), boards=1, seed=1))
    return len(openloop.ask((server.host, server.port), request))

"""What changes with size and settings: members, boards, the ledger worker, telemetry, durability."""

import time
from collections.abc import Callable

import shapes
from leaderboard.store.redis import keys
from load import BenchError, Sample
from sections import SATURATED, Bench, Row
from sink import Sink
from stack import cpu_seconds

TRACED = 0.05
"""The share of requests that is traced where telemetry is on."""


def members(bench: Bench) -> dict[str, list[Row]]:
    """Throughput and memory per member as a board grows, for both ways members are stored."""
    rows, stack = [], bench.stack
    for count in bench.plan.growth:
        runs: dict[str, Callable[[], Sample | None]] = {}
        memory = {}
        for kind, board, ordered in (("FirstToReach", "global", True), ("UserId", "lean", False)):
            stack.fill(board, members=count, ordered=ordered)
            case = f"{kind}, {count:,}"
            names = [stack.board(board), *([keys.order(stack.board(board))] if ordered else [])]
            memory[case] = sum(stack.client.memory_usage(name, samples=0) or 0 for name in names) / count
            shape = shapes.write(stack.key, board=board)
            runs[case] = lambda shape=shape, count=count: bench.saturate(  # type: ignore[misc]
                bench.ours, shape, seconds=bench.plan.growth_seconds, members=count
            )
        done = bench.interleave(runs)
        for row in done:
            row.numbers = {"bytes": memory[row.case]}
        rows += done
    stack.fill("global", members=bench.plan.members)
    stack.fill("lean", members=bench.plan.members, ordered=False)
    return {"members": rows}


def boards(bench: Bench) -> dict[str, list[Row]]:
    """Throughput with the same members spread over more and more boards."""
    rows, stack, total = [], bench.stack, bench.plan.members
    for count in bench.plan.boards:
        each = max(1, total // count)
        for number in range(count):
            stack.fill(f"b{number:05d}", members=each)
        shape = shapes.write(stack.key, board=f"b{shapes.BOARD}")
        rows += bench.interleave(
            {
                f"{count:,} of {each:,} members": lambda shape=shape, count=count, each=each: bench.saturate(  # type: ignore[misc]
                    bench.ours, shape, seconds=bench.plan.growth_seconds, boards=count, members=each
                )
            }
        )
        for number in range(count):
            stack.drop(f"b{number:05d}")
    return {"boards": rows}


def records(bench: Bench) -> dict[str, list[Row]]:
    """Redis memory of one event that waits in the outbox, and of one idempotency record."""
    client, rows = bench.stack.client, []
    count = 10_000
    for case, idempotent in (("event in the outbox", False), ("Idempotency-Key record", True)):
        before = client.info("memory")["used_memory"]
        bench.load.constant(bench.ours, shapes.write(bench.stack.key, idempotent=idempotent), rate=None, requests=count)
        after = client.info("memory")["used_memory"]
        if idempotent:
            after -= client.memory_usage(keys.OUTBOX, samples=0) or 0
            size = (after - before) / count
        else:
            size = (client.memory_usage(keys.OUTBOX, samples=0) or 0) / count
        rows.append(Row(case=case, numbers={"bytes": size}))
        bench.stack.tidy()
    return {"records": rows}


def worker(bench: Bench) -> dict[str, list[Row]]:
    """How fast the worker empties an outbox that filled without it, and writes with the worker at work."""
    stack, shape = bench.stack, shapes.batch(bench.stack.key)
    rates, costs = [], []
    for _ in range(bench.plan.repeats):
        bench.load.saturate(bench.ours, shape, seconds=bench.plan.backlog_seconds)
        worker = stack.worker()
        backlog = left = stack.client.xlen(keys.OUTBOX)
        began: tuple[float, int, float] | None = None
        while left:
            time.sleep(0.02)
            if not worker.alive:
                raise BenchError(worker.how_it_ended())
            left, now = stack.client.xlen(keys.OUTBOX), time.monotonic()
            if began is None and left < backlog:
                began = now, left, cpu_seconds(worker.pid)
        assert began is not None
        moved = began[1]
        rates.append(moved / (time.monotonic() - began[0]))
        costs.append((cpu_seconds(worker.pid) - began[2]) / moved * 1e6)
        bench.say(f"    worker: {rates[-1]:,.0f} events/s of {backlog:,}")
        stack.stop_server(worker)
    drain = Row(
        case="events moved to Postgres",
        samples=[Sample(rate=rate, server_us=cost) for rate, cost in zip(rates, costs, strict=True)],
    )
    worker = stack.worker()
    beside = bench.interleave(
        {
            "single write, the worker on the API's core": lambda: bench.load.saturate(
                bench.ours, shapes.write(stack.key), seconds=bench.plan.seconds
            )
        }
    )
    beside[0].numbers = {"backlog": stack.client.xlen(keys.OUTBOX)}
    stack.stop_server(worker)
    stack.client.unlink(keys.OUTBOX)
    return {"worker": [drain, *beside]}


def telemetry(bench: Bench) -> dict[str, list[Row]]:
    """A single write with OpenTelemetry on (5% of requests traced, a collector that takes everything) against off."""
    stack, shape = bench.stack, shapes.write(bench.stack.key)
    with Sink() as sink:
        env = {
            "LEADERBOARD_TELEMETRY": "1",
            "OTEL_TRACES_SAMPLER_ARG": str(TRACED),
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",  # 15 times as often as by default: runs are short
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
        }
        traced = stack.api("traced", env=env)
        bench.saturate(traced, shape, seconds=1)

        def alone() -> Sample:
            with sink.down():
                return bench.constant(traced, shape, rate=rate)

        spans = sink.spans
        saturated = bench.interleave(
            {
                "telemetry off": lambda: bench.saturate(bench.ours, shape),
                "telemetry on": lambda: bench.saturate(traced, shape),
            }
        )
        rate = SATURATED * bench.flood(bench.ours, shape).rate
        steady = bench.interleave(
            {
                "telemetry off": lambda: bench.constant(bench.ours, shape, rate=rate),
                "telemetry on": lambda: bench.constant(traced, shape, rate=rate),
                "telemetry on, the collector killed": alone,
            },
            repeats=bench.plan.latency_repeats,
        )
        stack.stop_server(traced)
        if not spans < sink.spans or not sink.metrics:
            raise BenchError(f"the collector got {sink.spans} spans and {sink.metrics} metric points")
        bench.say(f"    the collector got {sink.spans - spans:,} spans")
    return {"telemetry": saturated, "telemetry_latency": steady}


def durability(bench: Bench) -> dict[str, list[Row]]:
    """What Redis's durability settings cost a single write: saturated, and p99 at 70% of that."""
    shape = shapes.write(bench.stack.key)
    names = {"no": "no append-only file", "everysec": "appendfsync everysec", "always": "appendfsync always"}
    rows = {mode: (Row(case=name, samples=[]), Row(case=name, samples=[])) for mode, name in names.items()}
    for _ in range(bench.plan.repeats):
        for mode, (saturated, steady) in rows.items():
            _persist(bench, mode)
            sample = bench.saturate(bench.ours, shape, seconds=bench.plan.growth_seconds)
            saturated.samples.append(sample)
            served = bench.flood(bench.ours, shape).rate
            steady.samples.append(bench.constant(bench.ours, shape, rate=SATURATED * served))
            bench.say(f"    {saturated.case}: {sample.rate:,.0f}/s, p99 {steady.samples[-1].p99_ms:.2f} ms")
    _persist(bench, "everysec")
    return {
        "durability": [pair[0] for pair in rows.values()],
        "durability_latency": [pair[1] for pair in rows.values()],
    }


def _persist(bench: Bench, mode: str) -> None:
    client = bench.stack.client
    client.config_set("appendonly", "no" if mode == "no" else "yes")
    client.config_set("appendfsync", "everysec" if mode == "no" else mode)
    while (info := client.info("persistence"))["aof_rewrite_in_progress"] or info.get("aof_rewrite_scheduled"):
        time.sleep(0.05)

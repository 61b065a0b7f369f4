"""Results as Markdown, and into docs/performance.md between its markers: nothing there is typed by hand."""

import os
import platform
import re
import statistics
import subprocess
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg

import openloop
from load import Sample, median
from sections import SATURATED, Plan, Row
from shapes import BATCH, CONNECTIONS
from stack import Stack

Results = dict[str, list[Row]]

PATHS = (
    ("requests/s", "rate"),
    ("p50 ms", "p50_ms"),
    ("p99 ms", "p99_ms"),
    ("CPU µs", "server_us"),
    ("Redis µs", "redis_us"),
)
STEADY = (("requests/s", "rate"), ("p50 ms", "p50_ms"), ("p99 ms", "p99_ms"), ("CPU µs", "server_us"))
GROWTH = (("writes/s", "rate"), ("p99 ms", "p99_ms"), ("CPU µs", "server_us"), ("Redis µs", "redis_us"))
WORKER = (("per second", "rate"), ("CPU µs", "server_us"))
IMPORT = (("members/s", "rate"), ("importer µs", "server_us"), ("Redis µs", "redis_us"))


def conditions(stack: Stack, plan: Plan, *, others: float) -> dict[str, str]:
    """What the numbers depend on, read from the machine."""
    cores = stack.cores
    pinned = (
        "nothing"
        if cores.api is None
        else f"API (or nginx, redis-benchmark, worker) on core {cores.api}; Redis, Postgres, load on core {cores.load}"
    )
    with psycopg.connect(stack.postgres.url) as connection:
        postgres = connection.info.parameter_status("server_version")
    names = ("falcon", "gunicorn", "uvicorn", "uvloop", "httptools", "hiredis", "redis", "msgspec")
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "CPU": f"{_cpu_model()}, {os.cpu_count()} cores",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "Redis": f"{stack.client.info('server')['redis_version']}, appendfsync everysec unless said otherwise",
        "Postgres": str(postgres),
        "libraries": ", ".join(f"{name} {version(name)}" for name in names),
        "load": f"{_wrk_version()}, {CONNECTIONS} keep-alive connections (batches: 8; at a constant rate: "
        f"{openloop.CONNECTIONS})",
        "pinned": pinned,
        "board": f"{plan.members:,} members, FirstToReach, Sum, unless said otherwise",
        "repetitions": f"{plan.repeats} interleaved of {plan.seconds} s ({plan.growth_seconds} s where a board grows; "
        f"latency: the {plan.latency_repeats} runs with the least stolen)",
        "other processes": f"took {others:.1%} of the two cores in the median run",
    }


def _cpu_model() -> str:
    found = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def _wrk_version() -> str:
    shown = subprocess.run(["wrk", "-v"], capture_output=True, text=True)
    found = re.match(r"wrk (\S+)", shown.stdout + shown.stderr)
    return f"wrk {found[1]}" if found else "wrk"


def number(value: float | None) -> str:
    """Return a number with about three digits that matter."""
    if value is None:
        return ""
    whole = value >= 100 or value == int(value)
    return f"{value:,.0f}" if whole else (f"{value:.1f}" if value >= 10 else f"{value:.2f}")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; all columns but the first are right-aligned."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _rows(rows: Sequence[Row], columns: Sequence[tuple[str, str]], *extra: str) -> str:
    """Return medians with, beside the first column, the least and the most of the repetitions."""
    lines = []
    for row in rows:
        if not row.samples and not row.numbers:
            lines.append([row.case, row.note, *[""] * (len(columns) + len(extra))])
            continue
        rates = [sample.rate for sample in row.samples]
        cells = [number(median(row.samples, field)) for _, field in columns]
        spread = f"{number(min(rates))} to {number(max(rates))}" if rates else ""
        lines.append([row.case, cells[0], spread, *cells[1:], *(number(row.numbers.get(name)) for name in extra)])
    heads = [name for name, _ in columns]
    return table(["", heads[0], "least to most", *heads[1:], *extra], lines)


def ratios(results: Results) -> list[tuple[str, float, str]]:
    """Return (what, measured, target) of what issue and design ask for; only what was measured."""
    rows = {row.case: row.samples for row in results.get("paths", [])}
    found: list[tuple[str, float, str]] = []

    def add(what: str, value: float | None, target: str = "") -> None:
        if value is not None:
            found.append((what, value, target))

    def of(name: str, field: str) -> float | None:
        return median(rows.get(name, []), field)

    def against(name: str, other: str, field: str) -> float | None:
        # Round by round: what slows one round down slows both of its runs, and falls out of their ratio.
        rounds = zip(rows.get(name, []), rows.get(other, []), strict=False)  # a program that is not there has none
        pairs = [(getattr(a, field), getattr(b, field)) for a, b in rounds]
        return statistics.median(a / b for a, b in pairs) if pairs and all(map(all, pairs)) else None

    write, baseline = "single write", "baseline: single write on redis-py"
    batch, pipeline = f"batch of {BATCH}, per update", "redis-benchmark, pipeline of 16"
    add("CPU of a single write / of the redis-py baseline", against(write, baseline, "server_us"), "<= 0.40")
    add("requests/s of a single write / of the baseline", against(write, baseline, "rate"))
    add(
        f"updates/s in batches of {BATCH} / redis-benchmark with a pipeline of 16",
        against(batch, pipeline, "rate"),
        ">= 0.60",
    )
    add("CPU of a single write, µs", of(write, "server_us"), "aim: 60")
    add("the same with an Idempotency-Key, µs", of("single write, Idempotency-Key", "server_us"))
    return found


def _ratio_table(results: Results) -> str:
    return table(
        ["", "measured", "wanted"], [[what, f"{value:.2f}", target] for what, value, target in ratios(results)]
    )


def _latency_ratio(results: Results) -> str:
    p99 = {row.case: median(row.samples, "p99_ms") or 0.0 for row in results["latency"]}
    ours = p99["single write"]
    rows = [(f"p99 of a single write at {SATURATED:.0%} of saturation, ms", ours, "< 10")]
    rows += [(f"the same / {case}", ours / p99[case], "") for case in list(p99)[-2:] if p99[case]]
    return table(["", "measured", "wanted"], [[what, f"{value:.2f}", wanted] for what, value, wanted in rows])


def _telemetry_ratio(results: Results) -> str:
    off, on = results["telemetry"]
    steady_off, steady_on, killed = results["telemetry_latency"]

    def ratio(field: str, above: Row, below: Row) -> float:
        return (median(above.samples, field) or 0.0) / (median(below.samples, field) or 1.0)

    rows = [
        ("throughput on / off", ratio("rate", on, off), ">= 0.85"),
        ("CPU of a write on / off", ratio("server_us", on, off), ""),
        ("p99 on / off, at 70% of saturation", ratio("p99_ms", steady_on, steady_off), ""),
        ("p99 with the collector killed / with it", ratio("p99_ms", killed, steady_on), "<= 1.20"),
    ]
    return table(["", "measured", "wanted"], [[what, f"{value:.2f}", wanted] for what, value, wanted in rows])


def _stream_ratio(results: Results) -> str:
    ours, bare = (row.numbers["bytes"] for row in results["stream_memory"])
    without, beside = (median(row.samples, "rate") or 0.0 for row in results["streams"])
    rows = [
        ("memory of a stream / of a bare handler's on the same server", ours / bare, "<= 1.5"),
        ("throughput of writes with the streams open / without", beside / without, ">= 0.90"),
    ]
    return table(["", "measured", "wanted"], [[what, f"{value:.2f}", wanted] for what, value, wanted in rows])


def _season_ratio(results: Results) -> str:
    without, beside = (median(row.samples, "p99_ms") or 0.0 for row in results["seasons"])
    peak = results["season_archive"][1].numbers["value"]
    rows = [
        ("p99 of writes while a season is archived / without", beside / without, "<= 1.5"),
        ("most memory of the worker, MiB", peak, "<= 200"),
    ]
    return table(["", "measured", "wanted"], [[what, f"{value:.2f}", wanted] for what, value, wanted in rows])


def _records(rows: Sequence[Row]) -> str:
    return table(["", "bytes"], [[row.case, number(row.numbers["bytes"])] for row in rows])


_TABLES: dict[str, Callable[[list[Row]], str]] = {
    "paths": lambda rows: _rows(rows, PATHS),
    "latency": lambda rows: _rows(
        rows, (*STEADY, ("generator late, p99 ms", "late_p99_ms"), ("stolen, %", "stolen")), "left out"
    ),
    "members": lambda rows: _rows(rows, GROWTH, "bytes"),
    "boards": lambda rows: _rows(rows, GROWTH),
    "records": _records,
    "worker": lambda rows: _rows(rows, WORKER, "backlog"),
    "telemetry": lambda rows: _rows(rows, PATHS),
    "telemetry_latency": lambda rows: _rows(rows, STEADY),
    "durability": lambda rows: _rows(rows, GROWTH),
    "durability_latency": lambda rows: _rows(rows, STEADY),
    "streams": lambda rows: _rows(rows, PATHS),
    "stream_memory": _records,
    "seasons": lambda rows: _rows(rows, STEADY),
    "season_archive": lambda rows: table(["", ""], [[row.case, number(row.numbers["value"])] for row in rows]),
    "import": lambda rows: _rows(rows, IMPORT, "a core of Redis", "worker µs", "importer MiB"),
    "peer": lambda rows: _rows(rows, PATHS),
}


def tables(results: Results, about: dict[str, str]) -> dict[str, str]:
    """Return every table there are results for, by the name of its marker."""
    made = {name: render(results[name]) for name, render in _TABLES.items() if name in results}
    if "telemetry" in results:
        made["telemetry_ratio"] = _telemetry_ratio(results)
    if "streams" in results:
        made["stream_ratio"] = _stream_ratio(results)
    if "seasons" in results:
        made["season_ratio"] = _season_ratio(results)
    if "latency" in results:
        made["latency_ratio"] = _latency_ratio(results)
    if "paths" in results:
        made = {"ratios": _ratio_table(results), **made}
    return {"conditions": table(["", "these numbers"], [list(pair) for pair in about.items()]), **made}


def write(path: Path, made: dict[str, str]) -> list[str]:
    """Put the tables between their markers in `path`; return those that have none."""
    text, missing = path.read_text(), []
    for name, body in made.items():
        pattern = re.compile(rf"(<!-- bench:{name} -->\n).*?(<!-- /bench:{name} -->)", re.DOTALL)
        if not pattern.search(text):
            missing.append(name)
            continue
        text = pattern.sub(lambda match, body=body: f"{match[1]}{body}\n{match[2]}", text)  # type: ignore[misc]
    path.write_text(text)
    return missing


def all_samples(results: Results) -> list[Sample]:
    """Return the samples of all sections."""
    return [sample for rows in results.values() for row in rows for sample in row.samples]


def plain(results: Results) -> dict[str, Any]:
    """Return the results as what JSON has."""
    import msgspec

    return {name: msgspec.to_builtins(rows) for name, rows in results.items()}

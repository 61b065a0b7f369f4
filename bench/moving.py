"""Moving in: what `leaderboard import` of a large CSV costs Redis, the importer and the worker."""

import os
import subprocess
import sys
import time
from pathlib import Path

from leaderboard.local.process import wait_until
from leaderboard.store.redis import keys
from load import BenchError, Sample, metered
from sections import Bench, Row
from stack import SLUG, cpu_seconds


def imports(bench: Bench) -> dict[str, list[Row]]:
    """Import a CSV of as many members as the largest board of the plan, with the worker at work, on new boards.

    Redis has its core for itself: the question is what a member costs it, and not how well it shares. The run ends when
    all is in the ledger, and counts only where `leaderboard import` found no difference and `leaderboard verify` none
    either.
    """
    stack, count = bench.stack, max(bench.plan.growth)
    source = stack.folder / "members.csv"
    with source.open("w") as file:
        file.write("user,score\n")
        file.writelines(f"u{number:012},{number * 7919 % 1_000_003}\n" for number in range(count))
    stack.tidy()
    rows = [Row(case=f"{ties}, {count:,} members", samples=[]) for ties in ("FirstToReach", "UserId")]
    with stack.redis_alone():
        worker = stack.worker()
        for number in range(bench.plan.repeats):
            for row in rows:
                ties = row.case.partition(",")[0]
                key = f"moved-{ties.lower()}-{number}"
                stack.make_board(key, ties=ties)
                _import(bench, row, key, source=source, count=count, worker_pid=worker.pid)
                stack.drop(key)
                stack.client.unlink(keys.importing(stack.board(key)))
        stack.stop_server(worker)
    return {"import": rows}


def _import(bench: Bench, row: Row, key: str, *, source: Path, count: int, worker_pid: int) -> None:
    stack, board = bench.stack, f"{SLUG}/default/{key}"
    began, worker = time.monotonic(), cpu_seconds(worker_pid)
    with metered(stack, None) as usage:
        with stack.cores.on(stack.cores.api):
            process = subprocess.Popen(
                [sys.executable, "-m", "leaderboard.cli", "import", "--board", board, "csv", str(source)],
                env=stack.environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - began
        if process.returncode != 0 or f"{count:,} members added" not in said:
            raise BenchError(f"the import failed: {said}")
        if not wait_until(lambda: stack.client.xlen(keys.OUTBOX) == 0, seconds=300, pause=0.05):
            raise BenchError("the worker did not empty the outbox")
    verify = [sys.executable, "-m", "leaderboard.cli", "verify", "--board", board]
    verified = subprocess.run(verify, env=stack.environment(), capture_output=True, text=True)
    if verified.returncode != 0:
        raise BenchError(f"the ledger is not the board: {verified.stdout}{verified.stderr}")
    assert usage.redis is not None
    row.samples.append(
        Sample(
            rate=count / seconds,
            server_us=(used.ru_utime + used.ru_stime) / count * 1e6,
            redis_us=usage.redis / count * 1e6,
            others=usage.others,
            stolen=usage.stolen,
        )
    )
    # The slowest of the repetitions, the largest of the importers.
    least = row.numbers.get("a core of Redis", float("inf"))
    row.numbers["a core of Redis"] = min(least, count / usage.redis)
    row.numbers["importer MiB"] = max(row.numbers.get("importer MiB", 0.0), used.ru_maxrss / 1024)
    row.numbers["worker µs"] = (cpu_seconds(worker_pid) - worker) / count * 1e6
    bench.say(f"    {row.case}: {count / seconds:,.0f}/s, {count / usage.redis:,.0f} a second of Redis's CPU")

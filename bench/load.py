"""Running the load generators, and what one run of one case yields."""

import contextlib
import csv
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

import openloop
from leaderboard.store.redis import keys, scripts
from shapes import CONNECTIONS, Shape
from stack import OUTBOX_MAX, Cores, Server, Stack, cpu_seconds, descendants


class BenchError(RuntimeError):
    """The benchmark cannot go on; the message says why."""


class Sample(msgspec.Struct, kw_only=True):
    """One run of one case. `rate` in operations (items of a batch) a second, CPU in microseconds per operation;
    latencies are of requests. `others` is the share of the two cores that went to processes that are not ours, `stolen`
    the percentage of them that the host gave to other machines."""

    rate: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    server_us: float | None = None
    redis_us: float | None = None
    late_p99_ms: float | None = None
    others: float = 0.0
    stolen: float = 0.0


def median(samples: Sequence[Sample], field: str) -> float | None:
    """Return the median of one field, None where no sample has it."""
    values = [value for sample in samples if (value := getattr(sample, field)) is not None]
    return statistics.median(values) if values else None


class Usage:
    """CPU time used inside a `with metered(...)` block, in seconds."""

    server: float | None = None
    redis: float | None = None
    others = 0.0
    stolen = 0.0


@contextlib.contextmanager
def metered(stack: Stack | None, server_pid: int | None) -> Iterator[Usage]:
    """Measure the server's and Redis's CPU time while the block lasts, and what strangers took of our cores."""
    usage, cores = Usage(), stack.cores if stack else Cores(None, None)
    pids = [pid for pid in (server_pid, stack.redis_pid if stack else None) if pid is not None]
    before, own, began = {pid: cpu_seconds(pid) for pid in pids}, _own(pids), time.monotonic()
    busy, stolen = _busy(cores)
    yield usage
    used = {pid: cpu_seconds(pid) - before[pid] for pid in pids}
    usage.server = used.get(server_pid) if server_pid is not None else None
    usage.redis = used.get(stack.redis_pid) if stack else None
    elapsed = (time.monotonic() - began) * (2 if cores.api is not None else os.cpu_count() or 1)
    busy_now, stolen_now = _busy(cores)
    usage.others = max(0.0, (busy_now - busy - (_own(pids) - own)) / elapsed)
    usage.stolen = 100 * (stolen_now - stolen) / elapsed


def _busy(cores: Cores) -> tuple[float, float]:
    """CPU seconds the pinned cores (all, where nothing is pinned) have been busy or stolen since boot, and those that
    were stolen."""
    wanted = {"cpu"} if cores.api is None else {f"cpu{cores.api}", f"cpu{cores.load}"}
    total = stolen = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name in wanted:
            user, nice, system, _idle, _wait, irq, soft, steal = map(int, ticks[:8])
            total += user + nice + system + irq + soft + steal
            stolen += steal
    each = os.sysconf("SC_CLK_TCK")
    return total / each, stolen / each


def _own(pids: Sequence[int]) -> float:
    """CPU seconds of this process, of all that it started, also of those that have ended, and of `pids`: a server that
    somebody else started (`--peer-pid`) is no stranger."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(use.ru_utime + use.ru_stime for use in used)
    for pid in {*pids, *descendants(os.getpid())}:
        with contextlib.suppress(OSError):  # it ended meanwhile, and is in its parent's time
            seconds += cpu_seconds(pid, ended_children=True)
    return seconds


class Load:
    """The generators, on the load's core. `stack` None measures a server elsewhere (`--peer-url`)."""

    def __init__(self, stack: Stack | None, *, members: int) -> None:
        wrk = shutil.which("wrk")
        if wrk is None:
            raise BenchError("wrk is not on PATH: apt install wrk, brew install wrk, or https://github.com/wg/wrk")
        self._wrk = wrk
        self._stack = stack
        self._seed = int(time.time()) % 100_000
        self.members = members

    def saturate(
        self, server: Server, shape: Shape, *, seconds: int, boards: int = 1, members: int | None = None
    ) -> Sample:
        """Send as fast as the connections take it, with wrk, and wait for what it left unanswered.

        Raises BenchError when a request was refused.
        """
        self._seed += 1
        with self._template(server, shape) as template:
            env = {
                "BENCH_TEMPLATE": template,
                "BENCH_MEMBERS": str(members or self.members),
                "BENCH_BOARDS": str(boards),
                "BENCH_SEED": str(self._seed),
            }
            script = str(Path(__file__).with_name("wrk.lua"))
            options = ["-t1", f"-c{shape.connections}", f"-d{seconds}s", "--timeout", "10s", "--latency", "-s", script]
            with metered(self._stack, server.pid) as usage:
                done = subprocess.run(
                    [self._wrk, *options, server.url], env=os.environ | env, capture_output=True, text=True
                )
        if server.pid is not None:
            _settle(server.pid)
        found = [line for line in done.stdout.splitlines() if line.startswith("BENCH ")]
        if not found:
            raise BenchError(f"wrk failed: {done.stdout}{done.stderr}")
        result = json.loads(found[0].removeprefix("BENCH "))
        if result["refused"] or result["broken"] or not result["requests"]:
            raise BenchError(f"{shape.method} {shape.path} at {server.url}: {result}")
        operations = result["requests"] * shape.items
        return Sample(
            rate=operations / result["seconds"],
            p50_ms=result["p50_ms"],
            p99_ms=result["p99_ms"],
            server_us=_each(usage.server, operations),
            redis_us=_each(usage.redis, operations),
            others=usage.others,
            stolen=usage.stolen,
        )

    def constant(
        self, server: Server, shape: Shape, *, rate: float | None, requests: int, ordered: bool = False
    ) -> Sample:
        """Send `requests` at `rate` a second, each when it is due; with `ordered` one for each member in turn."""
        self._seed += 1
        orders = openloop.Orders(
            host=server.host,
            port=server.port,
            template=shape.template(server.host),
            requests=requests,
            rate=rate,
            members=self.members,
            seed=self._seed,
            ordered=ordered,
        )
        command = [sys.executable, openloop.__file__]
        with metered(self._stack, server.pid) as usage:
            done = subprocess.run(command, input=msgspec.json.encode(orders), capture_output=True)
        if done.returncode:
            raise BenchError(f"the constant-rate generator failed: {done.stderr.decode()}")
        result = msgspec.json.decode(done.stdout, type=openloop.Result)
        if result.refused:
            raise BenchError(f"{result.refused} of {result.requests} requests to {server.url} were refused")
        return Sample(
            rate=result.requests / result.seconds,
            p50_ms=result.p50_ms,
            p99_ms=result.p99_ms,
            server_us=_each(usage.server, requests),
            redis_us=_each(usage.redis, requests),
            late_p99_ms=result.late_p99_ms,
            others=usage.others,
            stolen=usage.stolen,
        )

    def redis_benchmark(self, *, pipeline: int, seconds: int) -> Sample | None:
        """Run the update script on the board `global` with redis-benchmark; None where there is none."""
        program = shutil.which("redis-benchmark")
        stack = self._stack
        assert stack is not None
        if program is None:
            return None
        board = stack.board("global")
        names = [board, keys.meta(board), keys.order(board), keys.OUTBOX]
        args = [str(OUTBOX_MAX), "3600", "0" * 16, "1", "u__rand_int__", "i5"]
        stack.client.script_load(scripts.UPDATE.text)
        count = seconds * (60_000 if pipeline > 1 else 25_000)
        password = stack.client.get_connection_kwargs()["password"]
        options = ["-h", "127.0.0.1", "-p", str(stack.redis.port), "-a", password, "--csv", "-c", str(CONNECTIONS)]
        options += ["-P", str(pipeline), "-n", str(count), "-r", str(self.members)]
        script = ["EVALSHA", scripts.UPDATE.sha, str(len(names)), *names, *args]
        with stack.cores.on(stack.cores.api), metered(stack, None) as usage:
            done = subprocess.run([program, *options, *script], capture_output=True, text=True)
        rows = [row for row in csv.reader(done.stdout.splitlines()) if len(row) > 7 and row[0] != "test"]
        if not rows:
            raise BenchError(f"redis-benchmark failed: {done.stdout}{done.stderr}")
        rate, _average, _least, p50, _p95, p99, _most = map(float, rows[-1][-7:])
        return Sample(
            rate=rate,
            p50_ms=p50,
            p99_ms=p99,
            redis_us=_each(usage.redis, count),
            others=usage.others,
            stolen=usage.stolen,
        )

    @contextlib.contextmanager
    def _template(self, server: Server, shape: Shape) -> Iterator[str]:
        with tempfile.NamedTemporaryFile("w", newline="") as file:
            file.write(shape.template(f"{server.host}:{server.port}"))
            file.flush()
            yield file.name


def _settle(pid: int) -> None:
    """Wait until a server is idle: wrk leaves without its last answers, and their work is not the next case's."""
    used = cpu_seconds(pid)
    for _ in range(50):
        time.sleep(0.05)
        used, before = cpu_seconds(pid), used
        if used - before < 0.02:
            return


def _each(seconds: float | None, operations: int) -> float | None:
    return None if seconds is None else seconds / operations * 1e6

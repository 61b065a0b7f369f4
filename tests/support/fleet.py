"""Many Leaderboards at once: applied, watched until they are Ready, and what that took. For tests and the bench."""

import asyncio
import json
import math
import os
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import kopf
import msgspec
import yaml

from leaderboard.local.kubernetes import EmbeddedKubernetes
from leaderboard_operator.client import Api, path_of
from leaderboard_operator.resources import FINALIZER, GROUP, VERSION, Key, Kind
from support.operator import OperatorPod, leaderboard, tenant

_SWEEP_SECONDS = 5


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What one run showed. Times in seconds, memory in MiB."""

    tenants: int
    boards: int
    all_ready: float
    """From the first request that applies a Leaderboard to the last one's Ready=True."""
    requests_per_board: float
    """Requests of the operator to the API server in that time, whatever for, from the audit log."""
    operator_cpu_ms_per_board: float
    new_p50: float
    new_p99: float
    """From the request that applies one more to its Ready=True, with all the others there and sweeps going on."""
    sweep: float
    """The longest sweep of those that found everything as it should be."""
    rss: float
    """The operator's largest resident set."""


class _Condition(msgspec.Struct, frozen=True):
    type: str
    status: str


class _Status(msgspec.Struct, frozen=True):
    conditions: tuple[_Condition, ...] = ()


class _Metadata(msgspec.Struct, frozen=True):
    namespace: str = ""
    name: str = ""


class _Object(msgspec.Struct, frozen=True):
    metadata: _Metadata
    status: _Status = _Status()


class _WatchEvent(msgspec.Struct):
    object: _Object


def _connect(cluster: EmbeddedKubernetes) -> kopf.ConnectionInfo:
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    return kopf.ConnectionInfo(
        server=config["clusters"][0]["cluster"]["server"],
        ca_data=config["clusters"][0]["cluster"]["certificate-authority-data"],
        token=config["users"][0]["user"]["token"],
    )


class _Readiness:
    """Watches one kind and tells when each object first said Ready=True."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}
        self._changed = asyncio.Event()
        self.task: asyncio.Task[None]

    def wake(self) -> None:
        """Look again: something is ready, or the watch has ended."""
        self._changed.set()

    async def follow(self, cluster: EmbeddedKubernetes, kind: Kind) -> None:
        """Watch until cancelled."""
        info = _connect(cluster)
        url = f"{info.server}/apis/{GROUP}/{VERSION}/{kind.plural}"
        decode = msgspec.json.Decoder(_WatchEvent).decode
        connector = aiohttp.TCPConnector(ssl=info.as_ssl_context())
        async with aiohttp.ClientSession(
            connector=connector, headers=info.as_http_headers(), read_bufsize=2**22
        ) as http:
            while True:  # a watch ends when the API server likes; a new one begins with what there is
                async with http.get(url, params={"watch": "true"}, timeout=aiohttp.ClientTimeout(total=None)) as stream:
                    async for line in stream.content:
                        seen = decode(line).object
                        if any(c.type == "Ready" and c.status == "True" for c in seen.status.conditions):
                            self.at.setdefault(seen.metadata.name, time.monotonic())
                            self._changed.set()

    async def wait(self, done: Callable[[dict[str, float]], bool], *, seconds: float, what: str) -> None:
        """Wait until `done` says so of what is ready."""
        try:
            async with asyncio.timeout(seconds):
                while not done(self.at):
                    self._changed.clear()
                    if self.task.done():
                        self.task.result()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"{what}: {len(self.at)} are Ready after {seconds:g} s") from None


@asynccontextmanager
async def _following(cluster: EmbeddedKubernetes, kind: Kind) -> AsyncIterator[_Readiness]:
    readiness = _Readiness()
    readiness.task = asyncio.create_task(readiness.follow(cluster, kind))
    readiness.task.add_done_callback(lambda _: readiness.wake())
    try:
        yield readiness
    finally:
        readiness.task.cancel()
        await asyncio.gather(readiness.task, return_exceptions=True)


async def _create(api: Api, namespace: str, objects: list[dict[str, Any]]) -> None:
    async def one(item: dict[str, Any]) -> None:
        kind = Kind(item["kind"])
        await api.call("POST", path_of(Key(kind, namespace, "")).rstrip("/"), body=item)

    await asyncio.gather(*(one(item) for item in objects))


async def bare_writes(cluster: EmbeddedKubernetes, *, namespace: str, boards: int) -> float:
    """Return the seconds that the same writes take with nobody deciding anything: create, finalizer, status.

    What the API server and its etcd need by themselves; no operator may run.
    """
    async with Api(connect=lambda: _connect(cluster), connections=16) as api:
        began = time.monotonic()
        await _create(api, namespace, [leaderboard(f"b{number:05d}", of="t") for number in range(boards)])

        async def write(number: int) -> None:
            key = Key(Kind.LEADERBOARD, namespace, f"b{number:05d}")
            raw = await api.patch(key, {"metadata": {"finalizers": [FINALIZER]}})
            await api.patch_status(key, _STATUS, uid=raw["metadata"]["uid"])

        await asyncio.gather(*(write(number) for number in range(boards)))
        return time.monotonic() - began


# As long as what the operator writes.
_STATUS = {
    "observedGeneration": 1,
    "leaderboardID": 12345,
    "redisNamespace": "l:123:default:b00000",
    "seal": "0" * 32,
    "entries": 0,
    "conditions": [
        {
            "type": type,
            "status": "True",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "reason": "ReconcileSuccess",
            "message": "Postgres and Redis are as the spec says",
        }
        for type in ("Accepted", "Synced", "Ready")
    ],
}


async def measure(
    cluster: EmbeddedKubernetes,
    pod: OperatorPod,
    *,
    namespace: str,
    tenants: int,
    boards: int,
    more: int,
    say: Callable[[str], None] = lambda _: None,
    seconds: float = 600.0,
) -> Figures:
    """Apply `tenants` and, at once, `boards` over them, then `more` one by one; return what it took.

    `cluster` keeps an audit log; `pod` leads, with nothing to do. When the many are Ready it is started again with
    sweeps every `_SWEEP_SECONDS`, so that some go on while the `more` are applied. Raises AssertionError where they are
    not all Ready in `seconds`.
    """
    assert cluster.audit_log is not None
    names = [f"t{number:03d}" for number in range(tenants)]
    async with Api(connect=lambda: _connect(cluster), connections=16) as api:
        async with _following(cluster, Kind.TENANT) as ready:
            await _create(api, namespace, [tenant(name, plan="enterprise") for name in names])
            await ready.wait(lambda at: len(at) >= tenants, seconds=seconds, what="Tenants")
        say(f"{tenants} Tenants are Ready")
        async with _following(cluster, Kind.LEADERBOARD) as ready:
            audit = cluster.audit_log.stat().st_size
            cpu = cpu_seconds(pod.child.pid)
            began = time.monotonic()
            await _create(api, namespace, [leaderboard(f"b{n:05d}", of=names[n % tenants]) for n in range(boards)])
            say(f"{boards} Leaderboards applied after {time.monotonic() - began:.1f} s")
            await ready.wait(lambda at: len(at) >= boards, seconds=seconds, what="Leaderboards")
            all_ready = max(ready.at.values()) - began
            cpu = cpu_seconds(pod.child.pid) - cpu
            requests = operator_requests(cluster.audit_log, since=audit)
            say(f"all Ready after {all_ready:.1f} s; requests: {dict(requests.most_common(8))}")
            rss = _peak_rss(pod.child.pid)
            await asyncio.to_thread(_sweep_often, pod)
            # From here sweeps find everything in order, but for their own count of what came last.
            await _sweeps(pod, 2)
            sweeps = _sweep_figures(pod)
            waits = []
            for number in range(more):
                name = f"n{number:05d}"
                asked = time.monotonic()
                await _create(api, namespace, [leaderboard(name, of=names[number % tenants])])
                await ready.wait(lambda at, name=name: name in at, seconds=60, what=name)  # type: ignore[misc]
                waits.append(ready.at[name] - asked)
            await _sweeps(pod, 2)
            after = _sweep_figures(pod)
    waits.sort()
    return Figures(
        tenants=tenants,
        boards=boards,
        all_ready=all_ready,
        requests_per_board=sum(requests.values()) / boards,
        operator_cpu_ms_per_board=cpu / boards * 1000,
        new_p50=waits[len(waits) // 2],
        new_p99=waits[math.ceil(len(waits) * 0.99) - 1],
        sweep=(after[1] - sweeps[1]) / (after[0] - sweeps[0]),
        rss=max(rss, _peak_rss(pod.child.pid)),
    )


def operator_requests(audit_log: Path, *, since: int) -> Counter[str]:
    """Count the operator's requests in the audit log from byte `since` on, by verb and resource."""
    counted: Counter[str] = Counter()
    with audit_log.open("rb") as log:
        log.seek(since)
        for line in log:
            event = json.loads(line)
            if event["user"]["username"].endswith(":leaderboard-operator"):
                about = event.get("objectRef", {})
                resource = "/".join(filter(None, (about.get("resource"), about.get("subresource"))))
                counted[f"{event['verb']} {resource}"] += 1
    return counted


def _sweep_often(pod: OperatorPod) -> None:
    pod.stop()
    pod.env["LEADERBOARD_OPERATOR_SWEEP_SECONDS"] = str(_SWEEP_SECONDS)
    pod.start()
    pod.wait_ready()


async def _sweeps(pod: OperatorPod, number: int) -> None:
    """Wait until that many sweeps have ended from now on."""
    wanted = _sweep_figures(pod)[0] + number
    async with asyncio.timeout(600):
        while _sweep_figures(pod)[0] < wanted:
            await asyncio.sleep(0.5)


def _sweep_figures(pod: OperatorPod) -> tuple[float, float]:
    return pod.metric("leaderboard_operator_sweep_seconds_count"), pod.metric("leaderboard_operator_sweep_seconds_sum")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_rss(pid: int) -> float:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024

"""Memory while the collector is away, under load, every request traced."""

import asyncio
import time
from pathlib import Path

import pytest

from support.client import Connection
from support.tenants import make_tenant

SECONDS = 600
"""Of load."""
WARM_SECONDS = 60
"""Until the queues are full and caches warm."""
MOST_GROWTH = 8_000_000
"""Bytes; what was dropped meanwhile is a hundred times as much."""


def resident(pid):
    """The process's resident memory in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("fault", ["killed", "hanging"])
async def test_memory_is_flat_while_the_collector_is_away(make_platform, collector, fault):
    env = {
        "LEADERBOARD_TELEMETRY": "1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        "OTEL_TRACES_SAMPLER_ARG": "1",
    }
    platform = make_platform(env=env)
    tenant = make_tenant(platform, quotas={"requestsPerSecond": 100_000})
    (worker,) = platform.api_workers()
    if fault == "killed":
        collector.stop()
    else:
        collector.hanging = True
    end, sent = time.monotonic() + SECONDS, 0
    readings = []

    async def load(number):
        nonlocal sent
        connection = Connection(platform.url)
        while time.monotonic() < end:
            body = {"leaderboard": "global", "user": f"u{number}-{sent % 100}", "increment": 1}
            answer = await connection.request("POST", "/v1/scores/update", key=tenant.key, body=body)
            assert answer.status == 200
            sent += 1
        await connection.close()

    async def read():
        await asyncio.sleep(WARM_SECONDS)
        while time.monotonic() < end:
            readings.append(resident(worker))
            await asyncio.sleep(1)

    await asyncio.gather(read(), *(load(number) for number in range(8)))
    first, most = readings[0], max(readings)
    print(f"{fault}: {sent} requests, {first / 1e6:.1f} to {readings[-1] / 1e6:.1f} MB, at most {most / 1e6:.1f}")
    assert most - first < MOST_GROWTH
    if fault == "hanging":
        collector.hanging = False

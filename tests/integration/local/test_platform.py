"""The `platform` and `tenant` fixtures do what the other tests rely on."""

import json
import urllib.request
from collections.abc import Callable
from typing import Any

from leaderboard.local.process import pid_exists, wait_until
from leaderboard.local.up import opener
from support.platform import Platform
from support.tenants import Tenant


def send(platform: Platform, key: str, *, increment: int) -> Any:
    body = json.dumps({"leaderboard": "global", "user": "ada", "increment": increment}).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{platform.url}/v1/scores/update", body, headers)
    with opener.open(request, timeout=10) as answer:
        return json.load(answer)


def test_a_new_tenant_can_send_a_score(platform: Platform, tenant: Callable[..., Tenant]) -> None:
    assert send(platform, tenant(platform).key, increment=5)["score"] == 5


async def test_a_tenant_can_be_made_inside_an_event_loop(platform: Platform, tenant: Callable[..., Tenant]) -> None:
    made = tenant(platform, projects=("a", "b"), boards=({"key": "laps", "scoreUpdate": "Best"},))
    assert set(made.keys) == {"a", "b"}


def test_a_killed_api_worker_is_replaced(make_platform: Callable[..., Platform], tenant: Callable[..., Tenant]) -> None:
    platform = make_platform(workers=2)
    assert wait_until(lambda: len(platform.api_workers()) == 2, seconds=90)
    victim = platform.kill_api_worker()
    assert wait_until(lambda: len({*platform.api_workers()} - {victim}) == 2, seconds=90)
    assert not pid_exists(victim)
    platform.wait_ready()
    assert send(platform, tenant(platform).key, increment=1)["rank"] == 1


def test_a_worker_restarts(platform: Platform) -> None:
    def starts() -> int:
        return sum("worker started" in line for line in platform.lines("worker"))

    assert wait_until(lambda: starts() == 1, seconds=90)
    platform.restart_worker()
    assert wait_until(lambda: starts() == 2, seconds=90)

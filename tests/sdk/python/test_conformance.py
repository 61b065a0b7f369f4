"""sdk/conformance/cases.json, every case with both clients on the real server."""

import asyncio
import dataclasses
import itertools
from datetime import date
from typing import Any

import pytest

from leaderboard_sdk import ApiError, AsyncClient, Bounds, Client, ResetRule, Tier, Update
from support.conformance import CASES, filled, kept
from support.platform import Platform
from support.tenants import make_tenant

_runs = itertools.count(1)


def _plain(value: Any) -> Any:
    """What came back as the JSON of the cases."""
    if dataclasses.is_dataclass(value):
        return {f.name.rstrip("_"): _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, ApiError):
        return {"status": value.status, "type": value.type}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.isoformat() if isinstance(value, date) else value


def _assert_has(got: Any, wanted: Any) -> None:
    if isinstance(wanted, dict):
        for name, each in wanted.items():
            _assert_has(got[name], each)
    elif isinstance(wanted, list):
        assert len(got) == len(wanted), got
        for one, each in zip(got, wanted, strict=True):
            _assert_has(one, each)
    else:
        assert got == wanted


def _arguments(args: dict[str, Any]) -> dict[str, Any]:
    given = {"from_" if name == "from" else name: value for name, value in args.items()}
    if "updates" in given:
        given["updates"] = [Update(**each) for each in given["updates"]]
    if "reset" in given:
        given["reset"] = ResetRule(**given["reset"])
    if "tiers" in given:
        given["tiers"] = [Tier(**each) for each in given["tiers"]]
    if "bounds" in given:
        given["bounds"] = Bounds(**given["bounds"])
    return given


def _call_blocking(url: str, key: str, name: str, args: dict[str, Any]) -> Any:
    with Client(url, key) as client:
        got = getattr(client, name)(**args)
        return list(got) if name.startswith("iter_") else got


def _call_async(url: str, key: str, name: str, args: dict[str, Any]) -> Any:
    async def run() -> Any:
        async with AsyncClient(url, key) as client:
            got = getattr(client, name)(**args)
            return [each async for each in got] if name.startswith("iter_") else await got

    return asyncio.run(run())


@pytest.mark.parametrize("call", [_call_blocking, _call_async], ids=["Client", "AsyncClient"])
@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_case_holds(served: Platform, case: dict[str, Any], call: Any) -> None:
    tenant = make_tenant(served)
    names = {"run": str(next(_runs)), "tenant": tenant.slug}
    for board in filled(case["boards"], names):
        call(served.url, tenant.key, "create_leaderboard", _arguments(board))
    key = case.get("api_key", tenant.key)
    for unfilled in case["steps"]:
        step = filled(unfilled, names)
        args = _arguments(step["args"])
        if "error" in step:
            with pytest.raises(ApiError) as raised:
                call(served.url, key, step["call"], args)
            _assert_has(_plain(raised.value), step["error"])
        else:
            got = _plain(call(served.url, key, step["call"], args))
            _assert_has(got, step["expect"])
            names |= {name: kept(got, path) for name, path in step.get("keep", {}).items()}

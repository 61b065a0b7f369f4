"""The end of a large season: what its way to the archive costs the worker in memory, and everybody's writes."""

import json
import os
import time
import urllib.request
from pathlib import Path

import shapes
from leaderboard.local.process import Child, wait_until
from leaderboard.local.up import opener
from leaderboard.store.redis import keys
from load import BenchError, Sample
from sections import Bench, Row

SHARE = 0.3
"""Of what is served when more is asked for: the worker has the rest of the API's core to itself."""
SETTLE_SECONDS = 2.0


def seasons(bench: Bench) -> dict[str, list[Row]]:
    """Writes to one board at a constant rate, while the largest season of another is archived and without."""
    stack, members = bench.stack, bench.plan.growth[-1]
    write = shapes.write(stack.key, board="lean")
    rate = SHARE * bench.flood(bench.ours, write).rate
    worker = stack.worker()
    took = []

    def alone() -> Sample:
        # What fills the boards, and the archive before, is still on its way to the disk, where Redis's log would wait.
        os.sync()
        time.sleep(SETTLE_SECONDS)
        return steady()

    def steady() -> Sample:
        return bench.load.constant(bench.ours, write, rate=rate, requests=int(rate * bench.plan.seconds))

    def beside() -> Sample:
        stack.fill("global", members=members)
        os.sync()
        time.sleep(SETTLE_SECONDS)
        entries = keys.season(stack.board("global"), _reset(bench))
        began = time.monotonic()
        sample = steady()
        if not stack.client.exists(entries):
            raise BenchError("the season was archived before the writes were over: they saw less of it than they say")
        if not wait_until(lambda: not stack.client.exists(entries), seconds=600):
            raise BenchError(f"a season of {members:,} members was not archived in 10 minutes")
        took.append(time.monotonic() - began)
        bench.say(f"    {members:,} members archived in {took[-1]:.1f} s")
        return sample

    alone()
    idle = _peak(worker)
    rows = bench.interleave({"single write": alone, f"single write, {members:,} members being archived": beside})
    costs = [
        Row(case="worker before, most resident, MiB", numbers={"value": idle}),
        Row(case=f"worker after seasons of {members:,} members, most resident, MiB", numbers={"value": _peak(worker)}),
        Row(case="from the reset to the end of the archive, s", numbers={"value": sorted(took)[len(took) // 2]}),
    ]
    stack.stop_server(worker)
    stack.tidy()
    stack.fill("global", members=bench.plan.members)
    return {"seasons": rows, "season_archive": costs}


def _reset(bench: Bench) -> int:
    """End the season of the board `global` and return its number."""
    url, headers = f"{bench.ours.url}/v1/leaderboards/global", {"Authorization": f"Bearer {bench.stack.key}"}
    with opener.open(urllib.request.Request(url, headers=headers)) as answer:
        season = int(json.load(answer)["season"])
    headers["Content-Type"] = "application/json"
    body = json.dumps({"season": season}).encode()
    with opener.open(urllib.request.Request(f"{url}/reset", data=body, headers=headers, method="POST")) as answer:
        assert json.load(answer)["season"] == season + 1
    return season


def _peak(process: Child) -> float:
    """Return the most memory a process ever had, in MiB."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise BenchError("the kernel does not say how much memory a process had")

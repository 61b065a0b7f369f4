"""What is seen of an API process beside its requests. Only where telemetry is on."""

import asyncio

from leaderboard.api.live import Places
from leaderboard.store.redis.limiter import Limiter
from leaderboard.telemetry.metrics import Observed
from leaderboard.telemetry.otel import Telemetry
from leaderboard.telemetry.tenants import TenantMetrics

RANK_SECONDS = 60.0


async def keep_ranking(tenants: TenantMetrics) -> None:
    """Give the tenants' places anew once a minute, on the loop that records them."""
    while True:
        await asyncio.sleep(RANK_SECONDS)
        tenants.rank()


def observe_limiter(telemetry: Telemetry, limiter: Limiter) -> None:
    """Export what the rate limiter did. What it allows out of its leases is not counted one by one: tokens are."""
    telemetry.metrics.observe(
        Observed(
            "leaderboard.limiter.tokens",
            lambda: [({}, limiter.granted)],
            unit="{token}",
            description="Tokens that Redis gave to this process, one a request",
            sums=True,
        ),
        Observed(
            "leaderboard.limiter.decisions",
            lambda: [({"decision": "refused"}, limiter.refused), ({"decision": "unavailable"}, limiter.unavailable)],
            unit="{decision}",
            description="Requests refused for want of tokens, and calls of Redis that did not say",
            sums=True,
        ),
    )


def observe_streams(telemetry: Telemetry, places: Places) -> None:
    """Export how many streams this process holds open; `live.MAX_STREAMS` is the most."""
    telemetry.metrics.observe(
        Observed(
            "leaderboard.streams.open",
            lambda: [({}, places.taken)],
            unit="{stream}",
            description="Streams of live boards and standings that are open",
        )
    )

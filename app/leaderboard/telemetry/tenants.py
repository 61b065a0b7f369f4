"""Tenants in metrics, capped: an attribute with 10,000 values would be a million series.

At most `cap` tenants have series of their own in a process: those whose plan (or own quota) allows most, among equals
those with most traffic. Everybody else counts as `other`. A tenant that comes into a free place gets it at once; once
a minute (`rank`) places are given anew, and one that has a place keeps it unless another has twice its traffic or a
larger plan, so that series do not come and go. Each request counts in exactly one series, so sums over all are right.

A process exports at most ``(cap + 1) * SERIES_A_TENANT`` Prometheus series for this.
"""

from typing import Protocol

from opentelemetry.sdk.metrics import Exemplar

from leaderboard.telemetry.metrics import BOUNDS, Count, Duration, Metrics

OTHER = "other"
"""Everybody without a place; a tenant of that very slug is always among them."""
OUTCOMES = ("ok", "refused", "limited", "failed")
"""Answers below 400; 4xx but 429; 429; 5xx."""
SERIES_A_TENANT = len(BOUNDS) + 1 + 2 + len(OUTCOMES)
"""As Prometheus counts: the histogram's buckets, its sum and count, and a counter for each outcome."""
MAX_KNOWN = 50_000
"""Tenants whose traffic is followed (about 150 bytes each); as many as the key cache has entries."""


class Context(Protocol):
    """What is asked of a request's key."""

    @property
    def tenant(self) -> str:
        """The tenant's slug."""

    @property
    def rate(self) -> int:
        """Requests per second that its plan or own quota allows."""


class _Place:
    """Where a tenant's requests count."""

    __slots__ = ("counts", "duration", "own", "rate", "requests", "weight")

    def __init__(self, rate: int, duration: Duration, counts: tuple[Count, ...], *, own: bool) -> None:
        self.rate = rate
        self.duration = duration
        self.counts = counts
        self.own = own
        self.requests = 0
        self.weight = 0.0
        """Requests of late: each round counts half of the one before."""


class TenantMetrics:
    """Latency and outcomes by tenant."""

    def __init__(self, metrics: Metrics, *, cap: int) -> None:
        self._cap = cap
        self._durations = metrics.durations(
            "leaderboard.tenant.request.duration",
            "Time to answer a tenant's requests",
            "leaderboard.tenant",
            most=cap + 1,
        )
        self._requests = metrics.counts(
            "leaderboard.tenant.requests",
            "A tenant's requests",
            "leaderboard.tenant",
            "outcome",
            unit="{request}",
            most=(cap + 1) * len(OUTCOMES),
        )
        self._places: dict[str, _Place] = {}
        self._owners = 0

    def record(self, context: Context, seconds: float, status: int, exemplar: Exemplar | None) -> None:
        """Count one answered request."""
        place = self._places.get(context.tenant)
        if place is None:
            place = self._admit(context)
        place.requests += 1
        place.duration.record(seconds, exemplar)
        place.counts[0 if status < 400 else 2 if status == 429 else 1 if status < 500 else 3].value += 1

    def rank(self) -> None:
        """Give the places anew; once a minute, on the thread that records."""
        places = self._places
        for tenant, place in list(places.items()):
            place.weight = place.weight / 2 + place.requests
            place.requests = 0
            if place.weight < 0.1:  # silent for minutes
                self._vacate(tenant, place)
                del places[tenant]
        order = sorted(
            places.items(), key=lambda item: (item[1].rate, item[1].weight * (2 if item[1].own else 1)), reverse=True
        )
        for tenant, place in order[self._cap :]:
            self._vacate(tenant, place)
        for tenant, place in order[: self._cap]:
            if not place.own:
                self._own(tenant, place)

    def _admit(self, context: Context) -> _Place:
        place = _Place(context.rate, *self._series(OTHER), own=False)
        if len(self._places) < MAX_KNOWN:
            self._places[context.tenant] = place
            if self._owners < self._cap:
                self._own(context.tenant, place)
        return place

    def _own(self, tenant: str, place: _Place) -> None:
        if tenant == OTHER:
            return
        place.duration, place.counts = self._series(tenant)
        place.own = True
        self._owners += 1

    def _vacate(self, tenant: str, place: _Place) -> None:
        if not place.own:
            return
        self._durations.drop(tenant)
        for outcome in OUTCOMES:
            self._requests.drop(tenant, outcome)
        place.duration, place.counts = self._series(OTHER)
        place.own = False
        self._owners -= 1

    def _series(self, name: str) -> tuple[Duration, tuple[Count, ...]]:
        return self._durations.of(name), tuple(self._requests.of(name, outcome) for outcome in OUTCOMES)

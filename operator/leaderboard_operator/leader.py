"""One leader of several replicas: a Lease, as client-go's leader election does it (15/10/2 s).

The Lease says who should lead; clocks and pauses make it a promise, not a proof. The proof is the epoch that a leader
takes in Postgres before its first change (`leaderboard.store.postgres.leadership`): from then on the database refuses
what any leader before it still tries to write.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from leaderboard_operator.client import Api, ApiError, Conflict, NotFound
from leaderboard_operator.config import OperatorConfig
from leaderboard_operator.metrics import LEADING

log = logging.getLogger(__name__)

LEASE = "leaderboard-operator"
_RELEASE_SECONDS = 5.0


class Leader:
    """Takes and keeps the Lease of one replica. `clock` gives monotonic seconds."""

    def __init__(self, api: Api, config: OperatorConfig, *, clock: Callable[[], float]) -> None:
        self._api = api
        self._config = config
        self._clock = clock
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{config.namespace}/leases"
        self._seen: tuple[object, ...] = ()
        self._seen_at = clock()
        self._renewed_at = clock()

    async def acquire(self) -> None:
        """Return when this replica holds the Lease; waits while another does."""
        said = ""
        while True:
            try:
                sent_at = self._clock()
                holder = await self._try()
                if holder == self._config.identity:
                    self._renewed_at = sent_at
                    LEADING.labels(name=LEASE).set(1)
                    log.info("this replica, %s, leads", holder)
                    return
                if holder != said:
                    log.info("%s leads; waiting", holder)
                    said = holder
            except Conflict:
                pass  # another was faster
            except ApiError as error:
                log.warning("the Lease cannot be read or taken: %s", error)
            await asyncio.sleep(self._config.retry_seconds)

    async def keep(self) -> None:
        """Renew the Lease; return when it is lost, or could not be renewed in time."""
        while True:
            await asyncio.sleep(self._config.retry_seconds)
            left = self._renewed_at + self._config.renew_seconds - self._clock()
            if left <= 0:
                log.error("the Lease could not be renewed for %g s", self._config.renew_seconds)
                break
            try:
                sent_at = self._clock()
                async with asyncio.timeout(left):
                    holder = await self._try()
            except (ApiError, TimeoutError) as error:
                log.warning("the Lease was not renewed: %s", str(error) or type(error).__name__)
                continue
            if holder != self._config.identity:
                log.error("%s has taken the Lease", holder)
                break
            self._renewed_at = sent_at
        LEADING.labels(name=LEASE).set(0)

    async def release(self) -> None:
        """Give the Lease up at an orderly stop, so that another need not wait for its end."""
        LEADING.labels(name=LEASE).set(0)
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                lease = await self._api.call("GET", f"{self._collection}/{LEASE}")
                if lease["spec"].get("holderIdentity") == self._config.identity:
                    lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
                    await self._api.call("PUT", f"{self._collection}/{LEASE}", body=lease)
        except (ApiError, TimeoutError) as error:
            log.warning("the Lease was not given up: %s", str(error) or type(error).__name__)

    async def _try(self) -> str:
        """Take or renew the Lease where that is allowed; return who holds it now."""
        try:
            lease = await self._api.call("GET", f"{self._collection}/{LEASE}")
        except NotFound:
            made = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": LEASE, "namespace": self._config.namespace},
                "spec": self._spec({}),
            }
            await self._api.call("POST", self._collection, body=made)
            return self._config.identity
        spec: dict[str, Any] = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        # Another's clock is not ours: what counts is how long we have seen no change, as in client-go.
        record = (holder, spec.get("renewTime"), spec.get("leaseTransitions"))
        if record != self._seen:
            self._seen, self._seen_at = record, self._clock()
        expired = self._clock() - self._seen_at > (spec.get("leaseDurationSeconds") or self._config.lease_seconds)
        if holder not in ("", self._config.identity) and not expired:
            return holder
        lease["spec"] = self._spec(spec)
        await self._api.call("PUT", f"{self._collection}/{LEASE}", body=lease)  # with its resourceVersion
        return self._config.identity

    def _spec(self, old: dict[str, Any]) -> dict[str, Any]:
        now = _now()
        same = old.get("holderIdentity") == self._config.identity
        return {
            "holderIdentity": self._config.identity,
            "leaseDurationSeconds": self._config.lease_seconds,
            "acquireTime": (old.get("acquireTime") or now) if same else now,
            "renewTime": now,
            "leaseTransitions": (old.get("leaseTransitions") or 0) + (0 if same or not old else 1),
        }


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"

"""Leaderboards, many at once: observe, decide, carry out, report. Level-based, as `tenants`."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

import msgspec

from leaderboard.control.errors import BoardNotFound, TenantNotFound
from leaderboard.control.plan import Adoption
from leaderboard.control.reconcile import BoardRequest, Control, Outcome
from leaderboard.domain.documents import DeletionPolicy, LeaderboardDocument, parse
from leaderboard.domain.names import LeaderboardId
from leaderboard.store.postgres.pool import Deposed
from leaderboard_operator import references, verdicts
from leaderboard_operator.client import ApiError
from leaderboard_operator.conditions import ACCEPTED, transition
from leaderboard_operator.metrics import REPAIRS
from leaderboard_operator.namespaces import Namespaces
from leaderboard_operator.objects import Objects
from leaderboard_operator.report import Reporter, Verdict
from leaderboard_operator.resources import Key, Kind, Resource, tenant_key
from leaderboard_operator.seals import remembered

log = logging.getLogger(__name__)

_DELETIONS_AT_ONCE = 4  # each takes Postgres connections of its own; there are few
_PATIENCE = 2.0
"""Seconds that a new Leaderboard waits in silence for its Tenant: both may have been applied at once."""


class _Work(msgspec.Struct, kw_only=True):
    """One Leaderboard on its way through a batch: it has a verdict, or a request for control, or nothing to say."""

    item: Resource
    request: BoardRequest | None = None
    verdict: Verdict | None = None
    refusal: Verdict | None = None
    """What it says when its request was carried out: it was let in once, and is only closed now."""
    tenant_suspended: bool = False
    retry: bool = False


class Boards:
    """Reconciles Leaderboards. `counted` is told of each Tenant that has a board more, `gone` of each board that is
    no more; `later` asks for another look at one in so many seconds.
    """

    def __init__(
        self,
        *,
        control: Control,
        objects: Objects,
        namespaces: Namespaces,
        reporter: Reporter,
        pepper: bytes,
        counted: Callable[[Key], None],
        gone: Callable[[Resource], None],
        later: Callable[[Key, float], None],
    ) -> None:
        self._control = control
        self._objects = objects
        self._namespaces = namespaces
        self._reporter = reporter
        self._pepper = pepper
        self._counted = counted
        self._gone = gone
        self._later = later
        self._deletions = asyncio.Semaphore(_DELETIONS_AT_ONCE)
        self._suspects: set[Key] = set()
        self._waited: set[Key] = set()

    def suspect(self, keys: Iterable[Key]) -> None:
        """Compare these with the ledger the next time they are reconciled: Redis may have gone back in time."""
        self._suspects.update(keys)

    async def reconcile(self, keys: Sequence[Key], *, entries: int | None = None) -> set[Key]:
        """Bring the Leaderboards to what they ask for; return those that have to be tried again.

        At most `entries` objects are written for a new count of entries alone, None for any number. Raises Deposed;
        and, with nothing said in any status, DatabaseUnavailable and RedisFailure where that concerns all of them.
        """
        items = [item for key in keys if (item := self._objects.get(key)) is not None]
        items.sort(key=lambda item: item.age)
        works = await asyncio.gather(*(self._prepare(item) for item in items))
        asked = [work for work in works if work.request is not None]
        requests = [work.request for work in asked if work.request is not None]
        suspects = self._suspects.intersection(work.item.key for work in asked)
        outcomes = await self._control.reconcile_boards(requests, positions=bool(suspects)) if requests else []
        for work, outcome in zip(asked, outcomes, strict=True):
            if isinstance(outcome, Outcome):  # one that could not be looked at, or is paused, stays suspect
                self._suspects.discard(work.item.key)
            work.verdict = self._verdict(work, outcome)
            if entries is not None and _only_entries(work.item, work.verdict):
                entries -= 1
                if entries < 0:
                    work.verdict = None
        done = await asyncio.gather(*(self._report(work) for work in works))
        return {work.item.key for work, fine in zip(works, done, strict=True) if not fine}

    async def say_why_not(self, keys: Sequence[Key], error: Exception) -> None:
        """Say in those whose spec was not carried out yet that it cannot be now. The others go on as they are."""
        items = [item for key in keys if (item := self._objects.get(key)) is not None]
        waiting = [item for item in items if not (item.paused or item.deleting or verdicts.synced(item))]
        await asyncio.gather(
            *(self._report(_Work(item=item, verdict=verdicts.failed(item, error))) for item in waiting)
        )

    # -- deciding what to ask

    async def _prepare(self, item: Resource) -> _Work:
        """Decide what to ask of control, or what to say without asking."""
        try:
            if item.paused:
                return _Work(item=item, verdict=verdicts.paused())
            if item.deleting:
                return _Work(item=item, verdict=await self._delete(item))
            return await self._wanted(item)
        except Deposed:
            raise
        except ApiError as error:
            log.warning("%s: %s", item.key, error)
            return _Work(item=item, retry=True)
        except Exception as error:  # noqa: BLE001 - one object's fault must not keep the others waiting
            return _Work(item=item, verdict=self._failed(item, error))

    async def _wanted(self, item: Resource) -> _Work:
        document = parse(item.manifest())
        assert isinstance(document, LeaderboardDocument)
        name = tenant_key(item)
        tenant = self._objects.get(name)
        if name.namespace != item.key.namespace and not await self._permitted(tenant, item):
            # The same words for a Tenant that is not there: what another namespace has is nobody's business.
            refusal = verdicts.refused(
                "RefNotPermitted",
                f"no Tenant {name.namespace}/{name.name} lets namespace {item.key.namespace} refer to it "
                "(spec.allowedNamespaces of the Tenant)",
            )
            return self._closed(item, document, tenant=tenant, refusal=refusal)
        why = "there is none" if tenant is None else references.not_ready(tenant)
        if tenant is None or why is not None:
            if not item.status and self._may_still_come(
                item.key, known=tenant is not None and why != references.NOT_YET
            ):
                return _Work(item=item)
            if tenant is None:
                message = f"there is no Tenant {name.name!r} in namespace {name.namespace!r}; apply it"
                return _Work(item=item, verdict=verdicts.refused("TenantNotFound", message))
            return _Work(item=item, verdict=verdicts.tenant_not_ready(f"Tenant {name.name!r}: {why}"))
        self._waited.discard(item.key)
        if await self._older_rival(item, tenant):
            return _Work(item=item, verdict=verdicts.conflict(item))
        held = item if item.held else await self._reporter.hold(item)
        return self._ask(held, document, tenant=tenant)

    def _may_still_come(self, key: Key, *, known: bool) -> bool:
        """Whether to wait for the Tenant in silence: once, for a moment."""
        if known or key in self._waited:
            self._waited.discard(key)
            return False
        self._waited.add(key)
        self._later(key, _PATIENCE)
        return True

    async def _permitted(self, tenant: Resource | None, item: Resource) -> bool:
        return tenant is not None and await self._namespaces.permit(tenant, item)

    async def _older_rival(self, item: Resource, tenant: Resource) -> bool:
        """Whether an older Leaderboard wants the same board, unless this one has it already.

        One that its Tenant does not let in wants nothing; its own status is no witness, since its people may write it.
        """
        if item.condition(ACCEPTED).get("status") == "True":
            return False
        for rival in self._objects.rivals(item):
            waits = rival.paused and remembered(rival, "leaderboardID", pepper=self._pepper) is None
            if rival.age < item.age and not waits and await self._namespaces.permit(tenant, rival):
                return True
        return False

    def _ask(self, item: Resource, document: LeaderboardDocument, *, tenant: Resource) -> _Work:
        home = item.key.namespace == tenant.key.namespace
        known = remembered(item, "leaderboardID", pepper=self._pepper)
        return _Work(
            item=item,
            request=BoardRequest(
                document=document,
                tenant_slug=tenant.spec["slug"],
                tenant_owner=tenant.uid,
                owner=item.uid,
                adopt=Adoption(namespace=item.key.namespace, home=home) if item.adopt else None,
                known_id=None if known is None else LeaderboardId(known),
            ),
            tenant_suspended=references.suspended(tenant),
        )

    def _closed(
        self, item: Resource, document: LeaderboardDocument, *, tenant: Resource | None, refusal: Verdict
    ) -> _Work:
        """Refuse a reference. Where it was permitted once there is a board: its data stays, and it is closed."""
        if tenant is None or not item.held:
            return _Work(item=item, verdict=refusal)
        spec = msgspec.structs.replace(document.spec, suspend=True)
        work = self._ask(item, msgspec.structs.replace(document, spec=spec), tenant=tenant)
        assert work.request is not None
        work.request = msgspec.structs.replace(work.request, may_create=False, adopt=None, known_id=None)
        work.refusal = refusal
        return work

    # -- saying what came of it

    def _verdict(self, work: _Work, outcome: Outcome | Exception) -> Verdict:
        if isinstance(outcome, Exception):
            if work.refusal is not None and isinstance(outcome, BoardNotFound):
                return work.refusal
            if work.refusal is None and isinstance(outcome, TenantNotFound) and self._comes_again(work.item):
                return Verdict(conditions=(), retry=True)
            verdict = self._failed(work.item, outcome)
            return work.refusal if work.refusal is not None and not verdict.retry else verdict
        if work.refusal is not None:
            return work.refusal
        return verdicts.board_done(work.item, outcome, tenant_suspended=work.tenant_suspended, pepper=self._pepper)

    def _comes_again(self, item: Resource) -> bool:
        """Whether the tenant that the board had and is not there is about to be made again, by the look at its Tenant
        that is asked for here. Until then there is nothing to say.
        """
        tenant = self._objects.get(tenant_key(item))
        if tenant is None or tenant.paused or not verdicts.synced(item):
            return False
        self._counted(tenant.key)
        return True

    @staticmethod
    def _failed(item: Resource, error: Exception) -> Verdict:
        verdict = verdicts.failed(item, error)
        if verdict.retry:
            log.warning("%s: %s: %s", item.key, type(error).__name__, error)
        return verdict

    async def _report(self, work: _Work) -> bool:
        """Write what came of it; False where it has to be tried again."""
        verdict = work.verdict
        if verdict is None:
            return not work.retry
        if verdict.repairs:
            REPAIRS.labels(kind=Kind.LEADERBOARD).inc()
        try:
            # Its first success is what its conditions say; an Event more a board would be a third of all writes.
            await self._reporter.report(work.item, verdict, quiet=not work.item.status)
        except ApiError as error:
            log.warning("%s: its status was not written: %s", work.item.key, error)
            return False
        except Exception:  # one object's fault must not keep the others waiting, nor the sweep
            log.exception("%s: an error of the operator's own", work.item.key)
            return False
        board_id = verdict.fields.get("leaderboardID")
        if board_id is not None and board_id != work.item.status.get("leaderboardID"):
            self._counted(tenant_key(work.item))
        return not verdict.retry

    # -- deletion

    async def _delete(self, item: Resource) -> Verdict | None:
        if not item.held:
            return None
        retain = item.spec.get("deletionPolicy") != DeletionPolicy.DELETE
        try:
            async with self._deletions:
                await self._control.delete_boards_of(item.uid, retain=retain, namespace=item.key.namespace)
        except Deposed:
            raise
        except Exception as error:  # noqa: BLE001 - the object must not go before its data is dealt with
            log.warning("%s: its deletion is tried again: %s", item.key, error)
            return verdicts.deleting("its data cannot be dealt with now; this is tried again", retry=True)
        # Who waits for it is not to wait for the watch: one that begins just now tells nothing of what went before.
        if await self._reporter.let_go(item):
            self._gone(item)
        return None


_MOVING = {"entries", "season", "nextReset"}


def _only_entries(item: Resource, verdict: Verdict) -> bool:
    """Whether nothing but what changes with the board's use would be written."""
    new = {name for name, value in verdict.fields.items() if item.status.get(name) != value}
    return (
        item.status.get("observedGeneration") == item.generation
        and not verdict.repairs
        and transition(item.status.get("conditions") or (), verdict.conditions) is None
        and bool(new)
        and new <= _MOVING
    )

"""One Tenant: observe, decide, carry out, report. Level-based: only what is now counts, not what changed."""

import contextlib
import logging
import re
from collections.abc import Callable, Sequence

from leaderboard.control.errors import ControlError, ManagedElsewhere, TenantNotFound
from leaderboard.control.plan import Adoption
from leaderboard.control.reconcile import Control, Outcome, TenantRequest
from leaderboard.domain.documents import DeletionPolicy, TenantDocument, parse
from leaderboard.domain.errors import DomainError
from leaderboard.domain.names import PROJECT_PATTERN
from leaderboard.store.postgres.pool import Busy, Deposed
from leaderboard_operator import references, verdicts
from leaderboard_operator.client import Api, ApiError, ApiUnavailable, Conflict
from leaderboard_operator.conditions import ACCEPTED
from leaderboard_operator.key_secrets import SecretAccessDenied, SecretConflict, SecretSink
from leaderboard_operator.metrics import REPAIRS
from leaderboard_operator.namespaces import Namespaces
from leaderboard_operator.objects import Objects
from leaderboard_operator.report import Reporter, Verdict
from leaderboard_operator.resources import Key, Kind, Resource, text_of
from leaderboard_operator.seals import remembered

log = logging.getLogger(__name__)


class Tenants:
    """Reconciles Tenants. `wake` asks for another object to be looked at again, `gone` is told of a Tenant that is no
    more.
    """

    def __init__(
        self,
        *,
        control: Control,
        api: Api,
        objects: Objects,
        namespaces: Namespaces,
        reporter: Reporter,
        endpoint: str,
        pepper: bytes,
        wake: Callable[[Key], None],
        gone: Callable[[Resource], None],
    ) -> None:
        self._control = control
        self._api = api
        self._objects = objects
        self._namespaces = namespaces
        self._reporter = reporter
        self._endpoint = endpoint
        self._pepper = pepper
        self._wake = wake
        self._gone = gone

    async def reconcile(self, key: Key) -> bool:
        """Bring one Tenant to what it asks for; False where it has to be tried again.

        Raises ApiError, Deposed; DatabaseUnavailable where the Tenant was as it should be when last looked at.
        """
        item = self._objects.get(key)
        if item is None:
            return True
        if item.paused:
            await self._reporter.report(item, verdicts.paused())
            return True
        if item.deleting:
            return await self._delete(item)
        if _settled(item) and not await self.survey([item]):
            return True
        try:
            document = self._document(item)
        except DomainError as error:
            return await self._report(item, verdicts.failed(item, error))
        if self._older_rival(item):
            return await self._report(item, verdicts.conflict(item))
        held = item if item.held else await self._reporter.hold(item)
        return await self._report(held, await self._carry_out(held, document))

    async def _carry_out(self, item: Resource, document: TenantDocument) -> Verdict:
        sink = self._sink(item)
        try:
            for project in document.spec.projects:
                with contextlib.suppress(SecretAccessDenied):  # said below, after all else that the spec asks for
                    await sink.look(project.name)
            outcome = await self._control.reconcile(
                document,
                owner=item.uid,
                sink=sink,
                adopt=Adoption(namespace=item.key.namespace, home=True) if item.adopt else None,
                known_id=remembered(item, "tenantID", pepper=self._pepper),
            )
        except (ApiUnavailable, Conflict, Deposed):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the resource says it and it is tried again
            verdict = verdicts.failed(item, error)
            if verdict.retry:
                log.warning("%s: %s: %s", item.key, type(error).__name__, error)
            return verdict
        return self._done(item, outcome, sink)

    async def survey(self, items: Sequence[Resource]) -> list[Key]:
        """Look at many Tenants at once, as the sweep does; return those that need a reconciliation of their own.

        Raises ApiError, Deposed; and, with nothing said in any status, DatabaseUnavailable: these were carried out.
        """
        differing, asked, requests = [], [], []
        for item in items:
            try:
                document = self._document(item)
            except DomainError:
                document = None
            if document is None or not _settled(item):
                differing.append(item.key)
                continue
            asked.append(item)
            requests.append(TenantRequest(document=document, owner=item.uid, sink=self._sink(item)))
        outcomes: list[Outcome | None]
        try:
            outcomes = await self._control.survey_tenants(requests)
        except (SecretAccessDenied, SecretConflict, Busy, ApiError) as error:
            log.warning("Tenants are looked at one by one: %s", error)
            outcomes = [None] * len(requests)
        for item, request, outcome in zip(asked, requests, outcomes, strict=True):
            if outcome is None:
                differing.append(item.key)
            else:
                assert isinstance(request.sink, SecretSink)
                await self._report(item, self._done(item, outcome, request.sink))
        return differing

    def _sink(self, item: Resource) -> SecretSink:
        return SecretSink(self._api, item, endpoint=self._endpoint, pepper=self._pepper)

    @staticmethod
    def _document(item: Resource) -> TenantDocument:
        document = parse(item.manifest())
        assert isinstance(document, TenantDocument)
        return document

    def _older_rival(self, item: Resource) -> bool:
        """Whether an older Tenant wants the same slug, unless this one has it already.

        For one that asks to take a tenant over, control decides by whom that was offered to: an older one elsewhere
        could not have it.
        """
        if item.adopt or item.condition(ACCEPTED).get("status") == "True":
            return False
        return any(rival.age < item.age for rival in self._objects.rivals(item))

    def _done(self, item: Resource, outcome: Outcome, sink: SecretSink) -> Verdict:
        return verdicts.tenant_done(
            item, outcome, secrets=sink.names, repaired=tuple(sink.repaired), pepper=self._pepper
        )

    async def _report(self, item: Resource, verdict: Verdict) -> bool:
        if verdict.repairs:
            REPAIRS.labels(kind=Kind.TENANT).inc()
        await self._reporter.report(item, verdict)
        after = self._objects.get(item.key) or item
        # What its boards depend on: its spec (quotas, suspend, allowedNamespaces), its rows, and whether it is there.
        if (
            (verdicts.synced(after) and not verdicts.synced(item))
            or verdict.repairs
            or references.not_ready(after) != references.not_ready(item)
        ):
            for board in self._objects.boards_of(item.key):
                self._wake(board.key)
        return not verdict.retry

    # -- deletion

    async def _delete(self, item: Resource) -> bool:
        if not item.held:
            return True
        waiting = [board for board in self._objects.boards_of(item.key) if await self._waits_for(item, board)]
        if waiting:
            own = [board.key.name for board in waiting if board.key.namespace == item.key.namespace]
            which = f"such as {own[0]}" if own else "all in other namespaces"
            message = f"waits until its Leaderboards are deleted: {len(waiting)} are left, {which}"
            return await self._report(item, verdicts.deleting(message))
        if item.spec.get("preventDeletion"):
            return await self._report(item, verdicts.deleting("spec.preventDeletion is true; set it to false first"))
        # What an older schema let through is no policy either: nothing is dropped for it.
        policy = DeletionPolicy.DELETE if item.spec.get("deletionPolicy") == "Delete" else DeletionPolicy.RETAIN
        try:
            await self._control.delete_tenant(
                text_of(item.spec, "slug"),
                owner=item.uid,
                policy=policy,
                namespace=item.key.namespace,
                protected=False,
            )
        except (TenantNotFound, ManagedElsewhere):
            pass  # it has none, or never had
        except (ApiError, Deposed):
            raise
        except Exception as error:  # noqa: BLE001 - the object must not go before its data is dealt with
            log.warning("%s: its deletion is tried again: %s", item.key, error)
            # A store's own words may name its host and user.
            message = str(error) if isinstance(error, ControlError) else "its data cannot be dealt with now"
            return await self._report(item, verdicts.deleting(f"{message}; this is tried again", retry=True))
        await self._delete_secrets(item)
        if await self._reporter.let_go(item):
            self._gone(item)
        return True

    async def _waits_for(self, item: Resource, board: Resource) -> bool:
        """Whether the Leaderboard may have a board of this Tenant. One it does not let in cannot hold it up."""
        return board.held and await self._namespaces.permit(item, board)

    async def _delete_secrets(self, item: Resource) -> None:
        try:
            await self._sink(item).delete(_projects(item))
        except SecretAccessDenied as error:
            # Their keys are revoked; Kubernetes' garbage collector takes them with their owner.
            log.warning("%s: its Secrets were not deleted: %s", item.key, error)


def _projects(item: Resource) -> list[str]:
    """Return the projects that the status or the spec names.

    The namespace's people may write both: what is no name would lead the path of a Secret into another namespace.
    """
    told = [text_of(key, "project") for key in item.status.get("apiKeys") or () if isinstance(key, dict)]
    asked = [text_of(project, "name") for project in item.spec.get("projects") or () if isinstance(project, dict)]
    return sorted(name for name in {*told, *asked} if re.fullmatch(PROJECT_PATTERN, name))


def _settled(item: Resource) -> bool:
    """Whether the Tenant was carried out as it is now, so that looking for drift is all there is to do."""
    return item.held and not item.deleting and not item.paused and verdicts.synced(item)

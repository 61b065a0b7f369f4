"""Control as the operator meets it: it remembers what it was asked, and answers from a table of who owns what."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from leaderboard.control.errors import BoardNotFound, ManagedElsewhere
from leaderboard.control.outcome import BoardRequest, Outcome, TenantRequest
from leaderboard.control.plan import KeyInForce
from leaderboard.domain.boards import Board
from leaderboard.domain.documents import TenantDocument
from leaderboard.domain.names import LeaderboardId, TenantId

TENANT_ID = TenantId(7)


class RecordedControl:
    """Stands in for `Control` where what matters is the operator's decisions: what it asks, and what it makes of it.

    `fault` may say, for the owner that asks, what is raised or answered instead.
    """

    def __init__(self) -> None:
        self.boards: dict[tuple[str, str], Board] = {}
        """By the tenant's slug and the board's key."""
        self.tenants: dict[str, str] = {}
        """Owners by slug."""
        self.fault: Callable[[str], Exception | None] = lambda owner: None
        self.as_asked = True
        """Whether a survey finds every tenant as its document says."""
        self.entries = 0
        self.requests: list[BoardRequest] = []
        self.positions: list[bool] = []
        self.tenant_requests: list[dict[str, Any]] = []
        self.surveyed: list[str] = []
        self.deletions: list[dict[str, Any]] = []
        self._numbers = itertools.count(100)

    async def reconcile_boards(self, requests: Sequence[BoardRequest], *, positions: bool) -> list[Outcome | Exception]:
        self.requests += requests
        self.positions.append(positions)
        return [self.fault(request.owner) or self._board(request) for request in requests]

    def _board(self, request: BoardRequest) -> Outcome | Exception:
        spec = request.document.spec.board()
        place = request.tenant_slug, spec.key
        row = self.boards.get(place)
        if row is None and not request.may_create:
            return BoardNotFound("there is none")
        if row is not None and row.managed_by != request.owner:
            return ManagedElsewhere(f"it belongs to {row.managed_by}")
        number = row.id if row is not None else request.known_id or LeaderboardId(next(self._numbers))
        self.boards[place] = Board(id=number, spec=spec, managed_by=request.owner)
        return Outcome(
            tenant_id=TENANT_ID,
            created=row is None,
            changes=("changed",) if row is not None and row.spec != spec else (),
            board=self.boards[place],
            namespace=f"l:{TENANT_ID}:default:{spec.key}",
            entries=self.entries,
        )

    async def delete_boards_of(self, owner: str, *, retain: bool, namespace: str | None) -> None:
        self.deletions.append({"owner": owner, "retain": retain, "namespace": namespace})
        self._raise(owner)

    async def reconcile(self, document: TenantDocument, **options: Any) -> Outcome:
        owner, slug = options["owner"], document.spec.slug
        self.tenant_requests.append(options)
        if self.tenants.setdefault(slug, owner) != owner:
            raise ManagedElsewhere(f"it belongs to {self.tenants[slug]}")
        self._raise(owner)
        for project in document.spec.projects:
            await options["sink"].holds(project.name, "K1", b"")
        return self._tenant(document)

    @staticmethod
    def _tenant(document: TenantDocument) -> Outcome:
        keys = tuple(KeyInForce(project=project.name, id="K1") for project in document.spec.projects)
        return Outcome(tenant_id=TENANT_ID, boards=0, keys_in_force=keys)

    async def survey_tenants(self, requests: Sequence[TenantRequest]) -> list[Outcome | None]:
        self.surveyed += [request.owner for request in requests]
        for request in requests:
            self._raise(request.owner)
        return [self._tenant(request.document) if self.as_asked else None for request in requests]

    async def delete_tenant(self, slug: str, **options: Any) -> None:
        self.deletions.append({"slug": slug, **options})
        self._raise(options["owner"])

    async def owners(self) -> tuple[set[str], set[str]]:
        boards = {board.managed_by for board in self.boards.values() if board.managed_by is not None}
        return set(self.tenants.values()), boards

    def _raise(self, owner: str) -> None:
        error = self.fault(owner)
        if error is not None:
            raise error

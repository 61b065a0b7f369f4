"""What a batch decides about one board, and drift, without servers."""

import msgspec
import pytest

from leaderboard.control.drift import LOST, agrees, damage, doubtful
from leaderboard.control.errors import BoardNotFound, ManagedElsewhere, ProjectNotFound, TenantNotFound
from leaderboard.control.plan import Adoption, Step, Wanted, give_room, plan_board, spec_hash, takes_over_tenant
from leaderboard.domain.boards import Board, BoardSpec, SortOrder, TiePolicy
from leaderboard.domain.documents import DeletionPolicy
from leaderboard.domain.errors import ImmutableField, InvalidDocument
from leaderboard.domain.names import BoardKey, LeaderboardId, ProjectId, TenantId
from leaderboard.store.postgres.boards import BoardRecord
from leaderboard.store.postgres.boards import BoardState as RowState
from leaderboard.store.postgres.fleet import Sight
from leaderboard.store.postgres.ledger import Position
from leaderboard.store.redis.boards import BoardState, Snapshot, meta_of

SPEC = BoardSpec(key=BoardKey("global"), max_entries=10)
BOARD = Board(id=LeaderboardId(7), spec=SPEC, managed_by="uid")
ROW = BoardRecord(BOARD, RowState.ACTIVE, DeletionPolicy.RETAIN, spec_hash(SPEC), None)
META = meta_of(BOARD, state=BoardState.ACTIVE, seq=5)
SEEN = Snapshot(meta=META, entries=3, orders=3)
WANTED = Wanted(
    slug="acme",
    project="default",
    spec=SPEC,
    spec_hash=spec_hash(SPEC),
    policy=DeletionPolicy.RETAIN,
    owner="uid",
    tenant_owner="uid-t",
    adopt=None,
    known_id=None,
)
HOME = Adoption(namespace="games", home=True)
replace = msgspec.structs.replace


def sight(**changed):
    return Sight(
        **{"tenant_id": TenantId(1), "managed_by": "uid-t", "project_id": ProjectId(2), "record": ROW} | changed
    )


def step(wanted=WANTED, at=None, seen=SEEN, position=None):
    return plan_board(wanted, at or sight(), snapshot=seen, position=position)


def spec(**changed):
    new = replace(SPEC, **changed)
    return replace(WANTED, spec=new, spec_hash=spec_hash(new))


def row(**changed):
    return sight(record=ROW._replace(**changed))


def test_a_board_as_it_should_be_is_kept():
    assert step() is Step.KEEP
    assert step(position=Position(1, 5)) is Step.KEEP
    assert step(replace(WANTED, known_id=LeaderboardId(7), adopt=HOME)) is Step.KEEP


def test_a_board_that_is_not_there_is_made_and_a_known_one_looked_into():
    assert step(at=sight(record=None), seen=None) is Step.CREATE
    assert step(replace(WANTED, known_id=LeaderboardId(7)), sight(record=None), None) is Step.ALONE
    with pytest.raises(InvalidDocument):
        step(spec(max_entries=-1), sight(record=None), None)


def test_what_may_not_be_made_is_changed_where_it_is_and_not_made_where_it_is_not():
    closed = replace(spec(suspended=True), may_create=False)
    assert step(closed) is Step.ALONE
    assert step(replace(WANTED, may_create=False)) is Step.KEEP
    assert step(replace(WANTED, may_create=False), seen=Snapshot()) is Step.REOPEN
    assert step(closed, row(state=RowState.DELETING)) is Step.ALONE  # which finds that there is none
    for known_id in (None, LeaderboardId(7)):
        with pytest.raises(BoardNotFound):
            step(replace(closed, known_id=known_id), sight(record=None), None)
    with pytest.raises(ManagedElsewhere):
        step(closed, row(board=replace(BOARD, managed_by="uid-2")))


@pytest.mark.parametrize(
    ("at", "refusal"),
    [
        (sight(tenant_id=None), TenantNotFound),
        (sight(managed_by="uid-x"), TenantNotFound),
        (sight(managed_by=None), TenantNotFound),
        (sight(project_id=None, record=None), ProjectNotFound),
        (row(board=replace(BOARD, managed_by="uid-2")), ManagedElsewhere),
        (row(board=replace(BOARD, managed_by=None)), ManagedElsewhere),
        (row(board=replace(BOARD, spec=replace(SPEC, sort_order=SortOrder.ASCENDING)), spec_hash=""), ImmutableField),
    ],
)
def test_what_cannot_be_is_refused(at, refusal):
    with pytest.raises(refusal):
        step(at=at)


def test_any_tenant_will_do_where_no_owner_is_asked_for():
    assert step(replace(WANTED, tenant_owner=None), sight(managed_by=None)) is Step.KEEP


@pytest.mark.parametrize(
    ("wanted", "at"),
    [
        (spec(max_entries=20), sight()),
        (spec(suspended=True), sight()),
        (replace(WANTED, policy=DeletionPolicy.DELETE), sight()),
        (WANTED, row(spec_hash="")),
        # Written for this very document: then somebody edited the row.
        (WANTED, row(board=replace(BOARD, spec=replace(SPEC, sort_order=SortOrder.ASCENDING)))),
        (WANTED, row(state=RowState.DELETING)),
        (replace(WANTED, adopt=HOME), row(board=replace(BOARD, managed_by=None))),
    ],
)
def test_what_has_to_be_changed_goes_alone(wanted, at):
    assert step(wanted, at) is Step.ALONE


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (Snapshot(), Step.REOPEN),
        (Snapshot(entries=3), Step.REOPEN),
        (Snapshot(broken=True), Step.ALONE),
        (replace(SEEN, meta=replace(META, id=8)), Step.ALONE),
        (replace(SEEN, meta=replace(META, incarnation=2)), Step.ALONE),
        (replace(SEEN, meta=replace(META, state=BoardState.REBUILDING)), Step.ALONE),
        (replace(SEEN, meta=replace(META, public=True)), Step.ALONE),
        (replace(SEEN, orders=2), Step.ALONE),
        (replace(SEEN, entries=11, orders=11), Step.ALONE),
        (replace(SEEN, entries=0, orders=0), Step.DOUBT),
        (Snapshot(meta=replace(META, seq=0)), Step.KEEP),
    ],
)
def test_what_redis_has_decides(seen, expected):
    assert step(seen=seen) is expected


def test_a_redis_behind_the_ledger_goes_alone_where_that_was_asked():
    assert step(position=Position(1, 6)) is Step.ALONE
    assert step(position=Position(1, 4)) is Step.KEEP  # the ledger is on its way


def test_the_order_hash_counts_for_first_to_reach_only():
    shared = replace(BOARD, spec=replace(SPEC, tie_policy=TiePolicy.SHARED))
    seen = Snapshot(meta=meta_of(shared, state=BoardState.ACTIVE, seq=5), entries=3, orders=0)
    assert damage(shared, seen, position=None) is None
    assert "belong together" in damage(BOARD, replace(SEEN, orders=0), position=None)


def test_damage_has_a_name():
    assert damage(BOARD, SEEN, position=Position(1, 5)) is None
    assert damage(BOARD, Snapshot(), position=None) == LOST


def test_an_empty_board_is_doubted_only_once_the_ledger_has_all_of_it():
    empty = replace(SEEN, entries=0, orders=0)
    assert doubtful(empty, position=Position(1, 5))
    assert not doubtful(empty, position=Position(1, 4))
    assert not doubtful(SEEN, position=Position(1, 5))
    assert not doubtful(Snapshot(meta=replace(META, seq=0)), position=Position(0, 0))


def test_the_state_is_part_of_what_agrees():
    assert agrees(BOARD, SEEN)
    assert not agrees(replace(BOARD, spec=replace(SPEC, suspended=True)), SEEN)


def test_room_is_given_in_order_and_by_tenant():
    a, b, c = (TenantId(n) for n in (1, 2, 3))
    assert give_room([a, b, a, a, b, c], room={a: 2, b: 1, c: -1}) == [True, True, True, False, False, False]
    assert give_room([], room={}) == []


@pytest.mark.parametrize(
    ("managed_by", "offered", "owner", "adopt", "expected"),
    [
        (None, None, None, None, False),  # the command line and what is its own
        ("uid", None, "uid", None, False),
        ("uid", None, "uid", HOME, False),
        (None, "games", "uid", HOME, True),
        (None, "other", "uid", HOME, "offer acme --namespace games"),
        (None, None, "uid", HOME, "offer acme --namespace games"),
        (None, "games", "uid", None, "annotation"),
        ("uid-2", "games", "uid", HOME, "uid-2"),
        ("uid-2", None, None, None, "uid-2"),
    ],
)
def test_who_may_take_a_tenant_over(managed_by, offered, owner, adopt, expected):
    def ask():
        return takes_over_tenant("acme", managed_by=managed_by, adoptable_from=offered, owner=owner, adopt=adopt)

    if isinstance(expected, str):
        with pytest.raises(ManagedElsewhere, match=expected):
            ask()
    else:
        assert ask() is expected

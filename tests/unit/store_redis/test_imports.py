"""When a chunk needs no script."""

import msgspec
import pytest

from leaderboard.domain.names import LeaderboardId
from leaderboard.store.redis.boards import BoardMeta, BoardState
from leaderboard.store.redis.imports import Plan, Progress, _is_alone

PLAN = Plan(
    id="d1", source="a list", total=2_000, board_key="l:1:p:b", board_id=LeaderboardId(5), season=2, overwrite=False
)
META = BoardMeta(
    id=5,
    incarnation=3,
    rule="s",
    order="d",
    tie="f",
    max_entries=0,
    public=False,
    state=BoardState.ACTIVE,
    season=2,
    bounds="",
    tiers="",
    seq=750,
)
PROGRESS = Progress(id="d1", source="a list", board="5/2", began=0, at=750, total=2_000, added=750, alone="3/750")


def alone(*, meta=(), progress=(), at=750, count=500):
    changed = msgspec.structs.replace
    return _is_alone(PLAN, changed(META, **dict(meta)), changed(PROGRESS, **dict(progress)), at=at, count=count)


@pytest.mark.parametrize(
    "meta", [{}, {"state": BoardState.SUSPENDED}, {"max_entries": 1_250}, {"tie": "u"}, {"bounds": "0.0 - - -"}]
)
def test_nobody_else_wrote(meta):
    assert alone(meta=meta)


@pytest.mark.parametrize(
    "meta",
    [
        {"id": 6},
        {"season": 3},
        {"incarnation": 4},
        {"seq": 751},
        {"seq": 749},
        {"state": BoardState.REBUILDING},
        {"max_entries": 1_249},
    ],
)
def test_the_board_is_not_as_it_was_left(meta):
    assert not alone(meta=meta)


@pytest.mark.parametrize(
    "progress", [{"id": "d2"}, {"board": "5/1"}, {"at": 250}, {"alone": ""}, {"alone": "3/750 "}, {"alone": "2/750"}]
)
def test_the_import_is_not_where_it_was(progress):
    assert not alone(progress=progress)

"""Receipts say whose they are to those who know, and are found out where they were changed."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import msgspec
import pytest

from leaderboard.domain.erasures import (
    PSEUDONYM_BYTES,
    Erasure,
    ErasureState,
    Line,
    Touched,
    member_digest,
    pseudonym,
    receipt_mac,
    sealed,
)
from leaderboard.domain.names import user_id

PEPPER = b"p" * 32
LINES = [
    Line(leaderboard_id=1, leaderboard="a", touched=Touched(entries=1, events=3)),
    Line(leaderboard_id=2, leaderboard="b", touched=Touched(season_lines=1)),
]


def receipt(**changes):
    done = Erasure(
        id=UUID(int=1),
        project_id=7,
        digest=member_digest(PEPPER, 7, "u42"),
        state=ErasureState.DONE,
        member=None,
        requested_by="k" * 16,
        requested_at=datetime(2026, 1, 31, 9, tzinfo=UTC),
        attempts=1,
        waits_for=None,
        finished_at=datetime(2026, 1, 31, 9, 0, 2, tzinfo=UTC),
        mac=None,
    )
    done = msgspec.structs.replace(done, mac=receipt_mac(PEPPER, done, LINES))
    return msgspec.structs.replace(done, **changes)


def test_a_receipt_is_sealed_as_it_was_written():
    assert sealed(PEPPER, receipt(), LINES)
    # The same moments, as a session in another time zone reads them.
    zone = timezone(timedelta(hours=5))
    elsewhere = receipt(
        requested_at=receipt().requested_at.astimezone(zone), finished_at=receipt().finished_at.astimezone(zone)
    )
    assert sealed(PEPPER, elsewhere, LINES)


@pytest.mark.parametrize(
    "changes",
    [
        {"id": UUID(int=2)},
        {"project_id": 8},
        {"digest": member_digest(PEPPER, 7, "u43")},
        {"requested_by": "x" * 16},
        {"requested_at": datetime(2026, 1, 31, 8, tzinfo=UTC)},
        {"finished_at": datetime(2026, 1, 31, 9, 0, 3, tzinfo=UTC)},
        {"mac": bytes(32)},
        {"mac": None},
        {"state": ErasureState.PENDING},
    ],
)
def test_a_changed_receipt_is_not(changes):
    assert not sealed(PEPPER, receipt(**changes), LINES)


def test_nor_is_one_with_other_lines_or_under_another_pepper():
    assert not sealed(PEPPER, receipt(), LINES[:1])
    assert not sealed(PEPPER, receipt(), LINES[::-1])
    assert not sealed(PEPPER, receipt(), [msgspec.structs.replace(LINES[0], touched=Touched(events=3)), LINES[1]])
    assert not sealed(b"q" * 32, receipt(), LINES)


def test_digests_tell_projects_members_and_peppers_apart():
    digests = {
        member_digest(pepper, project, member)
        for pepper in (PEPPER, b"q" * 32)
        for project, member in ((1, "1 a"), (11, "a"), (1, "a"), (1, "A"))
    }
    assert len(digests) == 8
    assert {len(digest) for digest in digests} == {32}


def test_a_pseudonym_is_a_user_id_of_its_random_bytes():
    assert pseudonym(bytes(range(PSEUDONYM_BYTES))) == "erased-000102030405060708090a0b"
    assert user_id(pseudonym(bytes(PSEUDONYM_BYTES)))
    with pytest.raises(ValueError, match="12 bytes"):
        pseudonym(b"x")


def test_what_was_touched_adds_up():
    assert sum((line.touched for line in LINES), Touched()) == Touched(entries=1, events=3, season_lines=1)
    assert Touched(snapshots=1)
    assert not Touched()

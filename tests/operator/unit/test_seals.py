"""A number that a status remembers is believed only where the operator wrote it, for this very object."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard_operator.seals import remembered, seal
from support.custom_resources import schema
from support.resources import make_board, make_tenant

PEPPER = b"p" * 32
NUMBERS = st.integers(1, 2**63 - 1)
UIDS = st.uuids().map(str)


def board(*, uid="uid-1", **status):
    return make_board(uid=uid, status=status)


def known(item, field="leaderboardID"):
    return remembered(item, field, pepper=PEPPER)


@given(NUMBERS, UIDS)
def test_what_was_sealed_is_remembered(number, uid):
    sealed = seal(number, uid=uid, pepper=PEPPER)
    assert known(board(uid=uid, leaderboardID=number, seal=sealed)) == number
    assert known(make_tenant(uid=uid, status={"tenantID": number, "seal": sealed}), "tenantID") == number


@given(NUMBERS, NUMBERS)
def test_another_number_under_the_seal_is_refused(number, forged):
    sealed = seal(number, uid="uid-1", pepper=PEPPER)
    assert known(board(leaderboardID=forged, seal=sealed)) == (number if forged == number else None)


@given(UIDS, UIDS)
def test_anothers_seal_is_refused(uid, other):
    sealed = seal(9, uid=other, pepper=PEPPER)
    assert known(board(uid=uid, leaderboardID=9, seal=sealed)) == (9 if uid == other else None)


def test_a_seal_under_another_pepper_is_refused():
    assert known(board(leaderboardID=9, seal=seal(9, uid="uid-1", pepper=b"q" * 32))) is None


@pytest.mark.parametrize("forged", [None, "", "0" * 32, 5, True, ["x"], {}, "ü" * 32, "\N{FULLWIDTH DIGIT ZERO}" * 32])
def test_a_forged_seal_is_refused(forged):
    assert known(board(leaderboardID=9, seal=forged)) is None


@pytest.mark.parametrize("change", [str.upper, lambda sealed: sealed[:-1], lambda sealed: f"{sealed}0"])
def test_a_seal_that_is_nearly_right_is_refused(change):
    sealed = seal(9, uid="uid-1", pepper=PEPPER)
    assert any(letter.isalpha() for letter in sealed)
    assert known(board(leaderboardID=9, seal=change(sealed))) is None


@pytest.mark.parametrize("number", [None, "9", 9.0, True, [9]])
def test_what_is_no_number_is_refused(number):
    assert known(board(leaderboardID=number, seal=seal(9, uid="uid-1", pepper=PEPPER))) is None
    assert known(board(leaderboardID=True, seal=seal(1, uid="uid-1", pepper=PEPPER))) is None


def test_a_status_without_number_or_seal_remembers_nothing():
    assert known(make_board()) is None
    assert known(board(leaderboardID=9)) is None
    assert known(board(seal=seal(9, uid="uid-1", pepper=PEPPER))) is None


def test_the_seal_is_hmac_sha256_of_the_object_and_the_number():
    """Written down: seals that are out there must go on being believed."""
    assert seal(7, uid="0b9f3a52", pepper=b"pepper") == "9e6a46598d418c463447273af72bda8d"


@pytest.mark.parametrize("kind", ["Tenant", "Leaderboard"])
def test_the_status_has_room_for_it(kind):
    """What the schema does not know the API server drops."""
    assert schema(kind)["properties"]["status"]["properties"]["seal"]["type"] == "string"

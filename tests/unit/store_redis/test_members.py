"""Whose entry it is that could not be stored, and how a pattern names one user only."""

import pytest

from leaderboard.store.redis.members import _literal, _names

GOOD = "00112233445566778899aabbccddeeff\x1fu\x1f12\x1f1\x1f9\x1f1\x1f1\x1f\x1fü42"


@pytest.mark.parametrize(
    ("payload", "board"),
    [
        (GOOD, 12),
        (GOOD.replace("ü42", "ü421"), None),
        (GOOD.replace("\x1f12\x1f", "\x1fü42\x1f"), None),
        ("not ours\x1fu\x1f12\x1fü42", 12),
        ("not ours\x1fu\x1f12", None),
        ("ü42", None),
        ("", None),
        (GOOD.replace("\x1f12\x1f", f"\x1f{'9' * 19}\x1f"), None),
    ],
)
def test_an_entry_names_a_user_and_a_board_or_nobody(payload, board):
    assert _names(payload.encode(), "ü42".encode()) == board


def test_a_number_in_an_event_is_no_user():
    assert _names(GOOD.encode(), b"9") is None
    assert _names(GOOD.replace("ü42", "9").encode(), b"9") == 12


def test_a_pattern_of_a_user_has_no_wildcards():
    assert _literal("a*b?[c]\\^-") == "a\\*b\\?\\[c\\]\\\\\\^\\-"

"""Names: what is taken, what is refused, and that no choice of names meets another's Redis key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard.domain import names
from leaderboard.domain.errors import InvalidName
from leaderboard.store.redis import keys

board_keys = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,127}", fullmatch=True)
projects = st.from_regex(r"[a-z0-9_-]{1,63}", fullmatch=True)
places = st.tuples(st.integers(1, 2**31), projects, board_keys)


@given(places, places)
def test_two_places_never_share_a_redis_key(one, other):
    if one == other:
        return
    board_one, board_other = keys.board(*one), keys.board(*other)
    of_one = {board_one, keys.meta(board_one), keys.order(board_one)}
    of_other = {board_other, keys.meta(board_other), keys.order(board_other)}
    assert not of_one & of_other
    assert not (of_one | of_other) & {keys.OUTBOX, keys.REVOCATIONS}


@given(places, st.from_regex(r"[\x21-\x7e]{1,128}", fullmatch=True), places, st.from_regex(r"[\x21-\x7e]{1,128}"))
def test_records_of_two_boards_never_share_a_redis_key(one, key, other, other_key):
    if one != other:
        assert keys.idempotency(keys.board(*one), key) != keys.idempotency(keys.board(*other), other_key)


@given(st.text(max_size=140))
def test_only_names_that_fit_pass(text):
    """Whatever passes is made of the allowed characters only, as counted without a regular expression."""
    for check, letters, most in (
        (names.board_key, "abcdefghijklmnopqrstuvwxyz0123456789_.-", 128),
        (names.project_name, "abcdefghijklmnopqrstuvwxyz0123456789_-", 63),
        (names.tenant_slug, "abcdefghijklmnopqrstuvwxyz0123456789-", 40),
    ):
        try:
            check(text)
        except InvalidName:
            continue
        assert set(text) <= set(letters)
        assert 1 <= len(text) <= most


@pytest.mark.parametrize("check", [names.board_key, names.project_name, names.tenant_slug, names.idempotency_key])
@pytest.mark.parametrize("text", ["", "a\n", "\na", "a b", "ä", "a:b", "a{b}", "a/b", "a$\n", "ａ", "a\x00", "٣٣ "])
def test_traps_are_refused(check, text):
    if check is names.idempotency_key and text in {"a:b", "a{b}", "a/b"}:
        assert check(text) == text
        return
    with pytest.raises(InvalidName):
        check(text)


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (names.board_key, ".a"),
        (names.board_key, "-a"),
        (names.board_key, "A"),
        (names.board_key, "a" * 129),
        (names.project_name, "a.b"),
        (names.project_name, "a" * 64),
        (names.tenant_slug, "-a"),
        (names.tenant_slug, "a-"),
        (names.tenant_slug, "a_b"),
        (names.tenant_slug, "a" * 41),
        (names.idempotency_key, "k" * 129),
        (names.idempotency_key, "\x7f"),
    ],
)
def test_just_past_the_pattern_is_refused(check, text):
    with pytest.raises(InvalidName):
        check(text)


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (names.board_key, "a" * 128),
        (names.board_key, "0._-"),
        (names.project_name, "_-" + "a" * 61),
        (names.tenant_slug, "a"),
        (names.tenant_slug, "a" + "-" * 38 + "b"),
        (names.idempotency_key, "k" * 128),
        (names.user_id, "u" * 128),
        (names.user_id, "ü" * 64),
        (names.user_id, "😀" * 32),
        (names.user_id, "a b:{c}*[?"),
        (names.user_id, "000000000001u"),
    ],
)
def test_the_edges_of_the_patterns_pass(check, text):
    assert check(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "a/b", "a\n", "\x00", "\x1f", "\x7f", "\x85", "\x9f", "\u2028", "\u2029", "\ud800", "u" * 129, "ü" * 64 + "u"],
)
def test_a_user_with_what_would_break_a_line_a_path_or_an_event_is_refused(text):
    with pytest.raises(InvalidName, match="user"):
        names.user_id(text)


@given(st.text(max_size=130))
def test_a_user_is_bounded_in_bytes_and_has_no_control_characters(text):
    try:
        user = names.user_id(text)
    except InvalidName:
        return
    assert 1 <= len(user.encode()) <= 128
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 or letter == "/" for letter in user)


def test_a_refusal_does_not_repeat_a_long_name_whole():
    with pytest.raises(InvalidName) as refused:
        names.board_key("A" * 100_000)
    assert len(str(refused.value)) < 400

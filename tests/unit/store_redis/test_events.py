"""The outbox's entries, and the names of keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard.store.redis import events, keys, scripts
from leaderboard.store.redis.events import EventIds, EventKind

ID = "00112233445566778899aabbccddeeff"


def payload(*parts):
    return events.SEPARATOR.join(parts).encode()


def test_an_update_is_read_back_whole():
    event = events.decode(b"1700000000123-7", payload(ID, "u", "5", "2", "9", "1.5", "-0.1", "00000000000a", "ü 😀"))
    assert event.id.hex == ID
    assert event.time.timestamp() == pytest.approx(1700000000.123)
    assert (event.kind, event.leaderboard_id, event.incarnation, event.seq) == (EventKind.UPDATE, 5, 2, 9)
    assert (event.submitted, event.score, event.order, event.user) == (1.5, -0.1, "00000000000a", "ü 😀")


def test_absent_parts_are_none():
    event = events.decode(b"1-0", payload(ID, "d", "5", "2", "9", "", "", "", ""))
    assert (event.submitted, event.score, event.order, event.user) == (None, None, "", "")


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"x",
        payload(ID, "u"),
        payload("x", *"u123456", "u"),
        payload(ID, "?", "5", "2", "9", "", "", "", ""),
        b"\xff",
    ],
)
def test_what_is_not_ours_is_refused(entry):
    with pytest.raises(ValueError):
        events.decode(b"1-0", entry)


floats = st.floats(allow_nan=False, allow_infinity=False)


@given(floats)
def test_scores_cross_without_loss(score):
    for text in (repr(score), f"{score:.17g}"):
        event = events.decode(b"1-0", payload(ID, "u", "5", "2", "9", text, text, "", "u"))
        assert event.score == event.submitted == score


def slot(key):
    """The Redis Cluster slot of a key, as the cluster specification has it."""
    start = key.find("{")
    if start >= 0 and (end := key.find("}", start + 1)) > start + 1:
        key = key[start + 1 : end]
    return _crc16(key.encode()) % 16384


def _crc16(data):
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


def test_the_slot_function_is_the_specifications():
    assert _crc16(b"123456789") == 0x31C3


@given(st.integers(1, 10**9), st.from_regex(r"[a-z0-9_-]{1,63}", fullmatch=True), st.text("abc}{:", max_size=9))
def test_what_belongs_to_a_board_is_in_the_boards_slot(tenant, project, key):
    board = keys.board(tenant, project, "global")
    assert slot(board) == slot(keys.meta(board)) == slot(keys.order(board)) == slot(keys.idempotency(board, key))


def test_a_board_key_is_as_documented():
    assert keys.board(23, "race_app", "global") == "l:23:race_app:global"


def test_the_buckets_of_one_tenant_are_two():
    assert keys.rate_limit(1) != keys.public_rate_limit(1)


def test_event_numbers_are_never_given_twice():
    ids = EventIds(bytes(range(8)))
    taken = [number for count in (1, 64, 1, 3) for start in [ids.take(count)] for number in range(start, start + count)]
    assert taken == list(range(69))
    assert ids.nonce == "0001020304050607"


def test_a_nonce_of_another_length_is_refused():
    with pytest.raises(ValueError, match="8"):
        EventIds(b"short")


def test_every_script_has_its_own_name_and_hash():
    assert (
        len({script.sha for script in scripts.ALL}) == len({script.name for script in scripts.ALL}) == len(scripts.ALL)
    )


def imported(*members, order="d", seq="7"):
    return payload(ID[:30] + "00", "i", "5", "2", seq, order, *members)


def test_a_chunk_of_an_import_is_an_event_for_each_member():
    first, second = events.decode_all(b"1700000000123-7", imported("ann", "1.5", "bob", "0.30000000000000004"))
    assert (first.kind, first.leaderboard_id, first.incarnation) == (EventKind.IMPORT, 5, 2)
    assert (first.user, first.seq, first.score, first.submitted, first.order) == ("ann", 7, 1.5, 1.5, "fffffffffff8")
    assert (second.user, second.seq, second.score, second.order) == ("bob", 8, 0.1 + 0.2, "fffffffffff7")
    assert second.id.int - first.id.int == 256  # the next counter: no other event of the process has it
    assert first.time == second.time
    (ascending,) = events.decode_all(b"1-0", imported("ann", "1", order="a"))
    assert ascending.order == "000000000007"
    (lean,) = events.decode_all(b"1-0", imported("ann", "1", order=""))
    assert lean.order == ""


@given(st.lists(st.tuples(st.text(st.characters(exclude_categories=("C",)), min_size=1), floats), min_size=1))
@pytest.mark.parametrize("order", ["d", "a", ""])
def test_a_chunk_that_is_written_is_read_back_whole(order, members):
    ids = EventIds(bytes.fromhex(ID[:16]))
    ids.take(10)
    entry = events.import_entry(
        first_id=ids.text(ids.take(len(members))), board_id=5, incarnation=2, first_seq=7, order=order, members=members
    )
    found = events.decode_all(b"1-0", entry.encode())
    assert [(event.user, event.score) for event in found] == members
    assert [event.seq for event in found] == list(range(7, 7 + len(members)))
    assert [event.order for event in found] == [events.order_prefix(order, event.seq) for event in found]
    assert [event.id.hex for event in found] == [f"{ID[:16]}{10 + at:014x}00" for at in range(len(members))]


@pytest.mark.parametrize("entry", [imported(), imported("ann"), imported("ann", "x"), imported("ann", "1", order="z")])
def test_a_chunk_that_is_not_whole_is_refused(entry):
    with pytest.raises(ValueError):
        events.decode_all(b"1-0", entry)


def test_an_entry_of_one_event_is_read_as_such():
    entry = payload(ID, "u", "5", "2", "9", "1.5", "1.5", "", "i")
    assert events.decode_all(b"1-0", entry) == [events.decode(b"1-0", entry)]

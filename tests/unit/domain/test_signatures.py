"""What is signed, to the byte; by RFC 8032's own vectors; and that no change of it goes unseen."""

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from leaderboard.domain.errors import DomainError
from leaderboard.domain.signatures import Signer, Statement, fits, is_key, moment, new_seed

# RFC 8032, 7.1, test 1.
SEED = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
PUBLIC = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
STATEMENT = Statement(
    tenant="acme",
    project="default",
    leaderboard="global",
    season=3,
    ended_at="2026-01-31T09:00:00.250000Z",
    entries=1200,
    checksum="ab" * 32,
)


def changed(**change):
    return msgspec.structs.replace(STATEMENT, **change)


def test_the_text_is_the_values_in_order_a_line_each():
    assert STATEMENT.text() == (
        b"leaderboard-standings-v1\nacme\ndefault\nglobal\n3\n2026-01-31T09:00:00.250000Z\n1200\n" + b"ab" * 32 + b"\n"
    )


def test_the_public_key_is_the_seeds():
    assert Signer(SEED).public_key == Signer(SEED.upper()).public_key == PUBLIC


def test_the_same_statement_has_the_same_signature():
    assert Signer(SEED).signed(STATEMENT) == Signer(SEED).signed(STATEMENT)
    assert fits(Signer(SEED).signed(STATEMENT), PUBLIC)
    assert fits(Signer(SEED).signed(STATEMENT), PUBLIC.upper())


def test_without_a_key_nothing_is_signed():
    signed = Signer("").signed(STATEMENT)
    assert (signed.signature, signed.public_key) == (None, None)
    assert not fits(signed, PUBLIC)


@pytest.mark.parametrize(
    "change",
    [
        {"tenant": "acmf"},
        {"project": "default2"},
        {"leaderboard": "global."},
        {"season": 4},
        {"ended_at": "2026-01-31T09:00:00.250001Z"},
        {"entries": 1201},
        {"checksum": "ab" * 31 + "ac"},
        {"signature": "00" * 64},
        {"signature": None},
        {"signature": "00"},
    ],
)
def test_a_change_is_seen(change):
    assert not fits(msgspec.structs.replace(Signer(SEED).signed(STATEMENT), **change), PUBLIC)


@pytest.mark.parametrize("key", [Signer("5e" * 32).public_key, "00" * 32, "ff" * 32, "", "ab", "x" * 64])
def test_another_key_does_not_fit(key):
    assert not fits(Signer(SEED).signed(STATEMENT), key)


@pytest.mark.parametrize(
    "change",
    [
        {"tenant": "acme\ndefault"},
        {"tenant": "acme\n"},
        {"project": "a\nb"},
        {"leaderboard": "global\n"},
        {"season": 0},
        {"entries": -1},
        {"ended_at": "2026-01-31T09:00:00.25Z"},
        {"ended_at": "2026-01-31T10:00:00+01:00"},
        {"ended_at": "2026-01-31T09:00:00"},
        {"ended_at": "2026-01-31T09:00:00Z\n"},
        {"ended_at": "soon"},
        {"checksum": "AB" * 32},
        {"checksum": "ab" * 32 + "\n"},
    ],
)
def test_what_no_season_has_is_neither_signed_nor_read(change):
    with pytest.raises(DomainError):
        changed(**change).text()
    with pytest.raises(DomainError):
        Signer(SEED).signed(changed(**change))


def test_a_time_is_written_in_utc_as_the_api_writes_it():
    for micro in (0, 1, 250_000):
        time = datetime(2026, 1, 31, 9, microsecond=micro, tzinfo=UTC)
        assert f'"{moment(time)}"' == msgspec.json.encode(time).decode()
        assert moment(time.astimezone(timezone(timedelta(hours=5)))) == moment(time)


def test_new_keys_are_keys_and_differ():
    seeds = {new_seed() for _ in range(8)}
    assert len(seeds) == 8
    assert all(map(is_key, seeds))

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard.domain.sessions import LIFETIME_SECONDS, NONCE_BYTES, Sealer

KEY = "0123456789abcdef"
NOW = 1_800_000_000.0
SEALER = Sealer(b"p" * 32)


def sealed(*, nonce: bytes = b"n" * NONCE_BYTES) -> str:
    return SEALER.seal(KEY, nonce=nonce, now=NOW)


def test_another_process_with_the_same_pepper_opens_it():
    session = Sealer(b"p" * 32).open(sealed(), now=NOW)
    assert session is not None
    assert (session.key_id, session.expires_at) == (KEY, NOW + LIFETIME_SECONDS)


def test_another_pepper_opens_nothing():
    assert Sealer(b"q" * 32).open(sealed(), now=NOW) is None


def test_it_ends():
    assert SEALER.open(sealed(), now=NOW + LIFETIME_SECONDS - 1) is not None
    assert SEALER.open(sealed(), now=NOW + LIFETIME_SECONDS) is None


@given(st.integers(0, len(sealed()) - 1), st.characters(codec="latin-1"))
def test_a_changed_one_is_none(position, character):
    text = sealed()
    changed = text[:position] + character + text[position + 1 :]
    assert changed == text or SEALER.open(changed, now=NOW) is None


@given(st.text())
def test_made_up_text_is_none(text):
    assert SEALER.open(text, now=NOW) is None


def test_each_session_has_its_own_csrf_token_and_does_not_show_it():
    tokens = set()
    for number in range(2):
        text = sealed(nonce=bytes([number]) * NONCE_BYTES)
        session = SEALER.open(text, now=NOW)
        assert session is not None
        assert session.csrf_token not in text
        tokens.add(session.csrf_token)
    assert len(tokens) == 2


def test_a_short_nonce_is_refused():
    with pytest.raises(ValueError, match="9 bytes"):
        SEALER.seal(KEY, nonce=b"", now=NOW)

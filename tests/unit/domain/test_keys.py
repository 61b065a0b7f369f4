"""API keys: shape, checksum, digest, and that nothing shows them by accident."""

import hashlib
import hmac
import string

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leaderboard.domain.errors import InvalidApiKey
from leaderboard.domain.keys import Scope, digest, make_key, parse_key

ENTROPY = bytes(range(44))
alphanumeric = string.digits + string.ascii_letters


@given(st.binary(min_size=44, max_size=44), st.from_regex(r"[a-z]{2,8}", fullmatch=True))
def test_a_made_key_parses_to_itself(entropy, env):
    key = make_key(entropy, env=env)
    assert parse_key(key.text) == key
    assert key.text.startswith(f"lb_{env}_{key.id}_")
    assert len(key.id) == 16


def test_every_change_of_one_character_is_noticed():
    text = make_key(ENTROPY).text
    for index, letter in enumerate(text):
        for other in alphanumeric + "_-":
            if other != letter:
                with pytest.raises(InvalidApiKey):
                    parse_key(text[:index] + other + text[index + 1 :])


@settings(max_examples=300)
@given(st.binary(min_size=44, max_size=44), st.integers(0, 80), st.sampled_from(alphanumeric))
def test_a_lost_doubled_or_swapped_character_is_noticed(entropy, index, letter):
    text = make_key(entropy).text
    index %= len(text) - 1
    swapped = text[:index] + text[index + 1] + text[index] + text[index + 2 :]
    for changed in (text[:index] + text[index + 1 :], text[:index] + letter + text[index:], swapped):
        if changed != text:
            with pytest.raises(InvalidApiKey):
                parse_key(changed)


@given(st.text(max_size=100))
def test_other_text_is_refused_without_another_error(text):
    with pytest.raises(InvalidApiKey):
        parse_key(text)


@pytest.mark.parametrize("trap", ["{}\n", "\n{}", " {}", "{} ", "{}\x00", "{}\ud800", "Bearer {}"])
def test_a_key_with_something_around_it_is_refused(trap):
    with pytest.raises(InvalidApiKey):
        parse_key(trap.format(make_key(ENTROPY).text))


def test_the_refusal_does_not_show_the_text():
    secret = make_key(ENTROPY).text[:-1]
    with pytest.raises(InvalidApiKey) as refused:
        parse_key(secret)
    assert secret[20:40] not in str(refused.value)


@given(st.binary(min_size=44, max_size=44), st.binary(min_size=44, max_size=44))
def test_different_secrets_give_different_keys(one, other):
    if one[12:] != other[12:]:
        assert make_key(one).text != make_key(other).text


def test_the_whole_of_the_secret_counts():
    changed = ENTROPY[:-1] + b"\xff"
    assert make_key(ENTROPY).id == make_key(changed).id
    assert make_key(ENTROPY).text != make_key(changed).text


def test_too_little_entropy_is_refused():
    with pytest.raises(ValueError, match="44"):
        make_key(ENTROPY[:-1])


def test_the_digest_is_the_hmac_under_the_pepper():
    key = make_key(ENTROPY)
    assert digest(key, pepper=b"p") == hmac.new(b"p", key.text.encode(), hashlib.sha256).digest()
    assert digest(key, pepper=b"p") != digest(key, pepper=b"q")
    assert digest(key, pepper=b"p") != digest(make_key(ENTROPY[::-1]), pepper=b"p")


def test_neither_repr_nor_format_shows_the_secret():
    key = make_key(ENTROPY)
    for shown in (repr(key), str(key), f"{key}", repr([key])):
        assert key.text[23:] not in shown
        assert key.id in shown


def test_a_key_cannot_be_changed():
    with pytest.raises(AttributeError):
        make_key(ENTROPY).text = "other"
    assert msgspec.structs.replace(make_key(ENTROPY), id="x").id == "x"


@pytest.mark.parametrize("have", Scope)
@pytest.mark.parametrize("need", Scope)
def test_a_scope_allows_itself_and_what_is_less(have, need):
    order = ["read", "write", "admin"]
    assert have.allows(need) == (order.index(have.value) >= order.index(need.value))
    assert [scope.value for scope in have.included] == order[: order.index(have.value) + 1]

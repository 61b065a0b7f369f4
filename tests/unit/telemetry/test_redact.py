"""Nothing that opens a door gets through, in whatever state and wherever it stands."""

import pytest

from leaderboard.domain.keys import make_key
from leaderboard.telemetry.redact import redact

KEY = make_key(bytes(range(44)), env="test")
SECRET = KEY.text.rpartition("_")[2]


@pytest.mark.parametrize(
    "text",
    [
        KEY.text,
        f"Bearer {KEY.text}",
        f'{{"api_key":"{KEY.text}"}}',
        f"GET /v1/x?key={KEY.text}&a=b",
        f"%20{KEY.text}%20",
        f"KeyError: '{KEY.text}'",
        f"{KEY.text}\n{KEY.text}",
        f"({KEY.text},)",
        KEY.text[:-1],  # mistyped: not a key, but nearly
        KEY.text + "x",
    ],
)
def test_an_api_key_loses_its_secret_and_keeps_its_id(text):
    shown = redact(text)
    assert SECRET[:20] not in shown
    assert f"lb_test_{KEY.id}_***" in shown


def test_a_key_that_was_cut_before_its_secret_shows_nothing_of_it():
    assert redact("lb_live_abc_SECRET") == "lb_live_***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:hunter2@cache:6379/0", "redis://:***@cache:6379/0"),
        ("postgresql://app:hunter2@db/lb?sslmode=require", "postgresql://app:***@db/lb?sslmode=require"),
        ("rediss://u:p%40ss@h and http://a:b@c", "rediss://u:***@h and http://a:***@c"),
        ("host=db password=hunter2 user=app", "host=db password=*** user=app"),
        ('{"password": "hunter2"}', '{"password": "***"}'),
        ("Config(pepper='hunter2')", "Config(pepper='***')"),
        ("Config(signing_key='hunter2')", "Config(signing_key='***')"),
        ("Authorization: Bearer abc.def", "Authorization: ***"),
    ],
)
def test_passwords_go_and_the_rest_stays(text, shown):
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text", ["the outbox is full", "http://db:5432/x", "/v1/leaderboards/lb/top", "user@example.com at 10:30"]
)
def test_what_is_no_secret_is_left_alone(text):
    assert redact(text) == text

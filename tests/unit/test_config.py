"""Configuration is read once, checked whole, and never shows a secret."""

import pytest

from leaderboard.config import Config, ConfigError, load

GIVEN = {
    "LEADERBOARD_REDIS_URL": "redis://:hidden@localhost:6379/0",
    "LEADERBOARD_DATABASE_URL": "postgresql://u:hidden@localhost/db",
    "LEADERBOARD_PEPPER": "hidden" * 6,
}


def test_the_three_without_a_default_are_enough():
    config = load(GIVEN)
    assert config.redis_url == GIVEN["LEADERBOARD_REDIS_URL"]
    assert config.workers == 1


@pytest.mark.parametrize("name", GIVEN)
def test_a_missing_one_is_named(name):
    with pytest.raises(ConfigError, match=name):
        load({other: value for other, value in GIVEN.items() if other != name})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKERS", "0"),
        ("WORKERS", "many"),
        ("IDEMPOTENCY_TTL", "0"),
        ("OUTBOX_MAX", "-1"),
        ("REDIS_TIMEOUT", "nan"),
        ("REDIS_TIMEOUT", "0"),
        ("BODY_LIMIT", "1"),
        ("LEDGER_BATCH", "0"),
        ("LEDGER_RETENTION_DAYS", "-1"),
        ("PEPPER", "short"),
        ("LOG_LEVEL", "loud"),
        ("KEY_ENV", "Live"),
        ("KEY_ENV", "x"),
        ("SIGNING_KEY", "ab" * 31),
        ("SIGNING_KEY", "zz" * 32),
        ("SIGNING_KEY", "ab" * 32 + "\n"),
    ],
)
def test_a_wrong_value_is_refused_with_its_variable(name, value):
    with pytest.raises(ConfigError, match="LEADERBOARD_") as refused:
        load(GIVEN | {f"LEADERBOARD_{name}": value})
    assert name in str(refused.value).upper()


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "http://h:6379/0",
        "redis://:hidden/x@h:6379/0",
        "redis://:hidden#x@h:6379/0",
        "redis://:hidden?x@h:6379/0",
        "redis://:hid[den@h:6379/0",
        "redis://h:6379/daily",
        "redis://h:0/0",
        "redis://h:99999/0",
        "redis://h/0?socket_timeout=hidden",
        "redis://h/0?db=3",
    ],
)
def test_what_is_no_redis_url_is_refused_and_not_shown(url):
    with pytest.raises(ConfigError, match="LEADERBOARD_REDIS_URL must be redis://") as refused:
        load(GIVEN | {"LEADERBOARD_REDIS_URL": url})
    assert "hid" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    ["redis://h", "redis://h/", "rediss://u:p%2Fw@h:6380/2?ssl_ca_certs=/ca.pem", "redis://[::1]:6379/0", "unix:///x"],
)
def test_redis_urls(url):
    assert load(GIVEN | {"LEADERBOARD_REDIS_URL": url}).redis_url == url


def test_a_wrong_signing_key_is_not_shown():
    with pytest.raises(ConfigError, match="leaderboard signing-key") as refused:
        load(GIVEN | {"LEADERBOARD_SIGNING_KEY": "hidden"})
    assert "hidden" not in str(refused.value)


def test_numbers_and_switches_are_read_from_text():
    config = load(
        GIVEN | {"LEADERBOARD_WORKERS": "4", "LEADERBOARD_TELEMETRY": "1", "LEADERBOARD_REDIS_TIMEOUT": "0.5"}
    )
    assert (config.workers, config.telemetry, config.redis_timeout) == (4, True, 0.5)


def test_variables_of_others_are_left_alone():
    assert load(GIVEN | {"LEADERBOARD_SOMETHING_ELSE": "1", "PATH": "/bin"}) == load(GIVEN)


def test_no_secret_is_shown():
    assert "hidden" not in repr(load(GIVEN))
    assert "abab" not in repr(load(GIVEN | {"LEADERBOARD_SIGNING_KEY": "ab" * 32}))
    assert set(Config.__struct_fields__) >= {"redis_url", "database_url", "pepper", "signing_key"}

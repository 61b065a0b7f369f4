"""How a DSN reaches yoyo, and what is in the package."""

from importlib import resources

import pytest

from leaderboard.store.postgres import migrate


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://us%40er:p%3Aw@db.example:6432/board?sslmode=require",
        "user=us@er password=p:w host=db.example port=6432 dbname=board sslmode=require",
    ],
)
def test_urls_and_keyword_strings_say_the_same(dsn):
    uri = migrate._uri(dsn)
    assert uri.scheme == "postgresql+psycopg"
    assert (uri.username, uri.password, uri.hostname, uri.port) == ("us@er", "p:w", "db.example", "6432")
    assert (uri.database, uri.args) == ("board", {"sslmode": "require"})


def test_nonsense_is_named():
    with pytest.raises(ValueError, match="not a PostgreSQL URL"):
        migrate._uri("not a dsn")


def test_the_migrations_are_package_data():
    names = [file.name for file in (resources.files(migrate.__package__) / "migrations").iterdir()]
    assert {"0001.initial.sql", "0002.leadership.sql"} <= set(names)

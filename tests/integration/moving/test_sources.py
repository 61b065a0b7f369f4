"""A Podium's Redis and a Nakama's table: the shapes they have, and what of them is on the board afterwards."""

import time

import psycopg
import pytest

from support.moving import on_board, once_in_the_ledger, verified
from support.world import leaderboard

BOARD = ("--board", "acme/default/global")

# As Nakama's migrations leave it.
RECORDS = """
CREATE TABLE leaderboard_record (
    leaderboard_id VARCHAR(128) NOT NULL, owner_id UUID NOT NULL, username VARCHAR(128), score BIGINT NOT NULL,
    subscore BIGINT NOT NULL DEFAULT 0, num_score INT NOT NULL DEFAULT 1, metadata JSONB NOT NULL DEFAULT '{}',
    create_time TIMESTAMPTZ NOT NULL DEFAULT now(), update_time TIMESTAMPTZ NOT NULL DEFAULT now(),
    expiry_time TIMESTAMPTZ NOT NULL DEFAULT '1970-01-01 00:00:00 UTC', max_num_score INT NOT NULL DEFAULT 1000000,
    PRIMARY KEY (leaderboard_id, expiry_time, score, subscore, owner_id)
)
"""


@pytest.fixture
def podium(make_redis):
    """A Redis with what Podium keeps of a leaderboard: 3,000 members with ties, some of which expire."""
    import redis

    server = make_redis()
    with redis.Redis.from_url(server.url) as client:
        client.zadd("daily", {f"player-{number:05}": number % 900 for number in range(3_000)})
        now = int(time.time())
        client.zadd("daily:ttl", {"player-00001": now - 60, "player-00002": now + 3600, "player-00003": now + 3600})
        client.sadd("expiration-sets", "daily:ttl")
        client.zadd("weekly-year2026week48", {"ann": 2, "bob": 1})
        client.expireat("weekly-year2026week48", now + 86_400)
        client.zadd("odd", {b"\xff": 1, "a/b": 2, "ok": 3, "far": 2**60, "x" * 129: 4})
        yield server.url


@pytest.mark.parametrize(("order", "tie"), [("Descending", "FirstToReach"), ("Ascending", "UserId")])
async def test_a_podium_board_ranks_as_before(world, podium, order, tie, leaderboard_cli, worker):
    made = await world.apply(leaderboard(sortOrder=order, tiePolicy=tie))
    source = ("podium", "--from-redis", podium, "--leaderboard", "daily")
    printed = leaderboard_cli("import", *BOARD, *source)
    assert "Podium's 'daily' at 127.0.0.1:" in printed
    assert podium.partition("@")[0].rpartition(":")[2] not in printed  # the password
    assert "1 members had expired and were left out" in printed
    assert "2 members expire in Podium; their expiry is not kept, they stay" in printed
    assert "2,999 members added" in printed
    expected = [(f"player-{number:05}", number % 900) for number in range(3_000) if number != 1]
    expected.sort(key=lambda member: (member[1], member[0]), reverse=order == "Descending")  # as Podium's ZREVRANGE
    assert await on_board(world, made) == expected
    await verified(world, entries=2_999)
    await once_in_the_ledger(world, entries=2_999)
    assert "2,999 the same" in leaderboard_cli("import", *BOARD, "--diff", *source)


async def test_what_a_podium_has_that_a_board_cannot_have_is_named(world, podium, leaderboard_cli, worker):
    made = await world.apply(leaderboard())
    source = ["podium", "--from-redis", podium, "--leaderboard"]
    printed = leaderboard_cli("import", *BOARD, *source, "odd", code=1)
    for text in ("the id is not UTF-8", "('a/b')", "'far': a sum board holds", "got 129", "--skip-bad 4"):
        assert text in printed
    leaderboard_cli("import", *BOARD, *source, "odd", "--skip-bad", "4")
    assert await on_board(world, made) == [("ok", 3)]
    expires = leaderboard_cli("import", *BOARD, *source, "weekly-year2026week48", code=1)  # one on the board is extra
    assert "the leaderboard expires in Podium at" in expires
    assert "this Redis has no key 'none'" in leaderboard_cli("import", *BOARD, *source, "none", code=1)
    assert "has a set under the name" in leaderboard_cli("import", *BOARD, *source, "expiration-sets", code=1)
    wrong = ["podium", "--from-redis", "redis://127.0.0.1:1/0", "--leaderboard", "daily"]
    assert "Podium's Redis did not do it" in leaderboard_cli("import", *BOARD, *wrong, code=1)
    for url in ("127.0.0.1", "redis://:p[ss@127.0.0.1:6379/0", "redis://:pa/ss@127.0.0.1:6379/0", f"{podium}/daily"):
        wrong[2] = url
        said = leaderboard_cli("import", *BOARD, *wrong, code=2)
        assert "--from-redis must be redis://" in said
        assert not any(part in said for part in ("p[ss", "pa/ss", "ss@", "'pa'"))


@pytest.fixture
def nakama(postgres, tmp_path):
    """The file that COPY makes of Nakama's table."""
    url = postgres.create_database("nakama")
    file = tmp_path / "records.csv"
    with psycopg.connect(url) as conn:
        conn.execute(RECORDS)
        conn.execute(
            "INSERT INTO leaderboard_record (leaderboard_id, owner_id, username, score, subscore, metadata)"
            " SELECT 'weekly', gen_random_uuid(), CASE WHEN n % 3 > 0 THEN 'user, \"' || n END, n % 40, n % 3,"
            '        CASE WHEN n % 5 = 0 THEN \'{"car": "red, \\"fast\\""}\'::jsonb ELSE \'{}\' END'
            " FROM generate_series(1, 2000) n"
        )
        conn.execute(
            "INSERT INTO leaderboard_record (leaderboard_id, owner_id, score, expiry_time)"
            " SELECT 'cup', gen_random_uuid(), n, timestamptz '2026-11-23 00:00Z' + n % 2 * interval '7 days'"
            " FROM generate_series(1, 100) n"
        )
        with (
            file.open("wb") as out,
            conn.cursor().copy("COPY leaderboard_record TO STDOUT WITH (FORMAT csv, HEADER)") as copy,
        ):
            for data in copy:
                out.write(data)
        ranked = {
            order: conn.execute(
                "SELECT owner_id::text, score FROM leaderboard_record WHERE leaderboard_id = 'weekly'"
                f" ORDER BY score {way}, subscore {way}, owner_id {way}"
            ).fetchall()
            for order, way in (("Descending", "DESC"), ("Ascending", "ASC"))
        }
    yield file, ranked
    postgres.drop_database("nakama")


@pytest.mark.parametrize("order", ["Descending", "Ascending"])
async def test_a_nakama_board_ranks_as_before(world, nakama, order, leaderboard_cli, worker):
    file, ranked = nakama
    made = await world.apply(leaderboard(sortOrder=order, scoreUpdate="Best"))
    printed = leaderboard_cli("import", *BOARD, "nakama", file, "--leaderboard", "weekly")
    assert "have a subscore; it is kept as the order of equal scores, the number itself is not" in printed
    assert "400 records have metadata, which is not kept" in printed
    assert "2,000 members added" in printed
    assert await on_board(world, made) == ranked[order]
    await verified(world, entries=2_000)
    await once_in_the_ledger(world, entries=2_000)


async def test_a_nakama_period_is_chosen_by_its_expiry(world, nakama, leaderboard_cli, worker):
    made = await world.apply(leaderboard())
    source = ("nakama", nakama[0], "--leaderboard")
    printed = leaderboard_cli("import", *BOARD, *source, "cup", code=1)
    assert "has records of 2 periods; say which with --expiry: " in printed
    assert "'2026-11-23 00:00:00+00' (50 records)" in printed
    leaderboard_cli("import", *BOARD, *source, "cup", "--expiry", "2026-11-30 00:00:00+00")
    assert [score for _, score in await on_board(world, made)] == list(range(99, 0, -2))
    assert "there are ['cup', 'weekly']" in leaderboard_cli("import", *BOARD, *source, "none", code=1)

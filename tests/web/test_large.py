"""A large tenant's dashboard: what it loads, what Postgres reads for it, and what it costs Redis, which is nothing."""

import json
import re
import time

import psycopg
import pytest
from playwright.sync_api import expect

from support import large
from support.platform import Platform
from support.servers import FAST_POSTGRES
from support.tap import Tap

MEMBERS, BOARDS, DAYS = 100_000, 1_000, 90
PLANS = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_format": "json",
    "log_line_prefix": "%m [%p] ",
}
# For the API's connections alone.
EXPLAINED = "?options=-c%20auto_explain.log_min_duration%3D0"
SMALL = 100
"""Rows of a table up to which Postgres may as well read the whole of it: it is a page or two."""
# By itself, a process of the API follows the revocations, and says hello where it connects again.
IDLE = {"XREAD revocations", "XRANGE revocations", "PING", "HELLO", "CLIENT"}


@pytest.fixture(scope="module")
def place(chromium_path, tmp_path_factory):
    """The platform with its tenant, the commands the API sends to Redis (grows), and the log of Postgres.

    It has to be there before Chromium: the tap starts an event loop in this thread.
    """
    folder = tmp_path_factory.mktemp("large")
    sent: list[bytes] = []

    def struck(data: bytes) -> bool:
        sent.append(data)
        return True

    with (
        large.stores(folder, settings=FAST_POSTGRES | PLANS) as (postgres, redis),
        Tap(redis.url, struck=struck).open() as tap,
    ):
        platform = Platform(folder / "platform", redis_url=redis.url, database=postgres.url)
        platform.env |= {
            "LEADERBOARD_REDIS_URL": tap.url,
            "LEADERBOARD_DATABASE_URL": postgres.url + EXPLAINED,
        }
        try:
            platform.start_api()
            platform.env |= {"LEADERBOARD_REDIS_URL": redis.url, "LEADERBOARD_DATABASE_URL": postgres.url}
            platform.start_worker()
            tenant = large.fill(platform, members=MEMBERS, boards=BOARDS, days=DAYS)
            yield platform, tenant, sent, folder / "stores.log"
        finally:
            platform.stop()


def walk(visit, key):
    """Look at everything there is: each view, all periods, pages of lists, a board, who is around a user."""
    visit.sign_in(key)
    for period in ("24 hours", "7 days", "90 days"):
        visit.page.get_by_role("button", name=period).click()
        visit.settle()
    visit.go("boards")
    visit.page.get_by_role("button", name="Next").click()
    expect(visit.page.get_by_role("link", name="board-0051")).to_be_visible()
    for view in ("usage", "keys", "activity"):
        visit.go(view)
    visit.open("activity/global")
    visit.page.get_by_role("button", name="Older").click()
    visit.settle()
    visit.open("activity/global?user=user-050000")
    visit.open("boards/global")
    visit.page.get_by_label("How many").select_option("Top 100")
    expect(visit.page.get_by_role("cell", name="user-099900")).to_be_visible()
    visit.page.get_by_placeholder("User id").fill("user-050000")
    visit.page.get_by_role("button", name="Find").click()
    expect(visit.page.get_by_role("region", name="Around user-050000").get_by_role("row")).to_have_count(12)


def commands(sent):
    """The Redis commands in what was sent (RESP arrays of bulk strings); of streams, also which."""
    found = re.findall(rb"\*\d+\r\n\$\d+\r\n([A-Za-z]+)\r\n([^*]*)", b"".join(sent))
    return {name.decode().upper() + (" revocations" if b"\r\nrevocations\r\n" in rest else "") for name, rest in found}


def test_no_answer_is_large_and_redis_hears_nothing(place, open_page):
    platform, tenant, sent, _ = place
    visit = open_page(platform.url)
    sent.clear()
    walk(visit, tenant.key)
    time.sleep(1)  # several turns of whatever the API might do behind a stream
    assert commands(sent) <= IDLE
    # Of the page's own files, what the browser has already is only confirmed.
    assert {answer.status for answer in visit.answers if "/v1/" in answer.url} == {200}
    assert {answer.status for answer in visit.answers} <= {200, 304}
    assert visit.unmeasured == []
    assert sum("content-length" in answer.headers for answer in visit.answers) > 12
    # Of streams, all that came while somebody looked.
    assert {re.sub(r".*limit=", "", url) for url in visit.streamed} == {"10", "100"}
    assert min(visit.streamed.values()) > 500, visit.streamed
    assert 1_000 < visit.largest[0] <= 200_000, visit.largest


def test_the_tap_sees_what_a_game_sends(place):
    # What makes the test above one that can fail.
    platform, tenant, sent, _ = place
    sent.clear()
    with large.Client(platform.url, tenant.key) as sdk:
        sdk.rank("global", "user-000001")
    assert commands(sent) - IDLE


def plans(log, since):
    """The plans of the API's statements that are in the log from byte `since` on."""
    text = log.read_bytes()[since:].decode(errors="replace")
    lines = [line.partition(" | ")[2] for line in text.splitlines()]
    found, collected, wanted = [], [], False
    for line in [*lines, "2000-01-01 the end"]:
        if re.match(r"\d{4}-\d\d-\d\d ", line):
            if wanted:
                found.append(json.loads("\n".join(collected)))
            wanted, collected = line.endswith("plan:"), []
        elif wanted:
            collected.append(line)
    return found


def scans(node):
    """(kind, table) of every scan in a plan."""
    if "Relation Name" in node:
        yield node["Node Type"], node["Relation Name"]
    for child in node.get("Plans", ()):
        yield from scans(child)


def test_postgres_reads_indexes_for_all_of_it(place, open_page):
    platform, tenant, _, log = place
    with psycopg.connect(platform.database) as connection:
        rows = connection.execute("SELECT relname, reltuples FROM pg_class WHERE relkind IN ('r', 'p')").fetchall()
    since = log.stat().st_size
    visit = open_page(platform.url)
    walk(visit, tenant.key)
    explained = plans(log, since)
    read = {scan for plan in explained for scan in scans(plan["Plan"])}
    tables = {table.partition("_p")[0] for _, table in read}
    assert {"leaderboards", "usage_rollups", "usage_hours", "standings"} <= {table for _, table in read}, tables
    assert any(table.startswith("score_events") for _, table in read), tables
    large_ones = {name for name, count in rows if count > SMALL}
    whole = {table for kind, table in read if kind == "Seq Scan" and table in large_ones}
    statements = [plan["Query Text"] for plan in explained if whole & {table for _, table in scans(plan["Plan"])}]
    assert whole == set(), statements

"""Every view, light and dark, wide and narrow: axe, the console, the width. WEB_PICTURES=folder keeps pictures."""

import json
import os
import urllib.request
from pathlib import Path

import psycopg
import pytest
from playwright.sync_api import expect
from visits import VIEWS

PICTURES = os.environ.get("WEB_PICTURES")
PLAYERS = [(f"player-{number:03}", 5000 - 37 * number) for number in range(60)]
BOARDS = [
    {"key": "global", "publicRead": True},
    {"key": "laps", "scoreUpdate": "Best", "sortOrder": "Ascending", "maxEntries": 10_000},
    {"key": "weekly", "tiePolicy": "Shared"},
]


def send(url, key, body):
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/scores/batch", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert all(result["status"] == 200 for result in json.load(answer)["results"])


@pytest.fixture(scope="module")
def busy(served):
    """A tenant with boards, scores, keys, and 90 days of usage."""
    from support.tenants import make_tenant

    tenant = make_tenant(served, slug="acme", boards=BOARDS, plan="pro")
    send(
        served.url, tenant.key, {"updates": [{"leaderboard": "global", "user": u, "increment": s} for u, s in PLAYERS]}
    )
    with psycopg.connect(served.database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO usage_rollups"
            " (project_id, day, requests, score_updates, rate_limited, client_errors, server_errors)"
            " SELECT p.id, (now() AT TIME ZONE 'UTC')::date - d, 60000 + 25000 * (d %% 7) + 400 * (90 - d),"
            " 40000 + 18000 * (d %% 7), (d %% 11) * 90, 40 + d %% 13, d %% 5"
            " FROM projects p, generate_series(1, 89) d WHERE p.tenant_id = %s",
            (tenant.id,),
        )
    return tenant


@pytest.mark.parametrize("width", [1440, 360])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_view_reads_well(served, busy, open_page, theme, width):
    visit = open_page(served.url, viewport={"width": width, "height": 800}, color_scheme=theme)
    visit.page.goto(f"{visit.url}/dashboard")
    check(visit, "signin", theme, width)
    visit.sign_in(busy.key)
    for view in VIEWS:
        visit.go(view)
        check(visit, view or "overview", theme, width)
    visit.open("boards/global")
    visit.page.get_by_placeholder("User id").fill("player-030")
    visit.page.get_by_role("button", name="Find").click()
    expect(visit.page.get_by_role("region", name="Around player-030").get_by_role("row")).to_have_count(12)
    check(visit, "board", theme, width)


def check(visit, view, theme, width):
    visit.settle()
    assert visit.violations() == []
    assert visit.sideways() <= 0
    if PICTURES:
        Path(PICTURES).mkdir(parents=True, exist_ok=True)
        visit.page.screenshot(path=Path(PICTURES) / f"{view}-{theme}-{width}.png", full_page=True)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_dialog_reads_well(served, busy, open_page, theme):
    visit = open_page(served.url, viewport={"width": 360, "height": 640}, color_scheme=theme)
    visit.sign_in(busy.key)
    for path, button in {"boards": "New leaderboard", "boards/weekly": "Change", "keys": "New key"}.items():
        visit.open(path)
        opener = visit.page.get_by_role("button", name=button)
        opener.click()
        expect(visit.page.get_by_role("dialog")).to_be_visible()
        assert visit.violations() == []
        assert visit.sideways() <= 0
        visit.page.keyboard.press("Escape")
        expect(visit.page.get_by_role("dialog")).to_have_count(0)
        expect(opener).to_be_focused()


def test_ninety_days_are_charts_tables_and_read_by_arrow_keys(visit, busy):
    visit.sign_in(busy.key)
    visit.page.get_by_role("button", name="90 days").click()
    card = visit.page.get_by_role("region", name="Requests", exact=True)
    expect(card.get_by_text("90 days, UTC")).to_be_visible()
    plot = card.get_by_role("group", name="Requests: arrow keys read the points")
    plot.focus()
    visit.page.keyboard.press("ArrowLeft")
    visit.page.keyboard.press("ArrowLeft")
    yesterday = 60_000 + 25_000 + 400 * 89
    expect(plot).to_contain_text(f"Admitted {yesterday:,}")
    card.get_by_role("button", name="Table").click()
    expect(card.get_by_role("row")).to_have_count(91)
    assert visit.violations() == []


def test_the_theme_one_picks_stays(visit, busy):
    visit.sign_in(busy.key)
    ground = "getComputedStyle(document.body).backgroundColor"
    visit.page.get_by_label("Colours").select_option("dark")
    expect(visit.page.locator("html")).to_have_attribute("data-theme", "dark")
    dark = visit.page.evaluate(ground)
    visit.page.reload()
    visit.settle()
    expect(visit.page.locator("html")).to_have_attribute("data-theme", "dark")
    assert visit.page.evaluate(ground) == dark
    visit.page.get_by_label("Colours").select_option("light")
    expect(visit.page.locator("html")).to_have_attribute("data-theme", "light")
    assert visit.page.evaluate(ground) != dark


def test_all_of_it_works_by_keyboard(visit, busy):
    visit.page.goto(f"{visit.url}/dashboard")
    expect(visit.page.get_by_label("API key")).to_be_focused()
    visit.page.keyboard.type(busy.key)
    visit.page.keyboard.press("Enter")
    expect(visit.page.get_by_role("heading", level=1)).to_have_text("Overview")
    visit.page.keyboard.press("Tab")
    expect(visit.page.get_by_role("link", name="Skip to content")).to_be_focused()
    visit.page.keyboard.press("Tab")
    expect(visit.page.get_by_role("link", name="Overview")).to_be_focused()
    visit.page.keyboard.press("Tab")
    visit.page.keyboard.press("Enter")
    expect(visit.page.get_by_role("heading", level=1)).to_have_text("Leaderboards")
    expect(visit.page.get_by_role("main")).to_be_focused()


def test_an_address_that_is_no_view_says_so(visit, busy):
    visit.sign_in(busy.key, "nowhere")
    expect(visit.page.get_by_text("There is no such page.")).to_be_visible()
    visit.page.get_by_role("link", name="Go to the overview").click()
    expect(visit.page.get_by_role("heading", level=1)).to_have_text("Overview")
    visit.page.go_back()
    expect(visit.page.get_by_text("There is no such page.")).to_be_visible()

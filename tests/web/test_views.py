"""Every view, light and dark, wide and narrow: axe, the console, the width. WEB_PICTURES=folder keeps pictures."""

import base64
import json
import os
import re
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from playwright.sync_api import expect
from visits import VIEWS

from leaderboard.domain import keys
from leaderboard.local.process import wait_until
from leaderboard_sdk import Client

PICTURES = os.environ.get("WEB_PICTURES")
PLAYERS = [(f"player-{number:03}", 5000 - 37 * number) for number in range(60)]
OWNER = "0c5a7f0e-0000-4000-8000-000000000001"
BOARDS = [
    {"key": "global", "publicRead": True, "bounds": {"maxScore": 1_000_000, "maxGain": 20_000, "perSeconds": 3600}},
    {"key": "laps", "scoreUpdate": "Best", "sortOrder": "Ascending", "maxEntries": 10_000},
    {"key": "weekly", "tiePolicy": "Shared"},
]


def post(url, key, path, body):
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/{path}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def make_keys(served, tenant):
    """Two more keys, one of which is rotated; and a Tenant resource has the first."""
    post(served.url, tenant.key, "keys", {"scope": "read", "name": "web page"})
    old = post(served.url, tenant.key, "keys", {"scope": "write", "name": "game server"})
    post(served.url, tenant.key, f"keys/{old['id']}/rotate", {"grace_seconds": 7 * 86_400})
    with psycopg.connect(served.database, autocommit=True) as connection:
        connection.execute("UPDATE tenants SET managed_by = %s WHERE id = %s", (OWNER, tenant.id))


@pytest.fixture(scope="module")
def busy(served):
    """A tenant with boards, scores, keys, and 90 days of usage."""
    from support.tenants import make_tenant

    tenant = make_tenant(served, slug="acme", boards=BOARDS, plan="pro")
    updates = [{"leaderboard": "global", "user": user, "increment": score} for user, score in PLAYERS]
    with Client(served.url, tenant.key) as sdk:
        for season in (1, 2):
            sent = post(served.url, tenant.key, "scores/batch", {"updates": updates})
            assert all(result["status"] == 200 for result in sent["results"])
            if season == 1:
                sdk.reset("global", season)
        for user, score in (("player-017", 48_000), ("newcomer", 1_500_000)):
            assert sdk.update("global", user, increment=score).held
        assert sdk.season_top("global", 1).total == len(PLAYERS)
        assert wait_until(
            lambda: sum(day.score_updates for day in sdk.usage().days) == 2 * len(PLAYERS), seconds=30, pause=0.2
        )
    make_keys(served, tenant)
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


def test_each_key_says_how_long_it_works_and_who_rotates_it(visit, busy):
    visit.sign_in(busy.key, "keys")
    visit.settle()
    own = visit.row(keys.parse_key(busy.key).id)
    expect(own).to_contain_text("This session")
    expect(own).to_contain_text("Rotated by its Tenant resource")
    expect(own.get_by_role("button")).to_have_count(0)
    reader = visit.row("web page")
    expect(reader).to_contain_text("Read")
    expect(reader).to_contain_text("Never")
    expect(reader.get_by_role("button")).to_have_text(["Rotate", "Revoke"])
    ending = visit.row("game server").filter(has_not_text="Never")
    expect(ending).to_have_count(1)
    ends = datetime.now(UTC) + timedelta(days=7)
    # It was made a moment ago, which may have been yesterday.
    days = {f"{day:%b} {day.day}, {day.year}, " for day in (ends, ends - timedelta(hours=1))}
    assert any(day in ending.inner_text() for day in days), ending.inner_text()
    expect(visit.row("game server").filter(has_text="Never")).to_have_count(1)


def test_a_narrow_screen_has_what_matters_without_scrolling_sideways(served, busy, open_page):
    visit = open_page(served.url, viewport={"width": 360, "height": 640})
    visit.sign_in(busy.key, "usage")
    visit.settle()
    bill = visit.page.get_by_role("region", name="Lines of the bill")
    total = bill.get_by_role("row", name="Total").get_by_role("cell").last
    expect(total).to_have_text("$29.00")
    assert visit.in_sight(total)
    updates = bill.get_by_role("row", name="Score updates")
    expect(updates.locator("small")).to_contain_text("50,000,000 included")
    assert visit.in_sight(updates.get_by_role("cell").last)

    visit.go("activity")
    user, score = PLAYERS[-1]
    first = visit.row(user)
    assert visit.in_sight(first.get_by_role("link", name=user))
    numbers = first.get_by_role("cell", name=f"{score:,}", exact=True)
    expect(numbers).to_have_count(2)
    assert all(visit.in_sight(number) for number in numbers.all())
    assert re.fullmatch(r"\d\d:\d\d:\d\d\s*Update", first.get_by_role("cell").first.inner_text())
    # The day is there once, and with each time where one points at it.
    day = visit.page.get_by_role("cell", name=re.compile(r"^\w+ \d+, \d{4} UTC$"))
    expect(day).to_have_count(1)
    assert re.fullmatch(r"\w+ \d+, \d{4}, \d\d:\d\d:\d\d UTC", first.locator("time").get_attribute("title"))

    visit.go("keys")
    row = visit.row("web page")
    for part in (row.get_by_role("button", name="Revoke"), row.get_by_role("button", name="Rotate")):
        assert visit.in_sight(part)
    for text in ("web page", "Read", "Never"):
        assert visit.in_sight(row.get_by_text(text, exact=True))
    assert visit.in_sight(visit.page.get_by_text("This session"))
    assert visit.in_sight(visit.page.get_by_text("Rotated by its Tenant resource"))

    visit.go("boards")
    for state in ("Active", "Public"):
        assert visit.in_sight(visit.row("global").get_by_text(state))


def test_a_screen_reader_finds_the_stacked_keys_in_a_table(served, busy, open_page):
    visit = open_page(served.url, viewport={"width": 360, "height": 640})
    visit.sign_in(busy.key, "keys")
    visit.settle()
    session = visit.page.context.new_cdp_session(visit.page)
    nodes = [node for node in session.send("Accessibility.getFullAXTree")["nodes"] if not node["ignored"]]
    roles = [node["role"]["value"] for node in nodes]
    assert (roles.count("table"), roles.count("row"), roles.count("cell")) == (1, 1 + 4, 4 * 6)


# The colours at points of a picture, as they were painted; a point is its share of the width and of the height.
PAINTED = """
async ([picture, points]) => {
  const bytes = Uint8Array.from(atob(picture), (each) => each.charCodeAt(0))
  const image = await createImageBitmap(new Blob([bytes], {type: 'image/png'}))
  const context = new OffscreenCanvas(image.width, image.height).getContext('2d', {willReadFrequently: true})
  context.drawImage(image, 0, 0)
  const at = ([x, y]) => [...context.getImageData(image.width * x, image.height * y, 1, 1).data].slice(0, 3)
  return points.map(at)
}
"""


def contrast(one, other):
    """The contrast of two colours, as WCAG 2.2 has it."""

    def luminance(colour):
        parts = [part / 255 for part in colour]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_is_used_stands_out_on_the_meter(served, new_tenant, open_page, theme):
    tenant = new_tenant(boards=["one", "two"], quotas={"maxLeaderboards": 4})
    visit = open_page(served.url, color_scheme=theme)
    visit.sign_in(tenant.key, "usage")
    visit.settle()
    expect(visit.page.get_by_text("2 of 4")).to_be_visible()
    picture = base64.b64encode(visit.page.get_by_role("meter", name="Leaderboards").screenshot()).decode()
    used, below, track = visit.page.evaluate(PAINTED, [picture, [(0.25, 0.5), (0.25, 0.8), (0.75, 0.5)]])
    assert used == below, "it fills the meter's whole height"
    assert contrast(used, track) >= 3, (used, track)
    accent = visit.page.evaluate("getComputedStyle(document.querySelector('nav a[aria-current]')).color")
    assert accent == f"rgb({used[0]}, {used[1]}, {used[2]})"


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

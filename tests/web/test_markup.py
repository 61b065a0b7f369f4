"""Names that are markup or script, stored by whoever may write scores, are text on the page and nothing else."""

import itertools
import json
import urllib.error
import urllib.request

import pytest
from playwright.sync_api import expect

from leaderboard.local.process import wait_until
from leaderboard_sdk import Client, Update

ALARM = "window.alarmed=1"
"""What each payload tries to run. None has a slash: user ids have none."""
_TAGS = (
    f"<script>{ALARM}<!--",
    f"<img src=x onerror={ALARM}>",
    f"<svg onload={ALARM}>",
    f"<body onload={ALARM}>",
    f"<details open ontoggle={ALARM}>",
    f"<input autofocus onfocus={ALARM}>",
    f"<video src=x onerror={ALARM}>",
    f"<marquee onstart={ALARM}>",
    f'<iframe srcdoc="<script>parent.{ALARM}<!--">',
    f'<a href="javascript:{ALARM}">x',
)
_ESCAPES = (
    "",
    '"',
    "'",
    '">',
    "'>",
    "`",
    "-->",
    "]]>",
    "</".replace("/", "") + "title>",
    "${",
    "{{",
    "\\",
    "&quot;",
    "&lt;",
)
_LONE = (
    f"javascript:{ALARM}", f"${{{ALARM}}}", f"{{{{{ALARM}}}}}", f"';{ALARM};'", f'";{ALARM};"', f"`+{ALARM}+`",
    "__proto__", "constructor", "toString", "hasOwnProperty", "[object Object]", "undefined", "null", "NaN",
    "\u202eevil", "\u200b", "＜script＞", "&#60;script&#62;", "\\u003cscript\\u003e", "%3Cscript%3E", " leading",
    "trailing ", "a?b=c&d#e", "..%2f..", "a\\b", "'; DROP TABLE tenants; --", "*", "ann*", "%", "?", "😀" * 20,
)  # fmt: skip
PAYLOADS = [f"{escape}{tag}" for escape, tag in itertools.product(_ESCAPES, _TAGS)] + list(_LONE)
PAYLOADS += [f"{tag.upper()}{number}" for number, tag in enumerate(_TAGS * 3)]


def test_there_are_two_hundred_payloads():
    assert len(set(PAYLOADS)) >= 200


def alarmed(visit):
    return visit.page.evaluate("window.alarmed")


def shown(visit):
    """The names in all tables of the page."""
    texts = "[...document.querySelectorAll('td.name')].map(e => e.textContent)"
    return sorted(visit.page.evaluate(texts))


def test_member_ids_are_text(visit, served, new_tenant):
    tenant = new_tenant(boards=["global", "second", "third"])
    parts = [PAYLOADS[start : start + 100] for start in range(0, len(PAYLOADS), 100)]
    with Client(served.url, tenant.key) as sdk:
        for board, part in zip(("global", "second", "third"), parts, strict=False):
            results = sdk.update_many([Update(leaderboard=board, user=user, increment=1) for user in part])
            assert len(results) == len(part)
    visit.sign_in(tenant.key)
    for board, part in zip(("global", "second", "third"), parts, strict=False):
        visit.open(f"boards/{board}")
        visit.page.get_by_label("How many").select_option("Top 100")
        names = visit.page.get_by_role("region", name="Top").locator("td.name")
        expect(names).to_have_count(len(part))
        # The ten that were there are gone for a moment, until the hundred come.
        assert wait_until(lambda part=part: shown(visit) == sorted(part), seconds=20, pause=0.1)
        assert alarmed(visit) is None
        visit.open(f"activity/{board}")
        expect(visit.page.get_by_role("region", name="Events").locator("td.name").first).to_be_visible()
        assert alarmed(visit) is None
    assert visit.page.locator("main script, main img, main iframe, main svg[onload], main marquee").count() == 0


@pytest.mark.parametrize("user", [PAYLOADS[1], PAYLOADS[31], "a?b=c&d#e", "__proto__", "😀" * 20])
def test_a_member_is_found_by_any_id(visit, served, tenant, user):
    with Client(served.url, tenant.key) as sdk:
        sdk.update("global", user, increment=3)
    visit.sign_in(tenant.key, "boards/global")
    visit.page.get_by_placeholder("User id").fill(user)
    visit.page.get_by_role("button", name="Find").click()
    expect(visit.page.locator("tr.marked td.name")).to_have_text(user)
    visit.page.get_by_role("link", name="Events of this user").click()
    expect(visit.page.get_by_role("region", name="Events").locator("td.name")).to_have_text([user])
    visit.page.reload()
    expect(visit.page.get_by_role("region", name="Events").locator("td.name")).to_have_text([user])
    assert alarmed(visit) is None


def post(served, tenant, path, body):
    headers = {"Authorization": f"Bearer {tenant.key}", "Content-Type": "application/json"}
    request = urllib.request.Request(served.url + path, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_boards_take_no_such_names(served, tenant):
    assert {post(served, tenant, "/v1/leaderboards", {"key": name}) for name in PAYLOADS if not name.isalnum()} == {422}


def test_names_of_keys_are_text(visit, served, tenant):
    wanted = [name for name in PAYLOADS if len(name) <= 64 and name == name.strip()][:60]
    for name in wanted:
        assert post(served, tenant, "/v1/keys", {"scope": "read", "name": name}) == 201
    visit.sign_in(tenant.key, "keys")
    expect(visit.page.get_by_role("row")).to_have_count(len(wanted) + 2)
    shown = visit.page.evaluate("[...document.querySelectorAll('td.name')].map(e => e.textContent)")
    assert sorted(shown) == sorted([*wanted, "none"])
    assert alarmed(visit) is None


def test_addresses_are_text(visit, tenant):
    visit.sign_in(tenant.key)
    for path in (
        "boards/%3Cimg%20src=x%20onerror=window.alarmed=1%3E",
        "activity/%3Csvg%20onload=window.alarmed=1%3E",
        "%E0%A4%A",
    ):
        visit.page.goto(f"{visit.url}/dashboard/{path}")
        expect(visit.page.get_by_role("heading", level=1)).to_be_visible()
        assert alarmed(visit) is None
    visit.complaints.clear()

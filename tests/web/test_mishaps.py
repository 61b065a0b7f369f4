"""What goes wrong around the page: keys that end under it, answers that are none, a second tab, odd names."""

import json
import urllib.error
import urllib.request

import pytest
from playwright.sync_api import expect
from visits import Visit

from leaderboard.domain import keys
from leaderboard.local.process import wait_until
from leaderboard_sdk import Client, Update


def ask(served, key, method, path, body=None):
    """The answer of the API, to a key rather than a session."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(served.url + path, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read() or b"null")


@pytest.fixture
def only_key(served, tenant):
    """The one admin key of a project: made by a person, so that a person may rotate it."""
    made = ask(served, tenant.key, "POST", "/v1/keys", {"scope": "admin", "name": "mine"})
    ask(served, made["secret"], "DELETE", f"/v1/keys/{keys.parse_key(tenant.key).id}")
    return made["secret"]


def ended(served, key):
    """Whether the API refuses the key."""
    try:
        ask(served, key, "GET", "/v1/keys")
    except urllib.error.HTTPError as error:
        with error:
            return error.code == 401
    return False


@pytest.fixture
def rotate_at_once(served, visit, only_key):
    """(meanwhile=None) -> the secret that the dialog shows after rotating the only key.

    The old key, and so the session, has ended before the page gets the answer; `meanwhile` is called between the two.
    """

    def rotate(meanwhile=lambda: None):
        def answer_late(route):
            answer = route.fetch()
            assert wait_until(lambda: ended(served, only_key), seconds=20, pause=0.05)
            meanwhile()
            route.fulfill(response=answer)

        visit.page.route("**/rotate", answer_late)
        visit.page.get_by_role("button", name="Rotate mine").click()
        visit.page.get_by_label("The old key stops working").select_option("At once")
        visit.page.get_by_role("button", name="Rotate", exact=True).click()
        return visit.page.get_by_label("Secret").input_value()

    return rotate


@pytest.fixture
def beside(open_page):
    """(visit) -> another tab of the same browser, in which nothing may be complained of either."""
    tabs = []

    def open_beside(visit):
        tabs.append(Visit(visit.page.context.new_page(), visit.url))
        return tabs[-1]

    yield open_beside
    assert [complaint for tab in tabs for complaint in tab.complaints] == []


def test_the_new_secret_outlives_the_session_whose_key_it_replaces(visit, only_key, rotate_at_once):
    visit.sign_in(only_key, "keys")
    secret = rotate_at_once()
    visit.page.wait_for_load_state("networkidle")
    expect(visit.page.get_by_label("Secret")).to_have_value(secret)
    visit.page.get_by_role("button", name="I have it").click()
    expect(visit.page.get_by_text("Your session has ended.")).to_be_visible()
    visit.expected("401")
    visit.page.get_by_label("API key").fill(secret)
    visit.page.get_by_role("button", name="Sign in").click()
    expect(visit.row(keys.parse_key(secret).id)).to_contain_text("This session")
    assert secret not in visit.stored()


def page_of_a_proxy(route):
    route.fulfill(status=200, content_type="text/html", body="<!doctype html><title>Back soon</title>")


def test_a_view_says_that_its_answer_was_none(visit, tenant):
    visit.page.route("**/v1/plan", page_of_a_proxy)
    visit.sign_in(tenant.key, "usage")
    expect(visit.page.get_by_role("alert").first).to_contain_text("The API cannot be reached")
    visit.settle()


def test_a_dialog_says_that_its_answer_was_none(visit, tenant):
    visit.page.route(
        "**/v1/keys", lambda route: page_of_a_proxy(route) if route.request.method == "POST" else route.fallback()
    )
    visit.sign_in(tenant.key, "keys")
    visit.page.get_by_role("button", name="New key").click()
    visit.page.get_by_role("button", name="Make it").click()
    dialog = visit.page.get_by_role("dialog", name="New key")
    expect(dialog.get_by_role("alert")).to_contain_text("The API cannot be reached")
    expect(dialog.get_by_role("button", name="Make it")).to_be_enabled()


def test_signing_in_or_out_in_one_tab_is_so_in_the_other(visit, beside, tenant):
    second = beside(visit)
    for tab in (visit, second):
        tab.page.goto(f"{visit.url}/dashboard")
        expect(tab.page.get_by_label("API key")).to_be_visible()
    visit.sign_in(tenant.key)
    expect(second.page.get_by_role("banner")).to_contain_text(tenant.slug)
    second.page.get_by_role("button", name="Sign out").click()
    expect(visit.page.get_by_label("API key")).to_be_visible()


def test_no_tab_goes_on_under_the_name_of_another_project(visit, beside, new_tenant):
    one, other = new_tenant(boards=["ones"]), new_tenant(boards=["others"])
    visit.sign_in(one.key, "boards")
    second = beside(visit)
    second.open("boards")
    second.page.get_by_role("button", name="Sign out").click()
    second.page.get_by_label("API key").fill(other.key)
    second.page.get_by_role("button", name="Sign in").click()
    for tab in (second, visit):
        expect(tab.page.get_by_role("banner")).to_contain_text(other.slug)
        expect(tab.page.get_by_role("link", name="others")).to_be_visible()
        expect(tab.page.get_by_role("link", name="ones", exact=True)).to_have_count(0)
        assert other.key.rpartition("_")[2] not in tab.stored()


def test_a_new_secret_outlives_what_other_tabs_do(visit, beside, only_key, rotate_at_once):
    visit.sign_in(only_key, "keys")
    second = beside(visit)
    second.open("boards")

    def look_elsewhere():
        second.page.get_by_role("link", name="Usage and plan").click()
        expect(second.page.get_by_text("Your session has ended.")).to_be_visible()

    secret = rotate_at_once(meanwhile=look_elsewhere)
    second.expected("401")
    visit.page.wait_for_load_state("networkidle")
    expect(visit.page.get_by_label("Secret")).to_have_value(secret)
    visit.page.get_by_role("button", name="I have it").click()
    expect(visit.page.get_by_label("API key")).to_be_visible()
    visit.complaints = [each for each in visit.complaints if "401" not in each]


def test_closing_a_dialog_gives_the_focus_back(visit, tenant):
    visit.sign_in(tenant.key, "boards/global")
    change = visit.page.get_by_role("button", name="Change")
    for how in ("Cancel", "Save"):
        change.focus()
        visit.page.keyboard.press("Enter")
        visit.page.get_by_role("dialog").get_by_role("button", name=how).click()
        expect(visit.page.get_by_role("dialog")).to_have_count(0)
        expect(change).to_be_focused()


def test_a_dialog_that_follows_another_gives_the_focus_back(visit, tenant):
    visit.sign_in(tenant.key, "keys")
    opener = visit.page.get_by_role("button", name="New key")
    opener.focus()
    visit.page.keyboard.press("Enter")
    visit.page.get_by_role("button", name="Make it").click()
    expect(visit.page.get_by_label("Secret")).to_be_visible()
    visit.page.get_by_role("button", name="I have it").click()
    expect(visit.page.get_by_role("dialog")).to_have_count(0)
    expect(opener).to_be_focused()


@pytest.mark.parametrize("user", [".", ".."])
def test_the_events_of_a_user_with_a_name_of_dots(visit, served, tenant, user):
    with Client(served.url, tenant.key) as sdk:
        sdk.update_many([Update(leaderboard="global", user=each, increment=1) for each in (".", "..", "ann")])
    names = visit.page.get_by_role("region", name="Events").locator("td.name")
    visit.sign_in(tenant.key, "boards/global")
    visit.page.get_by_placeholder("User id").fill(user)
    visit.page.get_by_role("button", name="Find").click()
    visit.page.get_by_role("link", name="Events of this user").click()
    expect(names).to_have_text([user])
    visit.page.reload()
    expect(names).to_have_text([user])
    visit.open("activity/global")
    expect(names).to_have_count(3)
    names.get_by_text(user, exact=True).click()
    expect(names).to_have_text([user])
    visit.page.go_back()
    expect(names).to_have_count(3)


def test_an_address_with_the_user_in_its_path_still_works(visit, served, tenant):
    with Client(served.url, tenant.key) as sdk:
        sdk.update_many([Update(leaderboard="global", user=each, increment=1) for each in ("ann", "a b+c")])
    visit.sign_in(tenant.key, "activity/global/a%20b%2Bc")
    expect(visit.page.get_by_role("region", name="Events").locator("td.name")).to_have_text(["a b+c"])
    expect(visit.page.get_by_label("User", exact=True)).to_have_value("a b+c")

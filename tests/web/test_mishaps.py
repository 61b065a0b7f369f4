"""What goes wrong around the page: keys that end under it, answers that are none, a second tab, odd names."""

import pytest
from playwright.sync_api import expect

from leaderboard_sdk import Client, Update


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

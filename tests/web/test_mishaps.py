"""What goes wrong around the page: keys that end under it, answers that are none, a second tab, odd names."""

from playwright.sync_api import expect


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

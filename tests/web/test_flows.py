"""What people do on the dashboard, from the click to what the platform says afterwards."""

import json
import re
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime

import pytest
from playwright.sync_api import expect

from leaderboard.domain import keys
from leaderboard.local.process import wait_until
from leaderboard_sdk import Bounds, Client, InvalidApiKey, Tier, Update


@pytest.fixture
def sdk(served, tenant):
    with Client(served.url, tenant.key) as client:
        yield client


def test_the_page_and_each_of_its_files_come_with_their_guards(visit):
    visit.page.goto(f"{visit.url}/dashboard")
    visit.page.get_by_label("API key").wait_for()
    kinds = {answer.headers["content-type"].partition(";")[0] for answer in visit.answers}
    assert {"text/html", "text/css", "text/javascript"} <= kinds
    for answer in visit.answers:
        policy = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"


def test_a_script_in_the_page_that_is_not_its_own_does_not_run(visit):
    visit.page.route(
        f"{visit.url}/dashboard",
        lambda route: route.fulfill(
            response=(found := route.fetch()),
            body=found.text().replace("</body>", "<script>alarmed = 1</script></body>"),
        ),
    )
    visit.page.goto(f"{visit.url}/dashboard")
    visit.page.get_by_label("API key").wait_for()
    assert visit.page.evaluate("window.alarmed") is None
    visit.expected("Content Security Policy")


def test_a_wrong_key_is_refused_with_what_to_do(visit):
    visit.page.goto(f"{visit.url}/dashboard")
    visit.page.get_by_label("API key").fill("lb_live_wrong")
    visit.page.get_by_role("button", name="Sign in").click()
    expect(visit.page.get_by_role("alert")).to_contain_text("key")
    expect(visit.page.get_by_role("button", name="Sign in")).to_be_enabled()
    visit.expected("401")


def test_the_key_is_nowhere_once_it_was_typed(visit, tenant):
    visit.sign_in(tenant.key)
    for view in ("", "boards", "usage", "keys", "activity"):
        visit.go(view)
        secret = tenant.key.rpartition("_")[2]
        assert secret not in visit.stored()
    [cookie] = visit.page.context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert secret not in cookie["value"]
    assert all(secret not in answer.url for answer in visit.answers)


def test_a_session_outlives_the_page_and_ends_with_signing_out(visit, tenant):
    visit.sign_in(tenant.key)
    visit.page.reload()
    expect(visit.page.get_by_role("heading", level=1)).to_have_text("Overview")
    visit.page.get_by_role("button", name="Sign out").click()
    expect(visit.page.get_by_label("API key")).to_be_visible()
    visit.page.reload()
    expect(visit.page.get_by_label("API key")).to_be_visible()
    assert visit.page.context.cookies() == []


def test_a_revoked_key_ends_the_session(visit, tenant, sdk):
    visit.sign_in(tenant.key)
    request = urllib.request.Request(
        f"{visit.url}/v1/keys/{keys.parse_key(tenant.key).id}",
        method="DELETE",
        headers={"Authorization": f"Bearer {tenant.key}"},
    )
    urllib.request.urlopen(request, timeout=10).close()
    visit.page.get_by_role("button", name="Refresh").click()
    expect(visit.page.get_by_text("Your session has ended.")).to_be_visible()
    visit.expected("401")


def test_a_score_arrives_live(visit, tenant, sdk):
    sdk.update("global", "ann", increment=5)
    visit.sign_in(tenant.key, "boards/global")
    top = visit.page.get_by_role("region", name="Top").get_by_role("table")
    expect(top.get_by_role("row")).to_have_count(2)
    expect(visit.page.get_by_text("Live", exact=True)).to_be_visible()
    sdk.update("global", "bob", increment=9)
    expect(top.get_by_role("row").nth(1)).to_contain_text("bob")
    expect(top.get_by_role("row").nth(2)).to_contain_text("ann")
    expect(visit.page.get_by_text(re.compile(r"2 entries, (?:[01]\.\d|2\.0) s old"))).to_be_visible()


def test_who_is_around_a_member_and_what_they_did(visit, tenant, sdk):
    sdk.update_many([Update(leaderboard="global", user=f"user-{n:03}", increment=n + 1) for n in range(100)])
    visit.sign_in(tenant.key, "boards/global")
    visit.page.get_by_placeholder("User id").fill("nobody-knows")
    visit.page.get_by_role("button", name="Find").click()
    expect(visit.page.get_by_role("alert")).to_be_visible()
    visit.expected("404")
    visit.page.get_by_placeholder("User id").fill("user-050")
    visit.page.get_by_role("button", name="Find").click()
    around = visit.page.get_by_role("region", name="Around user-050")
    expect(around.get_by_role("row")).to_have_count(12)
    expect(around.get_by_role("row", name="50 user-050 51", exact=True)).to_be_visible()
    link = visit.page.get_by_role("link", name="Events of this user")
    link.click()
    expect(visit.row("Update").filter(has_text="user-050")).to_have_count(1)


def test_activity_pages_through_what_happened(visit, tenant, sdk):
    for number in range(3):
        sdk.update_many([Update(leaderboard="global", user=f"u{n}", increment=number + 1) for n in range(40)])
    assert wait_until(lambda: sum(day.score_updates for day in sdk.usage().days) == 120, seconds=90, pause=0.2)
    visit.sign_in(tenant.key, "activity")
    rows = visit.page.get_by_role("region", name="Events").get_by_role("row")
    expect(rows).to_have_count(51)
    visit.page.get_by_role("button", name="Older").click()
    visit.page.get_by_role("button", name="Older").click()
    expect(rows).to_have_count(21)
    visit.page.get_by_role("button", name="Newest").click()
    expect(rows).to_have_count(51)
    visit.page.get_by_label("User", exact=True).fill("u7")
    visit.page.get_by_role("button", name="Show").click()
    expect(rows).to_have_count(4)
    expect(rows.nth(1)).to_contain_text("6")


def works(url, key):
    request = urllib.request.Request(f"{url}/v1/leaderboards", headers={"Authorization": f"Bearer {key}"})
    try:
        urllib.request.urlopen(request, timeout=10).close()
    except urllib.error.HTTPError as error:
        with error:
            if error.code != 401:
                raise
        return False
    return True


def secret_of(visit):
    """The secret in the dialog; afterwards it is nowhere."""
    secret = visit.page.get_by_label("Secret").input_value()
    visit.page.get_by_role("button", name="I have it").click()
    expect(visit.page.get_by_role("dialog")).to_have_count(0)
    assert secret not in visit.stored()
    return secret


def test_a_key_is_made_rotated_and_revoked(visit, tenant):
    visit.sign_in(tenant.key, "keys")
    visit.page.get_by_role("button", name="New key").click()
    visit.page.get_by_label("Name").fill("web page")
    visit.page.get_by_role("button", name="Make it").click()
    first = secret_of(visit)
    assert works(visit.url, first)
    with Client(visit.url, first) as reader:
        assert reader.top("global").total == 0

    visit.page.get_by_role("button", name="Rotate web page").click()
    visit.page.get_by_label("The old key stops working").select_option("In an hour")
    visit.page.get_by_role("button", name="Rotate", exact=True).click()
    expect(visit.page.get_by_text(re.compile("The old key .* works until"))).to_be_visible()
    second = secret_of(visit)
    assert works(visit.url, first)
    assert works(visit.url, second)

    newest = visit.row(keys.parse_key(second).id)
    newest.get_by_role("button", name="Rotate").click()
    visit.page.get_by_label("The old key stops working").select_option("At once")
    visit.page.get_by_role("button", name="Rotate", exact=True).click()
    third = secret_of(visit)
    assert wait_until(lambda: not works(visit.url, second), seconds=20, pause=0.1)

    visit.row(keys.parse_key(third).id).get_by_role("button", name="Revoke").click()
    visit.page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(visit.row(keys.parse_key(third).id)).to_have_count(0)
    assert wait_until(lambda: not works(visit.url, third), seconds=20, pause=0.1)
    assert works(visit.url, first)


def test_a_rotated_key_is_refused_once_its_grace_is_over(visit, served, tenant):
    visit.sign_in(tenant.key, "keys")
    visit.page.get_by_role("button", name="New key").click()
    visit.page.get_by_role("button", name="Make it").click()
    old = secret_of(visit)
    # The dialog's shortest grace is an hour; here the page's own request asks for two seconds of it.
    visit.page.route("**/rotate", lambda route: route.continue_(post_data=route.request.post_data.replace("3600", "2")))
    visit.row(keys.parse_key(old).id).get_by_role("button", name="Rotate").click()
    visit.page.get_by_label("The old key stops working").select_option("In an hour")
    visit.page.get_by_role("button", name="Rotate", exact=True).click()
    new = secret_of(visit)
    assert works(visit.url, old)
    assert wait_until(lambda: not works(visit.url, old), seconds=90, pause=0.1)
    assert works(visit.url, new)
    with Client(visit.url, old) as late, pytest.raises(InvalidApiKey):
        late.top("global")


def test_a_read_key_sees_and_changes_nothing(visit, new_tenant):
    visit.sign_in(new_tenant(scope="read").key)
    visit.go("keys")
    expect(visit.page.get_by_text("Keys are shown to keys with scope admin")).to_be_visible()
    visit.go("usage")
    expect(visit.page.get_by_text("Shown to keys with scope admin.")).to_be_visible()
    visit.go("boards")
    expect(visit.page.get_by_role("button", name="New leaderboard")).to_have_count(0)
    visit.page.get_by_role("link", name="global").click()
    visit.settle()
    expect(visit.page.get_by_role("button", name="Delete")).to_have_count(0)


def test_a_board_is_made_changed_and_deleted(visit, tenant, sdk):
    visit.sign_in(tenant.key, "boards")
    visit.page.get_by_role("button", name="New leaderboard").click()
    visit.page.get_by_label("Key", exact=True).fill("laps")
    visit.page.get_by_label("An update").select_option("best")
    visit.page.get_by_label("Rank 1 is").select_option("ascending")
    visit.page.get_by_role("button", name="Make it").click()
    expect(visit.page.get_by_role("heading", level=1)).to_contain_text("laps")
    expect(visit.page.get_by_text("Nobody has a score yet.")).to_be_visible()
    visit.page.get_by_role("button", name="Change").click()
    visit.page.get_by_label("Entries to keep").fill("500")
    visit.page.get_by_role("button", name="Save").click()
    expect(visit.page.get_by_text("the best 500")).to_be_visible()
    sdk.update("laps", "ann", score=61.5)
    expect(visit.page.get_by_role("cell", name="61.5")).to_be_visible()
    visit.page.get_by_role("button", name="Delete").click()
    dialog = visit.page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Delete")).to_be_disabled()
    dialog.get_by_label("Type its key to go on").fill("laps")
    dialog.get_by_role("button", name="Delete").click()
    expect(visit.page.get_by_role("heading", level=1)).to_have_text("Leaderboards")
    assert "laps" not in {board.key for board in sdk.iter_leaderboards()}


def test_a_season_is_ended_and_stays_readable(visit, tenant, sdk):
    sdk.update_many([Update(leaderboard="global", user=user, increment=n) for n, user in enumerate(("ann", "bob"), 4)])
    visit.sign_in(tenant.key, "boards/global")
    expect(visit.row("bob")).to_be_visible()
    expect(visit.page.get_by_role("region", name="Past seasons")).to_have_count(0)
    visit.page.get_by_role("button", name="End the season").click()
    dialog = visit.page.get_by_role("dialog", name="End season 1 of global")
    dialog.get_by_role("button", name="End the season").click()
    final = visit.page.get_by_role("region", name="Final standings of season 1")
    expect(final.get_by_role("row", name="1 bob 5", exact=True)).to_be_visible()
    expect(visit.page.get_by_text(sdk.season("global", 1).checksum)).to_be_visible()
    expect(visit.page.get_by_text("no key: the platform has none")).to_be_visible()
    expect(visit.page.get_by_text("Nobody has a score yet.")).to_be_visible()
    assert sdk.get_leaderboard("global").season == 2
    assert visit.violations() == []
    # The next one, ended elsewhere meanwhile, is not ended twice.
    visit.page.get_by_role("button", name="End the season").click()
    sdk.reset("global", 2)
    visit.page.get_by_role("dialog").get_by_role("button", name="End the season").click()
    expect(visit.page.get_by_role("dialog").get_by_role("alert")).to_contain_text("is in season 3, not 2")
    visit.expected("409")


def test_what_is_held_is_released_and_rejected(visit, tenant, sdk):
    sdk.change_leaderboard("global", bounds=Bounds(max_score=10))
    sdk.update("global", "ann", increment=3)
    held = [sdk.update("global", user, increment=12).held.id for user in ("ann", "bob <b>")]
    for id in held:
        assert sdk.held_update("global", id).state == "held"
    visit.sign_in(tenant.key, "boards/global")
    waiting = visit.page.get_by_role("region", name="What is held")
    expect(waiting.get_by_role("row")).to_have_count(3)
    assert visit.violations() == []
    waiting.get_by_role("button", name="Release the update of ann").click()
    dialog = visit.page.get_by_role("dialog", name="Release the update")
    dialog.get_by_label("Why").fill("her mother vouched")
    dialog.get_by_role("button", name="Release").click()
    expect(waiting.get_by_role("row")).to_have_count(2)
    top = visit.page.get_by_role("region", name="Entries of the top")
    expect(top.get_by_role("row", name="1 ann 15", exact=True)).to_be_visible()
    waiting.get_by_role("button", name="Reject the update of bob").click()
    visit.page.get_by_role("dialog").get_by_role("button", name="Reject").click()
    expect(visit.page.get_by_text("Nothing waits for a decision.")).to_be_visible()
    visit.page.get_by_role("button", name="Released").click()
    expect(waiting.get_by_role("row").last).to_contain_text("her mother vouched")
    visit.page.get_by_role("button", name="Rejected").click()
    expect(waiting.get_by_role("row").last).to_contain_text("bob <b>")
    assert [sdk.held_update("global", id).state for id in held] == ["released", "rejected"]
    assert visit.violations() == []


def test_one_who_may_only_read_is_shown_nothing_of_what_is_held(visit, tenant, sdk):
    sdk.change_leaderboard("global", bounds=Bounds(max_score=10))
    id = sdk.update("global", "ann", increment=12).held.id
    assert sdk.held_update("global", id).state == "held"
    headers = {"Authorization": f"Bearer {tenant.key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{visit.url}/v1/keys", b'{"scope": "read"}', headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        key = json.load(answer)["secret"]
    visit.sign_in(key, "boards/global")
    expect(visit.page.get_by_text("scores above 10")).to_be_visible()
    expect(visit.page.get_by_text("Nobody has a score yet.")).to_be_visible()
    expect(visit.page.get_by_role("region", name="Held updates")).to_have_count(0)


def test_the_top_as_of_a_time(visit, tenant, sdk, served):
    sdk.update_many([Update(leaderboard="global", user=user, increment=n) for n, user in enumerate(("ann", "bob"), 4)])
    # To the second, as the page asks; both sides of it are some seconds away.
    time.sleep(2)
    at = datetime.now(UTC).replace(microsecond=0)
    time.sleep(2)
    sdk.update("global", "cyd", increment=9)
    visit.sign_in(tenant.key, "boards/global")
    visit.page.get_by_label("Time", exact=True).fill(f"{at.astimezone():%Y-%m-%dT%H:%M:%S}")
    visit.page.get_by_role("button", name="Show").click()
    past = visit.page.get_by_role("region", name="The top as of")
    expect(past.get_by_role("row", name="1 bob 5", exact=True)).to_be_visible()
    expect(past.get_by_role("row")).to_have_count(3)
    assert visit.violations() == []


def test_a_schedule_is_given_and_taken_away(visit, tenant, sdk):
    visit.sign_in(tenant.key, "boards/global")
    visit.page.get_by_role("button", name="Change").click()
    visit.page.get_by_label("Ends by schedule").fill("0 9 * *")
    visit.page.get_by_role("button", name="Save").click()
    expect(visit.page.get_by_role("dialog").get_by_role("alert")).to_contain_text("five fields of cron")
    visit.expected("422")
    visit.page.get_by_label("Ends by schedule").fill("0 9 * * 1")
    visit.page.get_by_label("Time zone").fill("Asia/Tokyo")
    visit.page.get_by_label("Past seasons to keep").fill("4")
    visit.page.get_by_role("button", name="Save").click()
    expect(visit.page.get_by_text("0 9 * * 1 (Asia/Tokyo)")).to_be_visible()
    expect(visit.page.get_by_text("the newest 4 are kept")).to_be_visible()
    board = sdk.get_leaderboard("global")
    assert (board.reset.time_zone, board.next_reset.weekday(), board.next_reset.hour) == ("Asia/Tokyo", 0, 0)
    visit.page.get_by_role("button", name="Change").click()
    visit.page.get_by_label("Ends by schedule").fill("")
    visit.page.get_by_role("button", name="Save").click()
    expect(visit.page.get_by_text("when somebody ends it")).to_be_visible()


def test_the_tiers_of_a_board_are_shown_and_stay_through_a_change_of_the_rest(visit, tenant, sdk):
    tiers = [Tier(name="Champion", top=1), Tier(name="Gold 🏆", percent=2.5), Tier(name="W" * 32, top=1_000)]
    sdk.change_leaderboard("global", tiers=tiers)
    visit.sign_in(tenant.key, "boards/global")
    told = visit.page.get_by_role("listitem").filter(has_text=re.compile(": (rank|the best)"))
    expect(told).to_have_text(["Champion: rank 1", "Gold 🏆: the best 2.5 %", f"{'W' * 32}: ranks 1 to 1,000"])
    visit.page.set_viewport_size({"width": 360, "height": 800})
    visit.settle()
    assert visit.violations() == []
    assert visit.sideways() <= 0
    visit.page.get_by_role("button", name="Change").click()
    visit.page.get_by_label("Entries to keep").fill("10")
    visit.page.get_by_role("button", name="Save").click()
    expect(visit.page.get_by_text("the best 10", exact=True)).to_be_visible()
    assert sdk.get_leaderboard("global").tiers == tiers
    sdk.change_leaderboard("global", tiers=[])
    visit.page.reload()
    expect(visit.page.get_by_text("when somebody ends it")).to_be_visible()
    expect(visit.page.get_by_text("Tiers")).to_have_count(0)


def test_bounds_are_shown_and_kept_when_something_else_changes(visit, tenant, sdk):
    bounds = Bounds(min_score=-5, max_score=1_000_000, max_gain=2.5, per_seconds=3600)
    sdk.change_leaderboard("global", bounds=bounds)
    visit.sign_in(tenant.key, "boards/global")
    said = "scores below -5, scores above 1,000,000, gains past 2.5 in 3,600 s"
    expect(visit.page.get_by_text(said)).to_be_visible()
    visit.page.get_by_role("button", name="Change").click()
    visit.page.get_by_label("Entries to keep").fill("500")
    visit.page.get_by_role("button", name="Save").click()
    expect(visit.page.get_by_text("the best 500")).to_be_visible()
    expect(visit.page.get_by_text(said)).to_be_visible()
    assert sdk.get_leaderboard("global").bounds == bounds
    sdk.change_leaderboard("global", bounds=Bounds())
    visit.page.reload()
    expect(visit.page.get_by_text("the best 500")).to_be_visible()
    expect(visit.page.get_by_text("Held back")).to_have_count(0)


def test_a_key_that_is_taken_is_said_in_the_dialog(visit, tenant):
    visit.sign_in(tenant.key, "boards")
    visit.page.get_by_role("button", name="New leaderboard").click()
    visit.page.get_by_label("Key", exact=True).fill("global")
    visit.page.get_by_label("An update").select_option("best")
    visit.page.get_by_role("button", name="Make it").click()
    expect(visit.page.get_by_role("dialog").get_by_role("alert")).to_be_visible()
    visit.expected("409")


def test_usage_is_what_was_sent(visit, tenant, sdk):
    for number in range(7):
        sdk.update("global", f"u{number}", increment=1)
    sdk.update_many([Update(leaderboard="global", user=f"b{number}", increment=1) for number in range(30)])
    assert wait_until(lambda: sum(day.score_updates for day in sdk.usage().days) == 37, seconds=90, pause=0.2)
    visit.sign_in(tenant.key)
    card = visit.page.get_by_role("region", name="Score updates", exact=True)
    expect(card.get_by_role("listitem")).to_contain_text("37")
    visit.go("usage")
    expect(visit.page.get_by_role("definition").filter(has_text=re.compile("^37$"))).to_be_visible()


def test_what_is_down_is_said_and_comes_back(visit, tenant, served):
    visit.sign_in(tenant.key)
    served.stop_api()
    try:
        visit.page.get_by_role("button", name="Refresh").click()
        expect(visit.page.get_by_text("The API cannot be reached").first).to_be_visible()
    finally:
        served.start_api()
    visit.page.get_by_role("button", name="Refresh").click()
    expect(visit.page.get_by_role("alert")).to_have_count(0)
    visit.expected("ERR_CONNECTION_REFUSED")


def test_a_live_board_mends_itself_when_the_api_was_away(visit, tenant, sdk, served):
    sdk.update("global", "ann", increment=5)
    visit.sign_in(tenant.key, "boards/global")
    visit.settle()
    served.stop_api()
    try:
        expect(visit.page.get_by_text(re.compile("Connecting…|Ended"))).to_be_visible()
    finally:
        served.start_api()
    sdk.update("global", "bob", increment=9)
    expect(visit.row("bob")).to_be_visible()
    visit.complaints = [each for each in visit.complaints if "ERR_" not in each]


def dot(visit):
    """The colour of the dot before what a board says of itself."""
    return visit.page.evaluate(
        "getComputedStyle(document.querySelector('.pulse [role=status]'), '::before').backgroundColor"
    )


def test_standings_that_no_worker_renews_are_not_live(visit, tenant, sdk, served):
    sdk.update("global", "ann", increment=5)
    visit.sign_in(tenant.key, "boards/global")
    live = visit.page.get_by_text("Live", exact=True)
    expect(live).to_be_visible()
    green = dot(visit)
    served.kill_worker()
    try:
        expect(visit.page.get_by_text("Waiting…")).to_be_visible()
        expect(live).to_have_count(0)
        expect(visit.page.get_by_text(re.compile(r"1 entry, ([3-9]|\d\d)\.\d s old"))).to_be_visible()
        assert dot(visit) != green
        assert visit.violations() == []
    finally:
        served.start_worker()
    expect(live).to_be_visible()
    assert dot(visit) == green
    sdk.update("global", "bob", increment=9)
    expect(visit.row("bob")).to_be_visible()


STREAM = "**/standings/stream?*"


def ending(status):
    """What a stream says that the API ends."""
    problem = {"type": "about:blank", "title": f"It says {status}", "status": status, "advice": "None.", "trace_id": ""}
    return f"event: problem\ndata: {json.dumps(problem)}\n\n"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_stream_that_ends_for_a_while_is_opened_again(visit, tenant, sdk, status):
    sdk.update("global", "ann", increment=5)
    visit.page.route(
        STREAM, lambda route: route.fulfill(content_type="text/event-stream", body=ending(status)), times=1
    )
    visit.sign_in(tenant.key, "boards/global")
    expect(visit.page.get_by_text(f"It says {status}")).to_be_visible()
    expect(visit.page.get_by_text("Connecting…")).to_be_visible()
    expect(visit.page.get_by_text("Live", exact=True)).to_be_visible()
    expect(visit.page.get_by_role("alert")).to_have_count(0)
    expect(visit.row("ann")).to_be_visible()


def test_a_stream_that_is_refused_for_a_while_is_opened_again(visit, tenant, sdk):
    sdk.update("global", "ann", increment=5)
    visit.page.route(STREAM, lambda route: route.fulfill(status=503, json={}), times=1)
    visit.sign_in(tenant.key, "boards/global")
    expect(visit.page.get_by_text("Live", exact=True)).to_be_visible()
    expect(visit.row("ann")).to_be_visible()
    visit.expected("503")


def test_a_stream_that_ends_for_good_says_why_and_is_left_alone(visit, tenant):
    asked = []
    visit.page.route(
        STREAM,
        lambda route: (asked.append(1), route.fulfill(content_type="text/event-stream", body=ending(403))),
    )
    visit.page.clock.install()
    visit.sign_in(tenant.key, "boards/global")
    expect(visit.page.get_by_text("Ended")).to_be_visible()
    expect(visit.page.get_by_role("alert")).to_contain_text("It says 403")
    visit.page.clock.run_for(60_000)
    expect(visit.page.get_by_text("Ended")).to_be_visible()
    assert asked == [1]


def test_a_board_that_is_deleted_meanwhile_ends_its_stream(visit, tenant, sdk):
    sdk.update("global", "ann", increment=5)
    visit.sign_in(tenant.key, "boards/global")
    expect(visit.page.get_by_text("Live", exact=True)).to_be_visible()
    request = urllib.request.Request(
        f"{visit.url}/v1/leaderboards/global", method="DELETE", headers={"Authorization": f"Bearer {tenant.key}"}
    )
    urllib.request.urlopen(request, timeout=10).close()
    expect(visit.page.get_by_text("Ended")).to_be_visible()
    expect(visit.page.get_by_role("alert")).to_contain_text("leaderboard")

"""`make demo` and its dashboard, as a newcomer meets them: sign in, see the boards, send a score, see it arrive."""

import os
import re
import subprocess
import sys

import pytest
from playwright.sync_api import expect
from visits import ROOT

from leaderboard.local.demo import PLAYERS
from leaderboard.local.process import free_port, wait_until
from leaderboard_sdk import Client
from support.servers import in_containers

pytestmark = pytest.mark.skipif(in_containers(), reason="the demo always runs the embedded servers")

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("LEADERBOARD_")}


@pytest.fixture
def demo(chromium, tmp_path):
    """What a running demo has printed: the address of its dashboard, and the key."""
    output = tmp_path / "output"
    command = (
        sys.executable,
        "-m",
        "leaderboard.local.demo",
        "--data",
        str(tmp_path / "data"),
        "--port",
        str(free_port()),
    )
    with (
        output.open("wb") as file,
        subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=file, stderr=file) as demo,
    ):
        try:
            assert wait_until(lambda: "Ctrl-C" in output.read_text() or demo.poll() is not None, seconds=60, pause=0.1)
            printed = output.read_text()
            address = re.search(r"The dashboard: (http://\S+)/dashboard", printed)
            key = re.search(r"lb_live_\w+", printed)
            assert address is not None, printed
            assert key is not None, printed
            yield address[1], key[0]
        finally:
            demo.terminate()
            demo.wait(30)


def test_the_demos_boards_live(demo, open_page):
    url, key = demo
    visit = open_page(url)
    visit.sign_in(key, "boards")
    expect(visit.page.get_by_role("link", name="global")).to_be_visible()
    visit.page.get_by_role("link", name="global").click()
    visit.settle()
    rows = visit.page.get_by_role("region", name="Entries of the top").get_by_role("row")
    best = max(PLAYERS, key=lambda player: player[1])
    expect(rows.nth(1)).to_contain_text(f"{best[0]}{best[1]}")
    with Client(url, key) as sdk:
        sdk.update("global", "you", increment=1000)
        expect(rows.nth(1)).to_contain_text("you1,000")
        # On the page is what was sent: both boards' players, and this one.
        sent = 1 + sum(sdk.top(board.key).total for board in sdk.iter_leaderboards()) - 1
        assert wait_until(lambda: sum(day.score_updates for day in sdk.usage().days) == sent, seconds=90, pause=0.2)
    visit.go("")
    card = visit.page.get_by_role("region", name="Score updates", exact=True)
    expect(card.get_by_role("listitem")).to_contain_text(f"{sent}")
    assert visit.violations() == []

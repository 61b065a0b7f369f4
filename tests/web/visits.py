"""One person's visit to the dashboard, in a real browser."""

import re
from pathlib import Path
from typing import Any

from playwright.sync_api import ConsoleMessage, Locator, Page, Response, expect

ROOT = Path(__file__).parents[2]
AXE = ROOT / "web/node_modules/axe-core/axe.min.js"
VIEWS = {
    "": "Overview",
    "boards": "Leaderboards",
    "usage": "Usage and plan",
    "keys": "API keys",
    "activity": "Activity",
}

# Scrolled back to the left first: to be found is no reason for a table to have been scrolled.
IN_SIGHT = """
(found) => {
  const around = []
  for (let each = found; each !== null; each = each.parentElement) { each.scrollLeft = 0; around.push(each) }
  const box = found.getBoundingClientRect()
  const clipped = around.some((each) => {
    const edge = each.getBoundingClientRect()
    return getComputedStyle(each).overflowX !== 'visible' && (box.left < edge.left || box.right > edge.right)
  })
  const middle = [box.left + box.width / 2, box.top + box.height / 2]
  const points = [[box.left + 1, box.top + 1], middle, [box.right - 1, box.bottom - 1]]
  const on_top = points.every(([x, y]) => {
    const at = document.elementFromPoint(x, y)
    return at !== null && (found.contains(at) || at.contains(found))
  })
  return box.width > 0 && box.left >= 0 && box.right <= innerWidth && !clipped && on_top
}
"""


class Visit:
    """What a person does on the page, and what the page complains of meanwhile.

    `complaints` are errors of the console and of scripts; `expected` takes out those a test brings about. `largest`
    is the largest answer so far, with its address: in bytes of body by its content-length, or, of a stream, in bytes
    that have arrived. `unmeasured` are the successes of whose length nothing can be told. `streamed` has what arrived
    of each stream of events, by address.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.complaints: list[str] = []
        self.answers: list[Response] = []
        self.largest = (0, "")
        self.unmeasured: list[str] = []
        self.streamed: dict[str, int] = {}
        self._streams: dict[str, str] = {}
        page.set_default_timeout(10_000)
        page.on("console", self._printed)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("response", self._answered)
        # Playwright itself has the bodies of streams only once they have ended.
        network = page.context.new_cdp_session(page)
        network.on("Network.responseReceived", self._opened)
        network.on("Network.dataReceived", self._arrived)
        network.send("Network.enable")

    def sign_in(self, key: str, path: str = "") -> None:
        """Open the view `path` with the API key."""
        self.page.goto(f"{self.url}/dashboard/{path}")
        self.page.get_by_label("API key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.get_by_role("button", name="Sign out")).to_be_visible()

    def go(self, view: str) -> None:
        """Go to a view by the navigation."""
        self.page.get_by_role("navigation").get_by_role("link", name=VIEWS[view]).click()
        self.settle()

    def open(self, path: str) -> None:
        """Open an address, as a bookmark would."""
        self.page.goto(f"{self.url}/dashboard/{path}")
        self.settle()

    def settle(self) -> None:
        """Wait until nothing is on its way any more."""
        expect(self.page.locator("main h1")).to_be_visible()
        expect(self.page.get_by_text(re.compile("Loading…|Connecting…"))).to_have_count(0)

    def row(self, text: str) -> Locator:
        """The rows of tables with `text` in them."""
        return self.page.get_by_role("row").filter(has_text=text)

    def expected(self, complaint: str) -> None:
        """Take out the complaints with `complaint` in them; there must be one."""
        left = [each for each in self.complaints if complaint not in each]
        assert len(left) < len(self.complaints), f"nothing complained of {complaint!r}: {self.complaints}"
        self.complaints = left

    def violations(self) -> list[str]:
        """What axe finds against WCAG 2.2 A and AA, and against its own best practices."""
        found: Any = self.page.evaluate("() => axe.run({resultTypes: ['violations']})")
        return [
            f"{each['id']} ({each['impact']}): {node['html']} {node['failureSummary']}"
            for each in found["violations"]
            for node in each["nodes"]
        ]

    def in_sight(self, found: Locator) -> bool:
        """Whether a person who scrolls down, and never sideways, sees the whole of it with nothing over it."""
        found.scroll_into_view_if_needed()
        seen: bool = found.evaluate(IN_SIGHT)
        return seen

    def sideways(self) -> int:
        """By how many pixels the page is wider than the window."""
        wider: int = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        return wider

    def stored(self) -> str:
        """All that scripts of the page can find: storage, cookies they may read, the address, the document."""
        text: str = self.page.evaluate(
            "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href,"
            " document.documentElement.outerHTML, [...document.querySelectorAll('input')].map(each => each.value)])"
        )
        return text

    def _printed(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _answered(self, answer: Response) -> None:
        self.answers.append(answer)
        if "content-length" in answer.headers:
            self.largest = max(self.largest, (int(answer.headers["content-length"]), answer.url))
        elif answer.status == 200 and not _is_stream(answer.headers.get("content-type", "")):
            self.unmeasured.append(answer.url)

    def _opened(self, event: dict[str, Any]) -> None:
        if _is_stream(event["response"]["mimeType"]):
            self._streams[event["requestId"]] = event["response"]["url"]

    def _arrived(self, event: dict[str, Any]) -> None:
        url = self._streams.get(event["requestId"])
        if url is not None:
            self.streamed[url] = self.streamed.get(url, 0) + event["dataLength"]
            self.largest = max(self.largest, (self.streamed[url], url))


def _is_stream(kind: str) -> bool:
    return kind.partition(";")[0].strip() == "text/event-stream"

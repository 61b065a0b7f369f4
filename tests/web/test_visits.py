"""What a visit tells of the answers it got: without it, test_large.py could not fail."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from leaderboard.local.process import LOOPBACK, wait_until

PAGE = b"<!doctype html><title>A page</title>"
EVENT = b"data: " + b"x" * 1_000 + b"\n\n"


class Answers(BaseHTTPRequestHandler):
    """A page with or without its length, and a stream of a hundred events that stays open."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if self.path == "/events" else "text/html")
        if self.path == "/measured":
            self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(EVENT * 100 if self.path == "/events" else PAGE)
        if self.path == "/events":
            self.wfile.flush()
            self.server.over.wait(30)

    def log_message(self, format, *args):
        """Say nothing."""


@pytest.fixture
def url():
    with ThreadingHTTPServer((LOOPBACK, 0), Answers) as server:
        server.over = threading.Event()
        threading.Thread(target=server.serve_forever).start()
        yield f"http://{LOOPBACK}:{server.server_port}"
        server.over.set()
        server.shutdown()


def test_an_answer_is_as_large_as_it_says(open_page, url):
    visit = open_page(url)
    visit.page.goto(f"{url}/measured")
    assert visit.unmeasured == []
    assert visit.largest == (len(PAGE), f"{url}/measured")


def test_an_answer_that_does_not_say_how_large_it_is_is_named(open_page, url):
    visit = open_page(url)
    visit.page.goto(f"{url}/endless")
    assert visit.unmeasured == [f"{url}/endless"]


def test_a_stream_is_as_large_as_what_came_of_it(open_page, url):
    visit = open_page(url)
    visit.page.goto(f"{url}/measured")
    visit.page.evaluate(
        "() => new Promise((heard) => {"
        " let left = 100; const source = new EventSource('/events');"
        " source.onmessage = () => { left -= 1; if (left === 0) heard() } })"
    )
    assert visit.unmeasured == []
    assert wait_until(lambda: visit.page.title() and visit.largest[0] >= 100 * len(EVENT), seconds=90, pause=0.1)
    assert visit.streamed == {f"{url}/events": 100 * len(EVENT)}
    visit.page.goto("about:blank")

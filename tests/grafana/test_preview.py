"""The preview, drawn from a server on loopback that answers in the documented shapes of the three HTTP APIs."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from leaderboard_dashboards import preview
from leaderboard_dashboards.__main__ import rendered

START, END = 1_700_000_000.0, 1_700_003_600.0
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = {"name": "EVALSHA update", "startTimeUnixNano": "1000000", "endTimeUnixNano": "3500000"}
LINE = {"stream": {"severity_text": "WARNING"}, "values": [["1700000000000000000", "a <line> & more"]]}
MATRIX = {"metric": {"leaderboard_tenant": "acme"}, "values": [[START, "NaN"], [END, "0.0123"]]}
VECTOR = {"metric": {"leaderboard_tenant": "acme"}, "value": [END, "0.5"]}
EXEMPLAR = {"labels": {"trace_id": TRACE}, "value": "0.01", "timestamp": END}
ANSWERS = {
    "/api/v1/query_range": {"status": "success", "data": {"resultType": "matrix", "result": [MATRIX]}},
    "/api/v1/query": {"status": "success", "data": {"resultType": "vector", "result": [VECTOR]}},
    "/api/v1/query_exemplars": {
        "status": "success",
        "data": [
            {"seriesLabels": {}, "exemplars": [{"labels": {"trace_id": TRACE}, "value": "0.01", "timestamp": END}]}
        ],
    },
    "/loki/api/v1/query_range": {"status": "success", "data": {"resultType": "streams", "result": [LINE]}},
    "/api/search": {"traces": [{"traceID": TRACE, "rootTraceName": "POST /v1/scores/update", "durationMs": 42}]},
    f"/api/traces/{TRACE}": {"batches": [{"scopeSpans": [{"spans": [SPAN]}]}]},
}
METRIC_LINES = {"status": "success", "data": {"resultType": "matrix", "result": [MATRIX]}}


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.refuses = False


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query).get("query", parse_qs(parts.query).get("q", [""]))[0]
        self.server.asked.append(query)
        lines = METRIC_LINES if parts.path.startswith("/loki") and "count_over_time" in query else None
        body = json.dumps(lines or ANSWERS[parts.path]).encode()
        self.send_response(400 if self.server.refuses else 200)
        self.end_headers()
        self.wfile.write(b"parse error" if self.server.refuses else body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def _draw(server: Server, file: str) -> str:
    url = f"http://127.0.0.1:{server.server_port}"
    source = preview.Source(
        urls=dict.fromkeys(("prometheus", "loki", "tempo"), url),
        start=START,
        end=END,
        variables={"tenant": "acme", "trace_id": TRACE},
    )
    return preview.draw(json.loads(rendered()[file]), source)


@pytest.mark.parametrize("file", rendered())
def test_every_dashboard_is_drawn_with_its_titles_and_says_what_it_is(server: Server, file: str) -> None:
    page = _draw(server, file)
    assert "drawn without Grafana" in page
    assert all(panel["title"].replace("&", "&amp;") in page for panel in json.loads(rendered()[file])["panels"])
    assert re.search(r"\bnan\b", page, re.IGNORECASE) is None
    assert server.asked
    assert not any("$" in query for query in server.asked)


def test_numbers_have_their_units_and_exemplars_are_dots(server: Server) -> None:
    page = _draw(server, "platform_overview.json")
    assert "12.3 ms" in page
    assert "1.23%" in page
    assert "<circle" in page


def test_traces_and_log_lines_are_listed_and_escaped(server: Server) -> None:
    page = _draw(server, "tracing.json")
    assert TRACE in page
    assert "EVALSHA update" in page
    assert "2.50" in page
    assert "a &lt;line&gt; &amp; more" in page


def test_a_refused_query_is_told_in_its_panel(server: Server) -> None:
    server.refuses = True
    assert "the server says 400: parse error" in _draw(server, "tenant.json")

"""A plain client of the API for these tests, and what several of them check of an answer."""

import asyncio
import http.client
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import psycopg
from redis.asyncio import Redis

from leaderboard.api import problems
from leaderboard.control.reconcile import Control
from leaderboard.domain import documents
from leaderboard.store.postgres.pool import open_pool
from support.client import Answer
from support.platform import Platform


class Client:
    """One keep-alive connection with a key of its own, or none."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url = url
        self.key = key
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)

    def call(
        self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None, raw: bytes = b""
    ) -> Answer:
        """Send one request, with `body` as JSON or `raw` as it is."""
        given = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        data = raw or None
        if body is not None:
            data = json.dumps(body).encode()
        if data is not None:
            given["Content-Type"] = "application/json"
        given |= headers or {}
        try:
            self._connection.request(method, path, body=data, headers=given)
            response = self._connection.getresponse()
            answer = Answer(
                response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
            )
        except BaseException:
            self._connection.close()
            raise
        if "connection" in answer.headers and answer.headers["connection"] == "close":
            self._connection.close()
        return answer

    def get(self, path: str, **headers: str) -> Answer:
        return self.call("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        return self.call("POST", path, body, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def make(self, key: str, **rules: Any) -> Any:
        """Make a board and return it."""
        answer = self.post("/v1/leaderboards", {"key": key, **rules})
        assert answer.status == 201, answer
        return answer.json()

    def add(self, board: str, *scores: tuple[str, float], field: str = "increment") -> None:
        """Send one update per (user, number)."""
        for user, number in scores:
            answer = self.post("/v1/scores/update", {"leaderboard": board, "user": user, field: number})
            assert answer.status == 200, answer

    def close(self) -> None:
        self._connection.close()


class Browser:
    """Signs in, keeps the cookie, and sends what a page's own script would."""

    def __init__(self, client: Client, key: str) -> None:
        self._client = client
        self.signed_in = client.post("/dashboard/session", {"api_key": key})
        self.cookie = self.signed_in.headers.get("set-cookie", "").partition(";")[0]
        self.session: dict[str, Any] = self.signed_in.json()

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        given = {"Cookie": self.cookie, "Sec-Fetch-Site": "same-origin"}
        if method != "GET":
            given["X-CSRF-Token"] = self.session["csrf_token"]
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self._client.call(method, path, body, headers={name: value for name, value in given.items() if value})


class Followed:
    """One open stream of server-sent events."""

    def __init__(
        self, url: str, path: str, headers: Mapping[str, str], *, limit: int = 10, last_id: str | None = None
    ) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        given = {**headers} | ({"Last-Event-ID": last_id} if last_id else {})
        self._connection.request("GET", f"{path}?limit={limit}", headers=given)
        self.response = self._connection.getresponse()

    def block(self) -> list[str]:
        """The lines up to the next empty one; none at the end of the stream."""
        lines = []
        while line := self.response.readline().decode():
            if line == "\n":
                return lines
            lines.append(line.rstrip("\n"))
        return lines

    def event(self) -> tuple[str, str, Any]:
        """The next event: its id, type and data. Comments and `retry` are passed over."""
        while block := self.block():
            fields = dict(line.split(": ", 1) for line in block if not line.startswith(":"))
            if "data" in fields:
                return fields.get("id", ""), fields["event"], json.loads(fields["data"])
        raise EOFError

    def close(self) -> None:
        self.response.close()
        self._connection.close()


def assert_problem(answer: Answer, kind: problems.ProblemType, *, detail: str = "") -> dict[str, Any]:
    """Check that `answer` is a whole problem of this kind, with `detail` in its detail; return it."""
    body = answer.json()
    assert (answer.status, body["type"]) == (kind.status, f"/problems/{kind.name}"), answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert body["status"] == kind.status
    assert body["title"] == kind.title
    assert body["advice"] == kind.advice
    assert re.fullmatch("[0-9a-f]{32}", body["trace_id"])
    assert detail in body.get("detail", ""), body
    return body


def assert_no_faults(served: Platform) -> None:
    """Check that no process of the platform has logged an error, or anything that is not JSON, since it started."""
    for name in ("api", "worker"):
        for line in served.lines(name):
            assert json.loads(line)["level"] in ("debug", "info", "warning"), line


def in_control(served: Platform, work: Callable[[Control], Awaitable[Any]]) -> Any:
    """Run `work` with a Control on the platform's stores, from a test without an event loop; return what it does."""

    async def run() -> Any:
        pool = await open_pool(served.database, size=2, timeout=10)
        client = Redis.from_url(served.redis_url)
        try:
            return await work(Control(pool, client, pepper=served.pepper.encode()))
        finally:
            await client.aclose()
            await pool.close()

    return asyncio.run(run())


def apply(served: Platform, kind: str, name: str, *, owner: str | None = None, **spec: Any) -> None:
    """Apply a document of `kind`; a Tenant's keys stay as they are."""
    document = documents.parse(
        {"apiVersion": documents.API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
    )
    in_control(served, lambda control: control.reconcile(document, owner=owner))


def sql(served: Platform, statement: str, *values: Any) -> None:
    """Change a row behind everybody's back, as time or an operator would."""
    with psycopg.connect(served.database, autocommit=True) as connection:
        connection.execute(statement, values)

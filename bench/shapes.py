"""The requests of the benchmark, as templates both generators fill in (`wrk.lua`, `openloop.py`).

Every placeholder has a fixed width, so that one Content-Length holds for all requests of a shape. Member names are what
redis-benchmark's ``__rand_int__`` makes (12 digits), so that it meets the same members.
"""

import itertools
import random
import re
from collections.abc import Iterator

import msgspec

MEMBER, BOARD, UNIQUE = "\1", "\2", "\3"
_WIDTH = {MEMBER: 12, BOARD: 5, UNIQUE: 15}
USER = f"u{MEMBER}"
BATCH = 500
CONNECTIONS = 32
"""Of wrk and redis-benchmark, kept alive and always busy."""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of request. `items` is how many operations one request does, `connections` how many wrk uses."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""
    items: int = 1
    connections: int = CONNECTIONS

    def template(self, host: str) -> str:
        """Return the whole request with its placeholders."""
        head = [f"{self.method} {self.path} HTTP/1.1", f"Host: {host}"]
        head += [f"{name}: {value}" for name, value in self.headers]
        if self.body:
            length = sum(_WIDTH.get(char, 1) for char in self.body)
            head += ["Content-Type: application/json", f"Content-Length: {length}"]
        return "\r\n".join([*head, "", self.body])


def fill(template: str, *, members: Iterator[int], boards: int, seed: int) -> Iterator[bytes]:
    """Make requests of a template without end."""
    parts = re.split("([\1\2\3])", template)
    chosen, unique = random.Random(seed), itertools.count(seed * 10**9)
    make = {
        MEMBER: lambda: f"{next(members):012d}",
        BOARD: lambda: f"{chosen.randrange(boards):05d}",
        UNIQUE: lambda: f"{next(unique):015d}",
    }
    while True:
        yield "".join(make[part]() if part in make else part for part in parts).encode()


def _key(key: str) -> tuple[tuple[str, str], ...]:
    return (("Authorization", f"Bearer {key}"),)


def write(key: str, *, board: str = "global", idempotent: bool = False) -> Shape:
    """A single update of a random member; with `idempotent` each under an Idempotency-Key of its own."""
    extra = (("Idempotency-Key", f"bench-{UNIQUE}"),) if idempotent else ()
    return Shape(
        method="POST",
        path="/v1/scores/update",
        headers=(*_key(key), *extra),
        body=f'{{"leaderboard":"{board}","user":"{USER}","increment":5}}',
    )


def batch(key: str, *, board: str = "global") -> Shape:
    """500 updates of random members of one board. On 8 connections: 4,000 updates under way keep every part busy."""
    item = f'{{"leaderboard":"{board}","user":"{USER}","increment":5}}'
    return Shape(
        method="POST",
        path="/v1/scores/batch",
        headers=_key(key),
        body=f'{{"updates":[{",".join([item] * BATCH)}]}}',
        items=BATCH,
        connections=8,
    )


def top(key: str, *, board: str = "global") -> Shape:
    """The 100 best."""
    return Shape(method="GET", path=f"/v1/leaderboards/{board}/top?limit=100", headers=_key(key))


def rank(key: str, *, board: str = "global") -> Shape:
    """The rank of a random member."""
    return Shape(method="GET", path=f"/v1/leaderboards/{board}/rank/{USER}", headers=_key(key))


def public_top(slug: str, *, board: str = "global") -> Shape:
    """The 100 best, by the route without a key."""
    return Shape(method="GET", path=f"/v1/public/{slug}/default/leaderboards/{board}/top?limit=100")


def podium(board: str) -> dict[str, Shape]:
    """Podium's routes for the same three things (`--peer-url`)."""
    member = f"/l/{board}/members/{USER}"
    return {
        "single write": Shape(method="PATCH", path=f"{member}/score", body='{"increment":5}'),
        "top 100": Shape(method="GET", path=f"/l/{board}/top/1?pageSize=100"),
        "rank": Shape(method="GET", path=f"{member}/rank"),
    }

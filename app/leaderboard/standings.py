"""Signed standings outside the platform: documents that are fetched, kept, and verified years later without it.

A document is lines of JSON: what ``GET .../seasons/{season}`` answers (see `domain.signatures`), then each entry, best
first, as ``{"rank":1,"user":"u42","score":15}``. An entry's place is its line. Whoever verifies brings the public key:
the one in a document says only who it claims to be from.
"""

import http.client
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from leaderboard.domain import names, signatures
from leaderboard.domain.errors import DomainError
from leaderboard.domain.keys import parse_key
from leaderboard.domain.scores import plain
from leaderboard.domain.signatures import Signed
from leaderboard.files import whole
from leaderboard.store.postgres.seasons import Final, Seal, Sealed

PAGE = 1_000
"""Entries in one answer of the API, its most."""
_TIMEOUT = 30.0
_PATIENCE = 120.0
"""Seconds that are waited in all where the API says to come again."""
_ATTEMPTS = 3


class StandingsError(Exception):
    """Standings that cannot be had or are not what was signed; the message says which, and what differs."""


class Line(msgspec.Struct, frozen=True):
    """One entry of a document."""

    rank: int
    user: str
    score: float


class _Page(msgspec.Struct):
    entries: list[Line]
    next_cursor: str | None


_encode = msgspec.json.Encoder().encode
_decode_signed = msgspec.json.Decoder(Signed).decode
_decode_line = msgspec.json.Decoder(Line).decode
_decode_page = msgspec.json.Decoder(_Page).decode


# -- documents


def read(lines: Iterable[bytes]) -> tuple[Signed, Iterator[Line]]:
    """Return what a document says of its season, and its entries, a line at a time. Raises StandingsError."""
    every = iter(enumerate(lines, 1))
    _, first = next(every, (1, b""))
    try:
        signed = _decode_signed(first)
        signed.text()
    except (msgspec.MsgspecError, UnicodeDecodeError, DomainError) as error:
        raise StandingsError(f"line 1 is not what a season ended with: {error}") from error
    if _encode(signed) != first.rstrip(b"\r\n"):
        _check_form(first, Signed, number=1)
    return signed, _entries(every)


def _entries(lines: Iterator[tuple[int, bytes]]) -> Iterator[Line]:
    for number, text in lines:
        try:
            line = _decode_line(text)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StandingsError(f"line {number} is no entry: {error}") from error
        if written(line) != text.rstrip(b"\r\n"):
            _check_form(text, Line, number=number)
        yield line


def _check_form(text: bytes, kind: type[msgspec.Struct], *, number: int) -> None:
    # Another program wrote the line. What it shows to others has to be what is read here: nothing that was not signed,
    # and readers of JSON differ in which of two values they take, and in how many digits of a number.
    pairs: list[tuple[str, Any]] = json.loads(text, object_pairs_hook=list, parse_float=Decimal, parse_int=Decimal)
    if sorted(name for name, _ in pairs) != sorted(kind.__struct_fields__):
        raise StandingsError(f"line {number} has to have {', '.join(kind.__struct_fields__)} once each, and no more")
    for name, value in pairs:
        if isinstance(value, Decimal) and value != Decimal(repr(float(value))):
            raise StandingsError(f"line {number}: {name} has more digits than a number has: {value}"[:200])


def written(line: Line) -> bytes:
    """Return an entry as a document has it, without the line feed."""
    return _encode({"rank": line.rank, "user": line.user, "score": plain(line.score)})


def seal(entries: Iterable[Line]) -> Sealed:
    """Add up entries as the archive did. Raises StandingsError for a user that no line can hold."""
    total = Seal()
    for place, line in enumerate(entries, 1):
        if "\n" in line.user:
            raise StandingsError(f"entry {place} has a line feed in its user, which no user has")
        total.add(Final(place, line.rank, line.user, line.score))
    return total.sealed()


def check_entries(signed: Signed, found: Sealed) -> None:
    """Raise StandingsError where the entries are not those that the season is said to have ended with."""
    if found.entries != signed.entries:
        raise StandingsError(f"there are {found.entries} entries, but the season ended with {signed.entries}")
    if found.checksum.hex() != signed.checksum:
        raise StandingsError(
            f"the entries are not those that the season ended with: their checksum is {found.checksum.hex()}, not "
            f"{signed.checksum}. A rank, user or score was changed, or entries have changed places"
        )


def check_signature(signed: Signed, public_keys: Sequence[str]) -> str:
    """Return which of the trusted `public_keys` signed the statement. Raises StandingsError where none did."""
    if signed.signature is None:
        raise StandingsError("the standings are unsigned: the platform had no LEADERBOARD_SIGNING_KEY")
    for key in public_keys:
        if signatures.fits(signed, key):
            return key.lower()
    trusted = {key.lower() for key in public_keys}
    if signed.public_key in trusted:
        raise StandingsError(
            "the signature does not fit: one of tenant, project, leaderboard, season, ended_at, entries, checksum and "
            "signature was changed after it was signed"
        )
    raise StandingsError(
        f"the standings say that they are signed with {signed.public_key}, which is not a key that you trust "
        f"({', '.join(sorted(trusted))}), nor does any of these fit"
    )


# -- the API


class Api:
    """Reads from a platform at `url` with an API key, on one connection. Raises InvalidApiKey, StandingsError."""

    def __init__(self, url: str, key: str) -> None:
        parse_key(key)
        parts = urlsplit(url)
        kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in kinds or not parts.hostname or port == -1:
            raise StandingsError(f"{url!r} is no address of an API: give one like https://leaderboards.example.com")
        # Not urllib: it would follow a redirect, and take the key along to another host.
        self._connection = kinds[parts.scheme](parts.hostname, port, timeout=_TIMEOUT)
        self._url, self._base = url, parts.path.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}", "Accept": "application/json"}
        self._patience = _PATIENCE

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def season(self, board: str, number: int) -> tuple[Signed, Iterator[Line]]:
        """Return what a season ended with, its entries a page at a time. Raises StandingsError, InvalidName."""
        path = f"/v1/leaderboards/{names.board_key(board)}/seasons/{number}"
        try:
            signed = _decode_signed(self._get(path))
            signed.text()
        except (msgspec.MsgspecError, DomainError) as error:
            raise StandingsError(f"{self._url} did not answer with a season: {error}") from error
        if (signed.leaderboard, signed.season) != (board, number):
            raise StandingsError(f"{self._url} answered season {signed.season} of {signed.leaderboard!r} instead")
        return signed, self._pages(f"{path}/top?limit={PAGE}")

    def _pages(self, path: str) -> Iterator[Line]:
        cursor = ""
        while True:
            try:
                page = _decode_page(self._get(path + cursor))
            except msgspec.MsgspecError as error:
                raise StandingsError(f"{self._url} did not answer with entries: {error}") from error
            yield from page.entries
            if page.next_cursor is None:
                return
            cursor = f"&cursor={page.next_cursor}"

    def _get(self, path: str) -> bytes:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._patient(path)
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()  # the next request opens another
                if attempt == _ATTEMPTS:
                    raise StandingsError(f"{self._url} cannot be read: {error or type(error).__name__}") from error
        raise AssertionError

    def _patient(self, path: str) -> bytes:
        while True:
            self._connection.request("GET", self._base + path, headers=self._headers)
            answer = self._connection.getresponse()
            body: bytes = answer.read()
            if answer.status == 200:
                return body
            wait = answer.getheader("Retry-After") or ""
            if answer.status not in (429, 503) or not wait.isdecimal() or int(wait) > self._patience:
                raise StandingsError(f"{self._url}{path} answered {answer.status}: {_detail(body)}")
            self._patience -= max(int(wait), 0.1)
            time.sleep(int(wait) or 0.1)


def _detail(body: bytes) -> str:
    try:
        problem = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.MsgspecError:
        return body[:200].decode(errors="replace")
    return str(problem.get("detail") or problem.get("title") or "")


def export(signed: Signed, entries: Iterable[Line], to: Path) -> None:
    """Write a document, which is there whole or not at all. Raises StandingsError, also where the file is there.

    Holds a page at a time. Entries that are not what `signed` says are not kept.
    """
    try:
        with whole(to) as part, part.open("wb") as file:
            file.write(_encode(signed) + b"\n")

            def passing() -> Iterator[Line]:
                for line in entries:
                    file.write(written(line) + b"\n")
                    yield line

            check_entries(signed, seal(passing()))
    except OSError as error:
        raise StandingsError(f"{to} cannot be written: {error.strerror}") from error

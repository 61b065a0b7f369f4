"""Query strings and path parameters: known ones only, each with its bounds."""

import base64
import binascii
import math
import re
from urllib.parse import unquote

import falcon.asgi

from leaderboard.api import problems
from leaderboard.api.problems import Problem
from leaderboard.domain.errors import InvalidName
from leaderboard.domain.names import USER_MAX_BYTES, BoardKey, board_key, user_id
from leaderboard.store.redis.boards import ORDER_CHARS

MAX_LIMIT = 1_000
MAX_OFFSET = 2**53


def board(leaderboard: str) -> BoardKey:
    """Return the path's board key, or raise Problem 404: what cannot be a key names no board."""
    try:
        return board_key(leaderboard)
    except InvalidName as error:
        raise Problem(problems.BOARD_NOT_FOUND, str(error)) from error


def known(req: falcon.asgi.Request, *names: str) -> None:
    """Raise Problem 400 for a parameter that is not in `names`: a misspelt one must not pass for absent."""
    for name in req.params:
        if name not in names:
            takes = ", ".join(names) if names else "none"
            raise Problem(problems.INVALID_PARAMETER, f"unknown parameter {name[:40]!r}; this path takes {takes}")


def integer(req: falcon.asgi.Request, name: str, *, default: int, minimum: int, maximum: int) -> int:
    """Return parameter `name` as an int within bounds, `default` where it is absent, or raise Problem 400."""
    text = text_of(req, name)
    if text is None:
        return default
    # int() would take '+5', ' 5', '5_0' and other scripts' digits too.
    if not (text.isascii() and text.isdigit() and len(text) <= 16) or not minimum <= int(text) <= maximum:
        raise Problem(
            problems.INVALID_PARAMETER, f"{name} must be an integer from {minimum} to {maximum}, got {text[:40]!r}"
        )
    return int(text)


def pack_cursor(*numbers: int) -> str:
    """Return a cursor that holds numbers."""
    return base64.urlsafe_b64encode(" ".join(map(str, numbers)).encode()).decode().rstrip("=")


def unpack_cursor(text: str, pattern: re.Pattern[str], *, bits: int) -> list[int]:
    """Return the numbers of a cursor, the groups of `pattern` over it whole; raise Problem 400 for another's.

    None of ours has a number of more than `bits` bits.
    """
    try:
        match = pattern.fullmatch(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode())
    except ValueError:  # binascii.Error and UnicodeDecodeError are kinds of it
        match = None
    numbers = [] if match is None else [int(group) for group in match.groups()]
    if not numbers or max(numbers).bit_length() > bits:
        raise Problem(problems.INVALID_PARAMETER, "cursor is not one of ours: use next_cursor as it came")
    return numbers


def whole(number: float, *, field: str) -> int:
    """Return what a body's integer field says, or raise Problem 422.

    10.0 is an integer in JSON (JSON Schema 2020-12, 6.1.1), and what some encoders make of 10.
    """
    if isinstance(number, float) and not number.is_integer():
        raise Problem(problems.INVALID_REQUEST, f"{field} must be a whole number, got {number}")
    return int(number)


def text_of(req: falcon.asgi.Request, name: str) -> str | None:
    """Return parameter `name`, None where it is absent; raise Problem 400 where it is given twice."""
    value = req.params.get(name)
    if isinstance(value, list):
        raise Problem(problems.INVALID_PARAMETER, f"{name} must be given once")
    return value


def user_of(req: falcon.asgi.Request, name: str) -> str | None:
    """Return the user id that parameter `name` is, None where it is absent; raise Problem 400 where it is none."""
    text = text_of(req, name)
    if text is None:
        return None
    try:
        return user_id(text)
    except InvalidName as error:
        raise Problem(problems.INVALID_PARAMETER, str(error)) from error


def listed(req: falcon.asgi.Request, name: str) -> list[str]:
    """Return the values of ``?name=a,b&name=c`` in order. A comma inside a value is written ``%2C``."""
    values: list[str] = []
    for part in req.query_string.split("&"):
        key, _, raw = part.partition("=")
        if unquote(key) == name:
            try:
                values += [unquote(item.replace("+", " "), errors="strict") for item in raw.split(",")]
            except UnicodeDecodeError as error:
                raise Problem(problems.INVALID_PARAMETER, f"{name} must be UTF-8") from error
    return values


def encode_cursor(score: float, member: str) -> str:
    """Return the opaque cursor that goes on after `member` with `score`. It names no board: it only says where."""
    return base64.urlsafe_b64encode(f"{score!r} {member}".encode()).decode().rstrip("=")


def decode_cursor(text: str) -> tuple[float, str]:
    """Return (score, member) of a cursor, or raise Problem 400."""
    try:
        if "=" in text or "+" in text or "/" in text:  # b64decode takes them beside its altchars, and surplus padding
            raise ValueError("not a cursor")
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
        number, _, member = raw.partition(" ")
        score = float(number)
    except (ValueError, binascii.Error) as error:
        raise Problem(problems.INVALID_PARAMETER, "cursor is not one of ours: use next_cursor as it came") from error
    if not math.isfinite(score) or not 1 <= len(member.encode()) <= USER_MAX_BYTES + ORDER_CHARS:
        raise Problem(problems.INVALID_PARAMETER, "cursor is not one of ours: use next_cursor as it came")
    return score, member

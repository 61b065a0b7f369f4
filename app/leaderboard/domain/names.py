"""Names: the patterns every boundary checks before anything reaches a store.

Because a board key has no ``:``, ``{`` or ``}``, and a project name none either, no choice of names can make one
project's Redis key equal another's.
"""

import re
from typing import NewType

from leaderboard.domain.errors import InvalidName

TenantId = NewType("TenantId", int)
ProjectId = NewType("ProjectId", int)
LeaderboardId = NewType("LeaderboardId", int)
BoardKey = NewType("BoardKey", str)
UserId = NewType("UserId", str)

BOARD_KEY_PATTERN = r"^[a-z0-9][a-z0-9_.-]{0,127}$"
PROJECT_PATTERN = r"^[a-z0-9_-]{1,63}$"
SLUG_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"
REGION_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
ORIGIN_PATTERN = r"^https?://[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(:[0-9]{1,5})?$"
LINE_PATTERN = r"^[^\x00-\x1f\x7f-\x9f]*$"
TIER_PATTERN = r"^[^\x00-\x20\x7f-\xa0]+( [^\x00-\x20\x7f-\xa0]+)*$"
TIER_LENGTH = 32
IDEMPOTENCY_KEY_PATTERN = r"^[\x21-\x7e]{1,128}$"
USER_MAX_BYTES = 128

# fullmatch, not match: in Python `$` also matches before a final newline.
_board_key = re.compile(BOARD_KEY_PATTERN.removeprefix("^").removesuffix("$")).fullmatch
_project = re.compile(PROJECT_PATTERN.removeprefix("^").removesuffix("$")).fullmatch
_slug = re.compile(SLUG_PATTERN.removeprefix("^").removesuffix("$")).fullmatch
_region = re.compile(REGION_PATTERN.removeprefix("^").removesuffix("$")).fullmatch
_origin = re.compile(ORIGIN_PATTERN.removeprefix("^").removesuffix("$")).fullmatch
# And lone surrogates, which neither UTF-8 nor Postgres can hold; they never come from a Kubernetes API.
_forbidden_in_line = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]").search
_tier = re.compile(TIER_PATTERN.removeprefix("^").removesuffix("$")).fullmatch
_idempotency_key = re.compile(IDEMPOTENCY_KEY_PATTERN.removeprefix("^").removesuffix("$")).fullmatch
# C0, DEL, C1, the slash, lone surrogates; and U+2028/9, which end a line for some readers of our logs.
_forbidden_in_user = re.compile("[\x00-\x1f\x7f-\x9f/\ud800-\udfff\u2028\u2029]").search


def board_key(text: str) -> BoardKey:
    """Return `text` as a board key, or raise InvalidName."""
    if _board_key(text) is None:
        raise InvalidName(
            f"leaderboard key {text[:140]!r} must match {BOARD_KEY_PATTERN}: 1-128 of a-z, 0-9, _ . -, "
            "starting with a letter or digit"
        )
    return BoardKey(text)


def project_name(text: str) -> str:
    """Return `text` as a project name, or raise InvalidName."""
    if _project(text) is None:
        raise InvalidName(f"project name {text[:80]!r} must match {PROJECT_PATTERN}: 1-63 of a-z, 0-9, _ and -")
    return text


def tenant_slug(text: str) -> str:
    """Return `text` as a tenant slug, or raise InvalidName."""
    if _slug(text) is None:
        raise InvalidName(
            f"tenant slug {text[:60]!r} must match {SLUG_PATTERN}: 1-40 of a-z, 0-9 and -, no - at either end"
        )
    return text


def region(text: str) -> str:
    """Return `text` as the name of a region, or raise InvalidName."""
    if _region(text) is None:
        raise InvalidName(
            f"region {text[:80]!r} must match {REGION_PATTERN}: 1-63 letters, digits, dots, _ and -, "
            "starting with a letter or digit"
        )
    return text


def origin(text: str) -> str:
    """Return `text` as the origin of web pages (RFC 6454, as browsers serialize it), or raise InvalidName."""
    if _origin(text) is None:
        raise InvalidName(
            f"origin {text[:80]!r} must match {ORIGIN_PATTERN}: scheme and host in lower case, with a port where it is"
            " not the scheme's own, like https://game.example; no path, no slash at the end"
        )
    return text


def line(text: str, *, field: str, longest: int) -> str:
    """Return `text` as one line of at most `longest` characters, or raise InvalidName."""
    if len(text) > longest or _forbidden_in_line(text) is not None:
        raise InvalidName(f"{field} must be one line of at most {longest} characters, without control characters")
    return text


def tier(text: str) -> str:
    """Return `text` as the name of a tier, or raise InvalidName."""
    if len(text) > TIER_LENGTH or _tier(text) is None or _forbidden_in_line(text) is not None:
        raise InvalidName(
            f"tiers: the name {text[:40]!r} must be 1-{TIER_LENGTH} visible characters, single spaces between words"
        )
    return text


def user_id(text: str) -> UserId:
    """Return `text` as a user id, or raise InvalidName. The length is in bytes of UTF-8."""
    if _forbidden_in_user(text) is not None:
        raise InvalidName("user must not contain control characters, line separators or '/'")
    # For ASCII text len() is the byte count already: do not pay for an encoding on the hot path.
    size = len(text) if text.isascii() else len(text.encode())
    if not 1 <= size <= USER_MAX_BYTES:
        raise InvalidName(f"user must be 1-{USER_MAX_BYTES} bytes of UTF-8, got {size}")
    return UserId(text)


def idempotency_key(text: str) -> str:
    """Return `text` as an Idempotency-Key, or raise InvalidName."""
    if _idempotency_key(text) is None:
        raise InvalidName("Idempotency-Key must be 1-128 visible ASCII characters without spaces")
    return text

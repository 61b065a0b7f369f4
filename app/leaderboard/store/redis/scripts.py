"""The Lua scripts, composed and named by their SHA-1.

Lua under Redis cannot import, so what the board scripts share (`board.lua`, and `events.lua` for those that write) is
put in front of each here. EVALSHA rather than Redis Functions: it runs on Redis 6.2, Valkey and managed services.
"""

import hashlib
from importlib.resources import files

import msgspec


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """One script as it is loaded, with the hexadecimal SHA-1 that EVALSHA takes."""

    name: str
    text: str
    sha: str


def _compose(name: str, *prelude: str) -> Script:
    folder = files("leaderboard.store.redis") / "scripts"
    text = "".join((folder / f"{part}.lua").read_text() for part in (*prelude, name))
    # SHA-1 names the script in Redis's protocol; nothing rests on it being hard to forge.
    return Script(name=name, text=text, sha=hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


UPDATE = _compose("update", "board", "events")
REMOVE = _compose("remove", "board", "events")
TRIM = _compose("trim", "board", "events")
DELETE = _compose("delete")
OPEN = _compose("open")
RESET = _compose("reset")
RESTORE = _compose("restore")
IMPORT = _compose("import", "board", "events")
TOP = _compose("top", "board")
AROUND = _compose("around", "board")
MEMBERS = _compose("members", "board")
RANK = _compose("rank", "board")
LEASE = _compose("lease")
STANDING = _compose("standing", "board")
ERASE = _compose("erase", "board", "events")

ALL = (UPDATE, REMOVE, TRIM, DELETE, OPEN, RESET, RESTORE, IMPORT, TOP, AROUND, MEMBERS, RANK, LEASE, STANDING, ERASE)

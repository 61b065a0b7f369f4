import asyncio
import shlex
from pathlib import Path

import pytest

from leaderboard.control.keys import KeyDelivery
from leaderboard.domain.keys import digest, make_key
from leaderboard.domain.names import TenantId
from leaderboard.local.demo import DEFAULT_FILE, KeyFile, commands, read_example, table
from leaderboard.local.process import LocalError

EXAMPLE = Path(__file__).parents[3] / DEFAULT_FILE
PEPPER = b"p" * 32


def test_the_table_lines_up() -> None:
    entries = [{"rank": 9, "user": "ada", "score": 1840}, {"rank": 10, "user": "katherine", "score": 54.5}]
    assert table(entries) == "\n".join(
        [
            "  rank  user       score",
            "     9  ada        1,840",
            "    10  katherine   54.5",
        ]
    )


def test_a_command_survives_the_shell() -> None:
    lines = commands("http://127.0.0.1:8080", key="lb_live_x", example=read_example(EXAMPLE)).splitlines()
    words = shlex.split(lines[1])
    assert words[:3] == ["curl", "-s", "http://127.0.0.1:8080/v1/scores/update"]
    assert words[-1] == '{"leaderboard": "global", "user": "you", "increment": 1000}'


def test_a_file_without_a_board_is_refused(tmp_path: Path) -> None:
    tenant = EXAMPLE.read_text().split("---")[0]
    (tmp_path / "tenant.yaml").write_text(tenant)
    with pytest.raises(LocalError, match="at least one Leaderboard"):
        read_example(tmp_path / "tenant.yaml")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"none\.yaml"):
        read_example(tmp_path / "none.yaml")


def test_the_key_file_holds_the_keys_it_was_given_and_no_others(tmp_path: Path) -> None:
    sink = KeyFile(tmp_path / "keys", tenant="acme", pepper=PEPPER)
    key, other = make_key(b"a" * 44), make_key(b"b" * 44)
    delivery = KeyDelivery(tenant="acme", tenant_id=TenantId(1), project="default", key=key)
    asyncio.run(sink.deliver(delivery))
    again = KeyFile(tmp_path / "keys", tenant="acme", pepper=PEPPER)
    assert again.get("default") == key.text
    assert again.get("race_app") is None
    assert KeyFile(tmp_path / "keys", tenant="other", pepper=PEPPER).get("default") is None
    assert asyncio.run(again.holds("default", key.id, digest(key, pepper=PEPPER)))
    assert not asyncio.run(again.holds("default", other.id, digest(other, pepper=PEPPER)))
    assert not asyncio.run(again.holds("default", key.id, digest(key, pepper=b"q" * 32)))
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o600


def test_a_key_file_that_is_damaged_says_so(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("{")
    with pytest.raises(LocalError, match="remove it"):
        KeyFile(tmp_path / "keys", tenant="acme", pepper=PEPPER).get("default")

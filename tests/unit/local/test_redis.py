import pytest

from leaderboard.local.redis import parse_version, quote


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=ae4d7c971a948f0", (7, 0, 15)),
        ("Valkey server v=8.1.3 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1", (8, 1, 3)),
    ],
)
def test_the_version_is_read_from_what_the_server_prints(text: str, version: tuple[int, int, int]) -> None:
    assert parse_version(text) == version


def test_what_is_no_version_is_refused() -> None:
    with pytest.raises(ValueError, match="not the version"):
        parse_version("command not found")


def test_a_value_of_the_configuration_may_have_spaces_quotes_and_backslashes() -> None:
    assert quote('/a folder/"b"\\c') == '"/a folder/\\"b\\"\\\\c"'

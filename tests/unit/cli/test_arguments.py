"""What a command says of arguments that it cannot take."""

import pytest

from leaderboard import cli


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("import --board a/b/c --skip-bad -1 csv x", "--skip-bad: a number of lines, 0 or more"),
        ("import --board a/b/c --skip-bad few csv x", "--skip-bad: a number of lines, 0 or more"),
        ("erasures --since yesterday", "--since: a time is written as 2026-01-31T09:00:00Z"),
        ("verify-erasure xyz --user ann", "the id of an erasure has 32 hexadecimal digits"),
        ("verify-standings x --public-key xyz", "a public key has 64 hexadecimal digits"),
    ],
)
def test_a_wrong_argument_says_what_is_right(arguments, says, capsys):
    with pytest.raises(SystemExit) as ended:
        cli._main(arguments.split())
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("place", ["import --data d --board a/b/c csv x", "import --board a/b/c csv x --data d"])
def test_options_of_an_import_stand_before_its_source_or_after_it(place):
    args = cli._parser().parse_args(place.split())
    assert (str(args.data), args.board, args.file) == ("d", "a/b/c", "x")

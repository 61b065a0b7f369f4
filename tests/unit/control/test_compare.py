"""What counts as a difference between a board and its ledger."""

from leaderboard.control.rebuild import BoardReport, Difference, Verdict, VerifyReport, compare


def test_equal_boards_have_none():
    assert compare({"a": (1.5, "00f")}, {"a": (1.5, "00f")}) == []


def test_scores_prefixes_and_members_all_count():
    redis = {"a": (1.0, ""), "b": (2.0, "1"), "c": (3.0, "")}
    ledger = {"a": (1.0000000000000002, ""), "b": (2.0, "2"), "d": (3.0, "")}
    assert compare(redis, ledger) == [
        Difference(member="a", redis=(1.0, ""), ledger=(1.0000000000000002, "")),
        Difference(member="b", redis=(2.0, "1"), ledger=(2.0, "2")),
        Difference(member="c", redis=(3.0, ""), ledger=None),
        Difference(member="d", redis=None, ledger=(3.0, "")),
    ]


def test_a_report_is_the_same_only_when_every_board_is():
    good = BoardReport(path="a/b/c", verdict=Verdict.SAME)
    bad = BoardReport(path="a/b/d", verdict=Verdict.DIFFERENT, differences=2)
    assert VerifyReport(boards=(good,)).same
    assert not VerifyReport(boards=(good, bad)).same
    assert VerifyReport(boards=(good, bad)).differences == 2

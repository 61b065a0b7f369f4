"""Sources of scores, line by line, and how a board differs from one."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard.domain.boards import BoardSpec, ScoreUpdate, SortOrder, TiePolicy
from leaderboard.domain.errors import InvalidScore
from leaderboard.domain.moving import Roster, UnreadableSource, read_csv, read_nakama, score_of
from leaderboard.domain.names import BoardKey

NAKAMA = (
    "leaderboard_id,owner_id,username,score,subscore,num_score,metadata,create_time,update_time,expiry_time,"
    "max_num_score"
)
TIMES = "2026-01-02 03:04:05.678901+00,2026-01-02 03:04:05.678901+00"
NEVER = "1970-01-01 00:00:00+00"


def roster(order="descending", tie="first_to_reach", rule="latest", bound=0):
    spec = BoardSpec(
        key=BoardKey("b"),
        sort_order=SortOrder(order),
        tie_policy=TiePolicy(tie),
        score_update=ScoreUpdate(rule),
        max_entries=bound,
    )
    return Roster(spec)


def taken(source):
    users, scores = source.chunk(0, len(source)) if len(source) and source.ranked() else ([], [])
    return list(zip(users, scores, strict=True))


def of_csv(text, **spec):
    source = roster(**spec)
    read_csv(io.StringIO(text, newline=""), source, user_column="user", score_column="score")
    return source


def record(owner, score, *, board="weekly", subscore=0, metadata="{}", expiry=NEVER, username="name"):
    quoted = metadata.replace('"', '""')
    return f'{board},{owner},{username},{score},{subscore},1,"{quoted}",{TIMES},{expiry},1000000'


def of_nakama(*records, expiry=None, leaderboard="weekly", **spec):
    source = roster(**spec)
    text = "\n".join([NAKAMA, *records]) + "\n"
    read_nakama(io.StringIO(text, newline=""), source, leaderboard=leaderboard, expiry=expiry)
    return source


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("5", 5),
        (" -5.50 ", -5.5),
        ("+1e3", 1000),
        ("-0", 0),
        (".5", 0.5),
        ("9007199254740992", 2**53),
        ("1e300", 1e300),
    ],
)
def test_scores_are_numbers_as_people_write_them(text, score):
    assert score_of(text, rule=ScoreUpdate.BEST) == score
    assert str(score_of(text, rule=ScoreUpdate.BEST)) != "-0.0"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "nan",
        "inf",
        "-inf",
        "1e999",
        "1_000",
        "0x10",
        "1,5",
        "9007199254740993",
        "1 2",
        "٣",
        "--1",
        "0" * 5_000 + "1",
    ],
)
def test_what_is_no_score_is_refused(text):
    with pytest.raises(InvalidScore):
        score_of(text, rule=ScoreUpdate.BEST)


def test_a_sum_board_holds_no_more_than_2_to_the_53():
    assert score_of("-9007199254740992", rule=ScoreUpdate.SUM) == -(2**53)
    with pytest.raises(InvalidScore, match="sum board"):
        score_of("1e16", rule=ScoreUpdate.SUM)


def test_the_earlier_line_is_ahead_among_equal_scores():
    text = "score,user\n1,d\n3,b\n3,a\n2,c\n3,e\n"
    assert [user for user, _ in taken(of_csv(text))] == ["b", "a", "e", "c", "d"]
    assert [user for user, _ in taken(of_csv(text, order="ascending"))] == ["d", "c", "b", "a", "e"]
    assert [user for user, _ in taken(of_csv(text, bound=2))] == ["b", "a"]


@pytest.mark.parametrize("ends", ["", 'q",1\n', 'q",1\nbob,2\n'])
def test_a_quote_left_open_counts_every_line_that_it_swallowed(ends):
    rows = [f"user-{number},{number}\n" for number in range(40_000)]
    source = of_csv("user,score\nann,1\n" + '"b' + "".join(rows) + ends)
    assert source.rejected + len(source) == 1 + len(rows) + ends.count("\n")
    assert "is a quote not closed?" in source.examples[0]


def test_a_file_without_its_columns_is_refused():
    for text in ("", "a,b\n1,2\n", "user\nann\n"):
        with pytest.raises(UnreadableSource):
            of_csv(text)


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters="/"), min_size=1).filter(
            lambda user: len(user.encode()) <= 128
        ),
        st.floats(allow_nan=False, allow_infinity=False).map(lambda score: score + 0.0),
        max_size=20,
    ),
    st.sampled_from(["\n", "\r\n"]),
)
def test_what_a_csv_writer_writes_is_read_back(members, end):
    written = io.StringIO(newline="")
    writer = csv.writer(written, lineterminator=end)
    writer.writerow(["user", "score"])
    # repr of a whole double past 2^53 has an exponent or a point; it is no integer that could be meant exactly.
    writer.writerows((user, repr(score)) for user, score in members.items())
    source = of_csv(written.getvalue())
    assert source.rejected == 0
    assert dict(taken(source)) == members


@given(st.text(st.sampled_from('ab,"\n\r1.é\x00\ufeff\udc80/')))
def test_no_text_stops_the_reader(text):
    try:
        source = of_csv("user,score\n" + text)
    except UnreadableSource:
        return
    assert source.rejected >= len(source.examples)
    for user, score in taken(source):
        assert user.strip("\r\n") == user
        assert score == score_of(str(score), rule=ScoreUpdate.BEST)


def test_nakama_ranks_by_score_subscore_and_owner():
    source = of_nakama(
        record("00000000-0000-0000-0000-00000000000a", 5, subscore=1),
        record("00000000-0000-0000-0000-00000000000c", 5, subscore=2, metadata='{"car": "red, fast"}'),
        record("00000000-0000-0000-0000-00000000000d", 5, subscore=1, username=""),
        record("00000000-0000-0000-0000-00000000000b", 9),
        record("00000000-0000-0000-0000-00000000000e", 9, board="other"),
    )
    assert [user[-1] for user, _ in taken(source)] == ["b", "c", "d", "a"]
    assert source.rejected == 0
    assert (
        source.notes[0]
        == "3 records have a subscore; it is kept as the order of equal scores, the number itself is not"
    )
    assert source.notes[1] == "1 records have metadata, which is not kept"
    lost = of_nakama(record("a", 1, subscore=2), tie="shared")
    assert lost.notes[0].startswith("1 records have a subscore; it is lost")


def test_nakama_ascending_is_the_other_way_round():
    records = [record("a", 5, subscore=2), record("b", 5, subscore=1), record("c", 5, subscore=1), record("d", 1)]
    assert [user for user, _ in taken(of_nakama(*records, order="ascending"))] == ["d", "b", "c", "a"]


def test_nakama_periods_have_to_be_told_apart():
    records = [record("a", 1, expiry="2026-01-05 00:00:00+00"), record("a", 2, expiry="2026-01-12 00:00:00+00")]
    with pytest.raises(
        UnreadableSource, match=r"2 periods; say which with --expiry: '2026-01-05 00:00:00\+00' \(1 rec"
    ):
        of_nakama(*records)
    assert taken(of_nakama(*records, expiry="2026-01-12 00:00:00+00")) == [("a", 2)]
    with pytest.raises(UnreadableSource, match="no record of 'weekly' has expiry_time 'x'"):
        of_nakama(*records, expiry="x")


def test_nakama_records_that_cannot_be_taken_are_named():
    source = of_nakama(
        record("a", 2**60 + 1),
        record("b", 1, subscore="x"),
        record("c" * 129, 1),
        record("d", 1),
        record("e", 1, subscore="0" * 5_000),
    )
    assert taken(source) == [("d", 1)]
    assert [example.partition(":")[0] for example in source.examples] == ["line 2", "line 3", "line 4", "line 6"]
    with pytest.raises(UnreadableSource, match=r"no record of leaderboard 'none'; there are \['weekly'\]"):
        of_nakama(record("a", 1), leaderboard="none")


def difference(source, board):
    comparison = source.compare()
    for user, score in board:
        comparison.see(user, score)
    return comparison.finish()


def test_the_difference_counts_each_kind():
    source = of_csv("user,score\na,5\nb,5\nc,5\nd,4\ne,3\n")
    same = difference(source, [("a", 5), ("b", 5), ("c", 5), ("d", 4), ("e", 3)])
    assert (same.empty, same.same, same.examples) == (True, 5, ())
    other = difference(source, [("b", 5), ("c", 5), ("a", 5), ("x", 4), ("e", 2)])
    assert not other.empty
    assert (other.missing, other.extra, other.different, other.better, other.disordered) == (1, 1, 1, 1, 1)
    assert other.same == 3


def test_the_order_of_equal_scores_is_compared_only_where_it_is_kept():
    source = of_csv("user,score\na,5\nb,5\n", tie="user_id")
    assert difference(source, [("b", 5), ("a", 5)]).empty


def test_who_is_past_the_end_of_a_full_board_is_not_missing():
    source = of_csv("user,score\na,5\nb,4\nc,3\nd,2\n", bound=2)
    assert difference(source, [("a", 5), ("b", 4)]).empty
    assert difference(source, [("a", 5), ("x", 4)]).missing == 0
    assert difference(source, [("a", 5), ("x", 1)]).missing == 3
    assert difference(source, [("a", 5)]).missing == 3


def test_another_source_has_another_digest():
    text = "user,score\na,5\nb,4\n"
    one = of_csv(text).digest("1")
    assert one == of_csv("user,score,x\nb,4,\na,5,\n").digest("1")
    others = {
        of_csv(text).digest("2"),
        of_csv("user,score\na,5\nb,4.5\n").digest("1"),
        of_csv("user,score\na,5\n").digest("1"),
    }
    assert len({one, *others}) == 4


def test_the_examples_are_few_and_the_count_is_whole():
    source = of_csv("user,score\n" + "a,x\n" * 1_000)
    assert (source.rejected, len(source.examples)) == (1_000, 10)

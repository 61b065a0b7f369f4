"""Documents of signed standings: written, read, and every change of one seen, with what differs."""

import json

import pytest

from leaderboard import standings
from leaderboard.domain.signatures import Signer, Statement, new_seed
from leaderboard.standings import Line, StandingsError

SEED = new_seed()
KEY = Signer(SEED).public_key
ENTRIES = [
    Line(1, "ann", 0.1 + 0.2),
    Line(2, "Ωμέγα 🏆 b", 9007199254740992.0),
    Line(2, 'q"uo\\te', 5.0),
    Line(4, "zoë", -1e-300),
]


def signed(entries, *, seed=SEED, **change):
    sealed = standings.seal(entries)
    given = {
        "tenant": "acme",
        "project": "default",
        "leaderboard": "global",
        "season": 3,
        "ended_at": "2026-01-31T09:00:00.250000Z",
        "entries": sealed.entries,
        "checksum": sealed.checksum.hex(),
    }
    return Signer(seed).signed(Statement(**(given | change)))


@pytest.fixture
def document(tmp_path):
    """The lines of a document that is right."""
    path = tmp_path / "document"
    standings.export(signed(ENTRIES), ENTRIES, path)
    return path.read_bytes().splitlines(keepends=True)


def verify(lines, *, keys=(KEY,)):
    found, entries = standings.read(lines)
    standings.check_entries(found, standings.seal(entries))
    return standings.check_signature(found, keys)


def refused(lines, *, keys=(KEY,)):
    with pytest.raises(StandingsError) as error:
        verify(lines, keys=keys)
    return str(error.value)


def changed(line, **change):
    return json.dumps(json.loads(line) | change).encode() + b"\n"


def test_a_document_is_what_the_api_answers_and_the_entries(document):
    assert json.loads(document[0])["signature"] == signed(ENTRIES).signature
    assert document[1] == b'{"rank":1,"user":"ann","score":0.30000000000000004}\n'
    assert document[3] == b'{"rank":2,"user":"q\\"uo\\\\te","score":5}\n'
    assert verify(document) == KEY


def test_one_key_of_several_is_enough(document):
    other = Signer(new_seed()).public_key
    assert verify(document, keys=(other, KEY.upper())) == KEY


def test_a_season_without_entries_can_be_signed(tmp_path):
    standings.export(signed([]), [], tmp_path / "empty")
    assert verify((tmp_path / "empty").read_bytes().splitlines()) == KEY


def test_another_programs_json_is_read_too(document):
    assert verify([json.dumps(json.loads(line)).encode() for line in document]) == KEY
    assert verify([json.dumps(dict(sorted(json.loads(line).items()))).encode() for line in document]) == KEY


@pytest.mark.parametrize(
    "change",
    [
        {"tenant": "acmf"},
        {"project": "other"},
        {"leaderboard": "other"},
        {"season": 4},
        {"ended_at": "2026-01-31T09:00:00.250001Z"},
        {"signature": "00" * 64},
    ],
)
def test_a_changed_statement_is_seen(document, change):
    assert "the signature does not fit: one of tenant" in refused([changed(document[0], **change), *document[1:]])


def test_a_changed_count_or_checksum_is_seen_by_the_entries(document):
    assert "there are 4 entries, but the season ended with 5" in refused(
        [changed(document[0], entries=5), *document[1:]]
    )
    assert "their checksum is" in refused([changed(document[0], checksum="ab" * 32), *document[1:]])


@pytest.mark.parametrize(
    ("number", "change"),
    [
        (1, {"score": 0.3}),
        (1, {"score": 0.30000000000000010}),
        (2, {"score": 9007199254740991}),
        (4, {"score": -1.0000000000000001e-300 * 2}),
        (2, {"rank": 3}),
        (3, {"user": "q"}),
        (4, {"user": "zoe\u0308"}),
    ],
)
def test_a_changed_entry_is_seen(document, number, change):
    document[number] = changed(document[number], **change)
    assert "A rank, user or score was changed" in refused(document)


def test_the_last_digit_is_seen_where_it_makes_no_other_double(document):
    """Who reads the number as text would see another one."""
    document[2] = document[2].replace(b"9007199254740992", b"9007199254740993")
    assert "line 3: score has more digits than a number has: 9007199254740993" in refused(document)


def test_entries_that_change_places_are_seen(document):
    document[2], document[3] = document[3], document[2]
    assert "entries have changed places" in refused(document)


def test_a_dropped_and_an_added_entry_are_seen(document):
    assert "there are 3 entries, but the season ended with 4" in refused(document[:-1])
    assert "there are 5 entries, but the season ended with 4" in refused([*document, document[-1]])


def test_two_entries_made_one_are_seen(document):
    """Their text for the checksum would be the same."""
    one = Line(1, "ann\n2 2 9007199254740992.0 Ωμέγα 🏆 b", 0.1 + 0.2)
    document[1:3] = [standings.written(one) + b"\n"]
    assert "line feed in its user" in refused(document)


def test_new_entries_with_a_statement_that_fits_are_seen(document):
    """Whoever changes the checksum too cannot sign it."""
    forged = signed([ENTRIES[0]], seed=new_seed())
    lines = [json.dumps(json.loads(document[0]) | {"entries": 1, "checksum": forged.checksum}).encode(), document[1]]
    assert "the signature does not fit" in refused(lines)


def test_a_key_of_the_documents_own_is_not_trusted(tmp_path):
    own = new_seed()
    standings.export(signed(ENTRIES, seed=own), ENTRIES, tmp_path / "own")
    said = refused((tmp_path / "own").read_bytes().splitlines())
    assert f"signed with {Signer(own).public_key}, which is not a key that you trust ({KEY})" in said


def test_a_key_that_only_names_the_trusted_one_is_seen(document):
    forged = signed(ENTRIES, seed=new_seed())
    assert "does not fit" in refused([changed(document[0], signature=forged.signature), *document[1:]])


def test_unsigned_standings_are_said_to_be(tmp_path):
    standings.export(signed(ENTRIES, seed=""), ENTRIES, tmp_path / "unsigned")
    assert "unsigned" in refused((tmp_path / "unsigned").read_bytes().splitlines())


@pytest.mark.parametrize(
    ("number", "text", "says"),
    [
        (0, b"", "line 1 is not what a season ended with"),
        (0, b"[]", "line 1 is not what a season ended with"),
        (0, b"\xff", "line 1 is not what a season ended with"),
        (2, b"\n", "line 3 is no entry"),
        (2, b"{}", "line 3 is no entry"),
        (2, b'{"rank":1,"user":"\xff","score":1}', "line 3 is no entry"),
        (2, b'{"rank":1,"user":"\\ud800","score":1}', "line 3 is no entry"),
        (2, b'{"rank":1,"user":"a","score":NaN}', "line 3 is no entry"),
        (2, b'{"rank":1,"user":"a","score":1e999}', "line 3 is no entry"),
        (2, b'{"rank":1,"user":"a","score":1,"prize":100}', "line 3 has to have rank, user, score once each"),
        (2, b'{"rank":1,"user":"b","user":"a","score":1}', "line 3 has to have rank, user, score once each"),
    ],
)
def test_what_is_no_document_is_refused_with_its_line(document, number, text, says):
    document[number] = text
    assert says in refused(document)


def test_the_formats_name_is_part_of_it(document):
    assert "line 1" in refused([changed(document[0], format="leaderboard-standings-v2"), *document[1:]])
    assert "line 1 has to have" in refused([changed(document[0], prize=5), *document[1:]])


def test_an_empty_file_is_no_document():
    assert "line 1" in refused([])


def test_entries_that_do_not_fit_are_not_kept(tmp_path):
    with pytest.raises(StandingsError, match="there are 3 entries"):
        standings.export(signed(ENTRIES), ENTRIES[:3], tmp_path / "document")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "document").write_text("mine")
    with pytest.raises(StandingsError, match="there is one already"):
        standings.export(signed(ENTRIES), ENTRIES, tmp_path / "document")
    assert (tmp_path / "document").read_text() == "mine"
    with pytest.raises(StandingsError, match="cannot be written"):
        standings.export(signed(ENTRIES), ENTRIES, tmp_path / "no" / "document")

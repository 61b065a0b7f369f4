"""Signed standings on a real platform: read, written to a file, verified, and by another program too."""

import contextlib
import io
import json
import math
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import psycopg
import pytest
from api_helpers import Client, assert_problem

from leaderboard import cli
from leaderboard.api import problems
from leaderboard.domain.signatures import Signer, new_seed
from leaderboard.local.process import wait_until
from leaderboard.standings import Api

SEED = new_seed()
PUBLIC = Signer(SEED).public_key
ENV = {"LEADERBOARD_SIGNING_KEY": SEED}
SEASON = "/v1/leaderboards/global/seasons/1"
SCORES = [
    ("ann", 0.1 + 0.2),
    ("Ωμέγα 🏆 b", 2.0**53),
    ('q"uo\\te', 5),
    ("zoë", 5),
    ("max", sys.float_info.max),
    ("pi", math.pi),
    ("least", 5e-324),
    ("minus", -1e-7),
    ("nought", -0.0),
]


def end(client, *, board="global", season=1):
    assert client.post(f"/v1/leaderboards/{board}/reset", {"season": season}).status == 200
    path = f"/v1/leaderboards/{board}/seasons/{season}"
    assert wait_until(lambda: client.get(path).status == 200, seconds=90)
    return client.get(path).json()


def leaderboard(*args, code=0, **env):
    """What the command says. In this process: one of its own starts in a second, and there are forty."""
    said = io.StringIO()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LEADERBOARD_")}
    with (
        mock.patch.dict(os.environ, clean | env, clear=True),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
    ):
        try:
            ended = cli._main([str(arg) for arg in args])
        except SystemExit as error:  # argparse's
            ended = error.code
    assert ended == code, said.getvalue()
    return said.getvalue()


@pytest.fixture
def scored(client):
    client.make("latest", score_update="latest", tie_policy="shared")
    client.add("latest", *SCORES, field="score")
    return client, end(client, board="latest")


def of(client, board="latest"):
    return ["--url", client.url, "--leaderboard", board, "--season", 1]


def test_a_season_is_answered_with_its_signature(client):
    client.add("global", ("a", 1), ("b", 2))
    season = end(client)
    (listed,) = client.get("/v1/leaderboards/global/seasons").json()["seasons"]
    assert season == {
        "format": "leaderboard-standings-v1",
        "tenant": season["tenant"],
        "project": "default",
        "leaderboard": "global",
        "season": 1,
        "ended_at": listed["ended_at"],
        "entries": 2,
        "checksum": listed["checksum"],
        "signature": season["signature"],
        "public_key": PUBLIC,
    }
    answer = client.get(SEASON)
    assert answer.headers["cache-control"] == "private, no-cache"
    assert client.get(SEASON, If_None_Match=answer.headers["etag"]).status == 304


def test_what_is_not_there_is_refused_as_its_standings_are(client, served, new_tenant, connect):
    assert_problem(client.get(SEASON), problems.SEASON_NOT_FOUND)
    assert_problem(client.get("/v1/leaderboards/none/seasons/1"), problems.BOARD_NOT_FOUND)
    assert client.get(f"{SEASON}?limit=1").status == 400
    served.stop_worker()
    try:
        assert client.post("/v1/leaderboards/global/reset", {"season": 1}).status == 200
        answer = client.get(SEASON)
        assert_problem(answer, problems.SEASON_NOT_ARCHIVED)
        assert answer.headers["retry-after"] == "1"
    finally:
        served.start_worker()
    assert_problem(connect(new_tenant().key).get(SEASON), problems.SEASON_NOT_FOUND)
    assert_problem(connect().get(SEASON), problems.MISSING_API_KEY)


def test_standings_are_verified_where_they_are(scored):
    client, season = scored
    said = leaderboard("verify-standings", *of(client), "--public-key", PUBLIC, LEADERBOARD_KEY=client.key)
    assert f"{season['tenant']}/default/latest, season 1, ended at {season['ended_at']} with 9 entries" in said
    assert f"signed with {PUBLIC}" in said
    other = Signer(new_seed()).public_key
    said = leaderboard("verify-standings", *of(client), "--public-key", other, code=1, LEADERBOARD_KEY=client.key)
    assert f"signed with {PUBLIC}, which is not a key that you trust ({other})" in said


def test_a_document_is_verified_without_the_platform(scored, tmp_path):
    client, _ = scored
    document = tmp_path / "season-1.jsonl"
    said = leaderboard("export-standings", *of(client), "-o", document, LEADERBOARD_KEY=client.key)
    assert f"{document}: " in said
    assert "; signed" in said
    entries = [json.loads(line) for line in document.read_text().splitlines()[1:]]
    assert entries == client.get("/v1/leaderboards/latest/seasons/1/top").json()["entries"]
    assert {entry["user"]: entry["score"] for entry in entries} == dict(SCORES)
    assert len({entry["rank"] for entry in entries}) == 8
    verify = ["verify-standings", document, "--public-key", PUBLIC]
    assert "with 9 entries; signed with" in leaderboard(*verify)
    text = document.read_text()
    document.write_text(text.replace("0.30000000000000004", "0.3"))
    assert "A rank, user or score was changed" in leaderboard(*verify, code=1)
    document.write_text(text.replace('"project":"default"', '"project":"other"'))
    assert "the signature does not fit" in leaderboard(*verify, code=1)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not on this machine")
def test_openssl_says_the_same(scored, tmp_path):
    """From the answer's JSON alone, as the API's documentation describes the text and the key."""
    _, season = scored
    fields = ["format", "tenant", "project", "leaderboard", "season", "ended_at", "entries", "checksum"]
    text = "".join(f"{season[field]}\n" for field in fields)
    # RFC 8410: a SubjectPublicKeyInfo of Ed25519 is these 12 bytes and the key.
    (tmp_path / "key.der").write_bytes(bytes.fromhex("302a300506032b6570032100" + PUBLIC))
    (tmp_path / "signature").write_bytes(bytes.fromhex(season["signature"]))

    def verified(signed):
        (tmp_path / "text").write_text(signed)
        command = "openssl pkeyutl -verify -pubin -keyform DER -inkey key.der -rawin -in text -sigfile signature"
        done = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, text=True, timeout=30)
        return done.returncode == 0 and "Signature Verified Successfully" in done.stdout

    assert verified(text)
    assert not verified(text.replace("\n9\n", "\n8\n"))


def test_a_season_of_nobody_and_one_of_several_pages(client, tmp_path):
    season = end(client)
    assert season["entries"] == 0
    key = {"LEADERBOARD_KEY": client.key}
    assert "with 0 entries" in leaderboard("verify-standings", *of(client, "global"), "--public-key", PUBLIC, **key)
    client.make("large")
    for first in range(0, 2500, 500):
        updates = [{"leaderboard": "large", "user": f"u{n}", "increment": 1 + n % 7} for n in range(first, first + 500)]
        assert client.post("/v1/scores/batch", {"updates": updates}).status == 200
    assert end(client, board="large")["entries"] == 2500
    document = tmp_path / "large"
    assert "with 2500 entries" in leaderboard("export-standings", *of(client, "large"), "-o", document, **key)
    assert "with 2500 entries" in leaderboard("verify-standings", document, "--public-key", PUBLIC)


def test_an_archive_that_was_changed_is_neither_verified_nor_written(scored, served, tmp_path):
    client, _ = scored
    with psycopg.connect(served.database, autocommit=True) as database:
        done = database.execute(
            "UPDATE season_standings SET score = %s WHERE member = 'pi' AND score = %s",
            (math.nextafter(math.pi, 4), math.pi),
        )
    assert done.rowcount >= 1
    key = {"LEADERBOARD_KEY": client.key}
    said = leaderboard("verify-standings", *of(client), "--public-key", PUBLIC, code=1, **key)
    assert "the entries are not those that the season ended with" in said
    leaderboard("export-standings", *of(client), "-o", tmp_path / "document", code=1, **key)
    assert list(tmp_path.iterdir()) == []


def test_the_end_of_a_season_cannot_be_moved_in_the_document(scored, tmp_path):
    client, season = scored
    document = tmp_path / "document"
    leaderboard("export-standings", *of(client), "-o", document, LEADERBOARD_KEY=client.key)
    document.write_text(document.read_text().replace(season["ended_at"], "2020-01-01T00:00:00Z"))
    assert "the signature does not fit" in leaderboard("verify-standings", document, "--public-key", PUBLIC, code=1)


def test_what_is_asked_wrongly_is_said(client, tmp_path):
    key = {"LEADERBOARD_KEY": client.key}
    assert "LEADERBOARD_KEY is not set" in leaderboard("verify-standings", *of(client), "--public-key", PUBLIC, code=2)
    asked = of(client, "global")
    assert "answered 404: season '1' of 'global' is not over" in leaderboard(
        "verify-standings", *asked, "--public-key", PUBLIC, code=1, **key
    )
    assert "give either FILE, or --url" in leaderboard("verify-standings", "--public-key", PUBLIC, code=2)
    assert "give either FILE, or --url" in leaderboard("verify-standings", "x", *asked, "--public-key", PUBLIC, code=2)
    assert "64 hexadecimal digits" in leaderboard("verify-standings", "x", "--public-key", "ab", code=2)
    assert "--public-key" in leaderboard("verify-standings", "x", code=2)
    missing = tmp_path / "missing"
    assert f"{missing} cannot be read" in leaderboard("verify-standings", missing, "--public-key", PUBLIC, code=1)
    for url in ("ftp://example.com", "nowhere", "http://x:y"):
        asked[1] = url
        assert "is no address of an API" in leaderboard("export-standings", *asked, "-o", missing, code=1, **key)
    asked[1] = "http://127.0.0.1:1"
    assert "cannot be read" in leaderboard("export-standings", *asked, "-o", missing, code=1, **key)


def test_a_key_is_made_and_its_public_half_shown():
    made = leaderboard("signing-key")
    seed = made.partition("LEADERBOARD_SIGNING_KEY=")[2].split()[0]
    public = made.partition("public key: ")[2].split()[0]
    assert Signer(seed).public_key == public
    assert seed not in leaderboard("signing-key") + leaderboard("signing-key", LEADERBOARD_SIGNING_KEY=seed)
    assert f"public key: {public}\n" == leaderboard("signing-key", LEADERBOARD_SIGNING_KEY=seed)
    assert "must be 64 hexadecimal digits" in leaderboard("signing-key", LEADERBOARD_SIGNING_KEY="ab", code=2)


def test_an_old_key_verifies_what_it_signed_and_without_one_nothing_is_signed(make_platform, tenant, tmp_path):
    platform = make_platform(env=ENV)
    mine = tenant(platform)
    with contextlib.closing(Client(platform.url, mine.key)) as client:
        client.add("global", ("a", 1))
        end(client)
        asked = [*of(client, "global"), "-o"]
        key = {"LEADERBOARD_KEY": client.key}
        leaderboard("export-standings", *asked, tmp_path / "old", **key)
        seed = new_seed()
        public = Signer(seed).public_key
        for given in (seed, ""):
            client.close()
            platform.stop_api()
            platform.env["LEADERBOARD_SIGNING_KEY"] = given
            platform.start_api()
            season = client.get(SEASON).json()
            if given:
                assert season["public_key"] == public
                leaderboard("export-standings", *asked, tmp_path / "new", **key)
                leaderboard("verify-standings", tmp_path / "new", "--public-key", public)
                leaderboard("verify-standings", tmp_path / "new", "--public-key", PUBLIC, "--public-key", public)
                leaderboard("verify-standings", tmp_path / "new", "--public-key", PUBLIC, code=1)
            else:
                assert (season["signature"], season["public_key"]) == (None, None)
                assert "; unsigned" in leaderboard("export-standings", *asked, tmp_path / "none", **key)
                said = leaderboard("verify-standings", tmp_path / "none", "--public-key", PUBLIC, code=1)
                assert "unsigned" in said
            assert f"signed with {PUBLIC}" in leaderboard("verify-standings", tmp_path / "old", "--public-key", PUBLIC)


def test_one_waits_for_a_season_on_its_way_to_the_archive(client, served):
    client.add("global", ("a", 1))
    served.stop_worker()
    try:
        assert client.post("/v1/leaderboards/global/reset", {"season": 1}).status == 200
        with contextlib.closing(Api(served.url, client.key)) as api, ThreadPoolExecutor(1) as thread:
            asked = thread.submit(api.season, "global", 1)
            assert not wait_until(asked.done, seconds=1)
            served.start_worker()
            signed, entries = asked.result(timeout=30)
            assert [line.user for line in entries] == ["a"]
            assert signed.entries == 1
    finally:
        served.stop_worker()
        served.start_worker()


def test_one_waits_where_the_plan_allows_few_requests(new_tenant, connect, served):
    slow = new_tenant(quotas={"requestsPerSecond": 1})
    client = connect(slow.key)

    def patient(path, body=None):
        done = []

        def taken():
            done[:] = [client.post(path, body) if body else client.get(path)]
            return done[0].status == 200

        assert wait_until(taken, seconds=90, pause=0.3), done
        return done[0]

    patient("/v1/scores/update", {"leaderboard": "global", "user": "a", "increment": 1})
    patient("/v1/leaderboards/global/reset", {"season": 1})
    patient(SEASON)
    with contextlib.closing(Api(served.url, slow.key)) as api:
        seen = [api.season("global", 1)[0].entries for _ in range(4)]
    assert seen == [1] * 4

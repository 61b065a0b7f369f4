"""`leaderboard import` on real stores: what is on the board, in the ledger and in the report afterwards."""

import pytest
from redis import Redis

from leaderboard.control import moving, rebuild
from leaderboard.store.redis import keys
from support.moving import on_board, once_in_the_ledger, verified
from support.world import leaderboard

POLICIES = [
    {"scoreUpdate": rule, "sortOrder": order, "tiePolicy": tie}
    for rule, order, tie in [
        ("Sum", "Descending", "FirstToReach"),
        ("Best", "Ascending", "FirstToReach"),
        ("Latest", "Descending", "UserId"),
        ("Best", "Ascending", "UserId"),
        ("Latest", "Ascending", "Shared"),
        ("Sum", "Descending", "Shared"),
    ]
]
BOARD = ("--board", "acme/default/global")


@pytest.mark.parametrize("spec", POLICIES, ids=lambda spec: "-".join(spec.values()))
async def test_the_board_ranks_as_the_source_and_is_in_the_ledger_once(
    world, spec, members, csv_file, leaderboard_cli, worker
):
    made = await world.apply(leaderboard(**spec))
    source = members(1_300)
    printed = leaderboard_cli("import", *BOARD, "csv", csv_file(source))
    assert "1,300 members added" in printed
    assert "difference: 0 missing, 0 extra, 0 with another score, 0 out of order; 1,300 the same" in printed
    found = await on_board(world, made)
    descending = spec["sortOrder"] == "Descending"
    if spec["tiePolicy"] == "FirstToReach":
        assert found == sorted(source, key=lambda member: member[1], reverse=descending)  # stable: ties as in the file
    else:
        assert found == sorted(source, key=lambda member: (member[1], member[0]), reverse=descending)
    again = leaderboard_cli("import", *BOARD, "csv", csv_file(source))
    assert "is finished already" in again
    await verified(world, entries=1_300)
    await once_in_the_ledger(world, entries=1_300)
    assert await world.one("SELECT count(*) FROM usage_rollups WHERE score_updates > 0") == (0,)  # not billed
    # That rebuilt the board from the ledger, after which nothing is taken for done.
    anew = leaderboard_cli("import", *BOARD, "csv", csv_file(source))
    assert "0 members added" in anew
    assert "1,300 were there with the same" in anew
    await verified(world, entries=1_300)
    assert await world.one("SELECT count(*) FROM score_events") == (1_300,)


async def test_live_writes_stay_and_go_on(world, members, csv_file, leaderboard_cli, worker):
    made = await world.apply(leaderboard())
    await world.update(made.namespace, ("ann", "i7"), ("bob", "i1"), ("cy", "i3"))
    file = csv_file([("ann", 100), ("bob", 1), ("dee", 3)])
    plan = leaderboard_cli("import", *BOARD, "--dry-run", "csv", file)
    assert "would get 1 new members, 0 other scores" in plan
    assert "1 would keep the other score that they have, 1 are as in the source" in plan
    assert len(await on_board(world, made)) == 3
    assert await world.redis.exists(keys.importing(made.namespace)) == 0

    printed = leaderboard_cli("import", *BOARD, "csv", file, code=1)
    assert (
        "1 members added, 0 scores replaced, 1 kept another score that was there, 1 were there with the same" in printed
    )
    assert "difference: 0 missing, 1 extra, 1 with another score" in printed
    assert "ann: 7.0 on the board, 100.0 in the source" in printed
    # cy reached 3 before dee came with it.
    assert await on_board(world, made) == [("ann", 7), ("cy", 3), ("dee", 3), ("bob", 1)]
    await world.update(made.namespace, ("dee", "i5"))
    assert (await on_board(world, made))[0] == ("dee", 8)
    await verified(world, entries=4)

    over = leaderboard_cli("import", *BOARD, "csv", file, "--overwrite", code=1)
    assert "0 members added, 2 scores replaced, 0 kept another score that was there, 1 were there" in over
    assert await on_board(world, made) == [("ann", 100), ("cy", 3), ("dee", 3), ("bob", 1)]
    await verified(world, entries=4)


@pytest.mark.parametrize(
    ("order", "left"), [("Descending", {"ann": 9, "bob": 5, "cy": 1}), ("Ascending", {"ann": 7, "bob": 2, "cy": 1})]
)
async def test_on_a_best_board_the_better_score_wins(world, order, left, csv_file, leaderboard_cli, worker):
    made = await world.apply(leaderboard(scoreUpdate="Best", sortOrder=order))
    await world.update(made.namespace, ("ann", "s7"), ("bob", "s5"), ("cy", "s1"))
    plan = leaderboard_cli("import", *BOARD, "csv", csv_file([("ann", 9), ("bob", 2), ("cy", 1)]), "--dry-run")
    assert "0 new members, 1 other scores" in plan
    leaderboard_cli("import", *BOARD, "csv", csv_file([("ann", 9), ("bob", 2), ("cy", 1)]), code=1)
    assert dict(await on_board(world, made)) == left
    await verified(world, entries=3)


async def test_a_bounded_board_takes_the_best(world, members, csv_file, leaderboard_cli, worker):
    made = await world.apply(leaderboard(scoreUpdate="Latest", maxEntries=400))
    source = members(1_000)
    best = sorted(source, key=lambda member: member[1], reverse=True)
    await world.update(made.namespace, ("live", "s-2000000000"), ("alive", f"s{best[0][1] + 1}"))
    printed = leaderboard_cli("import", *BOARD, "csv", csv_file(source), code=1)
    assert "keeps 400: the 600 worst are past its max_entries and not imported" in printed
    assert "0 missing, 1 extra" in printed
    found = await on_board(world, made)
    assert found[0][0] == "alive"
    assert found[1:] == best[:399]
    await verified(world, entries=400)


async def test_scores_are_not_replaced_where_members_might_be_pushed_off(world, csv_file, leaderboard_cli, worker):
    made = await world.apply(leaderboard(scoreUpdate="Latest", maxEntries=2))
    await world.update(made.namespace, ("cy", "s100"), ("dee", "s50"))
    file = csv_file([("ann", 10), ("bob", 9), ("cy", 1)])
    for more in ((), ("--dry-run",)):
        said = leaderboard_cli("import", *BOARD, "--overwrite", *more, "csv", file, code=1)
        assert "4 members together, the board keeps 2, and 1 have another score there" in said
        assert "max_entries to 4 or more" in said
    assert await on_board(world, made) == [("cy", 100), ("dee", 50)]
    # Nor is an earlier import forgotten for it.
    earlier = csv_file([("cy", 100)], "earlier.csv")
    leaderboard_cli("import", *BOARD, "csv", earlier, code=1)  # one on the board is extra
    leaderboard_cli("import", *BOARD, "--overwrite", "--restart", "csv", file, code=1)
    assert await world.redis.hget(keys.importing(made.namespace), "source") == str(earlier).encode()
    # What it says to do instead.
    await world.apply(leaderboard(scoreUpdate="Latest", maxEntries=4))
    leaderboard_cli("import", *BOARD, "--overwrite", "csv", file, code=1)  # one on the board is extra
    again = leaderboard_cli("import", *BOARD, "--overwrite", "csv", file, code=1)
    assert "is finished already, and nothing of it is done again; --restart does all of it again" in again
    await world.apply(leaderboard(scoreUpdate="Latest", maxEntries=2))
    assert await on_board(world, made) == [("dee", 50), ("ann", 10)]
    await verified(world, entries=2)


async def test_who_falls_off_does_so_when_the_others_come(world, members, csv_file, leaderboard_cli, start_worker):
    made = await world.apply(leaderboard(scoreUpdate="Latest", maxEntries=400))
    await world.update(made.namespace, *((f"old-{number}", f"s{-1e10 - number}") for number in range(400)))
    leaderboard_cli("import", *BOARD, "csv", csv_file(members(250)), code=1)  # the rest of the old are extra
    stamps = {}
    for entry, _ in await world.redis.xrange(keys.OUTBOX):
        stamp, _, number = entry.partition(b"-")
        stamps.setdefault(stamp, []).append(int(number))
    assert list(range(251)) in [[number - of[0] for number in of] for of in stamps.values()]
    start_worker()
    await verified(world, entries=400)


async def test_bad_lines_are_named_and_nothing_is_done_unless_they_may_be_skipped(
    world, tmp_path, leaderboard_cli, worker
):
    made = await world.apply(leaderboard())
    file = tmp_path / "bad.csv"
    file.write_bytes(
        b"\xef\xbb\xbfname,when,points\r\nann,x,1\r\nbob,x,many\r\na/b,x,1\r\nann,x,2\r\ncy,x\r\n\xff\xfe,x,3\r\n"
        b'dee,x,9007199254740993\r\n,x,4\r\neve,x,nan\r\n"fay\nfay",x,2\r\n\r\ngus,x,2.5\r\n'
    )
    options = ("--user-column", "name", "--score-column", "points")
    printed = leaderboard_cli("import", *BOARD, "csv", file, *options, code=1)
    for text in (
        "line 3: user 'bob': 'many' is not a number",
        "line 4: user must not contain control characters, line separators or '/' ('a/b')",
        "line 5: user 'ann' was there before with 1.0, which counts",
        "line 6: 2 fields where the header has 3",
        "line 7: user must not",
        "line 8: user 'dee': 9007199254740993 cannot be kept exactly",
        "line 9: user must be 1-128 bytes",
        "line 10: user 'eve': 'nan' is not a number",
        "lines 11-12: one row over several lines: is a quote not closed?",
        "10 cannot be taken",
        "nothing was done. Correct them, or leave them out: --skip-bad 10",
    ):
        assert text in printed
    assert await on_board(world, made) == []
    leaderboard_cli("import", *BOARD, "csv", file, *options, "--skip-bad", "9", code=1)
    assert await on_board(world, made) == []
    leaderboard_cli("import", *BOARD, "csv", file, *options, "--skip-bad", "10")
    assert await on_board(world, made) == [("gus", 2.5), ("ann", 1)]


async def test_what_cannot_be_done_says_what_to_do(world, csv_file, tmp_path, leaderboard_cli, worker):
    made = await world.apply(leaderboard())
    file = csv_file([("ann", 1)])
    assert "--board is missing" in leaderboard_cli("import", "csv", file, "--data", tmp_path, code=1)
    assert "there is no leaderboard 'acme/default/none'" in leaderboard_cli(
        "import", "--board", "acme/default/none", "csv", file, code=1
    )
    assert "no column user, score" in leaderboard_cli("import", *BOARD, "csv", __file__, code=1)
    assert "No such file" in leaderboard_cli("import", *BOARD, "csv", tmp_path / "none", code=1)
    empty = csv_file([], "empty.csv")
    assert "0 members added" in leaderboard_cli("import", *BOARD, "csv", empty)
    await world.redis.delete(keys.meta(made.namespace))
    assert "is not in Redis, or is being restored" in leaderboard_cli("import", *BOARD, "--diff", "csv", file, code=1)


async def test_the_difference_alone(world, csv_file, leaderboard_cli, worker):
    made = await world.apply(leaderboard())
    await world.update(made.namespace, ("ann", "i5"), ("bob", "i5"), ("cy", "i3"), ("dee", "i1"))
    same = csv_file([("ann", 5), ("bob", 5), ("cy", 3), ("dee", 1)])
    assert "0 out of order; 4 the same" in leaderboard_cli("import", *BOARD, "--diff", "csv", same)
    other = csv_file([("bob", 5), ("ann", 5), ("cy", 4), ("eve", 2)], "other.csv")
    printed = leaderboard_cli("import", "csv", other, "--diff", *BOARD, code=1)
    assert "difference: 1 missing, 1 extra, 1 with another score, 1 out of order; 2 the same" in printed
    assert "bob: behind ann on the board, ahead of it in the source" in printed
    assert "eve: not on the board, 2.0 in the source" in printed
    assert "dee: only on the board, with 1.0" in printed
    assert len(await on_board(world, made)) == 4


async def test_it_is_on_the_boards_history_as_an_import(world, csv_file, leaderboard_cli, worker):
    await world.apply(leaderboard())
    leaderboard_cli("import", *BOARD, "csv", csv_file([("ann", 2.5), ("bob", 2.5)]))
    await world.drain()
    async with world.pool.connection() as conn:
        rows = await (
            await conn.execute("SELECT kind, member, submitted, score, seq FROM score_events ORDER BY seq")
        ).fetchall()
    assert [(str(kind, "ascii") if isinstance(kind, bytes) else kind, *rest) for kind, *rest in rows] == [
        ("i", "ann", 2.5, 2.5, 1),
        ("i", "bob", 2.5, 2.5, 2),
    ]


async def test_an_export_imported_gives_the_same_board(world, members, csv_file, tmp_path, leaderboard_cli, worker):
    odd = [('a,"b" c', 1.5), (" =1+1", 1.5), ("😀", -1.7976931348623157e308), ("u", 2**53), ("v", 0.1)]
    for number, spec in enumerate([*POLICIES, {**POLICIES[1], "maxEntries": 700}]):
        first = await world.apply(leaderboard(f"first-{number}", **{**spec, "scoreUpdate": "Latest"}))
        second = await world.apply(leaderboard(f"second-{number}", **{**spec, "scoreUpdate": "Latest"}))
        for user, score in [*members(600, seed=number), *odd]:
            await world.update(first.namespace, (user, f"s{score!r}"))
        file = tmp_path / f"{number}.csv"
        said = leaderboard_cli("export", "--board", f"acme/default/first-{number}", "--output", file)
        assert f"605 members of acme/default/first-{number}" in said
        leaderboard_cli("import", "--board", f"acme/default/second-{number}", "csv", file)
        assert await on_board(world, first) == await on_board(world, second)
        again = leaderboard_cli("export", "--board", f"acme/default/second-{number}")
        assert again == file.read_text()
        lines = again.splitlines()
        assert lines[0] == "rank,user,score"
        ranks = [int(line.partition(",")[0]) for line in lines[1:]]
        if spec["tiePolicy"] == "Shared":
            assert ranks[0] == 1
            assert len(set(ranks)) < 605
        else:
            assert ranks == list(range(1, 606))
        assert f"{file}: cannot be written: there is one already" in leaderboard_cli(
            "export", "--board", f"acme/default/first-{number}", "--output", file, code=1
        )
    assert (await rebuild.verify(world.pool, world.redis)).same


@pytest.fixture
def between_lines(monkeypatch, redis_url):
    """What is put in here happens to Redis after the first line of the next export."""
    what, real = [], moving.lines

    async def lines(*args):
        async for line in real(*args):
            yield line
            while what:
                with Redis.from_url(redis_url) as redis:
                    what.pop()(redis)

    monkeypatch.setattr(moving, "lines", lines)
    return what


async def test_an_export_of_a_board_that_is_written_to_says_so(world, leaderboard_cli, between_lines):
    made = await world.apply(leaderboard())
    await world.update(made.namespace, ("ann", "i1"))
    assert leaderboard_cli("export", *BOARD) == "rank,user,score\n1,ann,1\n"
    between_lines.append(lambda redis: redis.hincrby(keys.meta(made.namespace), "seq"))  # what every write does
    assert "the board was written to meanwhile" in leaderboard_cli("export", *BOARD)


async def test_an_export_is_there_whole_or_not_at_all(world, tmp_path, leaderboard_cli, between_lines):
    made = await world.apply(leaderboard())
    await world.update(made.namespace, ("ann", "i1"), ("bob", "i2"))
    file = tmp_path / "global.csv"
    file_of = ("--output", file)
    between_lines.append(lambda redis: redis.delete(keys.meta(made.namespace)))
    said = leaderboard_cli("export", *BOARD, *file_of, code=1)
    assert "was reset, rebuilt or lost meanwhile, after 2 members: run it again" in said
    assert "is not in Redis, or is being restored" in leaderboard_cli("export", *BOARD, *file_of, code=1)
    assert list(tmp_path.iterdir()) == []
    async with world.worker():
        await rebuild.rebuild(world.pool, world.redis, await world.place())
    assert f"{file}: 2 members of" in leaderboard_cli("export", *BOARD, *file_of)
    assert file.read_text() == "rank,user,score\n1,bob,2\n2,ann,1\n"

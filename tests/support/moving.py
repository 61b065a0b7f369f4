"""Importers for the tests of moving in, and what they ask of a board afterwards."""

import itertools

import pytest

from leaderboard.control import moving, rebuild
from leaderboard.domain.moving import Roster
from leaderboard.store.redis.events import EventIds
from leaderboard.store.redis.imports import CHUNK, SCRIPTED

_nonces = itertools.count(1)


def quiet(at, waits):
    """Say nothing."""


async def importer(
    world,
    source,
    *,
    board="acme/default/global",
    redis=None,
    outbox_max=1_000_000,
    overwrite=False,
    patience=60.0,
):
    place = await world.place(board)
    roster = Roster(place.board.spec)
    for user, score in source:
        roster.add("line", user, float(score))
    return moving.Importer(
        world.pool,
        redis or world.redis,
        place,
        roster,
        source="a list",
        overwrite=overwrite,
        ids=EventIds(next(_nonces).to_bytes(8, "big")),
        outbox_max=outbox_max,
        patience_seconds=patience,
    )


async def stopped_at(world, what, at):
    """Run the import until `at` members are done, and stop it there."""

    class Enough(Exception):
        pass

    def say(done, _):
        if done >= at:
            raise Enough

    with pytest.raises(Enough):
        await what.run(say)
    found = await what.begin()
    assert found is not None
    assert found.at == at


def after(chunks):
    """How many members are done after so many chunks of an import that is alone: the first is by the script."""
    return SCRIPTED + (chunks - 1) * CHUNK


def ranked(source):
    return sorted(source, key=lambda member: member[1], reverse=True)


async def on_board(world, made):
    """(user, score) as the board ranks them, best first."""
    spec = made.board.spec
    found = await world.redis.zrange(made.namespace, 0, -1, desc=spec.sort_order == "descending", withscores=True)
    cut = 12 if spec.tie_policy == "first_to_reach" else 0
    return [(member.decode()[cut:], score) for member, score in found]


async def verified(world, *, entries):
    """Board and ledger say the same, and so does a board rebuilt from the ledger."""
    report = await rebuild.verify(world.pool, world.redis)
    assert (report.differences, report.same) == (0, True), report
    place = await world.place()
    before = await world.redis.zrange(rebuild.board_key(place), 0, -1, withscores=True)
    assert await rebuild.rebuild(world.pool, world.redis, place) == entries
    assert await world.redis.zrange(rebuild.board_key(place), 0, -1, withscores=True) == before


async def once_in_the_ledger(world, *, entries):
    """Every member came into the ledger by one event."""
    found = await world.one("SELECT count(*), count(DISTINCT event_id), count(DISTINCT member) FROM score_events")
    assert found == (entries, entries, entries)


async def whole(world, made, source):
    """The source's members are on the board as it ranks them, descending, and each is in the ledger once."""
    assert await on_board(world, made) == ranked(source)
    await verified(world, entries=len(source))
    await once_in_the_ledger(world, entries=len(source))

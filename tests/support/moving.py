"""What the tests of moving in ask of a board afterwards."""

from leaderboard.control import rebuild


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

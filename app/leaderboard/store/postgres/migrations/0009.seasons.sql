-- Seasons: what a board was before each of its resets. The number of the season that runs is in the board's row.
-- `reset` is a ResetSpec, and `next_reset` when its schedule ends the season: due while it is in the past.
ALTER TABLE leaderboards
    ADD COLUMN season integer NOT NULL DEFAULT 1 CHECK (season >= 1),
    ADD COLUMN reset jsonb CHECK (jsonb_typeof(reset) = 'object'),
    ADD COLUMN next_reset timestamptz;
CREATE INDEX leaderboards_next_reset ON leaderboards (next_reset) WHERE next_reset IS NOT NULL AND state = 'active';

-- A season that is over. 'ending': somebody began to reset the board, under this event; 'ended': Redis has put its
-- entries aside; 'copied': they are in season_standings; 'archived': and nothing of it is left in Redis.
CREATE TABLE seasons (
    leaderboard_id bigint NOT NULL,
    season integer NOT NULL CHECK (season >= 1),
    state text COLLATE "C" NOT NULL CHECK (state IN ('ending', 'ended', 'copied', 'archived')),
    event_id uuid NOT NULL,
    ended_at timestamptz NOT NULL,
    entries bigint,
    checksum bytea CHECK (octet_length(checksum) = 32),
    archived_at timestamptz,
    PRIMARY KEY (leaderboard_id, season)
);
CREATE INDEX seasons_unfinished ON seasons (leaderboard_id, season) WHERE state <> 'archived';

-- Final standings. `place` counts the lines from 1, best first; `rank` repeats where equal scores share one.
CREATE TABLE season_standings (
    leaderboard_id bigint NOT NULL,
    season integer NOT NULL,
    place bigint NOT NULL,
    rank bigint NOT NULL,
    member text COLLATE "C" NOT NULL,
    score double precision NOT NULL,
    PRIMARY KEY (leaderboard_id, season, place)
);
CREATE UNIQUE INDEX season_standings_member ON season_standings (leaderboard_id, season, member);

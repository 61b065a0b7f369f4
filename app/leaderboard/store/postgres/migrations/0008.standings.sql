-- Snapshots of boards that somebody is looking at on the dashboard: made from Redis every second while they are wanted,
-- so nothing is lost with them, and UNLOGGED spares the log.
CREATE UNLOGGED TABLE standings (
    leaderboard_id bigint NOT NULL,
    member text COLLATE "C" NOT NULL,  -- '' for the top, else whom the entries are around
    wanted_until timestamptz NOT NULL,
    taken_at timestamptz,
    total bigint,
    entries text,  -- JSON; NULL where the member is not on the board
    PRIMARY KEY (leaderboard_id, member)
);

-- Erasures of members. A pending one holds the member's id, which it needs; the receipt that it becomes does not.
CREATE TABLE erasures (
    id uuid PRIMARY KEY,
    project_id bigint NOT NULL,
    digest bytea NOT NULL CHECK (octet_length(digest) = 32),
    state text COLLATE "C" NOT NULL CHECK (state IN ('pending', 'done')),
    member text COLLATE "C",
    requested_by text COLLATE "C" NOT NULL,
    requested_at timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    attempted_at timestamptz,
    waits_for text,
    finished_at timestamptz,
    mac bytea CHECK (octet_length(mac) = 32),
    CHECK ((state = 'pending') = (member IS NOT NULL)),
    CHECK ((state = 'done') = (finished_at IS NOT NULL)),
    CHECK ((state = 'done') = (mac IS NOT NULL))
);
CREATE UNIQUE INDEX erasures_pending ON erasures (project_id, digest) WHERE state = 'pending';
CREATE INDEX erasures_finished ON erasures (finished_at) WHERE state = 'done';

-- What an erasure touched, per board. The pseudonym is there only while it is pending: a receipt must not lead from a
-- member to what is left of it.
CREATE TABLE erasure_boards (
    erasure_id uuid NOT NULL REFERENCES erasures (id) ON DELETE CASCADE,
    leaderboard_id bigint NOT NULL,
    leaderboard text COLLATE "C" NOT NULL,
    pseudonym text COLLATE "C",
    entries bigint NOT NULL DEFAULT 0,
    events bigint NOT NULL DEFAULT 0,
    checkpoints bigint NOT NULL DEFAULT 0,
    season_lines bigint NOT NULL DEFAULT 0,
    snapshots bigint NOT NULL DEFAULT 0,
    set_aside bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (erasure_id, leaderboard_id)
);

-- ANALYZE copies values into pg_statistic, where they would outlive the rows.
ALTER TABLE erasures ALTER COLUMN member SET STATISTICS 0;
ALTER TABLE erasure_boards ALTER COLUMN pseudonym SET STATISTICS 0;

-- How many lines of its standings were given a pseudonym since; the checksum is of the lines as they are.
ALTER TABLE seasons ADD COLUMN erased integer NOT NULL DEFAULT 0 CHECK (erased >= 0);

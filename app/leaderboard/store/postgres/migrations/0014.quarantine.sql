-- Bounds of a board's scores (a Bounds of the domain), and the updates that broke them, which wait for a decision.
ALTER TABLE leaderboards ADD COLUMN bounds jsonb CHECK (jsonb_typeof(bounds) = 'object');

-- 'releasing': somebody decided to apply it, under this event; whether Redis did is for whoever comes next to find out.
CREATE TABLE held_updates (
    id uuid PRIMARY KEY,
    leaderboard_id bigint NOT NULL,
    season integer NOT NULL CHECK (season >= 1),
    member text COLLATE "C" NOT NULL,
    submitted double precision NOT NULL,
    reason text COLLATE "C" NOT NULL CHECK (reason IN ('min_score', 'max_score', 'max_gain')),
    held_at timestamptz NOT NULL,
    state text COLLATE "C" NOT NULL DEFAULT 'held' CHECK (state IN ('held', 'releasing', 'released', 'rejected')),
    event_id uuid,
    decided_by text COLLATE "C",
    decided_at timestamptz,
    note text,
    CHECK ((state IN ('releasing', 'released')) = (event_id IS NOT NULL)),
    CHECK ((state = 'held') = (decided_at IS NULL)),
    CHECK ((decided_at IS NULL) = (decided_by IS NULL))
);
CREATE INDEX held_updates_board ON held_updates (leaderboard_id, state, held_at, id);
CREATE INDEX held_updates_member ON held_updates (leaderboard_id, member);
ALTER TABLE held_updates ALTER COLUMN member SET STATISTICS 0;

ALTER TABLE erasure_boards ADD COLUMN held bigint NOT NULL DEFAULT 0;

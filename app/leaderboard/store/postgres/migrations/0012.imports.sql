-- Events of a new kind: 'i', a member that `leaderboard import` brought. NOT VALID: what is there met a stricter
-- constraint already, and reading the whole ledger to see so would hold up its writers.
ALTER TABLE score_events
    DROP CONSTRAINT score_events_kind_check,
    ADD CONSTRAINT score_events_kind_check CHECK (kind IN ('u', 'r', 't', 'x', 'd', 'i')) NOT VALID;

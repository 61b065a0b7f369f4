-- What it takes to say of a moment of the past that the ledger has all of it.

-- All that was dropped of the board happened before this: in doubt, before now. Of what was dropped so far only the
-- oldest day that is left is known.
ALTER TABLE score_checkpoint_heads ADD COLUMN dropped_until timestamptz NOT NULL DEFAULT now();
UPDATE score_checkpoint_heads SET dropped_until = coalesce(
    (SELECT min(to_date(right(c.relname, 8), 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC')
     FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
     WHERE i.inhparent = 'score_events'::regclass AND c.relname ~ '^score_events_[0-9]{8}$'),
    now());

-- One row, written by the worker every second: every event up to this moment of Redis's clock is in the ledger.
CREATE TABLE ledger_progress (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    complete_until timestamptz NOT NULL
);

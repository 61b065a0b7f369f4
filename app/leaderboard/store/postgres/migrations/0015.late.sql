-- Until when a season that is over takes late updates that name it; NULL: it takes none. Not archived before.
ALTER TABLE seasons ADD COLUMN late_until timestamptz;

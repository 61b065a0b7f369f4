-- Tiers: names for stretches of a board, best first. An array of Tier, NULL for none.
ALTER TABLE leaderboards ADD COLUMN tiers jsonb CHECK (jsonb_typeof(tiers) = 'array');

-- What waits for a decision, newest first, is read by two states at once, which held_updates_board cannot give in order.
CREATE INDEX held_updates_waiting ON held_updates (leaderboard_id, held_at, id) WHERE state IN ('held', 'releasing');

-- Lines that an archive wrote while their board was being deleted: it has no seasons any more.
DELETE FROM season_standings WHERE leaderboard_id IN (SELECT id FROM leaderboards WHERE state = 'deleted');

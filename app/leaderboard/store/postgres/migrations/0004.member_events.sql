-- One member's events of one board, newest first: the activity page, and what a member's data takes.
CREATE INDEX score_events_member ON score_events (leaderboard_id, member, incarnation, seq);

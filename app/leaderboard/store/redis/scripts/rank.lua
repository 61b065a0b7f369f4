-- One user's line. ARGV: user. Returns {total, score, rank, the board's tiers as in its meta}, or nil where the user is
-- not on the board. The tiers are not among the fields of board.lua: every write would read them too.
if meta[8] ~= 'a' then return 'board-suspended' end
local member = member_of(ARGV[1])
local score = member and call('ZSCORE', KEYS[1], member)
if not score then return false end
return {call('ZCARD', KEYS[1]), score, rank_of(member, score), call('HGET', KEYS[2], 'tiers') or ''}

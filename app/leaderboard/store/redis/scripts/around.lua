-- A window of ARGV[2] entries with user ARGV[1] in the middle, moved inwards at either end of the board.
-- Returns what top.lua does, or nil when the user is not on the board.
if meta[8] ~= 'a' then return 'board-suspended' end
local member = member_of(ARGV[1])
local at = member and call(descending and 'ZREVRANK' or 'ZRANK', KEYS[1], member)
if not at then return false end
local total, limit = call('ZCARD', KEYS[1]), tonumber(ARGV[2])
local start = math.max(0, math.min(at - math.floor(limit / 2), total - limit))
local entries = call(descending and 'ZREVRANGE' or 'ZRANGE', KEYS[1], start, start + limit - 1, 'WITHSCORES')
local first = start + 1
if tie == 's' then first = rank_of(entries[1], entries[2]) end
return {tie, total, start, first, entries}

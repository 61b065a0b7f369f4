-- Ends a season: puts the board's entries aside and starts the next season, with the event. Not after board.lua: a
-- suspended board is reset too. KEYS board, meta, order, outbox, the season's entries.
-- ARGV: event id, the season that ends, the next incarnation. Returns 1, or a word where nothing was done:
-- 'season-over' where another call ended this season, 'board-unavailable' where there is no board, or it is restored.
local call = redis.call
local meta = call('HMGET', KEYS[2], 'id', 'inc', 'seq', 'state', 'season')
if not meta[1] or meta[4] == 'r' then return 'board-unavailable' end
if tonumber(meta[5] or 1) ~= tonumber(ARGV[2]) then return 'season-over' end
local seq = tonumber(meta[3] or 0) + 1
call('XADD', KEYS[4], '*', 'e', table.concat({ARGV[1], 'x', meta[1], meta[2], seq, '', '', '', ''}, '\31'))
-- The order prefixes are part of the members; the hash is only for finding them.
if call('EXISTS', KEYS[1]) == 1 then call('RENAME', KEYS[1], KEYS[5]) end
call('UNLINK', KEYS[3])
call('HSET', KEYS[2], 'seq', seq, 'inc', ARGV[3], 'season', tonumber(ARGV[2]) + 1)
return 1

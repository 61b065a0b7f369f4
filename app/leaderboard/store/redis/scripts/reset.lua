-- Ends a season: puts the board's entries aside and starts the next season, with the event. Not after board.lua: a
-- suspended board is reset too. KEYS board, meta, order, outbox, the season's entries, its order hash.
-- ARGV: event id, the season that ends, the next incarnation, for how many seconds it takes late updates. Returns 1, or a
-- word where nothing was done: 'season-over' where another call ended this season, 'board-unavailable' where there is no
-- board, it is restored, or it is in an earlier season: a Redis that went back in time, which has to be restored first.
local call = redis.call
local meta = call('HMGET', KEYS[2], 'id', 'inc', 'seq', 'state', 'season')
if not meta[1] or meta[4] == 'r' then return 'board-unavailable' end
local season = tonumber(meta[5] or 1)
if season > tonumber(ARGV[2]) then return 'season-over' end
if season < tonumber(ARGV[2]) then return 'board-unavailable' end
local seq, grace = tonumber(meta[3] or 0), tonumber(ARGV[4])
-- The reset is the last event of the season also where updates come after it: it leaves them numbers before its own. No
-- season has so many; of the order prefixes' 2^48 there are enough for two million resets.
local last = seq + (grace > 0 and 100000000 or 1)
local number = string.format('%d', last)
call('XADD', KEYS[4], '*', 'e', table.concat({ARGV[1], 'x', meta[1], meta[2], number, '', '', '', ''}, '\31'))
if call('EXISTS', KEYS[1]) == 1 then call('RENAME', KEYS[1], KEYS[5]) end
if grace > 0 then
  if call('EXISTS', KEYS[3]) == 1 then call('RENAME', KEYS[3], KEYS[6]) end
  -- Which season takes late updates, in which incarnation, up to which number, and until when.
  local late = table.concat({ARGV[2], meta[2], number, string.format('%d', call('TIME')[1] + grace)}, ' ')
  call('HSET', KEYS[2], 'late', late, 'late:' .. ARGV[2], seq)
else
  -- The order prefixes are part of the members; the hash is only for finding them.
  call('UNLINK', KEYS[3])
  call('HDEL', KEYS[2], 'late')
end
call('HSET', KEYS[2], 'seq', number, 'inc', ARGV[3], 'season', tonumber(ARGV[2]) + 1)
return 1

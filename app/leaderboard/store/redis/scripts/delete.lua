-- Deletes the board, with its event. Not after board.lua: a suspended or half rebuilt board is deleted too.
-- KEYS board, meta, order, outbox, gains of an interval, and of the next. ARGV: event id. Returns 1, or 0 when there was no board to delete.
local meta = redis.call('HMGET', KEYS[2], 'id', 'inc', 'seq')
if not meta[1] then
  -- Entries without meta are what a crash of an earlier restore left: they are nobody's.
  redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3])
  return 0
end
redis.call('XADD', KEYS[4], '*', 'e', table.concat(
  {ARGV[1], 'd', meta[1], meta[2], tonumber(meta[3] or 0) + 1, '', '', '', ''}, '\31'))
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[5], KEYS[6])
return 1

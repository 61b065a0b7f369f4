-- Opens a board: writes its meta. KEYS board, meta, order.
-- ARGV: id, incarnation, rule, order, tie, max, public, state, season, bounds, tiers, sequence, and the token of who
-- restored it or ''.
-- Returns 1, or 0 where nothing was changed: without a token because there is a meta, so that nobody who opened it a
-- moment ago loses the entries that came meanwhile; with one because another restores the board, or did.
if ARGV[13] == '' then
  if redis.call('HEXISTS', KEYS[2], 'id') == 1 then return 0 end
  -- Entries without a meta are nobody's; a board starts empty.
  redis.call('UNLINK', KEYS[1], KEYS[3])
elseif redis.call('HGET', KEYS[2], 'restorer') ~= ARGV[13] then
  return 0
end
redis.call('HSET', KEYS[2], 'id', ARGV[1], 'inc', ARGV[2], 'rule', ARGV[3], 'ord', ARGV[4], 'tie', ARGV[5],
  'max', ARGV[6], 'pub', ARGV[7], 'state', ARGV[8], 'season', ARGV[9], 'bounds', ARGV[10], 'tiers', ARGV[11],
  'seq', ARGV[12])
redis.call('HDEL', KEYS[2], 'restorer')
return 1

-- Adds entries to a board that is closed for being restored. KEYS board, meta, order.
-- ARGV: the token of who closed it, then in threes score, user, order prefix ('' where the tie policy keeps none).
-- Without entries it empties the board. Returns 1, or 0 where another restores the board by now, or it is open again:
-- a process that was stopped in the middle must not write into what its successor made.
local meta = redis.call('HMGET', KEYS[2], 'restorer', 'state')
if meta[1] ~= ARGV[1] or meta[2] ~= 'r' then return 0 end
if #ARGV == 1 then
  redis.call('UNLINK', KEYS[1], KEYS[3])
  return 1
end
local members, orders = {}, {}
for i = 2, #ARGV, 3 do
  members[#members + 1] = ARGV[i]
  members[#members + 1] = ARGV[i + 2] .. ARGV[i + 1]
  if ARGV[i + 2] ~= '' then
    orders[#orders + 1] = ARGV[i + 1]
    orders[#orders + 1] = ARGV[i + 2]
  end
end
redis.call('ZADD', KEYS[1], unpack(members))
if #orders > 0 then redis.call('HSET', KEYS[3], unpack(orders)) end
return 1

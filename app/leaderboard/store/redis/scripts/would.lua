-- What held updates would come to if they were released now. ARGV: user and value ('i5' or 's120.5') of each.
-- Returns {score, rank, ...}; the rank counts who has a better score, as on a shared board, whatever the tie policy.
local reply = {}
for i = 1, #ARGV, 2 do
  local member, submitted = member_of(ARGV[i]), tonumber(string.sub(ARGV[i + 1], 2))
  local old = member and call('ZSCORE', KEYS[1], member)
  old = old and tonumber(old)
  local score = submitted
  if meta[3] == 's' then score = (old or 0) + submitted end
  local better = old and meta[3] == 'b' and (descending and old > score or not descending and old < score)
  if better then score = old end
  local text = string.format('%.17g', score)
  local rank
  if descending then
    rank = call('ZCOUNT', KEYS[1], '(' .. text, '+inf')
  else
    rank = call('ZCOUNT', KEYS[1], '-inf', '(' .. text)
  end
  -- The member itself is among them where it has a better score now.
  if old and (descending and old > score or not descending and old < score) then rank = rank - 1 end
  reply[i], reply[i + 1] = text, rank + 1
end
return reply

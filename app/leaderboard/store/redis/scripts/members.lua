-- Score and rank of each user in ARGV. Returns {total, score, rank, score, rank, ...} with nil pairs for the missing.
if meta[8] ~= 'a' then return 'board-suspended' end
local reply = {call('ZCARD', KEYS[1])}
for i = 1, #ARGV do
  local member = member_of(ARGV[i])
  local score = member and call('ZSCORE', KEYS[1], member)
  reply[2 * i] = score or false
  reply[2 * i + 1] = score and rank_of(member, score) or false
end
return reply

-- Removes one member for good: unlike remove.lua also from a suspended board and past the outbox's bound.
-- ARGV: nonce, event counter, user, and '1' where the ledger has the member though the board has not: then the removal
-- gets its event all the same. KEYS[5], KEYS[6]: what members gained. Returns 1 where the member was on the board, else 0.
local user = ARGV[3]
local member = member_of(user)
local score = member and call('ZSCORE', KEYS[1], member)
if score or ARGV[4] == '1' then
  local order = tie == 'f' and member and string.sub(member, 1, 12) or ''
  emit(string.format('%s%014x00', ARGV[1], tonumber(ARGV[2])), 'r', next_seq(), '', '', order, user)
end
if score then call('ZREM', KEYS[1], member) end
if tie == 'f' then call('HDEL', KEYS[3], user) end
call('HDEL', KEYS[5], user)
call('HDEL', KEYS[6], user)
return score and 1 or 0

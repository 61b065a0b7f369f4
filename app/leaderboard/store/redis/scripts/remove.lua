-- Removes one member. ARGV: outbox bound, nonce, event counter, user, and the traceparent of a call that is traced.
-- Returns its score, or nil when it has none.
if meta[8] ~= 'a' then return 'board-suspended' end
if call('XLEN', KEYS[4]) >= tonumber(ARGV[1]) then return 'outbox-full' end
local user = ARGV[4]
trace = ARGV[5]
local member = member_of(user)
local score = member and call('ZSCORE', KEYS[1], member)
if not score then return false end
local order = tie == 'f' and string.sub(member, 1, 12) or ''
emit(string.format('%s%014x00', ARGV[2], tonumber(ARGV[3])), 'r', next_seq(), '', '', order, user)
call('ZREM', KEYS[1], member)
if tie == 'f' then call('HDEL', KEYS[3], user) end
return {score}

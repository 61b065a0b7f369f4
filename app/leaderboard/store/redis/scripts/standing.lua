-- One member's place, also on a suspended board. KEYS[5], KEYS[6]: what members gained. ARGV: user.
-- Returns {score, rank}, {} where only another key of the board names it, or nil.
local member = member_of(ARGV[1])
local score = member and call('ZSCORE', KEYS[1], member)
if score then return {score, rank_of(member, score)} end
if tie == 'f' and member then return {} end
if call('HEXISTS', KEYS[5], ARGV[1]) + call('HEXISTS', KEYS[6], ARGV[1]) > 0 then return {} end
return false

-- One member's place, also on a suspended board. ARGV: user.
-- Returns {score, rank}, {} where only the order hash names it, or nil.
local member = member_of(ARGV[1])
local score = member and call('ZSCORE', KEYS[1], member)
if score then return {score, rank_of(member, score)} end
if tie == 'f' and member then return {} end
return false

-- A token bucket: takes up to ARGV[3] tokens from KEYS[1], or all of them or none with ARGV[4] = '1'.
-- ARGV[1]: refill per second, ARGV[2]: capacity. The clock is Redis's own, so that workers need not agree on one.
-- Returns {granted, left, milliseconds until the next token (or until all of them) could be had}.
local rate, capacity, want = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local tokens, at = capacity, now
local kept = redis.call('GET', KEYS[1])
if kept then
  local t, a = string.match(kept, '^(%S+) (%S+)$')
  tokens, at = tonumber(t), tonumber(a)
  -- A clock that went back refills nothing rather than taking tokens away.
  tokens = math.min(capacity, tokens + math.max(0, now - at) * rate)
end
local granted = math.floor(math.min(want, tokens))
local short = 1
if ARGV[4] == '1' then
  short = want
  if granted < want then granted = 0 end
end
tokens = tokens - granted
local wait = 0
if granted == 0 then wait = math.ceil((short - tokens) / rate * 1000) end
redis.call('SET', KEYS[1], string.format('%.17g %.17g', tokens, math.max(now, at)), 'PX', math.ceil(capacity / rate * 1000) + 1000)
return {granted, math.floor(tokens), wait}

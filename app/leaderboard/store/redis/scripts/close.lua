-- Ends the time in which a season that is over takes late updates. KEYS: meta. ARGV: the season.
-- Returns 1, also where it takes none, or 0 while its time is not over by Redis's clock, which let the updates in.
local late = redis.call('HGET', KEYS[1], 'late')
local season, till = string.match(late or '', '^(%d+) %d+ %d+ (%d+)$')
if season ~= ARGV[1] then return 1 end
if tonumber(redis.call('TIME')[1]) < tonumber(till) then return 0 end
redis.call('HDEL', KEYS[1], 'late')
return 1

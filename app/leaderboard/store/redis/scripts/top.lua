-- A stretch of the board, best first. ARGV: '1' for the public route, start (from 0), count, and of a cursor the score
-- and member that came last ('' and '' without one; the cursor then decides the start).
-- Returns {tie, total, start, rank of the first, {member, score, ...}}.
if ARGV[1] == '1' and meta[7] ~= '1' then return 'board-not-public' end
if meta[8] ~= 'a' then return 'board-suspended' end
local total = call('ZCARD', KEYS[1])
local range = descending and 'ZREVRANGE' or 'ZRANGE'

-- Whether `a` stands before `b` among equal scores. By bytes, as Redis orders them: Lua's own `<` follows the locale.
local function before(a, b)
  local n = math.min(#a, #b)
  for i = 1, n do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return (x < y) ~= descending end
  end
  return (#a < #b) ~= descending and #a ~= #b
end

local start = tonumber(ARGV[2])
if ARGV[4] ~= '' then
  local score, member = ARGV[4], ARGV[5]
  -- Where the cursor's entry stands or would stand: past all better scores, then by halving among its equals.
  local low, high
  if descending then
    low = call('ZCOUNT', KEYS[1], '(' .. score, '+inf')
  else
    low = call('ZCOUNT', KEYS[1], '-inf', '(' .. score)
  end
  high = low + call('ZCOUNT', KEYS[1], score, score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local here = call(range, KEYS[1], middle, middle)[1]
    if here == member or before(here, member) then low = middle + 1 else high = middle end
  end
  start = low
end
local entries = call(range, KEYS[1], start, start + tonumber(ARGV[3]) - 1, 'WITHSCORES')
local first = start + 1
if tie == 's' and entries[1] then first = rank_of(entries[1], entries[2]) end
return {tie, total, start, first, entries}

-- Applies updates to one board, in order, each with its event in the outbox.
-- KEYS[5..]: an idempotency record per item, or none.
-- ARGV: outbox bound, idempotency TTL (s), the process's nonce (16 hex), the event counter of the first item, then per
-- item the user, the value ('i5' an increment, 's120.5' a score, '3:i5' one for season 3 only, '3:!i5' one that was held
-- and is released) and, with idempotency, the body's fingerprint; after all items, where the write is traced, its
-- traceparent.
-- Returns a word where nothing was done at all, else one text per item:
--   'A score rank previous_score previous_rank' applied ('-' for none), with ' bound id' behind it where it was held,
--   'R ...' the same from the record, 'E word' refused.
if meta[8] ~= 'a' then return 'board-suspended' end
local idempotent = #KEYS > 4
local width = idempotent and 3 or 2
if (#ARGV - 4) % width == 1 then trace = ARGV[#ARGV] end
local count = math.floor((#ARGV - 4) / width)
local full = call('XLEN', KEYS[4]) + count > tonumber(ARGV[1]) -- replays write nothing and are answered all the same
local rule, takes = meta[3], meta[3] == 'b' and 's' or (meta[3] == 's' and 'i' or 's')

local board = KEYS[1]
local runs -- the season that an update is for, where that is not the one that runs

-- The board's bounds, where it has some: 'smallest largest gain seconds', '-' for none.
local low, high, most, seconds
local bounded = meta[9] and meta[9] ~= ''
if bounded then
  low, high, most, seconds = string.match(meta[9], '^(%S+) (%S+) (%S+) (%S+)$')
  low, high, most, seconds = tonumber(low), tonumber(high), tonumber(most), tonumber(seconds)
end

-- The bound that a member's new score would break, or nil; then its gain counts in the interval.
local function broken(user, old, new)
  local score = tonumber(new)
  if low and score < low then return 'min_score' end
  if high and score > high then return 'max_score' end
  if not most or not (old or rule == 's') then return nil end -- a first score that is no sum gains on nothing
  local gain = score - (old and tonumber(old) or 0)
  if not descending then gain = -gain end
  if gain <= 0 then return nil end
  -- Two hashes take turns, user -> gain, each naming its interval: what is older goes as a whole. Not in KEYS, which
  -- would cost every write of every board; they are in the board's slot, as a cluster wants it.
  local interval = string.format('%d', math.floor(tonumber(call('TIME')[1]) / seconds))
  local name = 'gain:{' .. board .. '}:' .. interval % 2
  if call('HGET', name, '\31') ~= interval then
    call('UNLINK', name)
    call('HSET', name, '\31', interval)
    call('EXPIRE', name, 2 * seconds)
  end
  local sum = gain + tonumber(call('HGET', name, user) or 0)
  if sum > most then return 'max_gain' end
  call('HSET', name, user, string.format('%.17g', sum))
  return nil
end

local apply

-- Does what `apply` does in a season that is over and takes late updates still: on what was put aside of it, with numbers
-- that the reset has left before its own.
local function apply_late(season, index, user, value, released)
  local late = call('HGET', KEYS[2], 'late')
  local takes_late, inc, last, till = string.match(late or '', '^(%d+) (%d+) (%d+) (%d+)$')
  if takes_late ~= season or tonumber(call('TIME')[1]) >= tonumber(till) then return nil, 'E season-over' end
  -- An update may trim 255 members, each with a number.
  if tonumber(call('HGET', KEYS[2], 'late:' .. season) or last) + 256 >= tonumber(last) then return nil, 'E season-over' end
  local order, incarnation = KEYS[3], meta[2]
  KEYS[1], KEYS[3] = 'season:{' .. board .. '}:' .. season, 'season-order:{' .. board .. '}:' .. season
  meta[2], counter, runs = inc, 'late:' .. season, season
  local done, refused = apply(index, user, value, released)
  KEYS[1], KEYS[3], meta[2], counter, runs = board, order, incarnation, 'seq', nil
  return done, refused
end

function apply(index, user, value, released)
  if string.sub(value, 1, 1) ~= takes then
    local season, rest = string.match(value, '^(%d+):(.*)$')
    if not season then
      rest = string.match(value, '^!(.*)$')
      if rest and not released then return apply(index, user, rest, true) end
      return nil, 'E wrong-field ' .. rule
    end
    if tonumber(season) ~= tonumber(call('HGET', KEYS[2], 'season') or 1) then
      return apply_late(season, index, user, rest, released)
    end
    return apply(index, user, rest, released)
  end
  local submitted = string.sub(value, 2)
  local member = member_of(user)
  local old = member and call('ZSCORE', KEYS[1], member)
  local new, changed = submitted, true
  if rule == 's' then
    local from, by = old and tonumber(old) or 0, tonumber(submitted)
    local sum = from + by
    -- Past 2^53 an increment of 1 would change nothing: refuse rather than swallow it. 2^53 + 1 itself is rounded back
    -- to 2^53, so at the edge the sum has to be exact: both differences give the other operand (Fast2Sum, Dekker 1971).
    local size = math.abs(sum)
    if size > 9007199254740992 or (size == 9007199254740992 and (sum - from ~= by or sum - by ~= from)) then
      return nil, 'E score-out-of-range'
    end
    new = string.format('%.17g', sum)
    if sum == 0 then new = '0' end -- never '-0'
  end
  if old then
    local before, after = tonumber(old), tonumber(new)
    changed = after ~= before
    if rule == 'b' and changed then changed = (after > before) == descending end
    if not changed then new = old end
  end
  local previous_rank = old and rank_of(member, old) or nil

  local base = string.format('%s%014x', ARGV[3], tonumber(ARGV[4]) + index)
  local bound = bounded and changed and not released and broken(user, old, new)
  if bound then
    emit(base .. '00', 'h', 0, submitted, '', (runs or call('HGET', KEYS[2], 'season') or 1) .. ':' .. bound, user)
    return table.concat({new, '-', old or '-', previous_rank or '-', bound, base .. '00'}, ' ')
  end
  local order, seq = '', next_seq()
  if tie == 'f' then
    -- Earlier is better, so on a descending board, which is read from its high end, the prefix counts down.
    order = changed and string.format('%012x', descending and 281474976710655 - seq or seq) or string.sub(member, 1, 12)
  end
  emit(base .. '00', 'u', seq, submitted, new, order, user)
  if changed then
    if tie == 'f' then
      if old then call('ZREM', KEYS[1], member) end
      member = order .. user
      call('HSET', KEYS[3], user, order)
    end
    call('ZADD', KEYS[1], new, member)
  end
  local gone = false
  if not old and meta[6] ~= '0' then
    local _
    _, gone = trim(base, member)
  end
  local rank = '-'
  if not gone then rank = changed and rank_of(member, new) or previous_rank end
  return new .. ' ' .. rank .. ' ' .. (old or '-') .. ' ' .. (previous_rank or '-')
end

local replies = {}
for i = 1, count do
  local at = 5 + (i - 1) * width
  local record = idempotent and call('GET', KEYS[4 + i])
  -- A record is '<fingerprint> <board id> <answer>': a board made again under the same name starts afresh, one that
  -- was rebuilt does not, or a retry from before the rebuild would count twice.
  local fingerprint, board, answer
  if record then fingerprint, board, answer = string.match(record, '^(%S+) (%S+) (.*)$') end
  if record and board == meta[1] then
    replies[i] = fingerprint == ARGV[at + 2] and 'R ' .. answer or 'E idempotency-mismatch'
  elseif full then
    replies[i] = 'E outbox-full'
  else
    local applied, refused = apply(i - 1, ARGV[at], ARGV[at + 1])
    replies[i] = applied and 'A ' .. applied or refused
    if applied and idempotent then
      call('SET', KEYS[4 + i], ARGV[at + 2] .. ' ' .. meta[1] .. ' ' .. applied, 'EX', ARGV[2])
    end
  end
end
return replies

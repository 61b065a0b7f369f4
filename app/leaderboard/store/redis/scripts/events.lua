-- After board.lua in the scripts that change a board. KEYS[4] the outbox. The separator is U+001F, which no user has.
-- The first write of an update or removal is this one: if Redis refuses to write (OOM, MISCONF), it refuses here, before
-- anything of the board moved.
local counter = 'seq' -- the field of the meta that numbers the events
local function next_seq() return call('HINCRBY', KEYS[2], counter, 1) end

-- The traceparent of a write that is traced, which goes with its events; set by the script that was given one.
local trace

-- A call is one step, so its events have one time: that of the first. Redis 6.2 would let the clock run on meanwhile.
local first, millisecond, number

local function emit(event_id, kind, seq, submitted, score, order, user)
  local event = table.concat({event_id, kind, meta[1], meta[2], seq, submitted, score, order, user}, '\31')
  local id = '*'
  if first then
    if not number then millisecond, number = string.match(first, '^(%d+-)(%d+)$') end
    number = number + 1
    id = millisecond .. number
  end
  if trace then
    id = call('XADD', KEYS[4], id, 'e', event, 't', trace)
  else
    id = call('XADD', KEYS[4], id, 'e', event)
  end
  first = first or id
end

-- Drops the worst members past max_entries, at most 255 (what two digits of the event id can number). Returns how
-- many, and whether `watched` was among them.
local function trim(event_base, watched)
  local over = meta[6] == '0' and 0 or call('ZCARD', KEYS[1]) - tonumber(meta[6])
  if over <= 0 then return 0, false end
  if over > 255 then over = 255 end
  local dropped, gone = call(descending and 'ZPOPMIN' or 'ZPOPMAX', KEYS[1], over), false
  for i = 1, #dropped, 2 do
    local member, order, user = dropped[i], '', dropped[i]
    if member == watched then gone = true end
    if tie == 'f' then
      order, user = string.sub(member, 1, 12), string.sub(member, 13)
      call('HDEL', KEYS[3], user)
    end
    emit(string.format('%s%02x', event_base, (i + 1) / 2), 't', next_seq(), '', '', order, user)
  end
  return over, gone
end

-- Puts one chunk of an import on the board: members that are not there yet, and such as are there where the rule says so.
-- KEYS[5]: the import's progress, in the same step, so that a chunk is applied once however often it is sent.
-- ARGV: outbox bound, nonce, event counter of the first member, board id, season, import id, how many members came
-- before this chunk, how many the import has, 'o' to overwrite, what the source is, for how many seconds the progress is
-- kept, and then all users and all scores.
-- Returns a word where nothing was done, else {members done so far, id of the chunk's entry in the outbox or '', 1 where
-- the import is alone on its board}; without an entry also where what is done are not the members before this chunk.
if meta[1] ~= ARGV[4] or (call('HGET', KEYS[2], 'season') or '1') ~= ARGV[5] then return 'board-changed' end
local progress = call('HMGET', KEYS[5],
  'id', 'at', 'total', 'added', 'replaced', 'same', 'kept', 'trimmed', 'board', 'alone')
local board = ARGV[4] .. '/' .. ARGV[5]
if progress[9] ~= board then progress = {} end -- of a board that was deleted since, or of a season that is over
local ours = progress[1] == ARGV[6]
if progress[1] and not ours and tonumber(progress[2]) < tonumber(progress[3]) then return 'another-import' end
local at = ours and tonumber(progress[2]) or 0
-- Where the board was empty and only this import wrote to it since, the next chunk needs no script (imports.py).
local function place() return meta[2] .. '/' .. (call('HGET', KEYS[2], 'seq') or '0') end
local alone
if ours then alone = progress[10] == place() else alone = call('ZCARD', KEYS[1]) == 0 end
if at ~= tonumber(ARGV[7]) then return {at, '', alone and 1 or 0} end
if call('XLEN', KEYS[4]) >= tonumber(ARGV[1]) then return 'outbox-full' end

local USERS, count = 11, (#ARGV - 11) / 2
local SCORES = USERS + count
local known
if tie == 'f' then
  known = call('HMGET', KEYS[3], unpack(ARGV, USERS + 1, SCORES))
else
  known = call('ZMSCORE', KEYS[1], unpack(ARGV, USERS + 1, SCORES))
end
local wanted, number, gone, replaced, same, kept = {}, 0, {}, 0, 0, 0
for i = 1, count do
  local old = known[i]
  if old then
    local user = ARGV[USERS + i]
    local member = tie == 'f' and old .. user or user
    local before = tonumber(tie == 'f' and call('ZSCORE', KEYS[1], member) or old)
    local after = tonumber(ARGV[SCORES + i])
    if before == after then
      same = same + 1
    elseif ARGV[9] == 'o' or (meta[3] == 'b' and (after > before) == descending) then
      replaced = replaced + 1
      number = number + 1
      wanted[number] = i
      if tie == 'f' then gone[#gone + 1] = member end
    else
      kept = kept + 1
    end
  else
    number = number + 1
    wanted[number] = i
  end
end

local entry, trimmed = '', 0
if number > 0 then
  local base = string.format('%s%014x', ARGV[2], tonumber(ARGV[3]))
  -- The first write, see events.lua.
  local seq = call('HINCRBY', KEYS[2], 'seq', number) - number
  local event = {base .. '00', 'i', meta[1], meta[2], seq + 1, tie == 'f' and meta[4] or ''}
  local members, orders = {}, {}
  for k = 1, number do
    local i = wanted[k]
    local user, score = ARGV[USERS + i], ARGV[SCORES + i]
    event[2 * k + 5], event[2 * k + 6] = user, score
    members[2 * k - 1], members[2 * k] = score, user
    if tie == 'f' then
      local order = string.format('%012x', descending and 281474976710655 - seq - k or seq + k)
      orders[2 * k - 1], orders[2 * k] = user, order
      members[2 * k] = order .. user
    end
  end
  entry = call('XADD', KEYS[4], '*', 'e', table.concat(event, '\31'))
  first = entry -- who falls off does so at the same time, see events.lua
  if #gone > 0 then call('ZREM', KEYS[1], unpack(gone)) end
  call('ZADD', KEYS[1], unpack(members))
  if tie == 'f' then call('HSET', KEYS[3], unpack(orders)) end
  trimmed = trim(base, '')
end

if not ours then
  call('DEL', KEYS[5])
  progress = {}
  call('HSET', KEYS[5], 'id', ARGV[6], 'total', ARGV[8], 'source', ARGV[10], 'board', board, 'began', call('TIME')[1])
end
at = at + count
call('HSET', KEYS[5], 'alone', alone and place() or '', 'at', at,
  'added', (progress[4] or 0) + number - replaced, 'replaced', (progress[5] or 0) + replaced,
  'same', (progress[6] or 0) + same, 'kept', (progress[7] or 0) + kept, 'trimmed', (progress[8] or 0) + trimmed)
call('EXPIRE', KEYS[5], ARGV[11])
return {at, entry, alone and 1 or 0}

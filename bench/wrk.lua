-- One request shape for wrk, from the template file BENCH_TEMPLATE: a whole HTTP request in which the byte 1 stands for a
-- random member (12 digits), 2 for a random board (5 digits) and 3 for a number that never comes back (15 digits).
local file = assert(io.open(os.getenv("BENCH_TEMPLATE"), "rb"))
local template = file:read("*a")
file:close()
local members, boards = tonumber(os.getenv("BENCH_MEMBERS")), tonumber(os.getenv("BENCH_BOARDS"))
local unique = tonumber(os.getenv("BENCH_SEED")) * 1e9
math.randomseed(tonumber(os.getenv("BENCH_SEED")))

local make = {
  ["\1"] = function() return string.format("%012d", math.random(0, members - 1)) end,
  ["\2"] = function() return string.format("%05d", math.random(0, boards - 1)) end,
  ["\3"] = function()
    unique = unique + 1
    return string.format("%015d", unique)
  end,
}
local parts, slots = {}, {}
for text, mark in string.gmatch(template .. "\4", "([^\1-\4]*)([\1-\4])") do
  parts[#parts + 1] = text
  if make[mark] then
    parts[#parts + 1] = ""
    slots[#slots + 1] = { #parts, make[mark] }
  end
end

function request()
  for i = 1, #slots do
    parts[slots[i][1]] = slots[i][2]()
  end
  return table.concat(parts)
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    'BENCH {"requests": %d, "seconds": %.6f, "p50_ms": %.4f, "p99_ms": %.4f, "refused": %d, "broken": %d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end

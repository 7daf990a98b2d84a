-- Places of a count. KEYS[2]: the count, a hash of node -> "granted want since unseen turn".
-- ARGV[3]: the turn; ARGV[4]: the limit; ARGV[5]: how many it keeps; ARGV[6]: how many it wants;
-- ARGV[7]: with what the channels of nodes begin; ARGV[8]: the name, as nodes are told it.
if not lives(me) then return {-1} end
local turn, limit, keep, want = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
-- A node that waits so long for its first place has a right to one (microseconds).
local TURN = 10000000

local nodes, sum = {}, 0
local held = redis.call('HGETALL', KEYS[2])
for at = 1, #held, 2 do
  local node = held[at]
  if lives(node) then
    local g, w, s, u, t = string.match(held[at + 1], '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
    nodes[node] = {granted = tonumber(g), want = tonumber(w), since = tonumber(s), unseen = tonumber(u), turn = tonumber(t)}
    sum = sum + tonumber(g)
  else
    redis.call('HDEL', KEYS[2], node)
  end
end
local dirty = {}
local mine = nodes[me]
if not mine then
  mine = {granted = 0, want = 0, since = 0, unseen = 0, turn = 0}
  nodes[me] = mine
end
dirty[me] = true
local queued = false
if turn > mine.turn then
  -- What the node does not keep is free, but for what it was given and does not know of yet.
  local granted = keep
  if mine.granted > keep then granted = math.min(mine.granted, keep + mine.unseen, math.max(want, keep)) end
  sum = sum - mine.granted + granted
  if want > granted then
    if mine.want <= mine.granted or mine.since == 0 or granted < mine.granted then
      mine.since, queued = now, true
    end
  else
    mine.since = 0
  end
  mine.granted, mine.want, mine.turn = granted, want, turn
end
mine.unseen = 0

local contenders = 0
for _, its in pairs(nodes) do
  if its.granted > 0 or its.want > its.granted then contenders = contenders + 1 end
end
local part = math.ceil(limit / math.max(contenders, 1))

-- Free places go to those who wait, one each in the order of their coming; who has its part already comes last.
local function before(a, b)
  local x, y = nodes[a], nodes[b]
  local full, other = x.granted >= part, y.granted >= part
  if full ~= other then return other end
  if x.since ~= y.since then return x.since < y.since end
  return a < b
end
local woken = {}
while sum < limit do
  local first, waits = nil, 0
  for node, its in pairs(nodes) do
    if its.want > its.granted then
      waits = waits + 1
      if not first or before(node, first) then first = node end
    end
  end
  if not first then break end
  local its = nodes[first]
  local given = 1
  if waits == 1 then given = math.min(limit - sum, its.want - its.granted) end
  its.granted = its.granted + given
  sum = sum + given
  -- Who still waits is the last one now. Each later one in the same moment stands behind it.
  its.since = now + sum
  dirty[first] = true
  if first ~= me then
    its.unseen = its.unseen + given
    woken[first] = true
  end
end

-- Who has more than its part is told, if others wait.
local others, longest = false, now
for node, its in pairs(nodes) do
  if node ~= me and its.want > its.granted then
    others = true
    if its.granted == 0 then longest = math.min(longest, its.since) end
  end
end
local fair = -1
if others then
  fair = part
  if now - longest > TURN then fair = math.min(fair, math.max(mine.granted - 1, 0)) end
end
if queued and mine.want > mine.granted then
  for node, its in pairs(nodes) do
    if node ~= me and its.granted > part then woken[node] = true end
  end
end
for node, _ in pairs(dirty) do
  local its = nodes[node]
  -- The turn is kept as long as the node may still ask with an older one.
  redis.call('HSET', KEYS[2], node, string.format('%.0f %.0f %.0f %.0f %.0f', its.granted, its.want, its.since, its.unseen, its.turn))
end

redis.call('PEXPIRE', KEYS[2], 86400000)
for node, _ in pairs(woken) do
  -- Who is not heard asks again within a second.
  redis.pcall('PUBLISH', ARGV[7] .. node, ARGV[8])
end
return {0, mine.granted, fair}

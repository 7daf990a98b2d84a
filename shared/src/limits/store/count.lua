-- Places of a count. KEYS[2]: the count, a hash of node -> "granted want since unseen turn", and of '' -> what all make
-- together: "sum contenders waiting most till left limit", the last of them for people. KEYS[3]: the line of those that wait, a sorted set of
-- "granted since node" in this order. KEYS[4]: how many nodes have left so far.
-- ARGV[3]: the turn; ARGV[4]: the limit; ARGV[5]: how many it keeps; ARGV[6]: how many it wants;
-- ARGV[7]: with what the channels of nodes begin; ARGV[8]: the name, as nodes are told it.
-- Always: sum, contenders, waiting and the line are what a look at all nodes would find; nobody has more than `most`, and
-- all nodes live until `till`, if none has left. Times and turns stay texts: to print a number costs more than to read a key.
local my_till = lives(me)
if not my_till then return {-1} end
local turn, limit, keep, want = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
-- A node that waits so long for its first place has a right to one (microseconds).
local TURN = 10000000
-- What nobody asks for is forgotten (milliseconds).
local DAY = 86400000

local all
local function waits(its)
  return its.want > its.granted
end
-- Counts a node in (1) or out (-1).
local function tally(its, by)
  all.sum = all.sum + by * its.granted
  if waits(its) then all.waiting = all.waiting + by end
  if waits(its) or its.granted > 0 then all.contenders = all.contenders + by end
  if its.granted > all.most then all.most = its.granted end
  all.changed = true
end
local function time(micros)
  return string.format('%016.0f', micros)
end
local function place(granted, since, node)
  return string.format('%010.0f %s %s', granted, since, node)
end
local function read(text)
  if not text then return nil end
  local g, w, s, u, t = string.match(text, '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
  local its = {granted = tonumber(g), want = tonumber(w), since = s, unseen = tonumber(u), turn = t}
  -- With how many it stands in the line, and since when.
  if waits(its) then its.stands, its.came = its.granted, s end
  return its
end
-- Has a node stand in the line where it belongs, if it waits.
local function stand(node, its)
  local stands = waits(its) and its.granted or nil
  if stands == its.stands and (not stands or its.came == its.since) then return end
  if its.stands then redis.call('ZREM', KEYS[3], place(its.stands, its.came, node)) end
  if stands then
    redis.call('ZADD', KEYS[3], 0, place(stands, its.since, node))
    all.lined = true
  end
  its.stands, its.came = stands, its.since
end
-- The turn is kept as long as the node may still ask with an older one.
local function write(its)
  return string.format('%d %d %s %d %s', its.granted, its.want, its.since, its.unseen, its.turn)
end

local known = redis.call('HMGET', KEYS[2], me, '')
local left = redis.call('GET', KEYS[4]) or '0'
if known[2] then
  local s, c, w, m, t, l, of = string.match(known[2], '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$')
  if s then
    all = {sum = tonumber(s), contenders = tonumber(c), waiting = tonumber(w), most = tonumber(m), till = t, left = l}
    all.changed = of ~= ARGV[4]
  end
end
-- One has left, or the first of them may have died: whoever is gone is found by a look at all.
local looks = not all or tonumber(all.till) <= now or all.left ~= left
if looks then
  all = {sum = 0, contenders = 0, waiting = 0, most = 0, changed = true, lined = true}
  local first_till = my_till
  redis.call('DEL', KEYS[3])
  local texts = redis.call('HGETALL', KEYS[2])
  for at = 1, #texts, 2 do
    local node = texts[at]
    local till = node ~= '' and lives(node)
    if till then
      local its = read(texts[at + 1])
      tally(its, 1)
      if waits(its) then redis.call('ZADD', KEYS[3], 0, place(its.granted, its.since, node)) end
      first_till = math.min(first_till, till)
    else
      redis.call('HDEL', KEYS[2], node)
    end
  end
  all.till = time(first_till)
elseif my_till < tonumber(all.till) then
  all.till, all.changed = time(my_till), true
end

local mine = read(known[1]) or {granted = 0, want = 0, since = '0', unseen = 0, turn = '0'}
local queued = false
if tonumber(turn) > tonumber(mine.turn) then
  -- What the node does not keep is free, but for what it was given and does not know of yet.
  local granted = keep
  if mine.granted > keep then granted = math.min(mine.granted, keep + mine.unseen, math.max(want, keep)) end
  if want <= granted then
    mine.since = '0'
  elseif mine.want <= mine.granted or mine.since == '0' or granted < mine.granted then
    mine.since, queued = time(now), true
  end
  if granted ~= mine.granted or want ~= mine.want then
    tally(mine, -1)
    mine.granted, mine.want = granted, want
    tally(mine, 1)
  end
  mine.turn = turn
end
mine.unseen = 0

-- Free places go to those who wait, one each in the order of their coming; who has its part already comes last.
local part = math.ceil(limit / math.max(all.contenders, 1))
-- Who came first of those that have at least `from` places and less than `to`. The line tells it for each number of places.
local function first(from, to)
  local best, came
  while from < to do
    local low, high = string.format('[%010.0f', from), string.format('(%010.0f', to)
    local at = redis.call('ZRANGEBYLEX', KEYS[3], low, high, 'LIMIT', 0, 1)[1]
    if not at then break end
    local granted, since, node = string.match(at, '^(%d+) (%d+) (.*)$')
    if not best or since < came or since == came and node < best then best, came = node, since end
    from = tonumber(granted) + 1
  end
  return best
end
local woken = {}
while all.sum < limit and all.waiting > 0 do
  local node, its = me, mine
  -- Who waits alone needs no line.
  if all.waiting > 1 or not waits(mine) then
    stand(me, mine)
    node = first(0, part) or first(part, 4294967296)
    if node ~= me then its = node and read(redis.call('HGET', KEYS[2], node)) end
    if not its then
      -- Redis has lost the line for want of memory: who asks next looks at all.
      all.till, all.changed = '0', true
      break
    end
  end
  local given = 1
  if all.waiting == 1 then given = math.min(limit - all.sum, its.want - its.granted) end
  tally(its, -1)
  its.granted = its.granted + given
  tally(its, 1)
  -- Who still waits is the last one now. Each later one in the same moment stands behind it.
  its.since = waits(its) and time(now + all.sum) or '0'
  stand(node, its)
  if node ~= me then
    its.unseen = its.unseen + given
    redis.call('HSET', KEYS[2], node, write(its))
    woken[node] = true
  end
end
stand(me, mine)

-- Who has more than its part is told, if others wait. The line begins with those that have no place.
local fair = -1
if all.waiting > (waits(mine) and 1 or 0) then
  fair = part
  for _, at in ipairs(redis.call('ZRANGE', KEYS[3], 0, 1)) do
    local granted, since, node = string.match(at, '^(%d+) (%d+) (.*)$')
    if node ~= me then
      if tonumber(granted) == 0 and now - tonumber(since) > TURN then fair = math.min(fair, math.max(mine.granted - 1, 0)) end
      break
    end
  end
end
if queued and waits(mine) and all.most > part then
  all.most, all.changed = mine.granted, true
  local texts = redis.call('HGETALL', KEYS[2])
  for at = 1, #texts, 2 do
    local node = texts[at]
    if node ~= me and node ~= '' then
      local granted = tonumber(string.match(texts[at + 1], '^%d+'))
      if granted > part then woken[node] = true end
      all.most = math.max(all.most, granted)
    end
  end
end

if all.changed then
  local together =
    string.format('%d %d %d %d %s %s %s', all.sum, all.contenders, all.waiting, all.most, all.till, left, ARGV[4])
  redis.call('HSET', KEYS[2], me, write(mine), '', together)
else
  redis.call('HSET', KEYS[2], me, write(mine))
end
if looks then redis.call('PEXPIRE', KEYS[2], DAY) end
if all.lined then redis.call('PEXPIRE', KEYS[3], DAY) end
for node, _ in pairs(woken) do
  -- Who is not heard asks again within a second.
  redis.pcall('PUBLISH', ARGV[7] .. node, ARGV[8])
end
return {0, mine.granted, fair}

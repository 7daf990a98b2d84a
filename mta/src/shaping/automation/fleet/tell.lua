-- Takes what a node tells. KEYS[1]: the orders, by the name that is common to those alike; KEYS[2]: their version; from
-- KEYS[3] on, for each order, who probes the path that it suspends.
-- ARGV[1]: the version that the node has heard; then for each order its name, when it ends, 1 if it was ended, what it is.
local heard = tonumber(ARGV[1])
local known = tonumber(redis.call('GET', KEYS[2]) or '0')
-- Higher than all before it, also than those of a server that has lost its memory.
local version = math.max(now, known + 1)
local is_changed = false
for at = 2, #ARGV, 4 do
  local name, expires, ended = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2]
  local wins, old = expires > now, redis.call('HGET', KEYS[1], name)
  if wins and old then
    local since, till, was_ended = read(old)
    if till > now and was_ended == '1' then
      -- Who does not know yet that it was ended does not bring it back.
      wins = ended == '0' and since <= heard
    elseif till > now and ended == '0' then
      wins = expires > till
    end
  end
  if wins then
    is_changed = true
    redis.call('HSET', KEYS[1], name, string.format('%.0f %.0f %s %s', version, expires, ended, ARGV[at + 3]))
    if ended == '0' then redis.call('DEL', KEYS[3 + (at - 2) / 4]) end
  end
end
if not is_changed then return known end
local last, all = now, redis.call('HGETALL', KEYS[1])
for at = 1, #all, 2 do
  local _, till = read(all[at + 1])
  if till <= now then redis.call('HDEL', KEYS[1], all[at]) end
  last = math.max(last, till)
end
local life = string.format('%.0f', last - now + 60000)
redis.call('SET', KEYS[2], string.format('%.0f', version), 'PX', life)
redis.call('PEXPIRE', KEYS[1], life)
return version

-- A node claims what it has through a proxy, and hears what the runs of that proxy say of its claims.
-- KEYS[1]: the claims, a hash of node -> "time number ends"; KEYS[2]: what is said to this node, a hash of
-- run -> "time number missing". ARGV[1]: the node; ARGV[2]: "number ends"; ARGV[3]: how long a report is of use, in
-- microseconds; ARGV[4]: how long a key lives, in milliseconds.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f ', now) .. ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
local told, all = {}, redis.call('HGETALL', KEYS[2])
for at = 1, #all, 2 do
  local said, report = string.match(all[at + 1], '^(%d+) (.*)$')
  if said and now - tonumber(said) < tonumber(ARGV[3]) then
    told[#told + 1] = all[at] .. ' ' .. report
  else
    redis.call('HDEL', KEYS[2], all[at])
  end
end
return told

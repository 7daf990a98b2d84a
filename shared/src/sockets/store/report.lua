-- A proxy says of the last claims what it does not have, and hears the claims of now.
-- KEYS[1]: the claims, as in claim.lua; KEYS[2]: the epoch; KEYS[3] and more: what is said to each node.
-- ARGV[1]: the run of the proxy; ARGV[2]: how long a claim lives, in microseconds; ARGV[3]: how long a key lives, in
-- milliseconds; ARGV[4] and more: "number missing" for each node.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
for at = 3, #KEYS do
  redis.call('HSET', KEYS[at], ARGV[1], string.format('%.0f ', now) .. ARGV[at + 1])
  redis.call('PEXPIRE', KEYS[at], ARGV[3])
end
redis.call('SET', KEYS[2], string.format('%.0f', now), 'NX')
redis.call('PEXPIRE', KEYS[2], ARGV[3])
local told, all = {redis.call('GET', KEYS[2])}, redis.call('HGETALL', KEYS[1])
for at = 1, #all, 2 do
  local said, claim = string.match(all[at + 1], '^(%d+) (.*)$')
  if said and now - tonumber(said) < tonumber(ARGV[2]) then
    told[#told + 1] = all[at]
    told[#told + 1] = claim
  else
    redis.call('HDEL', KEYS[1], all[at])
  end
end
return told
